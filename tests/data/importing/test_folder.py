"""What an import writes can be read back, whatever the source is called."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from layouts import write_export, write_nnunet
from perdure.data import Dataset
from perdure.data.importing import find_dicom, find_nnunet
from perdure.errors import DataError

SALT = bytes(range(32))
MUELLER = os.fsdecode("Müller".encode("latin-1"))


def rename(path: Path, name: str) -> Path:
    try:
        return path.rename(path.with_name(name))
    except OSError:  # of macOS and Windows
        pytest.skip("this file system has names in Unicode only")


def test_dicom_files_may_have_names_that_are_no_utf_8(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    source = write_export(tmp_path / "source", patients=("MRN-1", "MRN-2"))
    rename(next(source.glob("*MRN-1")), MUELLER)
    dataset = written(find_dicom(source, SALT))
    dataset.check(required=(), cache=tmp_path / "cache")
    assert len(dataset.cases) == 2


@pytest.mark.parametrize("name", [MUELLER, "a\x1b[2J"])
def test_a_name_that_a_manifest_cannot_hold_is_refused(
    tmp_path: Path, written: Callable[..., Dataset], name: str
) -> None:
    source = write_nnunet(tmp_path / "source")
    for file in (source / "imagesTr" / "p1_a_0000.nii.gz", source / "labelsTr" / "p1_a.nii.gz"):
        rename(file, file.name.replace("p1_a", name))
    with pytest.raises(DataError, match=r"source: name: found '.*; rename it: UTF-8 without control characters"):
        written(find_nnunet(source))


def test_a_source_that_a_description_cannot_name_is_refused(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    source = rename(write_nnunet(tmp_path / "source"), MUELLER)
    with pytest.raises(DataError, match="name: found a path .*rename it"):
        written(find_nnunet(source))


def test_control_characters_in_texts_and_tags_become_spaces(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    found = find_nnunet(write_nnunet(tmp_path / "source"))
    cases = [replace(case, tags={"station": "MR\x00West\ud800"}) for case in found.cases]
    dataset = written(replace(found, cases=cases, title="T1\x1b heads", licence="CC0\ud800"))
    assert (dataset.description.title, dataset.description.licence) == ("T1  heads", "CC0 ")
    assert dataset.cases[0].metadata["station"] == "MR West"
