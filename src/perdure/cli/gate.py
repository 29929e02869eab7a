"""`perdure gate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli import options
from perdure.cli.console import INCONCLUSIVE, OUTSIDE_PLAN, REJECTED, show
from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from perdure.evidence.gate.plan import PlanFile
    from perdure.evidence.ledger.ledger import Ledger

EXIT_CODES = {"ACCEPT": 0, "REJECT": REJECTED, "OUTSIDE PLAN": OUTSIDE_PLAN, "INCONCLUSIVE": INCONCLUSIVE}


def gate(
    plan: Annotated[Path, typer.Option("--plan", help="The change plan, a TOML file.")],
    scores: Annotated[
        list[Path] | None, typer.Option("--scores", help="Score file of `perdure evaluate`. Repeat for several.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="JSON file for the verdict; replaced if it is there.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="JUnit XML file for the verdict too.")] = None,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", help="The workspace's ledger; default: ledger.jsonl beside the plan.")
    ] = None,
    candidate: Annotated[
        str | None,
        typer.Option("--candidate", help="Name or id of the release to judge, where the scores have several."),
    ] = None,
    declare: Annotated[
        bool,
        typer.Option("--declare", help="Record the plan in the ledger, before the update is made; judge nothing."),
    ] = False,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Judges an update by a plan that was fixed beforehand: ACCEPT, REJECT, INCONCLUSIVE or OUTSIDE PLAN.

    Code 0 if it is accepted, 3 rejected, 5 inconclusive, 4 outside the plan.

    Example: perdure gate --plan releases/PLAN.toml --scores releases/scores.parquet --out releases/verdict.json
    """
    if declare and (scores or out or junit or candidate):
        raise ConfigurationError("--declare: records the plan and judges nothing; leave the other options out.")
    if not declare and not (scores and out):
        raise ConfigurationError("--scores and --out: both are needed to judge a candidate; or --declare the plan.")
    from perdure.evidence.gate.plan import PlanFile
    from perdure.evidence.ledger.ledger import FILE, Ledger

    read = PlanFile.read(plan)
    book = Ledger(ledger or plan.absolute().parent / FILE)
    if declare:
        _declare(read, book, as_json)
        return
    assert scores is not None
    assert out is not None
    verdict = _judge(read, scores, out, junit, book, candidate, as_json)
    raise typer.Exit(EXIT_CODES[verdict])


def _declare(plan: PlanFile, ledger: Ledger, as_json: bool) -> None:
    """Writes the plan's hash into the ledger, unless it is the plan in force already."""
    from perdure.evidence.gate.gate import declare

    entry, is_new = declare(plan, ledger)
    done = "declared" if is_new else "is the plan in force already; nothing was done"
    show(entry.model_dump(mode="json"), as_json, f"{plan.path}: {plan.plan.name} {done} ({plan.sha256[:12]}).")


def _judge(
    plan: PlanFile,
    scores: list[Path],
    out: Path,
    junit: Path | None,
    ledger: Ledger,
    candidate: str | None,
    as_json: bool,
) -> str:
    from perdure.evidence.gate.gate import gate, identity_of, predicting_alike, record
    from perdure.evidence.gate.judged import HashedScores, candidate_of, judged_scores
    from perdure.evidence.gate.junit import junit as junit_of
    from perdure.evidence.gate.verdict_text import verdict_renderables
    from perdure.release.folder import replace_file

    files = [HashedScores.read(path) for path in scores]
    chosen = candidate_of(judged_scores(files), candidate)
    identity = identity_of(chosen.id, ledger.path.parent)
    alike = predicting_alike(identity, ledger.path.parent)
    verdict = gate(plan, files, ledger, candidate=chosen.id, identity=identity, alike=alike)
    verdict.write(out)
    if junit is not None:
        replace_file(junit, junit_of(verdict))
    record(verdict, out, ledger)
    show(
        verdict.model_dump(mode="json"),
        as_json,
        *verdict_renderables(verdict),
        f"Verdict written to {out}",
    )
    return verdict.verdict
