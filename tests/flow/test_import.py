"""From somebody else's folder to a release that predicts, without a copy of an image."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from command import Command
from layouts import head, write_export, write_nnunet
from perdure.release import Release

SMALL = ("--filters", 2, "--kernel-size", 3, "--size", 16, "--spacing", 2, "--epochs", 1)


@pytest.mark.parametrize(("layout", "write"), [("nnunet", write_nnunet), ("dicom", write_export)])
def test_an_imported_folder_trains_a_release(command: Command, tmp_path: Path, layout: str, write: object) -> None:
    write(tmp_path / "source")
    data, base, cache = tmp_path / "data", tmp_path / "releases" / "base", tmp_path / "cache"
    words = ("--out", data, "--salt", tmp_path / "salt", "--domain", "site-a")
    command.succeeds("import", layout, tmp_path / "source", *words)
    command.succeeds("train", "--data", data, "--domain", "site-a", "--out", base, "--cache", cache, *SMALL)
    release = Release.open(base)
    assert {structure.name for structure in release.contract.structures} == {"background", "ball", "core"}
    assert release.identity.domains[0].counts.subjects["train"] >= 2
    left = [path.read_bytes() for path in base.parent.rglob("*") if path.is_file()]
    assert len(left) > 5
    assert not any(secret in content for content in left for secret in (b"DOE", b"Doe", b"MRN", b"JANE"))


def test_a_release_segments_the_series_of_an_export(command: Command, tmp_path: Path) -> None:
    source = write_export(tmp_path / "source", patients=("MRN-1", "MRN-2", "MRN-3"))
    data, base = tmp_path / "data", tmp_path / "base"
    words = ("--domain", "site-a", "--out", base, "--cache", tmp_path / "cache")
    command.succeeds("import", "dicom", source, "--out", data, "--salt", tmp_path / "salt", "--domain", "site-a")
    command.succeeds("train", "--data", data, *words, *SMALL)
    # slices and their SEG lie in one folder
    study = next(source.glob("DOE_JANE0*")) / "DICOM"
    for localizer in ("IM901", "IM902", "IM903"):
        (study / localizer).unlink()
    predict = ("predict", "--release", base, "--json")
    ended = command.succeeds(*predict, "--input", study, "--out", tmp_path / "folder")
    assert ended.json["passed_over"] == {"DICOM file(s) without an image (segmentations, reports)": 1}
    assert "1 DICOM file(s) without an image" in ended.err
    written = nib.as_closest_canonical(nib.load(tmp_path / "folder" / "DICOM.dcm.nii.gz"))
    assert written.shape == head(0)[0].shape
    assert set(np.unique(written.dataobj)) <= {0, 1, 2}

    # of several series in a folder the import has made lists; nothing of a patient is in their results
    ended = command.succeeds(*predict, "--input", data / "series", "--out", tmp_path / "lists")
    lists = sorted(path.stem for path in (data / "series").glob("*.files") if not path.stem.endswith("-label"))
    assert sorted(file.name for file in (tmp_path / "lists").glob("*.nii.gz")) == [f"{one}.dcm.nii.gz" for one in lists]
    assert len(lists) == 3
    assert ended.json["passed_over"] == {"DICOM file(s) without an image (segmentations, reports)": 3}
    one = data / "series" / f"{lists[0]}.files"
    command.succeeds(*predict, "--input", one, "--format", "dicom-seg", "--out", tmp_path / "one")
    assert [file.name for file in (tmp_path / "one").glob("*.dcm")] == [f"{lists[0]}.seg.dcm"]
    same = [nib.load(file).get_fdata() for file in sorted((tmp_path / "lists").glob("*.nii.gz"))]
    assert any(
        np.array_equal(labels, nib.load(tmp_path / "folder" / "DICOM.dcm.nii.gz").get_fdata()) for labels in same
    )
