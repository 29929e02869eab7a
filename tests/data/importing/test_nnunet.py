"""nnU-Net's folders become data folders, file by file and label by label."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layouts import head, write_nnunet
from perdure.data import Dataset
from perdure.data.images import read_image, read_labels
from perdure.data.importing import find_nnunet
from perdure.errors import DataError


def edit(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    about = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))


@pytest.mark.parametrize("version", [1, 2])
def test_images_labels_and_names_are_those_of_the_folder(
    tmp_path: Path, written: Callable[..., Dataset], version: int
) -> None:
    source = write_nnunet(tmp_path / "Dataset001_Heads", version=version)
    dataset = written(find_nnunet(source))
    dataset.check(cache=tmp_path / "cache")
    assert dict(dataset.description.labels) == {"background": 0, "ball": 1, "core": 2}
    about = dataset.description
    assert (about.name, about.licence, about.citation, about.modality) == ("Heads", "CC0", "nobody", "T1")
    assert [case.image for case in dataset.cases] == [
        *(f"imagesTr/{name}_0000.nii.gz" for name in ("p0_a", "p0_b", "p1_a", "p1_b", "p2_a")),
        "imagesTs/t0_a_0000.nii.gz",
    ]
    for number, case in enumerate(dataset.cases):
        image, labels = head(number)
        np.testing.assert_array_equal(read_image(source / case.image).pixels, image)
        np.testing.assert_array_equal(read_labels(source / case.label).pixels, labels)
    assert [case.split for case in dataset.cases][-1] == "test"
    assert {case.split for case in dataset.cases[:-1]} == {"train", "val"}
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == ["dataset.toml", "manifest.csv"]


def test_a_folder_without_a_name_is_called_as_it_is_also_where_the_path_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_nnunet(tmp_path / "Dataset001_Heads")
    edit(source, name=None)
    monkeypatch.chdir(source)
    assert find_nnunet(Path()).name == find_nnunet(source).name == "Dataset001_Heads"


def test_test_images_without_labels_are_left_out_and_said(tmp_path: Path) -> None:
    found = find_nnunet(write_nnunet(tmp_path, labelled_test=0))
    assert found.left_out == ("2 image(s) of imagesTs without a label",)
    assert len(found.cases) == 5


def test_a_fold_is_followed_where_it_fits(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path)
    folds = [{"train": ["p0_a", "p0_b", "p2_a"], "val": ["p1_a", "p1_b"]}, {"train": ["p1_a"], "val": []}]
    (source / "splits_final.json").write_text(json.dumps(folds))
    pattern = re.compile("([^_]+)_")
    found = find_nnunet(source, subject=pattern)
    assert [case.split for case in found.cases] == ["train", "train", "val", "val", "train", "test"]
    assert [case.subject for case in found.cases] == ["p0", "p0", "p1", "p1", "p2", "t0"]
    assert find_nnunet(source, subject=pattern, fold=0) == found


def test_a_fold_that_nobody_asked_for_and_does_not_fit_is_left_out(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path)
    (source / "splits_final.json").write_text(json.dumps([{"train": ["p1_a"], "val": []}]))
    found = find_nnunet(source)
    why = "a fold 0 whose cases are not those of imagesTr, once each"
    assert found.left_out[-1] == f"splits_final.json: not followed, because it has {why}"
    assert {case.split for case in found.cases} == {"", "test"}


@pytest.mark.parametrize(
    ("folds", "what"),
    [
        (None, "found no such file; copy it here, or leave --fold out"),
        ([{}] * 3, "found no fold 7; there are 0, 1, 2"),
        ([], "found no fold 7; mend it, or leave --fold out"),
        ({"7": {"train": [], "val": []}}, "found no fold 7; mend it"),
        ([{}] * 8, "found no fold 7 with train and val; mend it"),
        ([{"train": ["p1_a"], "val": []}] * 8, "a fold 7 whose cases are not those of imagesTr, once each; mend it"),
    ],
)
def test_a_fold_that_was_asked_for_and_cannot_be_followed_is_refused(tmp_path: Path, folds: object, what: str) -> None:
    source = write_nnunet(tmp_path)
    if folds is not None:
        (source / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(DataError, match=f"splits_final.json: --fold: .*{what}"):
        find_nnunet(source, fold=7)


def test_a_fold_with_a_subject_on_both_sides_is_not_followed(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    source = write_nnunet(tmp_path / "source", test=0)
    folds = [{"train": ["p0_a", "p1_a", "p2_a"], "val": ["p0_b", "p1_b"]}]
    (source / "splits_final.json").write_text(json.dumps(folds))
    pattern = re.compile("([^_]+)_")
    found = find_nnunet(source, subject=pattern)
    assert found.left_out[-1].endswith("because it has a fold 0 with 2 subject(s) in train and val")
    cases = written(found).cases
    assert len({(case.subject, case.split) for case in cases}) == len({case.subject for case in cases}) == 3
    with pytest.raises(DataError, match="--fold: found a fold 0 with 2 subject"):
        find_nnunet(source, subject=pattern, fold=0)


def test_a_subject_in_train_and_test_is_refused(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    found = find_nnunet(write_nnunet(tmp_path / "source"), subject=re.compile("_(a|b)"))
    with pytest.raises(DataError, match="1 subject.s. in several splits; .* is --subject right"):
        written(found)


def test_a_pattern_that_is_not_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="subject: found a case 'p0_a', without 'x'"):
        find_nnunet(write_nnunet(tmp_path), subject=re.compile("x"))


def test_several_channels_are_refused(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path)
    edit(source, channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(DataError, match="channel_names: found 2 channels; images of one channel are read"):
        find_nnunet(source)
    edit(source, channel_names={"0": "T1"})
    (source / "imagesTr" / "p0_a_0001.nii.gz").write_bytes((source / "imagesTr" / "p0_a_0000.nii.gz").read_bytes())
    with pytest.raises(DataError, match=r"channels: found 2 channels of 1 case"):
        find_nnunet(source)


def test_the_ignore_label_does_not_count_and_regions_that_overlap_are_refused(
    tmp_path: Path, written: Callable[..., Dataset]
) -> None:
    source = write_nnunet(tmp_path / "source")
    edit(source, labels={"background": 0, "ball": 1, "ignore": 2})
    assert written(find_nnunet(source)).description.ignore_values == (2,)
    edit(source, labels={"background": 0, "whole": [1, 2], "core": [2]})
    with pytest.raises(DataError, match=r"labels: found \[2\] in several classes; .* regions that overlap"):
        find_nnunet(source)
    edit(source, labels={"background": 0, "whole": [1, 2]})
    assert find_nnunet(source).labels == {"background": 0, "whole": [1, 2]}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"file_ending": ".mha"}, "file_ending: found '.mha'; one of .nii"),
        ({"labels": None}, "no channel_names .or modality. and labels"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused(
    tmp_path: Path, changes: dict[str, object], what: str
) -> None:
    source = write_nnunet(tmp_path)
    edit(source, **changes)
    with pytest.raises(DataError, match=what):
        find_nnunet(source)


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ({"background": 0, "a": "x"}, "'a' = 'x'; one whole number"),
        ({"background": 0, "a": 1.7}, "'a' = 1.7; one whole number"),
        ({"background": 0, "a": True}, "'a' = True; one whole number"),
        ({"background": 0, "a": -1}, "'a' = -1; one whole number"),
        ({"background": 0, "a": 65536}, "'a' = 65536; one whole number"),
        ({"background": 0, "a": [1, None]}, "one whole number"),
        ({"background": 0, "a": []}, "one whole number"),
        ({"²": "background", "1": "a"}, "one whole number"),
        ({"background": 0, "": 1}, "a class called ''; a name is a text of one line"),
        ({"background": 0, "a\nb": 1}, "a class called 'a.nb'"),
        ({"background": 0, "a\n": 1}, "a class called 'a.n'"),
        ({"background": 0, "a\x1b[2J": 1}, "a class called 'a.x1b"),
        ({"background": 0, "\ud800": 1}, "a class called"),
        ({"0": "background", "1": None}, "a class called None"),
        ({"0": "background", "1": "a", "2": "a"}, "'a' twice; a class that has several values is a list"),
        ({"0": "background", "1": "a", "01": "b"}, r"\[1\] in several classes"),
        ({"background": 0, "a": 1, "ignore": 1}, r"\[1\] in several classes"),
        ({"a": 1, "b": 2}, "found a, b; the background, which is 0, and a class"),
        ({"ignore": 0, "a": 1, "b": 2}, "found a, b; the background, which is 0"),
        ({"background": 0}, "found background; the background, which is 0, and a class"),
        ({}, "found nothing"),
    ],
)
def test_labels_that_train_could_not_follow_are_refused(tmp_path: Path, labels: dict[str, object], what: str) -> None:
    source = write_nnunet(tmp_path)
    edit(source, labels=labels)
    with pytest.raises(DataError, match=f"dataset.json: labels: .*{what}"):
        find_nnunet(source)


def test_values_may_be_texts_and_names_of_any_script(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    source = write_nnunet(tmp_path / "source")
    edit(source, labels={"background": "0", "große Kugel": 1, "核": [2, 65535]})
    labels = {"background": 0, "große Kugel": 1, "核": [2, 65535]}
    assert dict(written(find_nnunet(source)).description.labels) == labels


def test_what_is_missing_or_called_otherwise_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.json: file: found no such file; a raw folder of nnU-Net has one"):
        find_nnunet(tmp_path)
    source = write_nnunet(tmp_path / "source")
    (source / "labelsTr" / "p1_a.nii.gz").unlink()
    with pytest.raises(DataError, match="p1_a.nii.gz: file: found no such file; each image of imagesTr has a label"):
        find_nnunet(source)
    (source / "imagesTr" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="notes.txt: name: found a file of another name"):
        find_nnunet(source)
    (source / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="no readable JSON"):
        find_nnunet(source)


@pytest.mark.parametrize("file", ["imagesTr/p1_a_0000.nii.gz", "labelsTr/p1_a.nii.gz", "labelsTs/t0_a.nii.gz"])
def test_a_link_that_leads_out_or_to_nothing_is_refused(tmp_path: Path, file: str) -> None:
    source = write_nnunet(tmp_path / "source")
    kept = (source / file).rename(tmp_path / "kept.nii.gz")
    (source / file).symlink_to(kept)
    with pytest.raises(DataError, match=f"path: found '{file}'; this link leads out of"):
        find_nnunet(source)
    kept.unlink()
    with pytest.raises(DataError, match=f"path: found '{file}'; there is no such file"):
        find_nnunet(source)


def test_a_link_within_the_folder_is_an_image(tmp_path: Path) -> None:
    source = write_nnunet(tmp_path / "source")
    (source / "imagesTr" / "p1_a_0000.nii.gz").rename(source / "kept.nii.gz")
    (source / "imagesTr" / "p1_a_0000.nii.gz").symlink_to("../kept.nii.gz")
    assert len(find_nnunet(source).cases) == 6
