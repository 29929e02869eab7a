from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from perdure.data.dataset import Dataset
from perdure.data.phantom import SCANNERS, About, Deformation, Scanner, TissueContrast, write_dataset
from perdure.errors import DataError

AFFINE = np.diag([2.0, 2, 2, 1])
ONE_EACH = {"plain": {"train": 1, "val": 1, "test": 1}}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def voxels(path: Path) -> NDArray[np.generic]:
    return np.asanyarray(nib.load(path).dataobj)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def small(shells: NDArray[np.uint8], plain: Scanner) -> dict[str, object]:
    """Arguments that give three small scans."""
    return {"labels": shells, "affine": AFFINE, "scanners": [plain], "subjects": ONE_EACH, "spacing_mm": 4.0}


def test_the_folder_is_a_sound_data_folder(tmp_path: Path, shells: NDArray[np.uint8]) -> None:
    folder = write_dataset(tmp_path / "phantom", labels=shells, affine=AFFINE, spacing_mm=6.0)
    dataset = Dataset.open(folder)
    dataset.check(cache=tmp_path / "cache")
    assert dataset.domains == ("scanner1", "scanner2", "scanner3", "scanner4")
    assert dataset.description.title.startswith("SIMULATED")
    assert dataset.description.labels == {"background": 0, "label_1": 1, "label_2": 2, "label_3": 3}
    assert dataset.description.spacing == (6.0, 6.0, 6.0)
    assert dataset.description.licence
    assert dataset.description.citation


def test_by_default_the_first_scanner_has_four_training_scans_and_later_ones_one(
    tmp_path: Path, shells: NDArray[np.uint8]
) -> None:
    made = rows(write_dataset(tmp_path / "phantom", labels=shells, affine=AFFINE, spacing_mm=6.0))
    counts = Counter((row["domain"], row["split"]) for row in made)
    assert counts["scanner1", "train"] == 4
    assert {counts[name, "train"] for name in ("scanner2", "scanner3", "scanner4")} == {1}
    assert {counts[scanner.name, "val"] for scanner in SCANNERS} == {1}
    assert {counts[scanner.name, "test"] for scanner in SCANNERS} == {2}
    assert len({row["subject"] for row in made}) == len(made) == 19


def test_image_and_label_lie_on_one_grid(tmp_path: Path, small: dict[str, object]) -> None:
    folder = write_dataset(tmp_path / "phantom", **small)
    for row in rows(folder):
        image, label = nib.load(folder / row["image"]), nib.load(folder / row["label"])
        np.testing.assert_array_equal(image.affine, label.affine)
        np.testing.assert_allclose(image.header.get_zooms(), 4.0)
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        # without any effect, a voxel inside one tissue has just its signal
        assert set(np.unique(voxels(folder / row["label"]))) == {0, 1, 2, 3}
        inside = voxels(folder / row["label"])[voxels(folder / row["image"]) == 800]
        assert len(inside) > 0
        assert (inside == 3).all()


def test_the_same_arguments_give_the_same_bytes_and_another_seed_does_not(
    tmp_path: Path, small: dict[str, object]
) -> None:
    about = About("one", "one")
    first, second = (write_dataset(tmp_path / name, **small, about=about) for name in ("a", "b"))
    assert hashes(first) == hashes(second)
    other = write_dataset(tmp_path / "c", **small, about=about, seed=1)
    assert all(hashes(first)[row["image"]] != hashes(other)[row["image"]] for row in rows(first))


def test_a_folder_made_with_the_same_arguments_is_left_as_it_is(tmp_path: Path, small: dict[str, object]) -> None:
    folder = write_dataset(tmp_path / "phantom", **small)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def progress(done: int, total: int) -> None:
        pytest.fail("nothing is to be simulated")

    assert write_dataset(folder, **small, progress=progress) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 5}, "seed"),
        ({"spacing_mm": 5.0}, "spacing_mm"),
        ({"deformation": Deformation(magnitude_mm=1.0)}, "deformation"),
        ({"affine": np.diag([2.0, 2, 2.1, 1])}, "anatomies"),
    ],
)
def test_a_folder_made_with_other_arguments_is_refused_by_their_names(
    tmp_path: Path, small: dict[str, object], change: dict[str, object], field: str
) -> None:
    folder = write_dataset(tmp_path / "phantom", **small)
    before = hashes(folder)
    with pytest.raises(DataError, match=rf"phantom\.json: {field}: found a set made with other arguments"):
        write_dataset(folder, **{**small, **change})
    assert hashes(folder) == before


def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path, small: dict[str, object]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"folder: found no phantom\.json; it must be empty"):
        write_dataset(tmp_path, **small)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path, small: dict[str, object]) -> None:
    (tmp_path / "phantom").mkdir()
    assert len(rows(write_dataset(tmp_path / "phantom", **small))) == 3


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, small: dict[str, object]) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "phantom", **small, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_folder_and_the_next_one_makes_it(tmp_path: Path, small: dict[str, object]) -> None:
    code = """
        import os, signal, sys
        import numpy as np
        from perdure.data.phantom import SCANNERS, write_dataset
        kill = lambda done, total: done == 2 and os.kill(os.getpid(), signal.SIGKILL)
        write_dataset(sys.argv[1], labels=np.ones((8, 8, 8), dtype=np.uint8), progress=kill)
    """
    folder = tmp_path / "phantom"
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(folder)], check=False)
    assert killed.returncode == -9
    assert not folder.exists()
    assert len(rows(write_dataset(folder, **small))) == 3


def test_two_runs_at_once_both_end_well(tmp_path: Path, small: dict[str, object]) -> None:
    folder = tmp_path / "phantom"

    def overtaken(done: int, total: int) -> None:
        if done == total:
            write_dataset(folder, **small)

    assert write_dataset(folder, **small, progress=overtaken) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["phantom"]


def test_progress_counts_every_scan(tmp_path: Path, small: dict[str, object]) -> None:
    calls: list[tuple[int, int]] = []
    write_dataset(tmp_path / "phantom", **small, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_named_values_are_merged_and_the_others_imaged_as_background(tmp_path: Path, small: dict[str, object]) -> None:
    structures = {"background": 0, "rind": (2, 1)}
    folder = write_dataset(tmp_path / "phantom", **small, structures=structures)
    assert Dataset.open(folder).description.labels == {"background": 0, "rind": 2}
    image, label = voxels(folder / rows(folder)[0]["image"]), voxels(folder / rows(folder)[0]["label"])
    assert set(np.unique(label)) == {0, 2}
    assert image[label == 0].max() == 800


def test_a_structure_without_a_voxel_is_refused_by_name(tmp_path: Path, small: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"No simulated subject has a voxel of moon at 4\.0 mm"):
        write_dataset(tmp_path / "phantom", **small, structures={"shell": 1, "moon": 12})
    assert list(tmp_path.iterdir()) == []


def test_subjects_take_several_label_maps_in_turn(
    tmp_path: Path, shells: NDArray[np.uint8], small: dict[str, object]
) -> None:
    for name, labels in (("a", shells), ("b", np.where(shells == 3, 2, shells).astype(np.uint8))):
        nib.Nifti1Image(labels, AFFINE).to_filename(tmp_path / f"{name}.nii.gz")
    maps = [tmp_path / "a.nii.gz", str(tmp_path / "b.nii.gz")]
    arguments = {**small, "labels": maps, "affine": None}
    folder = write_dataset(tmp_path / "phantom", **arguments)
    assert [voxels(folder / row["label"]).max() for row in rows(folder)] == [3, 2, 3]


def test_a_tissue_that_the_scanner_does_not_know_is_refused(tmp_path: Path, small: dict[str, object]) -> None:
    labels = np.full((8, 8, 8), 77, dtype=np.uint8)
    with pytest.raises(DataError, match=r"label values \[77\] have no tissue"):
        write_dataset(tmp_path / "phantom", **{**small, "labels": labels})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing_mm": 0}, r"`spacing_mm` must be above 0.*got 0\.0"),
        ({"supersampling": 0}, "`supersampling` 1 or more.*0"),
        ({"seed": -1}, "`seed` 0 or more.*-1"),
        ({"labels": None}, "`affine` belongs to an array"),
        ({"labels": [], "affine": None}, "`labels` must hold one label map or more"),
        ({"subjects": {"other": {"train": 1}}}, r"one entry for each of the scanners \['plain'\]; got \['other'\]"),
        ({"subjects": {"plain": {"train": 0}}}, "one or more in all; got {'train': 0} for `plain`"),
        ({"subjects": {"plain": {"training": 1}}}, "how many are in train, val, test"),
        ({"structures": {"a": 1, "b": (2, 1)}}, "every structure values of its own"),
        ({"structures": {"a": -1}}, "from 1 to 65535"),
    ],
)
def test_an_argument_outside_its_range_is_refused(
    tmp_path: Path, small: dict[str, object], change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "phantom", **{**small, **change})


@pytest.mark.parametrize("name", ["a/b", "", "..", "two words"])
def test_a_scanner_name_that_is_no_folder_name_is_refused(
    tmp_path: Path, small: dict[str, object], plain: Scanner, name: str
) -> None:
    changed = {**small, "scanners": [replace(plain, name=name)], "subjects": {name: {"train": 1}}}
    with pytest.raises(ValueError, match="Each scanner needs a name of its own"):
        write_dataset(tmp_path / "phantom", **changed)


def test_the_embedded_default_is_a_brain_with_three_tissues(tmp_path: Path) -> None:
    pytest.importorskip("nilearn", reason="nilearn (extra `demo`) is not installed")
    folder = write_dataset(
        tmp_path / "brain", spacing_mm=5.0, supersampling=1, subjects={s.name: {"train": 1} for s in SCANNERS}
    )
    assert Dataset.open(folder).description.labels == {
        "background": 0,
        "csf": 1,
        "grey_matter": 2,
        "white_matter": 3,
    }
    for row in rows(folder):
        image, label = voxels(folder / row["image"]), voxels(folder / row["label"])
        means = [image[label == value].mean() for value in range(4)]
        assert means == sorted(means)


def test_real_label_maps_are_imaged_with_priors_from_their_table(tmp_path: Path, shared_data: Path) -> None:
    maps = shared_data / "brain_labelmaps"
    contrast = TissueContrast.from_table(maps / "label_table.csv")
    scanners = [scanner.seeing(contrast) for scanner in SCANNERS[:2]]
    folder = write_dataset(
        tmp_path / "sites",
        labels=[maps / "labels" / "brain03.nii.gz", maps / "labels" / "brain14.nii.gz"],
        structures={"white_matter": (2, 41), "cortex": (3, 42), "ventricles": (4, 43), "thalamus": (10, 49)},
        scanners=scanners,
        subjects={scanner.name: {"train": 1} for scanner in scanners},
        spacing_mm=4.0,
        supersampling=1,
    )
    for row in rows(folder):
        image, label = voxels(folder / row["image"]), voxels(folder / row["label"])
        assert set(np.unique(label)) == {0, 2, 3, 4, 10}
        assert image[label == 4].mean() < image[label == 3].mean() < image[label == 2].mean()
