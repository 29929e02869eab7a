"""Who the patients are stays in the data folder, in scores and in what is made of scores for those who may see it.

Names are planted in ids, subjects, file names and free columns of a manifest; then every command is run, and every file
that it left is searched for them.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import synthetic
from command import Command, quietly
from perdure.benchmark.grid import recordable
from perdure.errors import DataError, DivergenceError, Problem

PLANTED = ("Mueller_Hans", "19510203", "Oberpfaffenhofen")
PLAN = """format = 1
name = "plan"
metric = "dice"
earlier = ["a"]
[modifications]
methods = ["dsbn"]
domains = ["b"]
batch_norm = ["per-domain"]
[non_inferiority]
margin = 0.9
[drift]
margin = 0.9
[gain]
minimum = -0.9
[floors]
subject = 0.99
subject_loss = 0.0001
"""

NAMED = ("scores.parquet", "verdict.json", "named.html", "named.json")
"""Scores, the subject that a floor of the plan is about, and a report on them that was not asked to leave names out."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after the whole story, on data with planted names."""
    folder = tmp_path_factory.mktemp("identifiers")
    work, data = folder / "work", plant(synthetic.write_images(folder / "data", domains=("a", "b"), size=(32, 32)))
    where = ("--data", data, "--cache", folder / "cache")
    once = ("--epochs", 1)
    network = ("--filters", 2, "--kernel-size", 3, "--size", 32)
    quietly("train", *where, *once, "--domain", "a", *network, "--out", work / "base")
    (work / "PLAN.toml").write_text(PLAN)
    quietly("gate", "--plan", work / "PLAN.toml", "--declare")
    quietly("update", "--release", work / "base", *where, *once, "--domain", "b", "--out", work / "b")
    line = ("--release", work / "base", "--release", work / "b")
    quietly("evaluate", *line, *where, "--group", "sex", "--out", work / "scores.parquet")
    quietly("key", "--out", folder / "site.key")
    quietly("evaluate", *line, *where, "--signed", folder / "site.key", "--out", work / "site.signed")
    with pytest.raises(AssertionError):  # the verdict is no ACCEPT: too few subjects
        quietly("gate", "--plan", work / "PLAN.toml", "--scores", work / "scores.parquet",
                "--out", work / "verdict.json", "--junit", work / "verdict.xml")  # fmt: skip
    quietly("report", work, "--out", work / "named.html", "--json-out", work / "named.json")
    quietly("report", work, *where, "--no-subjects", "--out", work / "report.html", "--json-out", work / "report.json",
            "--model-card", work / "card")  # fmt: skip
    return work


def plant(data: Path) -> Path:
    with (data / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        for kind in ("image", "label"):
            name = row[kind].replace(".png", f"-{PLANTED[0]}-{number}.png")
            (data / row[kind]).rename(data / name)
            row[kind] = name
        row |= {"id": f"{PLANTED[0]}-{number}", "subject": f"{PLANTED[0]}-{PLANTED[1]}-{number}"}
        row |= {"remark": PLANTED[2], "sex": "FM"[number % 2]}
    with (data / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return data


def test_no_file_but_those_of_scores_holds_a_planted_name(work: Path) -> None:
    files = [path for path in sorted(work.rglob("*")) if path.is_file()]
    holding = [path for path in files if any(name.encode() in path.read_bytes() for name in PLANTED)]
    assert {path.name for path in holding} == set(NAMED)
    searched = {path.name for path in files} - set(NAMED)
    assert searched > {
        "release.json", "weights.safetensors", "memory.safetensors", "run.json", "training.csv", "ledger.jsonl",
        "verdict.xml", "site.signed", "report.html", "report.json", "report.cdx.json", "model-card.md",
    }  # fmt: skip
    assert any(name.startswith("events.out.tfevents") for name in searched)


def test_a_free_column_is_in_no_file_at_all(work: Path) -> None:
    assert not any(PLANTED[2].encode() in path.read_bytes() for path in work.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "words", [("inspect", "b"), ("audit", "b"), ("log", "."), ("verify", "."), ("doctor", "b.run")]
)
def test_what_is_printed_of_releases_and_records_names_nobody(
    work: Path, command: Command, words: tuple[str, str]
) -> None:
    more = ("--release", work / "base") if words[0] == "doctor" else ()
    ended = command(words[0], work / words[1], *more)
    assert ended.out
    assert not any(name in ended.out + ended.err for name in PLANTED)


def test_why_a_cell_of_a_benchmark_failed_is_kept_without_the_words_of_data() -> None:
    """Its record leaves the building; the terminal has all of it, and the same command says it again."""
    problem = Problem(f"/data/{PLANTED[0]}.nii", f"line 3 (id {PLANTED[0]!r}), column image", "nothing", "mend it")
    for error in (DataError([problem]), FileNotFoundError(2, "No such file", f"/data/{PLANTED[0]}.nii")):
        kept = recordable(f"{type(error).__name__}: {error}")
        assert kept.startswith(f"{type(error).__name__}: its words may name a patient")
        assert PLANTED[0] not in kept
    diverged = f"DivergenceError: {DivergenceError('The loss became nan.')}"
    assert recordable(diverged) == diverged
    died = "its process died 3 times (out of memory?); run fewer at once (--workers)"
    assert recordable(died) == died
