from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import perdure
from perdure.errors import BatchNormError, MethodError
from perdure.importance import Fisher
from perdure.models import evaluation_mode
from perdure.regularization import Freezing, LearningRate, Regularizer, Unrestrained
from perdure.release import Accumulated, Memory
from perdure.update import consolidate, retain
from reference.domains import state
from reference.networks import NETWORKS, bits, network, samples, target_for
from reference.steps import OPTIMIZERS, scaled_step, train

kinds = st.sampled_from(sorted(NETWORKS))
optimizers = st.sampled_from(sorted(OPTIMIZERS))
seeds = st.integers(0, 10_000)


def memory_of(model: nn.Module, weights: dict[str, Tensor]) -> Memory:
    anchor = {name: p.detach().clone() for name, p in model.named_parameters()}
    return Memory(anchor, {"mas": Accumulated(weights, {}, 1, {})})


def buffers(model: nn.Module) -> dict[str, bytes]:
    return {name: bits(buffer) for name, buffer in model.named_buffers()}


@given(kind=kinds, optimizer=optimizers, seed=seeds, policy=st.sampled_from(["target", "original"]))
def test_importance_one_keeps_every_parameter_bit_for_bit(kind: str, optimizer: str, seed: int, policy) -> None:
    model = network(kind, seed)
    before = {name: bits(p) for name, p in model.named_parameters()}
    memory = memory_of(model, {name: torch.ones_like(p) for name, p in model.named_parameters()})
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with retain(model, stepper, memory, LearningRate(), policy):
        list(train(model, stepper, seed))
    assert {name: bits(p) for name, p in model.named_parameters()} == before


@given(kind=kinds, optimizer=optimizers, seed=seeds)
def test_importance_zero_is_plain_training_bit_for_bit(kind: str, optimizer: str, seed: int) -> None:
    """Parameters and buffers, with dropout and batch norm as in `model.train()`."""
    plain, model = network(kind, seed), network(kind, seed)
    plain.train()
    list(train(plain, OPTIMIZERS[optimizer](plain.parameters()), seed))
    memory = memory_of(model, {name: torch.zeros_like(p) for name, p in model.named_parameters()})
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with retain(model, stepper, memory, LearningRate()):
        list(train(model, stepper, seed))
    assert state(model) == state(plain)


@given(kind=kinds, optimizer=optimizers, seed=seeds)
def test_measured_importance_scales_every_step(kind: str, optimizer: str, seed: int) -> None:
    model = network(kind, seed)
    memory = consolidate(model, [samples(3, seed)], granularity="filter")
    stepper = OPTIMIZERS[optimizer](model.parameters())
    expected: dict[str, Tensor] = {}
    with retain(model, stepper, memory, LearningRate()) as retained:
        omega = retained.weights
        for _ in train(model, stepper, seed, 2, lambda: expected.update(scaled_step(model, stepper, omega))):
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=3e-7, atol=3e-8)


@given(seed=seeds, optimizer=optimizers)
def test_under_original_no_buffer_changes_by_a_bit_while_all_parameters_train(seed: int, optimizer: str) -> None:
    model = network("batch norm", seed)
    before = state(model)
    memory = consolidate(model, [samples(3, seed)])
    stepper = OPTIMIZERS[optimizer](model.parameters())
    with retain(model, stepper, memory, Unrestrained(), batch_norm="original"):
        list(train(model, stepper, seed))
    after = state(model)
    for name, _ in model.named_buffers():
        assert after[name] == before[name]
    assert all(after[name] != before[name] for name in ("0.weight", "1.weight", "1.bias", "2.weight", "4.weight"))


def test_under_target_the_statistics_follow_the_new_domain() -> None:
    model = network("batch norm", 0)
    before = buffers(model)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with retain(model, stepper, consolidate(model, [samples(3, 0)]), Unrestrained()):
        list(train(model, stepper, 0))
    after = buffers(model)
    assert all(after[name] != before[name] for name in before)


def test_dropout_is_on_under_original_too() -> None:
    model = network("batch norm", 0)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with retain(model, stepper, consolidate(model, [samples(3, 0)]), Unrestrained(), batch_norm="original"):
        x = samples(4, 0)
        assert not torch.equal(model(x), model(x))


def test_a_loop_that_calls_train_itself_does_not_undo_the_policy() -> None:
    model = network("batch norm", 0)
    before = buffers(model)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with retain(model, stepper, consolidate(model, [samples(3, 0)]), Unrestrained(), batch_norm="original"):
        model.train()
        list(train(model, stepper, 0))
    assert buffers(model) == before


def test_measuring_in_between_leaves_policy_and_restraint_in_force() -> None:
    model = network("batch norm", 0)
    before = buffers(model)
    memory = memory_of(model, {name: torch.ones_like(p) for name, p in model.named_parameters()})
    parameters = {name: bits(p) for name, p in model.named_parameters()}
    stepper = torch.optim.Adam(model.parameters())
    with retain(model, stepper, memory, LearningRate(), batch_norm="original"):
        for _ in train(model, stepper, 0):
            with evaluation_mode(model):
                model(samples(2, 0))
    assert buffers(model) == before
    assert {name: bits(p) for name, p in model.named_parameters()} == parameters


@pytest.mark.parametrize("failing", [False, True])
def test_afterwards_modes_and_steps_are_as_before(failing: bool) -> None:
    model = network("batch norm", 0).eval()
    model[3].train()
    modes = {name: module.training for name, module in model.named_modules()}
    memory = memory_of(model, {name: torch.ones_like(p) for name, p in model.named_parameters()})
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        with retain(model, stepper, memory, LearningRate()):
            assert model.training
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert failing
    assert {name: module.training for name, module in model.named_modules()} == modes
    before = state(model)
    list(train(model, stepper, 0))
    assert state(model) != before


def test_the_penalty_is_the_regularizers_with_weights_and_anchor() -> None:
    """Here the surrogate of Eq. 2 without its factor: of 3 weights at distance 2 with importance 0.5, 6."""

    class Pull(Regularizer):
        def penalty(self, model, past, inputs=None, output=None):
            return sum((past.weights[n] * (p - past.anchor[n]) ** 2).sum() for n, p in model.named_parameters())

    model = nn.Linear(3, 1, bias=False)
    memory = memory_of(model, {"weight": torch.full((1, 1), 0.5)})
    with retain(model, torch.optim.SGD(model.parameters(), lr=0.1), memory, Pull()) as retained:
        assert retained.penalty().item() == 0
        with torch.no_grad():
            model.weight.add_(2)
        assert retained.penalty().item() == pytest.approx(6)
        retained.penalty().backward()
    torch.testing.assert_close(model.weight.grad, torch.full((1, 3), 2.0))


def test_one_of_several_measures_is_named() -> None:
    model = network("linear", 0)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    memory = consolidate(model, [samples(3, 0)])
    memory = consolidate(model, [samples(3, 0)], perdure.MAS("logits"), previous=memory)
    with retain(model, stepper, memory, LearningRate(), importance="mas-logits") as retained:
        assert bits(retained.weights["1.bias"]) == bits(memory.importance("mas-logits")["1.bias"])
    with pytest.raises(MethodError, match="holds 2 measures"), retain(model, stepper, memory, LearningRate()):
        pass
    with retain(model, stepper, memory, Unrestrained()) as retained:
        assert retained.weights == {}


def test_a_memory_without_importance_restrains_nothing_and_says_so() -> None:
    model = network("linear", 0)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(MethodError, match="holds 0 measures"), retain(model, stepper, Memory({}, {}), LearningRate()):
        pass


@pytest.mark.parametrize("regularizer", [LearningRate(), Unrestrained()])
def test_the_memory_of_another_model_is_refused(regularizer: Regularizer) -> None:
    memory = consolidate(network("batch norm", 0), [samples(3, 0)])
    model = network("dropout", 0)
    before = {name: module.training for name, module in model.named_modules()}
    with (
        pytest.raises(MethodError, match="of another model: this one has no parameters"),
        retain(model, torch.optim.SGD(model.parameters(), lr=0.1), memory, regularizer),
    ):
        pass
    assert {name: module.training for name, module in model.named_modules()} == before


def test_a_batch_norm_that_cannot_follow_the_policy_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(BatchNormError, match=r"'1' has none \(track_running_stats=False\)"),
        retain(model, stepper, Memory({}, {}), Unrestrained(), batch_norm="original"),
    ):
        pass


def test_raw_importance_is_refused_where_it_would_be_a_share_of_the_step() -> None:
    model = network("linear", 0)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    memory = consolidate(model, [samples(3, 0)], Fisher())
    before = {name: module.training for name, module in model.named_modules()}
    with (
        pytest.raises(
            MethodError, match="'learning-rate' takes importance for a share .* 'fisher' of this memory is raw"
        ),
        retain(model, stepper, memory, LearningRate()),
    ):
        pass
    assert {name: module.training for name, module in model.named_modules()} == before
    with retain(model, stepper, memory, Freezing()):
        pass


def test_a_misspelt_policy_is_refused() -> None:
    """It must not quietly train with target statistics."""
    model = network("batch norm", 0)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(MethodError, match="`batch_norm` must be one of 'target', 'original', .*; got 'orginal'"),
        retain(model, stepper, Memory({}, {}), Unrestrained(), batch_norm="orginal"),
    ):
        pass


def test_a_network_without_batch_norm_gets_a_note() -> None:
    model = network("linear", 0)
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with retain(model, stepper, Memory({}, {}), Unrestrained(), batch_norm="original") as retained:
        assert "no batch norm" in retained.note
    with retain(model, stepper, Memory({}, {}), Unrestrained()) as retained:
        assert retained.note == ""


def test_parameters_that_train_without_importance_are_named() -> None:
    model = network("linear", 0)
    model[1].bias.requires_grad_(False)
    memory = consolidate(model, [samples(3, 0)])
    stepper = torch.optim.SGD(model.parameters(), lr=0.1)
    with retain(model, stepper, memory, LearningRate()) as retained:
        assert retained.note == ""
    model[1].bias.requires_grad_(True)
    with retain(model, stepper, memory, LearningRate(), batch_norm="original") as retained:
        assert "no batch norm" in retained.note
        assert "1 parameter(s) train without any protection" in retained.note
        assert retained.note.endswith("because the memory has no importance of them: 1.bias.")
    with retain(model, stepper, memory, Unrestrained()) as retained:
        assert retained.note == ""


def test_importance_in_another_precision_is_brought_to_the_parameters() -> None:
    model = network("linear", 0).double()
    memory = memory_of(model, {name: torch.ones(()) for name, _ in model.named_parameters()})
    with retain(model, torch.optim.SGD(model.parameters(), lr=0.1), memory, LearningRate()) as retained:
        assert retained.weights["1.weight"].dtype == torch.float64


def test_a_strangers_loop_of_three_more_lines() -> None:
    """A network of their own, one linear head, no batch norm; two domains that ask for different things.

    With restraint the loss on the first domain rises less than without, from the same start on the same batches.
    """
    first, second = samples(24, 1), samples(24, 2) + 0.5
    classes = {domain: target_for(network("linear", 9), x, 0) for domain, x in (("first", first), ("second", second))}
    criterion = nn.CrossEntropyLoss()

    def their_network() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 3))

    def loop(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, penalty) -> None:
        for _ in range(40):
            loss = criterion(model(x), y) + penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    losses = {}
    for protected in (False, True):
        model = their_network()
        loop(model, torch.optim.Adam(model.parameters(), 0.01), first, classes["first"], lambda: 0)
        memory = perdure.consolidate(
            model,
            zip(first.split(5), classes["first"].split(5), strict=True),
            importance=perdure.MAS(),
            granularity="filter",
        )
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        regularizer = perdure.LearningRate() if protected else Unrestrained()
        with perdure.retain(model, optimizer, memory, regularizer, batch_norm="original") as retained:
            loop(model, optimizer, second, classes["second"], retained.penalty)
        losses[protected] = criterion(model(first), classes["first"]).item()
        assert model.training
    assert losses[True] < losses[False]
