"""A cell means a file of the data folder or of its source, and of nowhere else."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import synthetic
from dicoms import write_series
from perdure.data import Cache, Dataset
from perdure.data.images import is_volume_file, read_image
from perdure.data.places import declared_source, list_content, listed_files, located
from perdure.data.unlabelled import unlabelled_scans
from perdure.errors import DataError

VOLUME = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder whose source is beside it."""
    (tmp_path / "source" / "Doe_Jane").mkdir(parents=True)
    (tmp_path / "source" / "Doe_Jane" / "a.png").write_bytes(b"")
    (tmp_path / "data" / "series").mkdir(parents=True)
    (tmp_path / "data" / "dataset.toml").write_text('source = "../source"\n')
    return tmp_path / "data"


def test_a_cell_is_relative_to_the_source_and_stays_in_it(tmp_path: Path, folder: Path) -> None:
    assert located(folder, "../source", "Doe_Jane/a.png") == folder / "../source/Doe_Jane/a.png"
    assert located(folder, str(tmp_path / "source"), "Doe_Jane/a.png") == tmp_path / "source/Doe_Jane/a.png"
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "source" / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "own.png").write_bytes(b"")
    for cell in ("../secret.png", str(tmp_path / "secret.png"), "../data/own.png", "Doe_Jane\\a.png"):
        assert "must be relative" in str(located(folder, "../source", cell))
    assert "leads out" in str(located(folder, "../source", "link.png"))
    # with a source, the data folder itself holds lists alone
    assert located(folder, "../source", "own.png") == "there is no such file"
    # without one, nothing leads to it
    assert "must be relative" in str(located(folder, None, "../source/Doe_Jane/a.png"))


def test_a_list_names_files_of_the_source_alone(tmp_path: Path, folder: Path) -> None:
    path = folder / "series" / "x.files"
    path.write_bytes(list_content(["Doe_Jane/a.png"]))
    assert located(folder, "../source", "series/x.files") == path
    assert listed_files(path) == [folder / "../source/Doe_Jane/a.png"]
    for names, what in (
        (["../data/dataset.toml"], "relative"),
        (["Doe_Jane"], "a list names files"),
        (["Doe_Jane/b.png"], "no such file"),
        ([3], "a path is a text"),
        ([], "no list"),
        ({}, "no list"),
    ):
        path.write_text(json.dumps(names))
        with pytest.raises(DataError) as caught:
            listed_files(path)
        assert what in str(caught.value)
        assert "Doe" not in str(caught.value)
        assert what in str(located(folder, "../source", "series/x.files"))
    path.write_text("[")
    with pytest.raises(DataError, match="no readable list"):
        listed_files(path)


def test_a_list_lies_in_the_folder_for_lists_of_a_data_folder_with_a_source(tmp_path: Path, folder: Path) -> None:
    (folder / "x.files").write_bytes(list_content(["Doe_Jane/a.png"]))
    assert located(folder, "../source", "x.files") == "lists of files lie in series/"
    (folder / "x.files").rename(folder / "series" / "x.files")
    (folder / "dataset.toml").unlink()
    with pytest.raises(DataError, match="a list without a source"):
        listed_files(folder / "series" / "x.files")


@pytest.mark.parametrize(("text", "what"), [("source = 3", "as a text"), ("source = ", "no readable TOML")])
def test_a_source_that_is_no_text_is_refused(folder: Path, text: str, what: str) -> None:
    (folder / "dataset.toml").write_text(text)
    with pytest.raises(DataError, match=what):
        declared_source(folder)


def test_a_listed_series_is_read_hashed_and_named_by_its_list(tmp_path: Path, folder: Path) -> None:
    files = write_series(tmp_path / "source" / "Doe_Jane" / "mixed", VOLUME, np.eye(4))
    write_series(tmp_path / "source" / "Doe_Jane" / "mixed", VOLUME, np.eye(4), names=list("abcde"))
    path = folder / "series" / "x.files"
    names = [file.relative_to(tmp_path / "source").as_posix() for file in files]
    path.write_bytes(list_content(names))
    image = read_image(path)
    assert is_volume_file(path)
    np.testing.assert_array_equal(np.sort(image.pixels, axis=None), VOLUME.ravel())
    cache = Cache(tmp_path / "cache")
    before = cache.sha256(path)
    files[2].write_bytes(files[1].read_bytes())
    assert cache.sha256(path) != before
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert "x.files: ImagePositionPatient: found two slices at one place (file 2 and file 3)" in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_a_dataset_with_a_source_is_checked_and_prepared(tmp_path: Path) -> None:
    plain = synthetic.write_volumes(tmp_path / "plain", domains=("a",))
    (tmp_path / "data").mkdir()
    text = (plain / "dataset.toml").read_text()
    (tmp_path / "data" / "dataset.toml").write_text(text.replace("[labels]", 'source = "../plain"\n[labels]'))
    (plain / "manifest.csv").rename(tmp_path / "data" / "manifest.csv")
    dataset = Dataset.open(tmp_path / "data")
    contract = dataset.default_contract("a", cache=tmp_path / "cache")
    domain = dataset.domain("a", contract, cache=tmp_path / "cache")
    assert domain.cases("train")[0].image.shape[1] == 1
    assert len(unlabelled_scans(tmp_path / "data")) == 5
    with (tmp_path / "data" / "manifest.csv").open() as file:
        first = next(csv.DictReader(file))["image"]
    (plain / first).unlink()
    with pytest.raises(DataError, match="column image: found '.*'; there is no such file"):
        dataset.check(cache=tmp_path / "cache")
