"""The doctor finds what was built into an update, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fakes
import synthetic
from perdure.data import Dataset, FolderDomain
from perdure.errors import EvaluationError, UpdateError
from perdure.evaluation.diagnosis import Diagnosis, Run, diagnose
from perdure.evaluation.examination import drift, importance_in_use, movement, relative_movement, selectivity, shares
from perdure.evaluation.findings import RULES
from perdure.importance import MAS, RAW, Fisher, Uniform
from perdure.methods import Method, ewc_bn, finetune, l2_sp, mas, mas_fix, mas_lr
from perdure.models import batch_norms
from perdure.regularization import Freezing, SurrogateLoss
from perdure.release import Accumulated, Ancestor, Memory, Release
from perdure.release.release import with_id
from perdure.update import Recipe
from perdure.update.run_folder import Epoch, RunFolder, State

Omega = Callable[[Tensor], Tensor]

FALLING = (1.0, 0.6, 0.5, 0.47, 0.468)
"""A loss that came down and has settled."""


def graded(parameter: Tensor) -> Tensor:
    return torch.linspace(0, 1, parameter.numel()).reshape(parameter.shape)


def network(batch_norm: bool = True) -> nn.Module:
    norms = [nn.BatchNorm2d(4, eps=0.0)] if batch_norm else []
    return nn.Sequential(nn.Conv2d(1, 4, 3), *norms, nn.Conv2d(4, 2, 1))


def epochs(
    losses: Sequence[float] = FALLING,
    validation: Sequence[float] | None = FALLING,
    **facts: float | None,
) -> list[Epoch]:
    usual: dict[str, Any] = {"restraint": 0.05, "task_gradient": 1.0, "step_share": 0.8, "step_change": 0.25, **facts}
    return [
        Epoch(k + 1, 0.1, loss, 0.0, 1.0, None if validation is None else validation[k], **usual)
        for k, loss in enumerate(losses)
    ]


@dataclass(frozen=True)
class Case:
    """An update to be built; without changes nothing is wrong with it.

    Args:
        method: how it was made.
        omega: of a parameter, the scaled importance.
        step: what is added to every parameter, of it and of its importance.
        mean: what is added to every running mean, in deviations.
        variance: what every running variance is multiplied with.
        epochs: of the log.
        batch_norm: whether the network has any.
        training: what the candidate says of its training.
        recipe: the numbers.
        is_finished: whether there is a candidate.
        control: the step of the control, if there is one.
    """

    method: Method = field(default_factory=mas)
    omega: Omega = graded
    step: Callable[[Tensor, Tensor], Tensor] = lambda theta, omega: 0.1 * (1 - omega)
    mean: float = 0.0
    variance: float = 1.0
    epochs: Sequence[Epoch] = field(default_factory=epochs)
    batch_norm: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=5))
    is_finished: bool = True
    control: Callable[[Tensor, Tensor], Tensor] | None = None

    def parent(self) -> Release:
        torch.manual_seed(0)
        model = network(self.batch_norm)
        made = fakes.release(model, fakes.picture_contract(channels=1), learnt=("a",))
        measure = self.method.importance or MAS()
        weights = {name: self.omega(parameter.detach()) for name, parameter in model.named_parameters()}
        statistics = {name: tensor.clone() for name, tensor in model.named_buffers()}
        held = Memory({}, {measure.key: Accumulated(weights, weights, 1, measure.settings())}, statistics)
        return replace(made, memory=held)

    def child(self, parent: Release, name: str, step: Callable[[Tensor, Tensor], Tensor]) -> Release:
        model = deepcopy(parent.model)
        omega = next(iter(parent.memory.measures.values())).weights
        with torch.no_grad():
            for place, parameter in model.named_parameters():
                parameter += step(parameter, omega[place])
            for norm in batch_norms(model).values():
                norm.running_mean += self.mean * norm.running_var.sqrt()
                norm.running_var *= self.variance
        return related(fakes.release(model, parent.contract, name=name, learnt=("a", "b")), parent, self.training)

    def diagnosis(self) -> Diagnosis:
        parent = self.parent()
        identity = {
            "parent": parent.id,
            "method": self.method.record(),
            "recipe": self.recipe.model_dump(mode="json"),
        }
        candidate = self.child(parent, "b", self.step) if self.is_finished else None
        control = None if self.control is None else self.child(parent, "control", self.control)
        return diagnose(Run(Path("b.run"), identity, self.epochs), parent, candidate, control=control)

    def found(self) -> dict[str, str]:
        return {one.rule: one.kind for one in self.diagnosis().findings}


def related(release: Release, parent: Release, training: Mapping[str, Any] | None = None) -> Release:
    """The same release as an update of another."""
    ancestor = Ancestor(id=parent.id, name=parent.name, domain="a", method="trained")
    changes = {"lineage": (ancestor,), "training": dict(training or {})}
    return replace(release, identity=with_id(release.identity.model_copy(update=changes)))


def test_of_a_healthy_update_nothing_is_found() -> None:
    assert Case().found() == {}


NOTHING = {"restraint": 0.0, "step_share": 1.0, "step_change": 0.0}
EXPLICIT = {"step_share": 1.0, "step_change": 0.0}
REPORT = {"steps": 60, "shortened_steps": 40, "multiplier": 0.5, "strength": 5.0}
FREEZING = Method("mas-fix", "x", "x", Freezing(0.25, of="free"), MAS())

FIRES: dict[str, tuple[str, Case]] = {
    "dead: a pull of 1e-4 of the step": ("dead-penalty", Case(epochs=epochs(restraint=1e-6, step_change=1e-4))),
    "dead: a gradient of 1e-4": (
        "dead-penalty",
        Case(epochs=epochs(restraint=1e-6, restraint_gradient=1e-4, **EXPLICIT)),
    ),
    "dead: importance is zero everywhere": (
        "dead-penalty",
        Case(method=mas_lr(), omega=torch.zeros_like, epochs=epochs(**NOTHING)),
    ),
    "dominating: 10 of 11 parts of the gradient": (
        "dominating-penalty",
        Case(epochs=epochs(restraint_gradient=10.0, **EXPLICIT)),
    ),
    "dominating: 0.5 % of the step": ("dominating-penalty", Case(epochs=epochs(step_share=0.005, step_change=0.99))),
    "found": ("found-strength", Case(training={"report": REPORT})),
    "loss: rises to more than twice": ("unstable-loss", Case(epochs=epochs((1.0, 0.4, 0.9, 0.5, 0.5)))),
    "loss: ends above its start": ("unstable-loss", Case(epochs=epochs((1.0, 0.9, 1.0, 1.05, 1.1)))),
    "no release": ("unfinished-run", Case(is_finished=False, epochs=epochs()[:2])),
    "rate: no control": ("rate-explains-effect", Case(method=mas_lr("parameter"))),
    "rate: the control moved the same": (
        "rate-explains-effect",
        Case(method=mas_lr("parameter"), step=lambda t, o: torch.full_like(t, 0.1), control=lambda t, o: 0.1 + 0 * t),
    ),
    "uniform": ("uniform-importance", Case(omega=lambda parameter: 0.5 + 0.05 * graded(parameter))),
    "binary": ("binary-importance", Case(omega=lambda parameter: (graded(parameter) > 0.5).float())),
    "drift: the mean": ("drifted-statistics", Case(mean=0.2)),
    "drift: the variance": ("drifted-statistics", Case(variance=1.3)),
    "drift: importance holds statistics no better": ("drifted-statistics", Case(method=mas_fix(), mean=-0.2)),
    "no batch norm": ("no-batch-norm", Case(method=mas(batch_norm="original"), batch_norm=False)),
    "two epochs": ("too-few-epochs", Case(epochs=epochs((1.0, 0.999), (1.0, 0.999)))),
    "validation still falls": ("too-few-epochs", Case(epochs=epochs(FALLING, (1.0, 0.8, 0.6, 0.4, 0.3)))),
    "training still falls": ("too-few-epochs", Case(epochs=epochs((1.0, 0.8, 0.6, 0.4, 0.3), None))),
    "best epoch early": ("early-best-epoch", Case(epochs=epochs(FALLING, (0.5, 0.6, 0.7, 0.8, 0.9)))),
    "frozen": ("frozen-budget", Case(method=mas_fix(), training={"frozen_share": 0.4})),
    "frozen, a share of the rest": ("frozen-budget", Case(method=FREEZING, training={"frozen_share": 0.4})),
}

SILENT: dict[str, tuple[str, Case]] = {
    "alive in one epoch": (
        "dead-penalty",
        Case(epochs=[*epochs(restraint=1e-6, step_change=1e-4)[:4], epochs(restraint=1e-6, step_change=0.01)[4]]),
    ),
    "alive in the loss": ("dead-penalty", Case(epochs=epochs(restraint=0.1, step_change=1e-4))),
    "nothing moved": (
        "dead-penalty",
        Case(epochs=epochs(restraint=0.0, step_change=1e-4), step=lambda t, o: torch.zeros_like(t)),
    ),
    "no restraint to die": ("dead-penalty", Case(method=finetune(), epochs=epochs(**NOTHING))),
    "a log of before the shares": (
        "dead-penalty",
        Case(epochs=epochs(restraint=None, task_gradient=None, step_share=None, step_change=None)),
    ),
    "eight of nine parts of the gradient": (
        "dominating-penalty",
        Case(epochs=epochs(restraint_gradient=8.0, **EXPLICIT)),
    ),
    "two percent of the step": ("dominating-penalty", Case(epochs=epochs(step_share=0.02, step_change=0.98))),
    "dominating in one epoch": (
        "dominating-penalty",
        Case(epochs=[epochs(step_share=0.005)[0], *epochs()[1:]]),
    ),
    "nothing was shortened": (
        "found-strength",
        Case(training={"report": {**REPORT, "shortened_steps": 0, "strength": 0.0}}),
    ),
    "a rise that is noise": ("unstable-loss", Case(epochs=epochs((1.0, 0.01, 0.03, 0.02, 0.02)))),
    "one epoch": ("unstable-loss", Case(epochs=epochs((1.0,), None))),
    "a release": ("unfinished-run", Case()),
    "importance lowers the mean rate by little": (
        "rate-explains-effect",
        Case(method=mas_lr("parameter"), omega=lambda parameter: 0.1 * graded(parameter)),
    ),
    "the control moved what matters more": (
        "rate-explains-effect",
        Case(method=mas_lr("parameter"), control=lambda t, o: torch.full_like(t, 0.1)),
    ),
    "a penalty is no rate": ("rate-explains-effect", Case()),
    "importance varies": ("uniform-importance", Case(omega=lambda parameter: 0.5 + 0.5 * graded(parameter))),
    "uniform is what l2-sp wants": ("uniform-importance", Case(method=l2_sp(), omega=torch.ones_like)),
    "uniform importance that nobody uses": ("uniform-importance", Case(method=finetune(), omega=torch.ones_like)),
    "graded importance": ("binary-importance", Case()),
    "ones that l2-sp wants": ("binary-importance", Case(method=l2_sp(), omega=torch.ones_like)),
    "importance without a range": (
        "binary-importance",
        Case(method=ewc_bn(), omega=lambda parameter: 1e-4 * graded(parameter)),
    ),
    "a small drift": ("drifted-statistics", Case(mean=0.05, variance=1.05)),
    "statistics that are held": ("drifted-statistics", Case(method=mas(batch_norm="original"), mean=1.0)),
    "every domain has its own": ("drifted-statistics", Case(method=mas(batch_norm="per-domain"), mean=1.0)),
    "weights that are not protected": ("drifted-statistics", Case(method=finetune(), mean=1.0)),
    "batch norm is there": ("no-batch-norm", Case(method=mas(batch_norm="original"))),
    "the target policy needs none": ("no-batch-norm", Case(batch_norm=False)),
    "settled": ("too-few-epochs", Case(epochs=epochs(FALLING, None))),
    "a best epoch in the middle": ("early-best-epoch", Case(epochs=epochs(FALLING, (0.9, 0.6, 0.7, 0.8, 0.9)))),
    "an early best that the end comes near": (
        "early-best-epoch",
        Case(epochs=epochs(FALLING, (0.5, 0.51, 0.52, 0.51, 0.51))),
    ),
    "nothing frozen": ("frozen-budget", Case(training={"frozen_share": 0.4})),
}


@pytest.mark.parametrize(("rule", "case"), FIRES.values(), ids=FIRES)
def test_a_rule_finds_what_is_wrong(rule: str, case: Case) -> None:
    assert rule in case.found()


@pytest.mark.parametrize(("rule", "case"), SILENT.values(), ids=SILENT)
def test_a_rule_is_silent_where_nothing_is_wrong(rule: str, case: Case) -> None:
    assert rule not in case.found()


def test_every_rule_was_seen_to_fire_and_to_be_silent() -> None:
    assert {rule for rule, _ in FIRES.values()} | {"forgotten"} == set(RULES)
    assert {rule for rule, _ in SILENT.values()} | {"forgotten"} == set(RULES)


def test_every_rule_has_its_part_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")] == list(RULES)


def test_a_finding_has_a_sentence_with_its_numbers_and_something_to_do() -> None:
    (found,) = Case(epochs=epochs(restraint=1e-6, step_change=1e-4)).diagnosis().findings
    assert found.sentence.startswith(
        "The restraint is dead: its share of the gradient is at most 0.0001 in every epoch"
    )
    assert found.advice.startswith("Raise the strength (now 0.00285) by factors of 10")
    assert found.numbers["largest_share_in_gradient"] == pytest.approx(1e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"step_share": 0.005}, "only 0.50% of the step is taken"),
        ({"restraint_gradient": 10.0, **EXPLICIT}, "it is 90.9% of the gradient"),
    ],
)
def test_a_restraint_that_rules_is_said_to_do_so_by_its_step_or_its_gradient(
    facts: dict[str, float], words: str
) -> None:
    (found,) = Case(epochs=epochs(**facts)).diagnosis().findings
    assert found.sentence == f"The restraint rules: in the middle epoch {words}, so the new domain is hardly learnt."


def test_a_strength_that_is_found_may_rest_while_less_is_lost_than_is_allowed() -> None:
    chosen = Method("auto", "x", "x", SurrogateLoss("auto", "half", allowed=0.1), Fisher(scaling=RAW))
    (found,) = Case(method=chosen, epochs=epochs(restraint=1e-6, step_change=0.0)).diagnosis().findings
    assert (found.rule, found.kind) == ("dead-penalty", "note")
    assert found.advice == "The loss that is allowed (0.1) was never reached; allow less to forget less."


def test_a_strength_that_was_found_is_a_note_with_its_numbers() -> None:
    (found,) = Case(training={"report": REPORT}).diagnosis().findings
    assert (found.kind, found.numbers) == ("note", REPORT)
    assert found.sentence == "The strength was found: auto: λ 5 in the last of 40 steps that were shortened, of 60."


def test_problems_come_before_notes() -> None:
    found = Case(method=mas_lr("parameter"), mean=1.0).found()
    assert list(found.items()) == [("drifted-statistics", "problem"), ("rate-explains-effect", "note")]


@pytest.mark.parametrize(("share", "left", "kind"), [(0.25, 2.0, "note"), (0.6, 1.0, "problem"), (1.0, 0.0, "problem")])
def test_the_budget_of_freezing_counts_updates_that_leave_something_to_train(
    share: float, left: float, kind: str
) -> None:
    (found,) = Case(method=mas_fix(0.25), training={"frozen_share": share}).diagnosis().findings
    assert (found.numbers, found.kind) == ({"frozen_share": share, "updates_left": left}, kind)


def test_where_a_share_of_the_rest_is_frozen_the_budget_never_ends() -> None:
    (found,) = Case(method=FREEZING, training={"frozen_share": 0.4}).diagnosis().findings
    assert found.numbers == pytest.approx({"frozen_share": 0.4, "after_one_more": 0.55})


def test_shares_are_those_of_the_definition() -> None:
    explicit = Epoch(1, 0.1, 3.0, 1.0, 1.0, None, 2.0, 3.0, 1.0, 1.0, 0.0)
    proximal = Epoch(2, 0.1, 3.0, 0.0, 1.0, None, 1.0, 3.0, None, 0.7, 1 / 3)
    scaled = Epoch(3, 0.1, 3.0, 0.0, 1.0, None, 0.0, 3.0, None, 0.5, 0.5)
    plain = Epoch(4, 0.1, 3.0, 0.0, 1.0, None, 0.0, 3.0, None, 1.0, 0.0)
    old = Epoch(5, 0.1, 3.0, 0.0, 1.0, None)
    found = [(one.in_loss, one.in_gradient, one.step_share) for one in shares((explicit, proximal, scaled, plain, old))]
    assert found == [
        (0.25, 0.25, 1.0),
        (0.25, pytest.approx(0.25), 0.7),
        (None, pytest.approx(1 / 3), 0.5),
        (0.0, 0.0, 1.0),
        (None, None, None),
    ]


def linear(weight: Sequence[float], bias: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(weight))
        model[0].bias.fill_(bias)
    return model


def test_movement_is_that_of_the_definition() -> None:
    # d = (2, -1, 1): 0.25 * 4 + 1 * 1 + 0.5 * 1 = 2.5, |d| = sqrt 6, |theta*| = 5
    parent, after = (fakes.release(model, fakes.picture_contract()) for model in (linear((3, 4), 0), linear((5, 3), 1)))
    weights = {"0.weight": torch.tensor([[0.25, 1.0]]), "0.bias": torch.tensor([0.5])}
    (one,) = movement(parent, after, weights)
    assert (one.layer, one.parameters) == ("0", 3)
    assert one.in_importance == pytest.approx(2.5)
    assert one.distance == pytest.approx(math.sqrt(6))
    assert one.relative == pytest.approx(math.sqrt(6) / 5)
    assert one.importance == pytest.approx(1.75 / 3)
    assert selectivity([one]) == pytest.approx(2.5 / 6)
    assert relative_movement([one]) == pytest.approx(math.sqrt(6) / 5)


def test_importance_of_a_filter_counts_for_each_of_its_weights() -> None:
    parent, after = (fakes.release(model, fakes.picture_contract()) for model in (linear((3, 4), 0), linear((5, 3), 1)))
    (one,) = movement(parent, after, {"0.weight": torch.tensor([[0.5]])})
    assert (one.in_importance, one.importance) == (pytest.approx(0.5 * 5), 0.5)


def test_a_layer_without_importance_or_length_has_none() -> None:
    parent, after = (fakes.release(model, fakes.picture_contract()) for model in (linear((0, 0), 0), linear((1, 0), 0)))
    (one,) = movement(parent, after, {})
    assert (one.in_importance, one.importance, one.relative, one.distance) == (None, None, None, 1.0)
    assert selectivity([one]) is None
    assert relative_movement([]) is None


def test_drift_is_that_of_the_definition() -> None:
    parent = Case().parent()
    norm = batch_norms(parent.model)["1"]
    norm.running_var.fill_(4.0)
    after = deepcopy(parent.model)
    batch_norms(after)["1"].running_mean += torch.tensor([1.0, -1.0, 0.0, 2.0])
    batch_norms(after)["1"].running_var.mul_(torch.tensor([math.e, 1 / math.e, 1.0, 1.0]))
    (one,) = drift(parent, replace(parent, model=after))
    assert one.layer == "1"
    assert one.shift == pytest.approx((0.5 + 0.5 + 0 + 1) / 4)
    assert one.log_variance_ratio == pytest.approx(2 / 4)
    # the memory holds mean 0 and variance 1: from there the shift is twice as many deviations
    assert one.shift_from_original == pytest.approx(1.0)
    assert one.log_variance_ratio_from_original == pytest.approx((2 * math.log(4) + 1 + math.log(4) * 2) / 4, rel=0.2)


def test_without_batch_norm_there_is_no_drift() -> None:
    diagnosis = Case(batch_norm=False).diagnosis()
    assert diagnosis.drift == ()
    assert diagnosis.not_computed["drift"] == "the network has no batch norm with running statistics."


def test_movement_is_given_in_the_importance_that_the_method_went_by() -> None:
    parent = Case().parent()
    used = next(iter(parent.memory.measures.values()))
    other = Accumulated(used.weights, used.latest, 1, Uniform().settings())
    both = replace(parent, memory=replace(parent.memory, measures={"uniform": other, "mas": used}))
    assert importance_in_use(both, mas().record())[0] == "mas"
    assert importance_in_use(both, l2_sp().record())[0] == "uniform"
    assert importance_in_use(both, finetune().record())[0] == "uniform"
    assert importance_in_use(replace(parent, memory=Memory({}, {})), finetune().record()) == (None, {})


def test_of_an_unfinished_run_only_the_log_is_looked_at() -> None:
    diagnosis = Case(is_finished=False).diagnosis()
    assert (diagnosis.movement, diagnosis.drift) == ((), ())
    assert set(diagnosis.not_computed) == {"movement", "drift", "forgetting"}


def test_a_base_release_has_nothing_to_forget() -> None:
    run = Run(Path("base.run"), {"parent": None, "method": finetune().record()}, epochs(**NOTHING))
    assert diagnose(run, None, Case().parent()).not_computed["movement"] == "it made a base release."


def test_releases_that_do_not_belong_together_are_refused() -> None:
    case = Case()
    parent = case.parent()
    run = Run(Path("b.run"), {"parent": parent.id, "method": mas().record()}, epochs())
    child = case.child(parent, "b", case.step)
    with pytest.raises(EvaluationError, match=r"b.run: updated the release .*; found b .* --release"):
        diagnose(run, child, child)
    with pytest.raises(EvaluationError, match=r"found none"):
        diagnose(run)
    with pytest.raises(EvaluationError, match=r"Release 'base' is no update of 'base'"):
        diagnose(run, parent, parent)
    stranger = related(fakes.release(deepcopy(child.model), parent.contract, name="x", learnt=("a", "c")), parent)
    with pytest.raises(EvaluationError, match=r"Control 'x' learnt 'c' and 'b' learnt 'b'"):
        diagnose(run, parent, child, control=stranger)


class Normed(fakes.Threshold):
    """A threshold behind a batch norm that does nothing at first."""

    def __init__(self, threshold: float, mean: float) -> None:
        super().__init__((threshold,))
        self.norm = nn.BatchNorm2d(3, eps=0.0, affine=False)
        self.norm.running_mean.fill_(mean)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))


@pytest.fixture
def earlier(tmp_path: Path) -> list[FolderDomain]:
    dataset = Dataset.open(synthetic.write_images(tmp_path / "pictures", domains=("a", "b")))
    return [dataset.domain("a", fakes.picture_contract(), cache=tmp_path / "cache")]


def scored(
    earlier: list[FolderDomain],
    threshold: float,
    mean: float,
    *,
    method: Method | None = None,
    control: float | None = None,
) -> Diagnosis:
    """An update of a release that finds every disc (bright 0.75 on 0.35) into one of another threshold and mean."""
    parent = fakes.release(Normed(0.55, 0.0), fakes.picture_contract(), learnt=("a",))
    weights = {"thresholds": torch.tensor([0.5])}
    parent = replace(parent, memory=Memory({}, {"mas": Accumulated(weights, weights, 1, MAS().settings())}))
    candidate, other = (
        related(fakes.release(model, fakes.picture_contract(), name=name, learnt=("a", "b")), parent)
        for name, model in (("b", Normed(threshold, mean)), ("control", Normed(control or 0.55, 0.0)))
    )
    run = Run(Path("b.run"), {"parent": parent.id, "method": (method or mas()).record()}, epochs())
    return diagnose(run, parent, candidate, domains=earlier, control=None if control is None else other)


def test_what_sits_in_the_statistics_comes_back_with_the_old_ones(earlier: list[FolderDomain]) -> None:
    diagnosis = scored(earlier, 0.55, 0.5)
    (one,) = diagnosis.forgetting
    assert (one.parent, one.candidate, one.with_parent_statistics) == (pytest.approx(1, abs=0.01), 0.0, one.parent)
    assert (one.total, one.in_weights, one.in_statistics) == (one.parent, 0.0, one.parent)
    found = {finding.rule: finding for finding in diagnosis.findings}
    assert found["forgotten"].advice.startswith("Most of it comes back with the old statistics")
    assert found["drifted-statistics"].kind == "problem"


def test_what_sits_in_the_weights_does_not(earlier: list[FolderDomain]) -> None:
    diagnosis = scored(earlier, 0.1, 0.0)
    (one,) = diagnosis.forgetting
    assert one.with_parent_statistics == one.candidate
    assert (one.in_weights, one.in_statistics) == (one.total, 0.0)
    assert one.total is not None
    assert one.total > 0.3
    found = {finding.rule: finding for finding in diagnosis.findings}
    assert found["forgotten"].advice.startswith("Most of it is in the weights")


def test_both_parts_add_up_to_what_was_lost(earlier: list[FolderDomain]) -> None:
    (one,) = scored(earlier, 0.4, 0.12).forgetting
    assert one.total is not None
    assert one.in_weights is not None
    assert one.in_statistics is not None
    assert one.total == pytest.approx(one.in_weights + one.in_statistics)
    assert min(abs(one.in_weights), abs(one.in_statistics)) > 0


def test_scoring_leaves_the_statistics_as_they_were(earlier: list[FolderDomain]) -> None:
    parent = fakes.release(Normed(0.55, 0.0), fakes.picture_contract(), learnt=("a",))
    candidate = related(fakes.release(Normed(0.55, 0.5), fakes.picture_contract(), name="b"), parent)
    run = Run(Path("b.run"), {"parent": parent.id, "method": mas().record()}, epochs())
    diagnose(run, parent, candidate, domains=earlier)
    assert candidate.model.norm.running_mean.tolist() == [0.5] * 3
    assert parent.model.norm.running_mean.tolist() == [0.0] * 3


def test_of_what_kept_its_score_nothing_is_said_and_its_drift_is_only_a_note(earlier: list[FolderDomain]) -> None:
    found = {one.rule: one.kind for one in scored(earlier, 0.55, 0.0).findings}
    assert "forgotten" not in found
    found = {one.rule: one.kind for one in scored(earlier, 0.55, 0.12).findings}
    assert "forgotten" not in found
    assert found["drifted-statistics"] == "note"


def test_a_control_that_forgot_no_more_explains_the_effect(earlier: list[FolderDomain]) -> None:
    diagnosis = scored(earlier, 0.1, 0.0, method=mas_lr("parameter"), control=0.1)
    assert diagnosis.control is not None
    assert diagnosis.control.lost == diagnosis.control.control_lost
    (found,) = [one for one in diagnosis.findings if one.rule == "rate-explains-effect"]
    assert found.kind == "problem"
    assert found.numbers["mean_rate"] == 0.5
    assert "A lower learning rate explains the whole effect: control" in found.sentence


def test_a_control_that_forgot_more_does_not(earlier: list[FolderDomain]) -> None:
    diagnosis = scored(earlier, 0.55, 0.0, method=mas_lr("parameter"), control=0.1)
    assert diagnosis.control is not None
    assert diagnosis.control.lost == 0.0
    assert (diagnosis.control.control_lost or 0.0) > 0.3
    assert "rate-explains-effect" not in {one.rule for one in diagnosis.findings}


def test_a_run_folder_is_read_with_the_places_of_its_releases(tmp_path: Path) -> None:
    parent = Case().parent()
    RunFolder(tmp_path / "b.run", {"parent": parent.id}).save(State({}, {}, epochs()))
    for name, text in (("other", "{}"), ("broken", "{"), ("list", "[]"), ("base", f'{{"id": "{parent.id}"}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "release.json").write_text(text)
    run = Run.open(tmp_path / "b.run")
    assert (run.parent, list(run.epochs), run.candidate) == (parent.id, epochs(), tmp_path / "b")
    assert run.parent_beside() == tmp_path / "base"
    assert replace(run, identity={"parent": "0" * 64}).parent_beside() is None
    assert replace(run, identity={"parent": None}).parent_beside() is None


def test_a_run_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path / "b", {"parent": None})
    with pytest.raises(UpdateError, match=r"must be named after its release, <out>.run"):
        _ = Run.open(tmp_path / "b").candidate
