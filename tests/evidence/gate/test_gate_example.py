"""The committed example: every verdict arises from it, by the command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from command import Command
from perdure.evaluation import Scores
from perdure.evidence.gate.plan import PlanFile
from perdure.evidence.gate.verdict import Verdict
from perdure.evidence.ledger.ledger import Ledger
from perdure.release.folder import sha256

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "gate"
VERDICTS = {
    "steady": ("ACCEPT", 0, set()),
    "forgetful": ("REJECT", 3, {"non-inferiority siteA lesion", "drift siteA lesion", "subgroup's loss siteA sex=F"}),
    "unsteady": ("INCONCLUSIVE", 5, {"non-inferiority siteA organ", "non-inferiority siteA vessel"}),
    "unplanned": ("OUTSIDE PLAN", 4, {"modification method"}),
}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy, because a gate writes into the ledger."""
    return Path(shutil.copytree(EXAMPLE / "workspace", tmp_path / "workspace"))


@pytest.mark.parametrize("name", VERDICTS)
def test_every_verdict_arises_from_the_example(command: Command, workspace: Path, name: str) -> None:
    decision, code, not_met = VERDICTS[name]
    out, xml = workspace / "verdict.json", workspace / "verdict.xml"
    ended = command(
        "gate", "--plan", workspace / "PLAN.toml", "--scores", workspace / f"{name}.parquet",
        "--out", out, "--junit", xml,
    )  # fmt: skip
    verdict = Verdict.read(out)
    assert (verdict.verdict, ended.code) == (decision, code), ended.err
    assert {one.name for one in verdict.criteria if one.outcome != "met"} == not_met
    assert ended.out.startswith(f"{decision}: {name}, by plan third site, 2026\n")
    assert all(one.reason in " ".join(ended.out.split()) for one in verdict.criteria if one.outcome != "met")
    suite = ET.parse(xml).getroot()  # noqa: S314 - our own file
    bad = int(suite.get("failures")) + int(suite.get("errors"))
    assert (int(suite.get("tests")), bad) == (len(verdict.criteria), len(not_met))
    entry = Ledger(workspace / "ledger.jsonl").entries()[-1]
    assert (entry.action, entry.release, entry.details["verdict"]) == ("gated", verdict.candidate.id, decision)
    assert (entry.details["sha256"], entry.details["file"]) == (sha256(out), "verdict.json")
    command.succeeds("verify", workspace)


def test_the_verdict_as_json_is_the_file(command: Command, workspace: Path) -> None:
    out = workspace / "verdict.json"
    ended = command(
        "gate", "--plan", workspace / "PLAN.toml", "--scores", workspace / "steady.parquet", "--out", out, "--json"
    )
    assert Verdict.model_validate(ended.json) == Verdict.read(out)


def test_an_edited_plan_is_noticed(command: Command, workspace: Path) -> None:
    plan, out = workspace / "PLAN.toml", workspace / "verdict.json"
    plan.write_text(plan.read_text(encoding="utf-8").replace("margin = 0.04", "margin = 0.20"), encoding="utf-8")
    arguments = ("gate", "--plan", plan, "--scores", workspace / "forgetful.parquet", "--out", out)
    assert command(*arguments).code == 4
    assert command.succeeds("gate", "--plan", plan, "--declare").out.endswith(f"({sha256(plan)[:12]}).\n")
    assert command(*arguments).code == 4
    assert "declared after the scores existed" in Verdict.read(out).criteria[0].reason


def test_an_edited_score_file_or_release_never_passes(command: Command, workspace: Path) -> None:
    plan, out = workspace / "PLAN.toml", workspace / "verdict.json"
    kept = Scores.read(workspace / "steady.parquet")
    better = kept.table.with_columns(value=(pl.col("value") + 1e-6).clip(0, 1))
    Scores(kept.header, better).write(workspace / "steady.parquet")
    arguments = ("gate", "--plan", plan, "--scores", workspace / "steady.parquet", "--out", out)
    assert command(*arguments).code == 5
    described = workspace / "steady" / "release.json"
    described.write_text(described.read_text().replace('"name": "mas-lr"', '"name": "mas-lR"'))
    ended = command(*arguments)
    assert (ended.code, "it was changed" in ended.err) == (1, True)


def test_the_script_makes_the_committed_scores_again(tmp_path: Path) -> None:
    made = tmp_path / "made"
    subprocess.run([sys.executable, EXAMPLE / "make.py", made], check=True)
    assert (made / "PLAN.toml").read_bytes() == (EXAMPLE / "PLAN.toml").read_bytes()
    assert (EXAMPLE / "workspace" / "PLAN.toml").read_bytes() == (EXAMPLE / "PLAN.toml").read_bytes()
    for name in VERDICTS:
        again, kept = Scores.read(made / f"{name}.parquet"), Scores.read(EXAMPLE / "workspace" / f"{name}.parquet")
        assert again.header.model_copy(update={"created": kept.header.created}) == kept.header
        assert again.table.drop("value").equals(kept.table.drop("value"))
        assert again.table["value"].to_list() == pytest.approx(kept.table["value"].to_list(), abs=1e-12)


def test_declaring_twice_is_one_entry(command: Command, tmp_path: Path) -> None:
    plan = Path(shutil.copy(EXAMPLE / "PLAN.toml", tmp_path / "PLAN.toml"))
    first = command.succeeds("gate", "--plan", plan, "--declare", "--json").json
    again = command.succeeds("gate", "--plan", plan, "--declare")
    assert "is the plan in force already" in again.out
    (entry,) = Ledger(tmp_path / "ledger.jsonl").entries()
    assert first["details"] == entry.details == {"plan": sha256(plan), "name": "third site, 2026", "file": "PLAN.toml"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "--scores and --out: both are needed"),
        (("--scores", "x.parquet"), "--scores and --out: both are needed"),
        (("--declare", "--out", "v.json"), "--declare: records the plan and judges nothing"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    command: Command, workspace: Path, more: tuple[str, ...], said: str
) -> None:
    ended = command("gate", "--plan", workspace / "PLAN.toml", *more)
    assert (ended.code, said in ended.err) == (2, True)


def test_the_commented_plan_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = (EXAMPLE.parents[1] / "docs" / "gate.md").read_text(encoding="utf-8")
    plan = tmp_path / "PLAN.toml"
    plan.write_text(text.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    read = PlanFile.read(plan).plan
    assert {name for name in type(read).model_fields if getattr(read, name) is not None} == set(type(read).model_fields)
