"""Quadratics around several anchors, merged into one that equals their sum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perdure.importance import MAS, Fisher, Importance
from perdure.regularization import SurrogateLoss
from perdure.release import Accumulated, Memory, Release
from perdure.release.memory import accumulated
from perdure.types import Granularity, ParamDict
from perdure.update import consolidate
from reference.networks import bits, network, samples

SHAPES = {"weight": (4, 3, 2, 2), "bias": (4,)}
FORM = SurrogateLoss(2.0, "half", "each", "explicit")
"""Whose penalty is Σ H (θ - c)² + offset."""


def settings(how: str) -> dict[str, str]:
    return {"measure": "fisher", "accumulation": how}


def domains(number: int, dtype: torch.dtype, apart: float, wide: bool = False) -> list[tuple[ParamDict, ParamDict]]:
    """Importance (a third of it 0, and one entry 0 in every domain) and anchor of each domain, so far apart."""
    generator = torch.Generator().manual_seed(number)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    start = {name: draw(shape) for name, shape in SHAPES.items()}
    found = []
    for _ in range(number):
        omega = {
            n: draw((shape[0], *[1] * (len(shape) - 1)) if wide else shape).square() for n, shape in SHAPES.items()
        }
        omega = {name: torch.where(value < 0.2, 0.0, value).to(dtype) for name, value in omega.items()}
        omega["weight"][0, 0, 0, 0] = 0.0
        found.append((omega, {name: (value + apart * draw(value.shape)).to(dtype) for name, value in start.items()}))
    return found


def merged(seen: list[tuple[ParamDict, ParamDict]], how: str = "mean") -> Accumulated:
    memory, before = None, {}
    for omega, anchor in seen:
        memory = accumulated(memory, omega, omega, settings(how), 10, before, anchor)
        before = anchor
    return memory


class Place(nn.Module):
    """Parameters under the names of the domains'."""

    def __init__(self, values: ParamDict) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value.clone()))


def one_penalty(memory: Memory, key: str, place: ParamDict) -> tuple[float, ParamDict]:
    """Value and gradient of the merged quadratic at a place."""
    model = Place(place)
    penalty = FORM.penalty(model, memory.past(key))
    penalty.backward()
    assert FORM.value(model, memory.past(key)) == pytest.approx(float(penalty.detach()), rel=1e-5)
    return float(penalty.detach()), {name: p.grad for name, p in model.named_parameters()}


def the_sum(seen: list[tuple[ParamDict, ParamDict]], place: ParamDict) -> tuple[float, ParamDict]:
    """The same of each domain's own quadratic, added up in float64."""
    value, gradient = 0.0, {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in place.items()}
    for omega, anchor in seen:
        for name, theta in place.items():
            distance = theta.double() - anchor[name].double()
            value += float((omega[name].double() * distance.square()).sum())
            gradient[name] += 2 * omega[name].double() * distance
    return value, gradient


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("apart", [1.0, 1e-3])
@pytest.mark.parametrize(("dtype", "exact"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
def test_five_domains_are_as_good_as_kept_one_by_one(
    dtype: torch.dtype, exact: float, apart: float, wide: bool, how: str
) -> None:
    """Value and gradient, near the anchors and far off; also where anchors differ by a thousandth of the weights.

    In float32 a centre that was kept as a place, not as a distance, would be off by 1e-4 of that there.
    """
    seen = domains(5, dtype, apart, wide)
    newest = seen[-1][1]
    memory = Memory(newest, {"fisher": merged(seen, how)})
    generator = torch.Generator().manual_seed(0)
    for far in (0.0, apart, 10 * apart):
        place = {n: v + (far * torch.randn(v.shape, generator=generator)).to(dtype) for n, v in newest.items()}
        value, gradient = one_penalty(memory, "fisher", place)
        expected, slope = the_sum(seen, place)
        assert value == pytest.approx(expected, rel=exact)
        for name, wanted in slope.items():
            assert float((gradient[name].double() - wanted).norm() / wanted.norm()) < exact


def test_by_hand() -> None:
    """Ω = 1 at 0, Ω = 3 at 4: H = 4, c = 3, offset 1·9 + 3·1 = 12. Then Ω = 4 at -1: c = 1, offset 12 + 16·2 = 44."""
    seen = [
        ({"w": torch.tensor([o]).double()}, {"w": torch.tensor([a]).double()})
        for o, a in ((1.0, 0.0), (3.0, 4.0), (4.0, -1.0))
    ]
    first, second, third = (merged(seen[:n], "sum") for n in (1, 2, 3))
    assert (first.centre, first.offset) == ({}, 0.0)
    assert (second.centre["w"].item(), second.offset) == pytest.approx((3 - 4, 12), abs=1e-12)
    assert (third.centre["w"].item(), third.offset) == pytest.approx((1 + 1, 44), abs=1e-12)
    assert third.curvature["w"].item() == 8


@pytest.mark.parametrize("how", ["samples", "ema", "max"])
def test_importance_that_is_no_sum_has_no_quadratics_of_its_own(how: str) -> None:
    memory = merged(domains(3, torch.float32, 1.0), how)
    assert (memory.curvature, memory.centre, memory.offset) == ({}, {}, 0.0)


def test_the_memory_does_not_grow_with_the_number_of_domains() -> None:
    def size(memory: Accumulated) -> int:
        return sum(
            t.numel() * t.element_size()
            for part in (memory.weights, memory.latest, memory.centre)
            for t in part.values()
        )

    sizes = [size(merged(domains(number, torch.float32, 1.0))) for number in (2, 3, 5, 9)]
    assert len(set(sizes)) == 1
    one = size(merged(domains(1, torch.float32, 1.0)))
    assert sizes[0] == one * 3 / 2


@pytest.mark.parametrize("granularity", ["parameter", "filter"])
@pytest.mark.parametrize("order", [(MAS(), Fisher()), (Fisher(), MAS())])
def test_every_measure_keeps_its_own_quadratics_whichever_is_taken_first(
    order: tuple[Importance, ...], granularity: Granularity
) -> None:
    """Three domains, two measures: the second measure of a domain finds the anchor renewed already."""
    model = network("grouped", 0)
    memory = None
    seen: dict[str, list[tuple[ParamDict, ParamDict]]] = {measure.key: [] for measure in order}
    for number in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        anchor = {name: p.detach().clone() for name, p in model.named_parameters()}
        for measure in order:
            alone = consolidate(model, [samples(3, number)], measure, granularity)
            seen[measure.key].append((alone.weights, anchor))
            memory = consolidate(model, [samples(3, number)], measure, granularity, previous=memory)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for key, own in seen.items():
        past = memory.past(key)
        model.zero_grad()
        penalty = FORM.penalty(model, past)
        penalty.backward()
        value, gradient = the_sum(own, {name: p.detach() for name, p in model.named_parameters()})
        assert penalty.item() == pytest.approx(value, rel=1e-5)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad.double(), gradient[name], rtol=1e-4, atol=1e-5)


def test_a_measure_that_is_not_taken_again_keeps_its_place() -> None:
    """Its anchor is the first domain's, though the memory's moves on."""
    model = network("linear", 0)
    memory = consolidate(model, [samples(3, 0)], MAS())
    memory = consolidate(model, [samples(3, 0)], Fisher(), previous=memory)
    # the same model: nothing moved, nothing is stored
    assert memory.measures["mas"].centre == {}
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model[1].weight.add_(1.0)
    memory = consolidate(model, [samples(3, 1)], Fisher(), previous=memory)
    place = memory.measures["mas"].centre["1.weight"] + memory.anchor["1.weight"]
    torch.testing.assert_close(place, first["1.weight"])


def test_a_release_keeps_them(release: Release, tmp_path: Path) -> None:
    """After a round through a folder the gradient is the same bit for bit, the value but for the order of the sum."""
    key = release.memory.only_key()
    assert release.memory.measures[key].centre
    assert release.memory.measures[key].offset > 0
    release.save(tmp_path / "r")
    opened = Release.open(tmp_path / "r", trusted=["reference"])
    figures = []
    for one in (release, opened):
        model = one.model
        model.zero_grad()
        with torch.no_grad():
            for parameter, old in zip(model.parameters(), release.memory.anchor.values(), strict=True):
                parameter.copy_(old + 0.1)
        past = replace(one.memory, granularity="parameter").past(key)
        penalty = FORM.penalty(model, past)
        penalty.backward()
        figures.append((penalty.item(), [bits(p.grad) for p in model.parameters()]))
    assert figures[0][0] == pytest.approx(figures[1][0], rel=1e-6)
    assert figures[0][1] == figures[1][1]
    assert opened.memory.measures[key].offset == release.memory.measures[key].offset
