"""Importance of real networks, against a plain loop in float64."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.networks import nets
from torch import Tensor, nn

from perdure.errors import MethodError
from perdure.importance import MAS, Fisher
from perdure.importance.base import Importance
from reference import exact

SCRIPT = Path(__file__).with_name("gloo_importance.py")
MEASURES = {"MAS": MAS(), "Fisher": Fisher("dataset")}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=list(MEASURES))
@pytest.mark.parametrize("kind", exact.NETWORKS)
def test_it_agrees_with_a_plain_loop(kind: str, measure: Importance) -> None:
    """In float64 but for rounding; in float32 to 1e-5 of each tensor's largest value, whatever batches and order."""
    model = exact.network(kind)
    inputs, target = exact.data(kind, model, 3)
    expected = exact.mas(model, inputs) if isinstance(measure, MAS) else exact.fisher(model, inputs, target)
    in_double = measure.estimate(copy.deepcopy(model).double(), [(inputs.double(), target)])
    assert exact.worst(in_double, expected) < 1e-8
    one, other = ([2], [0, 1]), ([1, 0, 2],)
    for batches in (one, other):
        found = measure.estimate(model, [(inputs[chosen], target[chosen]) for chosen in batches])
        assert exact.worst(found, expected) < 1e-5


@pytest.mark.parametrize("measure", MEASURES.values(), ids=list(MEASURES))
def test_every_element_of_a_swinunetr_as_monai_has_it_agrees_with_a_plain_loop(measure: Importance) -> None:
    """With its default instance norm, which in float32 is mostly rounding where an image is 2 x 2 pixels."""
    torch.manual_seed(1)
    model = nets.SwinUNETR(1, exact.CLASSES, feature_size=12, spatial_dims=2).double().eval()
    inputs, target = torch.randn(2, 1, 64, 64).double(), torch.randint(exact.CLASSES, (2, 64, 64))
    expected = exact.mas(model, inputs) if isinstance(measure, MAS) else exact.fisher(model, inputs, target)
    found = measure.estimate(model, [(inputs, target)])
    assert found.keys() == expected.keys()
    largest = max(float(value.max()) for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-12 * largest)


@pytest.mark.parametrize("kind", ["QuickNAT", "bottlenecks", "UNet, 3-D", "SegResNet", "odd"])
@pytest.mark.parametrize("measure", [MAS(), Fisher(), Fisher("dataset")], ids=lambda measure: measure.key)
def test_batches_of_1_3_and_8_in_any_order_agree(kind: str, measure: Importance) -> None:
    model = exact.network(kind)
    inputs, target = exact.data(kind, model, 8)
    together = measure.estimate(model, [(inputs, target)])
    for size in (1, 3):
        order = torch.randperm(8)
        batches = zip(inputs[order].split(size), target[order].split(size), strict=True)
        found = measure.estimate(model, batches)
        assert exact.worst(found, {name: value.double() for name, value in together.items()}) < 1e-5


@pytest.mark.parametrize("measure", [MAS(), Fisher()], ids=lambda measure: measure.key)
def test_labels_are_not_needed_and_make_no_difference(measure: Importance) -> None:
    model = exact.network("SegResNet")
    inputs, target = exact.data("SegResNet", model, 3)
    without, with_labels = measure.estimate(model, [inputs]), measure.estimate(model, [(inputs, target)])
    assert all(torch.equal(without[name], value) for name, value in with_labels.items())


@pytest.mark.parametrize("measure", [MAS(), Fisher(), Fisher("dataset")], ids=lambda measure: measure.key)
def test_mixed_precision_outside_gives_the_numbers_of_float32(measure: Importance) -> None:
    model = exact.network("odd")
    inputs, target = exact.data("odd", model, 3)
    expected = measure.estimate(model, [(inputs, target)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = measure.estimate(model, [(inputs, target)])
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("measure", [MAS(), Fisher()], ids=lambda measure: measure.key)
def test_a_network_in_bfloat16_can_be_measured(measure: Importance) -> None:
    model = nn.Linear(2, 3).bfloat16()
    omega = measure.estimate(model, [torch.ones(2, 2, dtype=torch.bfloat16)])
    assert omega["weight"].dtype == torch.float32


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    """Over gloo, where each has a share of the samples, and not the same number of them."""
    processes = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), str(tmp_path)], stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    alone = torch.load(tmp_path / "alone.pt", weights_only=True)
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"shared_{rank}.pt", weights_only=True)
        assert shared.keys() == alone.keys()
        for key, omega in alone.items():
            assert exact.worst(shared[key], {name: value.double() for name, value in omega.items()}) < 1e-5


def test_a_deeply_supervised_network_is_measured_by_its_final_output() -> None:
    """In evaluation mode DynUNet gives one tensor; what only its other heads see has no importance."""
    model = nets.DynUNet(
        spatial_dims=2, in_channels=1, out_channels=3, kernel_size=[3, 3, 3], strides=[1, 2, 2],
        upsample_kernel_size=[2, 2], filters=[4, 8, 8], deep_supervision=True, deep_supr_num=1,
    )  # fmt: skip
    omega = MAS().estimate(model.train(), [torch.randn(2, 1, 16, 16)])
    unused = {name for name, value in omega.items() if not value.any()}
    assert unused == {name for name in omega if name.startswith("deep_supervision_heads")} != set()


class Several(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(2, 3), kind

    def forward(self, x: Tensor) -> object:
        y = self.layer(x)
        return {"out": y} if self.kind is dict else self.kind([y, y])


@pytest.mark.parametrize("kind", [list, tuple, dict])
@pytest.mark.parametrize("measure", [MAS(), Fisher()], ids=lambda measure: measure.key)
def test_several_outputs_are_refused_with_what_to_do(kind: type, measure: Importance) -> None:
    with pytest.raises(MethodError, match=f"this one gives a {kind.__name__}. Wrap it in a module that returns"):
        measure.estimate(Several(kind), [torch.ones(1, 2)])


def test_a_batch_that_is_neither_input_nor_pair_is_refused() -> None:
    with pytest.raises(MethodError, match="tensors both; got dict"):
        MAS().estimate(nn.Linear(2, 3), [{"image": torch.ones(1, 2)}])
