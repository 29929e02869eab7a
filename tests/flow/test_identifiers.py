"""Who the patients are stays in the data folder, in scores and in what is made of scores for those who may see it.

Names are planted in ids, subjects, file names and free columns of a manifest; then every command is run, and every file
that it left is searched for them.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import fakes
import synthetic
from command import Command, quietly
from dicoms import write_series
from gate_workspace import mild_plan
from layouts import AFFINE, head
from perdure.benchmark.grid import recordable
from perdure.data.dicom.writing import Origin, segmentation_file
from perdure.errors import DataError, DivergenceError, Problem

PLANTED = ("Mueller_Hans", "19510203", "Oberpfaffenhofen")
PLAN = mild_plan("dsbn", "per-domain") + "[floors]\nsubject = 0.99\nsubject_loss = 0.0001\n"

NAMED = ("scores.parquet", "verdict.json", "named.html", "named.json", "volumes.csv", "sources.csv")
"""Scores, the subject that a floor of the plan is about, a report on them that was not asked to leave names out, and
volumes by the names of the files that were segmented, and what results are of by the names of the results."""


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
    images = ("--input", data / "images")
    quietly("predict", "--release", work / "base", *images, "--out", work / "labels", "--probabilities", "--volumes")
    quietly("export", work / "base", "--format", "onnx", *images, "--out", work / "base.onnx")
    quietly("export", work / "base", "--format", "monai", *images, "--out", work / "bundle")
    quietly("adopt", "--bundle", work / "bundle", *where, "--domain", "a", "--out", work / "adopted")
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
        "prediction.json", "base.onnx", "metadata.json", "inference.json", "model.pt", "README.md",
    }  # fmt: skip
    assert any(name.startswith("events.out.tfevents") for name in searched)


def test_nothing_but_a_prediction_is_called_after_what_was_planted(work: Path) -> None:
    called = [path for path in work.rglob("*") if any(name in path.name for name in PLANTED)]
    assert len(called) > 2
    assert all(path.is_relative_to(work / "labels") for path in called)


def test_a_prediction_of_a_volume_has_no_name_but_that_of_its_file(tmp_path: Path, command: Command) -> None:
    """Texts in the header of the image, its extensions and the elements of a series are not written again."""
    data = synthetic.write_volumes(tmp_path / "data", domains=("a",), cases=(1, 1, 0), shape=(12, 14, 13))
    where = ("--data", data, "--cache", tmp_path / "cache", "--domain", "a")
    network = ("--filters", 2, "--kernel-size", 3, "--size", 16, "--epochs", 1)
    command.succeeds("train", *where, *network, "--out", tmp_path / "base")
    scans = tmp_path / "scans"
    write_series(scans / "series", head(0)[0], AFFINE, more={"PatientName": PLANTED[0], "StudyDescription": PLANTED[2]})
    volume = nib.Nifti1Image(head(0)[0], AFFINE)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        volume.header[field] = PLANTED[0]
    volume.header.extensions.append(nib.nifti1.Nifti1Extension("comment", PLANTED[2].encode()))
    nib.save(volume, scans / "scan.nii")
    wanted = ("--release", tmp_path / "base", "--input", scans, "--probabilities", "--volumes")
    for form in ("nifti", "mgz"):
        command.succeeds("predict", *wanted, "--format", form, "--out", tmp_path / form)
        files = [path for path in (tmp_path / form).rglob("*") if path.is_file()]
        assert len(files) >= 6
        for path in files:
            content = gzip.decompress(path.read_bytes()) if path.suffix in (".gz", ".mgz") else path.read_bytes()
            assert not any(name.encode() in content for name in PLANTED), path


def test_a_seg_has_the_patient_of_its_series_and_no_comment_of_it(tmp_path: Path) -> None:
    """A PACS puts it into the study by the patient; what somebody said of the images goes no further."""
    files = write_series(tmp_path / "series", head(0)[0], AFFINE, more={"PatientName": PLANTED[0],
                         "ImageComments": PLANTED[2]})  # fmt: skip
    shape = head(0)[1].shape
    structures = fakes.structures(background=0, ball=1)
    content = segmentation_file(files[0].parent, np.ones(shape, np.uint8), structures, Origin("base", "a" * 64))
    assert PLANTED[0].encode() in content
    assert PLANTED[2].encode() not in content


def test_a_free_column_is_in_no_file_at_all(work: Path) -> None:
    assert not any(PLANTED[2].encode() in path.read_bytes() for path in work.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "words",
    [("inspect", "b"), ("inspect", "adopted"), ("audit", "b"), ("log", "."), ("verify", "."), ("doctor", "b.run")],
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
