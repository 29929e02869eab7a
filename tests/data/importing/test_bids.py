"""A BIDS dataset becomes a data folder, with what its sidecars say of scanners and its derivatives of labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layouts import head, write_bids
from perdure.data import Dataset
from perdure.data.images import read_image, read_labels
from perdure.data.importing import find_bids
from perdure.errors import DataError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_bids(tmp_path / "source")


def test_images_labels_tags_and_names_are_those_of_the_dataset(
    tmp_path: Path, source: Path, written: Callable[..., Dataset]
) -> None:
    dataset = written(find_bids(source))
    dataset.check(required=("train",), cache=tmp_path / "cache")
    assert dict(dataset.description.labels) == {"Background": 0, "Ball": 1, "Core": 2}
    assert len(dataset.cases) == 8
    assert len({case.subject for case in dataset.cases}) == 4
    for number, case in enumerate(dataset.cases):
        image, labels = head(number // 2 * 2 + number % 2 + 1)
        np.testing.assert_array_equal(read_image(source / case.image).pixels, image)
        np.testing.assert_array_equal(read_labels(source / case.label).pixels, labels)
    assert dataset.domains == ("acme-1.5t", "acme-3t-mr-east")
    assert dataset.cases[2].metadata == {
        "manufacturer": "Acme", "field_strength": "3", "station": "MR East", "age": "41", "sex": "F",
    }  # fmt: skip
    assert "sub-" not in "".join(case.id + case.subject for case in dataset.cases)


def test_a_domain_may_be_made_of_chosen_tags_or_be_one(source: Path, written: Callable[..., Dataset]) -> None:
    found = find_bids(source)
    assert written(found, "a", domain_from=("field_strength",)).domains == ("1.5t", "3t")
    assert written(found, "b", domain="site-a").domains == ("site-a",)
    with pytest.raises(
        DataError, match="no case with group; these have values: age, field_strength, manufacturer, sex"
    ):
        written(found, "c", domain_from=("group",))


def test_a_label_in_another_space_is_no_label_and_an_image_without_one_is_left_out(source: Path) -> None:
    where = source / "derivatives/hand/sub-01/ses-1/anat"
    (where / "sub-01_ses-1_space-orig_dseg.nii.gz").rename(where / "sub-01_ses-1_space-MNI152_dseg.nii.gz")
    found = find_bids(source)
    assert len(found.cases) == 7
    assert found.left_out == ("1 image(s) without a label among the derivatives",)


def test_of_several_labels_one_has_to_be_chosen(source: Path) -> None:
    shutil.copytree(source / "derivatives/hand", source / "derivatives/machine")
    with pytest.raises(DataError, match="2 labels of sub-01_ses-1_T1w.nii.gz: .* choose with --derivative or --desc"):
        find_bids(source)
    found = find_bids(source, derivative="machine")
    assert all(case.label.startswith("derivatives/machine/") for case in found.cases)
    for file in sorted((source / "derivatives/machine").rglob("*_dseg.nii.gz")):
        shutil.copy(file, file.with_name(file.name.replace("_dseg", "_desc-fine_dseg")))
    with pytest.raises(DataError, match="2 labels of"):
        find_bids(source, derivative="machine")
    assert len(find_bids(source, derivative="machine", desc="fine").cases) == 8


def test_images_and_labels_in_source_data_and_hidden_folders_are_no_part_of_a_dataset(source: Path) -> None:
    for folder in ("sourcedata", ".git/annex", "derivatives/hand/sourcedata"):
        shutil.copytree(source / "sub-01", source / folder / "sub-01")
        shutil.copytree(source / "derivatives/hand/sub-01", source / folder / "labels/sub-01")
    assert len(find_bids(source).cases) == 8
    shutil.move(source / "sub-01", source / "sourcedata/again/sub-01")
    assert len(find_bids(source).cases) == 6
    # what is asked for itself may lie anywhere
    assert len(find_bids(source.rename(source.with_name("sourcedata"))).cases) == 6


def test_two_images_whose_cases_have_one_name_are_named(source: Path, written: Callable[..., Dataset]) -> None:
    shutil.copytree(source / "sub-01" / "ses-1", source / "raw" / "ses-1")
    one = "sub-01_ses-1_T1w.nii.gz"
    with pytest.raises(DataError, match=f"cases: found 2 images .*raw/ses-1/anat/{one}, sub-01/ses-1/anat/{one}"):
        written(find_bids(source))


def test_participants_under_other_ids_are_left_out_and_said(source: Path) -> None:
    table = source / "participants.tsv"
    table.write_text(table.read_text().replace("sub-01", "01").replace("sub-03", "03"))
    found = find_bids(source)
    assert found.left_out == ("2 row(s) of participants.tsv: a participant_id is called sub-LABEL, as in sub-01",)
    assert [case.tags.get("age") for case in found.cases] == [None, None, "41", "41", None, None, "43", "43"]
    table.write_text(table.read_text().replace("participant_id", "id"))
    assert find_bids(source).left_out[0].startswith("4 row(s) of participants.tsv")


def test_names_of_labels_have_to_be_there_and_agree(source: Path) -> None:
    table = source / "derivatives/hand/sub-02/ses-1/anat/sub-02_ses-1_space-orig_dseg.tsv"
    table.write_text("index\tname\n1\tBall\n3\tRim\n4\tRim\n")
    assert find_bids(source).labels == {"Background": 0, "Ball": 1, "Core": 2, "Rim": [3, 4]}
    table.write_text("index\tname\n1\tShell\n")
    with pytest.raises(DataError, match="index: found 1 called 'Shell', and 'Ball' in another table"):
        find_bids(source)
    table.write_text("index\tname\nx\tShell\n")
    with pytest.raises(DataError, match="a whole number of .0, 65535. under index"):
        find_bids(source)
    table.unlink()
    (source / "derivatives/hand/dseg.tsv").unlink()
    with pytest.raises(DataError, match="dseg.tsv: found no names of its values"):
        find_bids(source)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("²\tShell\n", "a whole number of .0, 65535. under index, and a name of one line"),
        ("65536\tShell\n", "a whole number of .0, 65535. under index"),
        ('3\t"a\nb"\n', "a name of one line"),
        ("0\tBackground\n", "no name of a class but the background"),
    ],
)
def test_names_and_values_that_train_could_not_follow_are_refused(source: Path, rows: str, what: str) -> None:
    (source / "derivatives/hand/dseg.tsv").write_text(f"index\tname\n{rows}")
    with pytest.raises(DataError, match=what):
        find_bids(source)


@pytest.mark.parametrize(("option", "text"), [("derivative", "../x"), ("suffix", "*"), ("desc", "a/b")])
def test_a_name_that_bids_does_not_know_is_refused(source: Path, option: str, text: str) -> None:
    with pytest.raises(DataError, match=f"--{option}: found"):
        find_bids(source, **{option: text})


def test_what_is_missing_is_named(tmp_path: Path, source: Path) -> None:
    with pytest.raises(DataError, match="no image called ._T2w.nii.gz; choose another --suffix"):
        find_bids(source, suffix="T2w")
    with pytest.raises(DataError, match="none: folder: found no such folder"):
        find_bids(source, derivative="none")
    shutil.rmtree(source / "derivatives/hand")
    with pytest.raises(DataError, match=r"no label of 8 image.s."):
        find_bids(source)
    (source / "dataset_description.json").unlink()
    with pytest.raises(DataError, match="a BIDS dataset has one"):
        find_bids(source)


@pytest.mark.parametrize("what", ["sub-01/ses-1/anat/*_T1w.nii.gz", "derivatives/hand/sub-01/ses-1/anat/*_dseg.nii.gz"])
def test_a_link_that_leads_out_or_to_nothing_is_refused(tmp_path: Path, source: Path, what: str) -> None:
    file = next(source.glob(what))
    kept = file.rename(tmp_path / "kept.nii.gz")
    file.symlink_to(kept)
    with pytest.raises(DataError, match=f"path: found '{file.relative_to(source)}'; this link leads out of"):
        find_bids(source)
    kept.unlink()
    with pytest.raises(DataError, match="there is no such file"):
        find_bids(source)
