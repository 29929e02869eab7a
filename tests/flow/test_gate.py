"""From two data folders to a verdict, by the command line alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import Command, quietly
from gate_workspace import the
from perdure.evaluation import Scores
from perdure.evidence.gate.verdict import Verdict
from synthetic import write_images

PLAN = """
format = 1
name = "second camera"
metric = "dice"
earlier = ["a"]
[modifications]
methods = ["dsbn"]
domains = ["b"]
batch_norm = ["per-domain"]
[data]
subjects = { low = 4, high = 4 }
[non_inferiority]
margin = 0.02
[drift]
margin = 0.02
[gain]
minimum = -1.0
[floors]
domain = 0.0
[[subgroups]]
column = "sex"
floor = 0.0
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base release, its update and the scores of both, with a plan that was declared before the scores existed."""
    folder = tmp_path_factory.mktemp("gate")
    data = write_images(folder / "data", domains=("a", "b"), cases=(4, 2, 7))
    rows = (data / "manifest.csv").read_text().splitlines()
    more = ["sex", *("FM"[place % 2] for place in range(len(rows) - 1))]
    (data / "manifest.csv").write_text("".join(f"{row},{sex}\n" for row, sex in zip(rows, more, strict=True)))
    releases = folder / "releases"
    short = ("--epochs", 1, "--batch-size", 4, "--data", data)
    network = ("--filters", 3, "--kernel-size", 3, "--size", 32)
    quietly("train", *short, "--domain", "a", *network, "--out", releases / "base")
    (releases / "PLAN.toml").write_text(PLAN)
    quietly("gate", "--plan", releases / "PLAN.toml", "--declare")
    quietly("update", "--release", releases / "base", *short, "--domain", "b", "--out", releases / "b")
    both = ("--release", releases / "base", "--release", releases / "b")
    quietly("evaluate", *both, "--data", data, "--group", "sex", "--out", releases / "scores.parquet")
    return releases


def test_an_update_that_leaves_earlier_outputs_as_they_are_is_accepted(workspace: Path, command: Command) -> None:
    """`dsbn` gives every old image the same answer bit for bit, of seven subjects; and any gain would do here."""
    assert Scores.read(workspace / "scores.parquet").header.groups["sex"].keys() == {"a", "b"}
    plan, scores, out = workspace / "PLAN.toml", workspace / "scores.parquet", workspace / "verdict.json"
    ended = command("gate", "--plan", plan, "--scores", scores, "--out", out)
    verdict = Verdict.read(out)
    assert [one.reason for one in verdict.criteria if one.outcome != "met"] == []
    assert (ended.code, verdict.verdict) == (0, "ACCEPT")
    found = the(verdict, "non-inferiority a disc")
    assert (found.low, found.high, found.n) == (0, 0, 7)
    assert {one.subgroup for one in verdict.criteria if one.kind == "subgroup"} == {"sex=F", "sex=M"}
    assert "trained on 4 subjects of b" in the(verdict, "data subjects").reason.lower()
    command.succeeds("verify", workspace)
    command.succeeds("approve", workspace / "b", "--verdict", out, "--name", "A Person")
