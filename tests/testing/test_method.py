from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch

from perdure.importance import MAS, Fisher, Scaling
from perdure.methods import Method, built_in, finetune, mas_lr
from perdure.regularization import LearningRate, Regularizer, SurrogateLoss, Unrestrained
from perdure.release import memory as memories
from perdure.testing import METHOD, check_method


@pytest.mark.parametrize("name", built_in())
def test_every_method_of_ours_keeps_every_claim(name: str) -> None:
    check_method(built_in()[name]())


@pytest.mark.parametrize("recipe", ["mas-lr", "mas-fix", "mas", "ewc-bn"])
def test_the_authors_variants_do_too(recipe: str) -> None:
    check_method(built_in()[recipe](recipe="authors"))


@pytest.mark.parametrize("policy", ["target", "original", "frozen", "per-domain", "recalibrated"])
def test_segmentation_under_every_batch_norm_policy(policy) -> None:
    check_method(mas_lr(batch_norm=policy), task="segmentation")


def test_any_importance_with_any_form() -> None:
    check_method(
        Method(
            name="fisher-lr",
            source="test",
            summary="Fisher information as a learning rate",
            importance=Fisher("expected", scaling=Scaling(scope="layer"), accumulation="max"),
            regularizer=LearningRate(),
            granularity="kernel",
        )
    )


@dataclass(frozen=True)
class Drawing(Regularizer):
    """Takes a random share of every step, from numbers that no seed decides."""

    name = "drawing"
    needs_importance = False

    @contextmanager
    def constrain(self, model, optimizer, past):
        generator = torch.Generator()
        generator.seed()

        def hook(*_):
            with torch.no_grad():
                parameter = next(model.parameters())
                parameter.add_(1e-3 * torch.rand(parameter.shape, generator=generator))

        handle = optimizer.register_step_post_hook(hook)
        yield
        handle.remove()


@dataclass(frozen=True)
class Unlike(Unrestrained):
    factor: float = 1.0

    def settings(self):
        return {"form": self.name}


@dataclass(frozen=True)
class ChangingTheParent(SurrogateLoss):
    def frozen(self, past):
        for value in past.anchor.values():
            value.add_(1)
        return {}


@dataclass(frozen=True)
class Diverging(Regularizer):
    name = "diverging"
    needs_importance = False

    @contextmanager
    def constrain(self, model, optimizer, past):
        yield
        with torch.no_grad():
            next(model.parameters()).fill_(torch.nan)


@dataclass(frozen=True)
class MovingStatistics(Regularizer):
    name = "moving"
    needs_importance = False

    @contextmanager
    def constrain(self, model, optimizer, past):
        yield
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(1)


@dataclass(frozen=True)
class MovingAll(Regularizer):
    name = "moving-all"
    needs_importance = False

    @contextmanager
    def constrain(self, model, optimizer, past):
        yield
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-3)


@pytest.mark.parametrize(
    ("method", "claim"),
    [
        (replace(finetune(), name="Fine Tune"), "has a name for the command line"),
        (replace(finetune(), source=""), "has a name for the command line, a source"),
        (replace(finetune(), regularizer=Unlike(2.0)), "its record is plain JSON"),
        (replace(finetune(), regularizer=Diverging()), "gives finite answers"),
        (replace(finetune(), importance=MAS(), regularizer=ChangingTheParent(1.0)), "stays as it is"),
        (
            replace(finetune(), regularizer=MovingStatistics(), batch_norm="original"),
            "the original statistics survive bit for bit.*in the network",
        ),
        (replace(finetune(), regularizer=MovingAll(), trainable="head"), "only what it says trains"),
        (replace(finetune(), regularizer=Drawing()), "stopped and continued"),
    ],
    ids=lambda value: type(value.regularizer).__name__ if isinstance(value, Method) else "",
)
def test_each_claim_is_broken_by_what_breaks_it(method: Method, claim: str) -> None:
    with pytest.raises(Exception, match="(?s)" + claim) as error:
        check_method(method)
    assert error.type is AssertionError


def test_a_memory_that_grows_with_the_samples_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something kept for every sample, under the name of a parameter."""
    real = memories.accumulated

    def growing(past, raw, scaled, settings, samples, *others):
        kept = real(past, raw, scaled, settings, samples, *others)
        return replace(kept, latest={**kept.latest, "first.bias": torch.ones(samples)})

    monkeypatch.setattr("perdure.update.consolidation.accumulated", growing)
    monkeypatch.setattr("perdure.release.release._check_memory", lambda *_: None)
    with pytest.raises(AssertionError, match=r"(?s)axis of samples.*first.bias' has shape"):
        check_method(finetune())


def test_there_is_a_test_above_for_every_claim() -> None:
    assert len(list(METHOD)) == 8
