"""Importance in half precision, where it is nearly that of single precision, and not where it is another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from perdure.errors import MethodError
from perdure.importance import MAS, Fisher, Importance, measure_from


class Cancelling(nn.Module):
    """What half precision makes of a small difference of two large numbers is another number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.second((y + 300) - 300)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 3, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    shapes = ((4, 3, 12, 12), (3, 3, 12, 12))
    return [
        (torch.randn(shape, generator=draw), torch.randint(2, (shape[0], 10, 10), generator=draw)) for shape in shapes
    ]


MEASURES: dict[str, dict[str, Any]] = {"mas": {"measure": "mas"}, "fisher": {"measure": "fisher", "labels": "dataset"}}


def measured(model: nn.Module, name: str, precision: str) -> dict[str, Tensor]:
    return measure_from({**MEASURES[name], "precision": precision}).estimate(model, batches())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert {key: value.tolist() for key, value in found.items()} == {k: v.tolist() for k, v in expected.items()}


@pytest.mark.parametrize("name", MEASURES)
def test_it_is_near_and_orders_parameters_alike(name: str) -> None:
    model = network()
    single, half = (measured(model, name, precision) for precision in ("32-true", "bf16-mixed"))
    one, other = (torch.cat([value.flatten() for value in found.values()]) for found in (single, half))
    assert not torch.equal(one, other)
    assert all(value.dtype == torch.float32 for value in half.values())
    assert float((one - other).abs().mean() / one.mean()) < 0.02
    assert stats.spearmanr(one, other).statistic > 0.999


@pytest.mark.parametrize("name", MEASURES)
def test_where_it_would_be_another_single_precision_is_taken(name: str) -> None:
    torch.manual_seed(0)
    model = Cancelling()
    single, half = (measured(model, name, precision) for precision in ("32-true", "bf16-mixed"))
    assert {key: value.tolist() for key, value in half.items()} == {
        key: value.tolist() for key, value in single.items()
    }


def test_sample_by_sample_it_is_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.importance.per_sample.one_pass", lambda *_: None)
    single, half = (measured(network(), "mas", precision) for precision in ("32-true", "bf16-mixed"))
    assert {key: value.tolist() for key, value in half.items()} == {
        key: value.tolist() for key, value in single.items()
    }


@pytest.mark.parametrize("kind", [MAS, Fisher])
def test_it_has_a_key_of_its_own_and_single_precision_the_settings_of_before(kind: type[Importance]) -> None:
    usual, half = kind(), measure_from({"measure": kind.name, "precision": "bf16-mixed"})
    assert (usual.key, half.key) == (kind.name, f"{kind.name}-bf16-mixed")
    assert "precision" not in usual.settings()
    assert measure_from(usual.settings()) == usual
    assert measure_from(half.settings()) == half
    with pytest.raises(MethodError, match="precision"):
        measure_from({"measure": kind.name, "precision": "half"})
