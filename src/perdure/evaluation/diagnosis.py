"""Is the penalty alive, what drifted, and why? All that `perdure doctor` says of one update."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import EvaluationError, UpdateError
from perdure.evaluation.examination import (
    Drift,
    Forgetting,
    Movement,
    Share,
    drift,
    forgetting,
    importance_in_use,
    movement,
    selectivity,
    shares,
)
from perdure.evaluation.examined import Control, Examined, Finding
from perdure.evaluation.findings import findings
from perdure.models import batch_norms
from perdure.update.run_folder import RunFolder

if TYPE_CHECKING:
    from perdure.data import FolderDomain
    from perdure.release import Release
    from perdure.types import Split
    from perdure.update.run_folder import Epoch

SUFFIX = ".run"


@dataclass(frozen=True)
class Run:
    """What a run folder says of an update.

    Args:
        path: the folder.
        identity: everything that decided the result.
        epochs: of its log.
    """

    path: Path
    identity: Mapping[str, Any]
    epochs: Sequence[Epoch]

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """Reads a folder `<out>.run`.

        Raises:
            UpdateError: naming the file that is missing or damaged.
        """
        path = Path(path)
        return cls(path, *RunFolder.read(path))

    @property
    def candidate(self) -> Path:
        """Where the release is, or will be.

        Raises:
            UpdateError: if the folder does not have the name that an update gives it.
        """
        if not self.path.name.endswith(SUFFIX):
            raise UpdateError(f"{self.path}: must be named after its release, <out>{SUFFIX}; name it so again.")
        return self.path.with_name(self.path.name.removesuffix(SUFFIX))

    @property
    def parent(self) -> str | None:
        """The id of the release that was updated; None of a base release."""
        parent: str | None = self.identity.get("parent")
        return parent

    def parent_beside(self) -> Path | None:
        """The folder of the parent, if it stands beside this one."""
        for file in sorted(self.path.absolute().parent.glob("*/release.json")):
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                continue  # not the one that is looked for
            if isinstance(content, dict) and content.get("id") == self.parent is not None:
                return file.parent
        return None


@dataclass(frozen=True)
class Diagnosis:
    """What an update did, and what the rules say of it.

    Args:
        run: its log and identity.
        measure: the key of the importance that movement is given in; None without a parent.
        shares: of the restraint, by epoch.
        movement: by layer.
        drift: by batch norm.
        forgetting: by earlier domain.
        control: the candidate beside it, where one was given.
        findings: of the rules.
        not_computed: what is missing above, and why.
    """

    run: Run
    measure: str | None
    shares: Sequence[Share]
    movement: Sequence[Movement]
    drift: Sequence[Drift]
    forgetting: Sequence[Forgetting]
    control: Control | None
    findings: Sequence[Finding]
    not_computed: Mapping[str, str]


def diagnose(
    run: Run,
    parent: Release | None = None,
    candidate: Release | None = None,
    *,
    domains: Sequence[FolderDomain] = (),
    split: Split = "val",
    control: Release | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Diagnosis:
    """Examines one update.

    Args:
        run: what it left beside its release.
        parent: the release that was updated; None for a base release.
        candidate: what became of it; None where the run is not finished.
        domains: earlier domains to score on; none leaves forgetting out.
        split: which split is scored.
        control: the same update by `finetune-lr-matched`.
        device: where networks run.
        progress: told how many cases of how many are done.

    Raises:
        EvaluationError: if the releases do not belong together.

    Example:
        diagnose(Run.open("releases/b.run"), Release.open("releases/base"), Release.open("releases/b")).findings
    """
    _check_kinship(run, parent, candidate, control)
    method = run.identity.get("method", {})
    examined, measure = Examined(method, run.identity.get("recipe", {}), run.epochs, shares(run.epochs)), None
    facts: dict[str, Any] = {"is_finished": candidate is not None}
    if parent is not None:
        measure, facts["weights"] = importance_in_use(parent, method)
        facts["sizes"] = {name: parameter.numel() for name, parameter in parent.model.named_parameters()}
        facts["has_batch_norm"] = bool(batch_norms(parent.model))
    if parent is not None and candidate is not None:
        facts["movement"], facts["drift"] = movement(parent, candidate, facts["weights"]), drift(parent, candidate)
        facts["frozen_share"] = candidate.identity.training.get("frozen_share")
        facts["report"] = candidate.identity.training.get("report", {})
        if domains:
            facts["forgetting"] = forgetting(parent, candidate, domains, split, device=device, progress=progress)
        if control is not None:
            facts["control"] = Control(
                name=control.name,
                selectivity=selectivity(facts["movement"]),
                control_selectivity=selectivity(movement(parent, control, facts["weights"])),
            )
        if control is not None and domains:
            theirs = forgetting(parent, control, domains, split, device=device, progress=progress)
            lost = {"lost": _mean_loss(facts["forgetting"]), "control_lost": _mean_loss(theirs)}
            facts["control"] = facts["control"].model_copy(update=lost)
    examined = replace(examined, **facts)
    return Diagnosis(
        run=run,
        measure=measure,
        shares=examined.shares,
        movement=examined.movement,
        drift=examined.drift,
        forgetting=examined.forgetting,
        control=examined.control,
        findings=findings(examined),
        not_computed=_not_computed(examined, parent),
    )


def _check_kinship(run: Run, parent: Release | None, candidate: Release | None, control: Release | None) -> None:
    if run.parent != (None if parent is None else parent.id):
        wanted = "none (it made a base release)" if run.parent is None else run.parent[:16]
        found = "none" if parent is None else f"{parent.name} ({parent.id[:16]})"
        raise EvaluationError(f"{run.path}: updated the release {wanted}; found {found}. Give that one with --release.")
    for release in (candidate, control):
        if release is None or parent is None:
            continue
        if not release.lineage or release.lineage[-1].id != parent.id:
            raise EvaluationError(
                f"Release {release.name!r} is no update of {parent.name!r} ({parent.id[:16]}); only updates of the "
                "same parent can be compared."
            )
    if candidate is not None and control is not None:
        mine, theirs = candidate.identity.domains[-1], control.identity.domains[-1]
        if (mine.domain, mine.data) != (theirs.domain, theirs.data):
            raise EvaluationError(
                f"Control {control.name!r} learnt {theirs.domain!r} and {candidate.name!r} learnt {mine.domain!r}, or "
                "other cases of it; a control is an update with the same data."
            )


def _mean_loss(found: Sequence[Forgetting]) -> float | None:
    known = [one.total for one in found if one.total is not None]
    return sum(max(0.0, loss) for loss in known) / len(known) if known else None


def _not_computed(examined: Examined, parent: Release | None) -> dict[str, str]:
    missing = {}
    if examined.is_restrained and all(share.in_gradient is None for share in examined.shares):
        missing["share"] = "no epoch of the log says what the restraint did."
    if not examined.movement:
        why = "it made a base release." if parent is None else "the run has no release yet."
        return {**missing, "movement": why, "drift": why, "forgetting": why}
    if not examined.drift:
        missing["drift"] = "the network has no batch norm with running statistics."
    if not examined.forgetting:
        missing["forgetting"] = "it takes cases of earlier domains; give them with --data."
    return missing
