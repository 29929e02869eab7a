"""What do the releases of a workspace say of themselves? Lineage, training, layers, and candidates side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perdure.evaluation import Scores
from perdure.evaluation.examination import importance_in_use, movement
from perdure.evidence.release_text import identity_record
from perdure.evidence.report.changes import Line, both_scored, domain_changes
from perdure.evidence.report.content import Candidate, Change, Curve, Layer, Layers, ReleaseFacts
from perdure.methods import said
from perdure.regularization import frozen_said

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.evidence.report.workspace import Found, Workspace
    from perdure.release import Release


def facts_of(found: Found) -> ReleaseFacts:
    """One release of the workspace."""
    identity = found.identity
    return ReleaseFacts(
        id=found.id,
        name=found.path.name,
        parent=found.parent,
        domain=identity.domains[-1].domain,
        method=said(identity.method),
        created=identity.created,
        is_here=True,
        identity=identity_record(identity),
    )


def lineage_of(workspace: Workspace) -> tuple[ReleaseFacts, ...]:
    """Every release of the workspace, and the ancestors that are not there; parents before children."""
    facts: dict[str, ReleaseFacts] = {}
    for found in workspace.releases.values():
        before: str | None = None
        for ancestor in found.identity.lineage:
            if ancestor.id not in workspace.releases:
                facts.setdefault(ancestor.id, ReleaseFacts(**ancestor.model_dump(), parent=before, is_here=False))
            before = ancestor.id
        facts[found.id] = facts_of(found)
    return tuple(facts.values())


def line_of(found: Found) -> Line:
    """A release and its parent, with who learnt each domain; of a base release the parent is itself."""
    learnt = {ancestor.domain: ancestor.id for ancestor in found.identity.lineage}
    learnt[found.identity.domains[-1].domain] = found.id
    return Line(candidate=found.id, parent=found.parent or found.id, learnt=learnt)


def curves_of(workspace: Workspace, found: Found) -> tuple[Curve, ...]:
    """How each release of a line was trained, as far as they are in the workspace; an adopted one was not."""
    ids = [*(ancestor.id for ancestor in found.identity.lineage), found.id]
    whole = [workspace.releases[one] for one in ids if one in workspace.releases]
    return tuple(_curve(one) for one in whole if one.identity.training.get("epochs"))


def layers_of(candidate: Release, parent: Release | None) -> Layers:
    """Importance, movement and what is frozen, layer by layer.

    The importance is the one that the update went by, that of the parent's memory; of a base release its own.

    Args:
        candidate: the release.
        parent: what it was updated from; None for a base release, or where it is not in the workspace.
    """
    measure, weights = importance_in_use(parent or candidate, candidate.identity.method)
    frozen = _frozen(candidate)
    layers = tuple(
        Layer(
            name=one.layer,
            parameters=one.parameters,
            importance=one.importance,
            moved=one.relative if parent is not None else None,
            frozen=frozen.get(one.layer),
        )
        for one in movement(parent or candidate, candidate, weights)
    )
    return Layers(
        measure=measure, layers=layers, budget=_budget(candidate.identity.method, candidate.identity.training)
    )


def candidates_of(workspace: Workspace, found: Found, scores: Scores | None) -> tuple[Candidate, ...]:
    """Every update of the same parent to the same domain that was scored; see `Candidate`."""
    own = line_of(found)
    if scores is None or found.parent is None:
        return ()
    domain = found.identity.domains[-1].domain
    candidates = []
    for one in workspace.releases.values():
        if one.parent != found.parent or one.identity.domains[-1].domain != domain:
            continue
        line = Line(candidate=one.id, parent=own.parent, learnt={**own.learnt, domain: one.id})
        if both_scored(scores, line):
            candidates += _candidate(one, domain_changes(scores, line), is_chosen=one.id == found.id)
    return tuple(candidates)


def _candidate(found: Found, changes: Sequence[Change], *, is_chosen: bool) -> list[Candidate]:
    earlier = [one for one in changes if one.role == "earlier" and one.change is not None]
    new = [one for one in changes if one.role == "new" and one.change is not None]
    if not earlier or not new:
        return []
    worst = min(earlier, key=lambda one: one.change or 0.0)
    return [
        Candidate(
            release=found.path.name,
            method=said(found.identity.method),
            strength=strength_of(found.identity.method, found.identity.training),
            worst=worst.change or 0.0,
            worst_domain=worst.domain,
            gain=new[0].change or 0.0,
            is_chosen=is_chosen,
        )
    ]


def strength_of(method: Mapping[str, Any], training: Mapping[str, Any]) -> str | None:
    """What holds an update back: λ, the share that is frozen, and how far it went back to its parent."""
    form = method.get("regularizer") or {}
    words = [f"λ {form['strength']}"] if "strength" in form else []
    words += [f"frozen {form['fraction']:.0%} an update"] if "fraction" in form else []
    if "interpolated" in training:
        words.append(f"retain {training['interpolated']['retain']:g}")
    return ", ".join(words) or None


def parent_of(workspace: Workspace, found: Found) -> Found | None:
    """The parent, if it is in the workspace."""
    return None if found.parent is None else workspace.releases.get(found.parent)


def _curve(found: Found) -> Curve:
    epochs = found.identity.training["epochs"]

    def column(name: str) -> tuple[float | None, ...]:
        return tuple(epoch.get(name) for epoch in epochs)

    return Curve(
        release=found.path.name,
        epochs=tuple(epoch["epoch"] for epoch in epochs),
        loss=column("loss"),
        validation_loss=column("validation_loss"),
        penalty=column("penalty"),
    )


def _frozen(release: Release) -> dict[str, float]:
    """By layer the share of its parameters that is frozen for good; empty where nothing is."""
    masks = release.memory.frozen
    by_layer: dict[str, list[tuple[Tensor, int]]] = {}
    for name, parameter in release.model.named_parameters():
        if name in masks:
            layer = name.rpartition(".")[0] or name
            by_layer.setdefault(layer, []).append((masks[name], parameter.numel()))
    return {
        layer: sum(float(mask.double().mean()) * size for mask, size in parts) / sum(size for _, size in parts)
        for layer, parts in by_layer.items()
    }


def _budget(method: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    form = method.get("regularizer") or {}
    if form.get("form") == "freezing" and "frozen_share" in training:
        return f"{frozen_said(training['frozen_share'], form)}."
    if training.get("frozen_share"):
        return f"{training['frozen_share']:.0%} of the parameters are frozen for good, by earlier updates."
    return "Nothing is frozen for good: a later update may move every parameter."
