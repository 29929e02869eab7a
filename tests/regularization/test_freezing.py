from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from perdure.errors import MethodError
from perdure.importance import MAS
from perdure.methods import mas_fix
from perdure.regularization import Freezing, Past, updates_left
from perdure.regularization.freezing import top_share
from perdure.release import Memory
from perdure.types import Granularity
from perdure.update import consolidate, retain
from reference.networks import NETWORKS, bits, network, samples
from reference.steps import OPTIMIZERS, train

ANCHOR = {"weight": torch.zeros(2, 2, 1, 2), "bias": torch.zeros(2)}
"""Ten parameters: four kernels of two, and two biases."""

# importance of kernels 0 to 3 and of the biases, after each of three domains
FIRST = (1.0, 5.0, 3.0, 5.0, 4.0, 0.0)
SECOND = (9.0, 8.0, 1.0, 1.0, 2.0, 7.0)
THIRD = (8.0, 0.0, 1.0, 9.0, 2.0, 2.0)


def omega(values: tuple[float, ...]) -> dict[str, Tensor]:
    return {"weight": torch.tensor(values[:4]).view(2, 2, 1, 1), "bias": torch.tensor(values[4:])}


def chosen(masks: dict[str, Tensor]) -> list[int]:
    """Which groups a mask holds: 0 to 3 are kernels, 4 and 5 biases."""
    return torch.cat([masks["weight"].flatten(), masks["bias"]]).nonzero().flatten().tolist()


def after(form: Freezing, *domains: tuple[float, ...]) -> list[list[int]]:
    """What is frozen after each of these domains."""
    frozen: dict[str, Tensor] = {}
    steps = []
    for values in domains:
        frozen = dict(form.frozen(Past(anchor=ANCHOR, latest=omega(values), frozen=frozen)))
        steps.append(chosen(frozen))
    return steps


def test_masks_over_three_domains_by_hand() -> None:
    """β = 0.4 of 10 parameters is 4: two kernels, or one and up to two biases.

    S_1: kernels 1 and 3 (5, 5). S_2: kernels 0 and 1 (9, 8), of which 1 is frozen already, so that only 0 is new.
    S_3: kernels 3 and 0 (9, 8), both frozen: the network stays as it is.
    """
    assert after(Freezing(0.4), FIRST, SECOND, THIRD) == [[1, 3], [0, 1, 3], [0, 1, 3]]


def test_masks_by_the_authors_fixed_capacity() -> None:
    """β of what is still free. 4 of 10: kernels 1 and 3. 2.4 of 6: kernel 0; bias 5 would make 3. 1.6 of 4: bias 4."""
    assert after(Freezing(0.4, of="free"), FIRST, SECOND, THIRD) == [[1, 3], [0, 1, 3], [0, 1, 3, 4]]


def test_ties_go_to_the_lower_index() -> None:
    assert after(Freezing(0.2), FIRST) == [[1]]
    assert after(Freezing(0.4), (1.0,) * 6) == [[0, 1]]


def test_a_share_is_never_exceeded_and_nothing_takes_the_place_of_what_does_not_fit() -> None:
    """Kernel 1 and bias 4 make 3 of 4; kernel 3 would make 5, and bias 5, which would fit, is less important."""
    values = (0.0, 5.0, 0.0, 4.0, 4.5, 1.0)
    assert after(Freezing(0.4), values) == [[1, 4]]
    assert after(Freezing(0.19), values) == [[]]


def by_sorting(
    omega: dict[str, Tensor], sizes: dict[str, int], fraction: float, taken: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The slow reference: one group after the other in the order of importance, as long as they fit."""
    places = [(name, at) for name, value in omega.items() for at in range(value.numel())]
    free = [(name, at) for name, at in places if not taken[name].expand_as(omega[name]).flatten()[at]]
    budget = fraction * sum(sizes[name] for name, _ in free) * (1 + 1e-12)
    masks, spent = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in omega.items()}, 0
    for name, at in sorted(free, key=lambda place: -float(omega[place[0]].flatten()[place[1]])):
        spent += sizes[name]
        if spent > budget:
            break
        masks[name].view(-1)[at] = True
    return masks


@given(seed=st.integers(0, 2**20), fraction=st.floats(0.01, 1.0), levels=st.integers(1, 6), dtype=st.sampled_from(
    (torch.float16, torch.float32, torch.float64)))  # fmt: skip
def test_the_most_important_are_those_that_a_sort_would_take(
    seed: int, fraction: float, levels: int, dtype: torch.dtype
) -> None:
    """With ties within and between tensors, numbers of both signs, and some that may not be chosen."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 2), "b": (5,), "c": (2, 1, 2), "d": (1,)}
    omega = {name: (torch.randint(-1, levels, shape, generator=draw) / 7).to(dtype) for name, shape in shapes.items()}
    sizes = {name: int(torch.randint(1, 9, (), generator=draw)) for name in shapes}
    taken = {name: torch.rand(shape, generator=draw) < 0.2 for name, shape in shapes.items()}
    found = top_share(omega, sizes, fraction, taken)
    expected = by_sorting(omega, sizes, fraction, taken)
    assert {name: mask.tolist() for name, mask in found.items()} == {n: m.tolist() for n, m in expected.items()}


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_share_of_a_hundred_is_counted_exactly(percent: int) -> None:
    """0.29 of 100 is 28.999999999999996 in floating point, and still 29 parameters."""
    mask = top_share({"w": torch.arange(100.0)}, {"w": 1}, percent / 100)["w"]
    assert mask.nonzero().flatten().tolist() == list(range(100 - percent, 100))


def test_the_control_draws_as_much_anew_for_each_domain() -> None:
    """With the same draw again nothing new would ever be frozen, and it would be no control."""
    one = dict.fromkeys(("weight",), torch.zeros(100, 10))
    latest = {"weight": torch.rand(100, 10)}
    form = Freezing(0.25, random=3)
    first = form.frozen(Past(anchor=one, latest=latest))
    second = form.frozen(Past(anchor=one, latest=latest, frozen=first))
    again = form.frozen(Past(anchor=one, latest=latest, frozen=first))
    assert int(first["weight"].sum()) == 250
    # two independent quarters cover 7/16
    assert int(second["weight"].sum()) == pytest.approx(1000 * 7 / 16, abs=60)
    assert torch.equal(second["weight"], again["weight"])
    assert not torch.equal(first["weight"], Freezing(0.25, random=4).frozen(Past(anchor=one, latest=latest))["weight"])
    assert not torch.equal(first["weight"], Freezing(0.25).frozen(Past(anchor=one, latest=latest))["weight"])


def test_the_average_ranks_what_mattered_in_all_domains_and_not_in_the_newest_alone() -> None:
    """β = 0.4 is two kernels: 1 and 3 of the newest domain (5, 5), 0 and 2 of all domains (0.9, 0.8)."""
    past = Past(weights=omega((0.9, 0.2, 0.8, 0.5, 0.1, 0.0)), anchor=ANCHOR, latest=omega(FIRST))
    assert chosen(dict(Freezing(0.4).frozen(past))) == [1, 3]
    assert chosen(dict(Freezing(0.4, rank="average").frozen(past))) == [0, 2]


def test_the_recipes_of_mas_fix_freeze_the_same_after_one_domain_and_not_after_two() -> None:
    """The logarithm keeps ranks; the mean over domains that differ does not. One value is no outlier of two filters."""
    paper, authors = mas_fix(granularity="parameter"), mas_fix(granularity="parameter", recipe="authors")
    assert authors.importance is not None
    model = network("linear", 3)
    memory = consolidate(model, [samples(3, 1)], authors.importance)
    masks = []
    for _ in range(2):
        past = memory.past(authors.importance.key)
        masks.append([dict(method.regularizer.frozen(past)) for method in (paper, authors)])
        sizes = dict.fromkeys(past.weights, 1)
        assert all(torch.equal(masks[-1][1][n], mask) for n, mask in top_share(past.weights, sizes, 0.25).items())
        memory = consolidate(model, [-3 * samples(3, 7)], authors.importance, previous=memory)
    (one, same), (two, other) = masks
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(two[name], other[name]) for name in two)


def test_what_was_frozen_at_another_granularity_stays_frozen() -> None:
    """Kernel 0 and bias 5 are frozen; the filter of kernels 2 and 3 comes next, at filter level, and 0 stays."""
    frozen = {"weight": torch.tensor([True, False, False, False]).view(2, 2, 1, 1), "bias": torch.tensor([False, True])}
    latest = {"weight": torch.tensor([1.0, 9.0]).view(2, 1, 1, 1), "bias": torch.tensor([0.0, 0.0])}
    past = Past(anchor=ANCHOR, latest=latest, frozen=frozen)
    assert chosen(dict(Freezing(0.4).frozen(past))) == [0, 2, 3, 5]
    # filter 0 is not frozen as a whole and counts as free, bias 5 does not: 3.6 and 4.05 of 9 are free
    assert chosen(dict(Freezing(0.4, of="free").frozen(past))) == [0, 5]
    assert chosen(dict(Freezing(0.45, of="free").frozen(past))) == [0, 2, 3, 5]


def test_what_is_frozen_stays_so_where_importance_is_no_longer_measured() -> None:
    frozen = {"weight": torch.ones(2, 2, 1, 2, dtype=torch.bool)}
    latest = {"bias": torch.tensor([1.0, 2.0])}
    masks = Freezing(0.5).frozen(Past(anchor=ANCHOR, latest=latest, frozen=frozen))
    assert bool(masks["weight"].all())
    assert masks["bias"].tolist() == [False, True]


def pushed(hold: str, frozen: Tensor, **arguments: float) -> Tensor:
    """Where two weights of 1 go in three steps, of which the first froze what a step before had given momentum."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **arguments)
    model.weight.grad = torch.ones(1, 2)
    optimizer.step()
    past = Past(
        anchor={"weight": torch.zeros(1, 2)}, latest={"weight": torch.tensor([[2.0, 1.0]])}, frozen={"weight": frozen}
    )
    with Freezing(0.5, hold=hold).constrain(model, optimizer, past):
        for _ in range(3):
            model.weight.grad = torch.ones(1, 2)
            optimizer.step()
    return model.weight.detach()[0]


def test_a_masked_gradient_lets_momentum_and_decay_move_what_is_frozen() -> None:
    """The first weight is at 0.9 when it is frozen. With momentum 0.5 it goes on by 0.05 + 0.025 + 0.0125."""
    none = torch.zeros(1, 2, dtype=torch.bool)
    assert pushed("gradient", none)[0].item() == pytest.approx(0.9)
    assert pushed("gradient", none, momentum=0.5)[0].item() == pytest.approx(0.9 - 0.0875)
    # the first step has decay too: 1 - 0.1 (1 + 0.1) = 0.89
    assert pushed("gradient", none, weight_decay=0.1)[0].item() == pytest.approx(0.89 * 0.99**3)
    for arguments in ({"momentum": 0.5}, {"weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1}):
        stays = torch.tensor(1.0) - 0.1 * (1 + arguments.get("weight_decay", 0.0))
        assert pushed("step", none, **arguments)[0].item() == pytest.approx(stays.item(), abs=1e-7)


@given(
    kind=st.sampled_from(sorted(NETWORKS)),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    seed=st.integers(0, 10_000),
    fraction=st.floats(0.05, 1.0),
)
def test_a_frozen_parameter_does_not_move_by_a_bit(kind: str, optimizer: str, seed: int, fraction: float) -> None:
    model = network(kind, seed).train()
    past = Past(
        anchor=dict(model.named_parameters()),
        latest={name: torch.rand_like(p) for name, p in model.named_parameters()},
        frozen={name: torch.rand_like(p) < 0.1 for name, p in model.named_parameters()},
    )
    form = Freezing(fraction)
    masks = form.frozen(past)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with form.constrain(model, stepper, past):
        list(train(model, stepper, seed))
    for name, parameter in model.named_parameters():
        assert bits(parameter.detach()[masks[name]]) == bits(before[name][masks[name]])


@given(
    kind=st.sampled_from(sorted(NETWORKS)),
    seed=st.integers(0, 1000),
    granularity=st.sampled_from(["parameter", "kernel", "filter"]),
    fraction=st.floats(0.05, 0.5),
    of=st.sampled_from(["all", "free"]),
    random=st.none() | st.integers(0, 9),
)
def test_masks_only_grow_through_a_memory_of_three_domains(
    kind: str, seed: int, granularity: Granularity, fraction: float, of: str, random: int | None
) -> None:
    """Never by more than β of all parameters, and what was frozen stays bit for bit under AdamW with decay."""
    model = network(kind, seed)
    form = Freezing(fraction, of, random=random)
    memory = consolidate(model, [samples(3, seed)], MAS())
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    shares = [0.0]
    for number in range(1, 4):
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        stepper = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.5)
        with retain(model, stepper, memory, form, granularity=granularity) as retained:
            masks = dict(form.frozen(retained.past))
            list(train(model, stepper, seed + number, 2))
        for name, parameter in model.named_parameters():
            mask = masks[name].expand_as(parameter)
            assert bits(parameter.detach()[mask]) == bits(start[name][mask])
            if name in memory.frozen:
                assert bool((masks[name] | ~memory.frozen[name]).all())
        shares.append(sum(float(masks[name].double().mean()) * sizes[name] for name in sizes) / sum(sizes.values()))
        assert shares[-2] <= shares[-1] <= shares[-2] + fraction + 1e-9
        memory = replace(consolidate(model, [samples(3, seed + number)], MAS(), previous=memory), frozen=masks)
    assert isinstance(memory, Memory)


@pytest.mark.parametrize(
    ("frozen", "fraction", "left"),
    [(0.0, 0.25, 3), (0.25, 0.25, 2), (0.75, 0.25, 0), (0.7, 0.25, 1), (0.0, 0.1, 9), (0.0, 1.0, 0), (1.0, 0.25, 0)],
)
def test_the_forecast_counts_updates_that_leave_something_to_train(frozen: float, fraction: float, left: int) -> None:
    """Each takes β at most. After so many something is free, and after one more nothing need be."""
    assert updates_left(frozen, fraction) == left
    assert frozen + left * fraction < 1 or left == 0
    assert frozen + (left + 1) * fraction >= 1 - 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0.0}, r"`fraction` must be in \(0, 1\]; got 0"),
        ({"fraction": 1.1}, "`fraction` must be in"),
        ({"fraction": math.nan}, "`fraction` must be in"),
        ({"of": "some"}, "`of` must be one of 'all', 'free'"),
        ({"hold": "tight"}, "`hold` must be one of 'step', 'gradient'"),
        ({"random": -1}, "`random` must be a seed"),
        ({"rank": "first"}, "`rank` must be one of 'latest', 'average'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Freezing(**arguments)
