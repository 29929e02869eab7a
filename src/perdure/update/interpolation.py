"""A dial after training: how much of the parent an updated release keeps."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import UpdateError
from perdure.importance import measure_from
from perdure.models import batch_norm_state, interpolated, recalibrate
from perdure.release import Memory, Release
from perdure.release.release import measures_of
from perdure.update.job import refuse_existing
from perdure.update.provenance import digest_of_hashes, measured
from perdure.update.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from perdure.types import Domain


def interpolated_release(
    parent: Release,
    candidate: Release,
    retain: float,
    *,
    domain: Domain | None = None,
    out: Path | str | None = None,
) -> Release:
    r"""A release on the line from a candidate back to its parent; both are left as they are.

    .. math:: \theta = (1 - r)\,\theta_\mathrm{candidate} + r\,\theta_\mathrm{parent}

    Its lineage is the candidate's. Its anchor is the new weights. Importance that no one measured there is the
    candidate's, a stand-in that is exact for r = 0; quadratics around several anchors stay where they were measured.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".

    Args:
        parent: the release that was updated.
        candidate: what the update made of it.
        retain: r in [0, 1]: 0 has the candidate's weights and statistics, 1 the parent's, both bit for bit.
        domain: the newest domain of the candidate. Where it is given, importance is measured anew at the new weights,
            and running statistics are recalibrated if the candidate's were.
        out: where the release is written; it stays in memory if left out.

    Raises:
        UpdateError: if `retain` is out of range, `candidate` is no update of `parent`, `domain` is another one than the
            candidate learnt last, or `out` exists.
        MethodError: if a measure cannot be taken after training (SI); then leave `domain` out.

    Example:
        release = perdure.update.interpolated_release(parent, candidate, retain=0.3)
    """
    if out is not None:
        refuse_existing(Path(out))
    _check(parent, candidate, retain, domain)
    model = deepcopy(candidate.model)
    model.load_state_dict(interpolated(candidate.model, parent.model.state_dict(), 1 - retain))
    if domain is None:
        memory = _with_anchor(candidate.memory, model)
    else:
        recipe = Recipe.model_validate(candidate.identity.recipe)
        if candidate.identity.method.get("batch_norm") == "recalibrated" and 0 < retain < 1:
            recalibrate(model, domain.batches("train", recipe.batch_size))
        measures = [measure_from(one.settings) for one in candidate.memory.measures.values()]
        memory = replace(measured(model, domain, recipe, measures, parent.memory), frozen=candidate.memory.frozen)
    if candidate.memory.norms:
        # earlier domains keep their own batch norm; the newest has what stands in the network
        newest = candidate.identity.domains[-1].domain
        memory = replace(memory, norms={**candidate.memory.norms, newest: batch_norm_state(model)})
    dial: dict[str, Any] = {
        "retain": retain,
        "candidate": candidate.id,
        "importance": "candidate's" if domain is None else "measured anew",
    }
    identity = candidate.identity.model_copy(
        update={
            "id": "",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "measures": measures_of(memory),
            "training": {**candidate.identity.training, "interpolated": dial},
            "files": {},
        }
    )
    release = Release(model.eval(), memory, identity, "")
    if out is not None:
        return release.save(out)
    with tempfile.TemporaryDirectory(prefix="perdure-") as folder:
        return release.save(Path(folder) / "release")


def _check(parent: Release, candidate: Release, retain: float, domain: Domain | None) -> None:
    if not 0 <= retain <= 1:
        raise UpdateError(f"`retain` must be in [0, 1], 0 for the candidate and 1 for its parent; got {retain}.")
    if not candidate.lineage or candidate.lineage[-1].id != parent.id:
        ancestor = f"an update of {candidate.lineage[-1].name!r}" if candidate.lineage else "a base release"
        raise UpdateError(f"Release {candidate.name!r} is {ancestor}, not an update of {parent.name!r}.")
    newest = candidate.identity.domains[-1]
    if domain is not None and (domain.name, digest_of_hashes(domain)) != (newest.domain, newest.data):
        raise UpdateError(
            f"Release {candidate.name!r} learnt domain {newest.domain!r} last; {domain.name!r} is another domain, or "
            "its cases have changed. Give the same one, or none."
        )


def _with_anchor(memory: Memory, model: nn.Module) -> Memory:
    anchor = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return replace(
        memory,
        anchor=anchor,
        measures={key: one.moved(memory.anchor, anchor) for key, one in memory.measures.items()},
    )
