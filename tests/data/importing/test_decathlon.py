"""A Decathlon folder becomes a data folder, file by file and label by label."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layouts import head, write_decathlon
from perdure.data import Dataset
from perdure.data.images import read_image, read_labels
from perdure.data.importing import find_decathlon
from perdure.errors import DataError


def test_images_labels_and_names_are_those_of_the_folder(tmp_path: Path, written: Callable[..., Dataset]) -> None:
    source = write_decathlon(tmp_path / "Task01_Heads")
    found = find_decathlon(source)
    dataset = written(found)
    dataset.check(required=(), cache=tmp_path / "cache")
    for number, case in enumerate(dataset.cases):
        image, labels = head(number)
        np.testing.assert_array_equal(read_image(source / case.image).pixels, image)
        np.testing.assert_array_equal(read_labels(source / case.label).pixels, labels)
    about = dataset.description
    assert dict(about.labels) == {"background": 0, "ball": 1, "core": 2}
    assert (about.title, about.modality, about.domains) == ("Balls with a core", "MRI", ("heads",))
    assert found.left_out == ("1 image(s) of `test`, which have no labels",)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"modality": {"0": "FLAIR", "1": "T1w"}}, r"modality: found 2 channels .FLAIR, T1w."),
        ({"labels": {"1": "ball", "2": "core"}}, "labels: found ball, core; the background, which is 0, and a class"),
        ({"labels": {"0": "background", "1": ""}}, "labels: found a class called ''"),
        ({"training": []}, "no training, modality and labels"),
        ({"training": [{"image": 3}]}, "an image and its label: paths"),
        ({"training": [{"image": "../x.nii.gz", "label": "y"}]}, "path: found '../x.nii.gz'; a path must be relative"),
        ({"training": [{"image": "imagesTr/none.nii.gz", "label": "y"}]}, "there is no such file"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused(
    tmp_path: Path, changes: dict[str, object], what: str
) -> None:
    source = write_decathlon(tmp_path)
    path = source / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DataError, match=what):
        find_decathlon(source)
