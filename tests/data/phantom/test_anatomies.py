from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from perdure.data.dataset import Dataset
from perdure.data.phantom import About, Scanner
from perdure.data.phantom.anatomies import STRUCTURES, write_dataset_of_labelmaps
from perdure.data.phantom.scanner import SCANNERS
from perdure.errors import DataError

HEADER = "value,t1_mean_mu,t1_mean_sd,t1_std_mu"
# signals of 0.17, 0.38 and 0.63 are those of CSF, grey and white matter; left (2) and right (41) are one tissue
ROWS = (
    "0,0,0,0",
    "4,43.35,11,2",
    "3,96.9,12,2",
    "2,160.65,21,2",
    "41,160.65,21,2",
    "99,96.9,12,2",
    "507,60,9,5",
)
NAMED = {"left_white": (2, 99), "right_white": 41, "cortex": 3, "ventricle": 4}
# turned and mirrored, voxels of 1 mm
AFFINE = np.array([[0.0, -1, 0, 30], [1, 0, 0, -20], [0, 0, 1, 7], [0, 0, 0, 1]])


def head(number: int) -> NDArray[np.uint16]:
    """A small head, another for every number: scalp around cortex around white matter with a ventricle."""
    x, y, z = np.indices((26, 30, 28)) - np.array([13, 15, 13]).reshape(3, 1, 1, 1)
    radius = np.sqrt(x**2 + (y * (1 + 0.02 * number)) ** 2 + z**2)
    labels = np.select([radius < 3, radius < 7, radius < 9, radius < 11], [4, 2, 3, 507], 0).astype(np.uint16)
    labels[(labels == 2) & (x > 0)] = 41
    labels[14, 15, 17] = 99
    return labels


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path / "table.csv", *ROWS)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Seven label maps."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for number in range(7):
        nib.Nifti1Image(head(number), AFFINE).to_filename(folder / f"head{number}.nii.gz")
    return folder


@pytest.fixture
def small(maps: Path, table: Path) -> dict[str, Any]:
    """Arguments that give 3 + 2 subjects of two scanners and two test subjects in both."""
    return {
        "labelmaps": maps,
        "table": table,
        "structures": NAMED,
        "scanners": SCANNERS[:2],
        "first": {"train": 2, "val": 1},
        "spacing_mm": 2.0,
        "about": About("heads", "heads"),
    }


@pytest.fixture
def exact(small: dict[str, Any], plain: Scanner) -> dict[str, Any]:
    """As `small`, with a table without spreads and scanners without effects."""
    written(small["table"], *(f"{row.split(',')[0]},{row.split(',')[1]},0,0" for row in ROWS))
    return {**small, "scanners": [replace(plain, name=name) for name in ("one", "two")]}


def written(table: Path, *rows: str, header: str = HEADER) -> Path:
    table.write_text("\n".join((header, *rows)) + "\n")
    return table


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def voxels(path: Path) -> NDArray[np.generic]:
    return np.asanyarray(nib.load(path).dataobj)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def means(folder: Path, row: dict[str, str]) -> dict[int, float]:
    """The mean signal of every value in a case's label."""
    image, label = voxels(folder / row["image"]), voxels(folder / row["label"])
    return {int(value): float(image[label == value].mean()) for value in np.unique(label)}


def test_the_folder_is_a_sound_data_folder(tmp_path: Path, small: dict[str, Any]) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **small)
    dataset = Dataset.open(folder)
    dataset.check(cache=tmp_path / "cache")
    assert dataset.domains == ("scanner1", "scanner2")
    assert dataset.description.title == "SIMULATED: heads"
    assert dataset.description.spacing == (2.0, 2.0, 2.0)
    assert dataset.description.labels == {
        "background": 0,
        "left_white": 2,
        "right_white": 41,
        "cortex": 3,
        "ventricle": 4,
    }
    merged = dataset.default_contract(merge_sides=True, cache=tmp_path / "cache")
    assert [structure.name for structure in merged.structures] == ["background", "white", "cortex", "ventricle"]


def test_later_scanners_have_one_training_scan_and_all_have_the_same_test_subjects(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    made = rows(write_dataset_of_labelmaps(tmp_path / "set", **small))
    assert Counter((row["domain"], row["split"]) for row in made) == {
        ("scanner1", "train"): 2,
        ("scanner1", "val"): 1,
        ("scanner1", "test"): 2,
        ("scanner2", "train"): 1,
        ("scanner2", "val"): 1,
        ("scanner2", "test"): 2,
    }
    first, second = (
        {row["subject"] for row in made if (row["domain"], row["split"]) == (name, "test")}
        for name in ("scanner1", "scanner2")
    )
    assert first == second


@pytest.mark.parametrize("seed", range(5))
def test_a_subject_is_in_one_split_only_and_none_is_left_out(tmp_path: Path, small: dict[str, Any], seed: int) -> None:
    made = rows(write_dataset_of_labelmaps(tmp_path / "set", **{**small, "spacing_mm": 6.0}, seed=seed))
    splits, domains = defaultdict(set), defaultdict(set)
    for row in made:
        splits[row["subject"]].add(row["split"])
        domains[row["subject"]].add(row["domain"])
    assert set(splits) == {f"head{number}" for number in range(7)}
    assert all(len(of_one) == 1 for of_one in splits.values())
    assert all(len(domains[name]) == (2 if splits[name] == {"test"} else 1) for name in splits)


def test_at_the_spacing_of_the_map_every_label_stays_where_it_was(tmp_path: Path, exact: dict[str, Any]) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **{**exact, "spacing_mm": 1.0})
    for row in rows(folder):
        image, label = nib.load(folder / row["image"]), nib.load(folder / row["label"])
        np.testing.assert_array_equal(image.affine, label.affine)
        original = voxels(exact["labelmaps"] / f"{row['subject']}.nii.gz")
        # through mm, from the voxels of the one to those of the other
        across = np.linalg.inv(AFFINE) @ label.affine
        np.testing.assert_allclose(across[:3, :3], np.eye(3), atol=1e-12)
        start = np.rint(across[:3, 3]).astype(int)
        np.testing.assert_allclose(across[:3, 3], start, atol=1e-12)
        values = np.asanyarray(label.dataobj)
        padded = np.pad(original, 40)[
            tuple(slice(40 + s, 40 + s + n) for s, n in zip(start, values.shape, strict=True))
        ]
        expected = np.where(padded == 507, 0, np.where(padded == 99, 2, padded))
        np.testing.assert_array_equal(values, expected)
        # cortex is 9 mm around the middle at most, and the margin 12 mm
        assert (np.array(values.shape) <= 2 * (9 + 12)).all()
        signal = np.asanyarray(image.dataobj)
        assert {int(signal[padded == value][0]) for value in (2, 41)} == {800}
        assert np.ptp(signal[padded == 507]) == 0


@pytest.mark.parametrize("spacing", [2.0, 3.0, 1.7])
def test_coarser_voxels_keep_place_and_volume(tmp_path: Path, exact: dict[str, Any], spacing: float) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **{**exact, "spacing_mm": spacing})
    for row in rows(folder):
        label = nib.load(folder / row["label"])
        np.testing.assert_allclose(label.header.get_zooms(), spacing, rtol=1e-6)
        original = voxels(exact["labelmaps"] / f"{row['subject']}.nii.gz")
        brain = np.argwhere(np.isin(original, (2, 3, 4, 41, 99)))
        found = np.argwhere(np.asanyarray(label.dataobj))
        middle, expected = (
            affine[:3, :3] @ points.mean(axis=0) + affine[:3, 3]
            for affine, points in ((label.affine, found), (AFFINE, brain))
        )
        # equal votes go to the first voxel of a block
        np.testing.assert_allclose(middle, expected, atol=0.15 * spacing)
        assert len(found) * spacing**3 == pytest.approx(len(brain), rel=0.1)


def test_an_image_voxel_averages_the_tissues_in_it(tmp_path: Path, exact: dict[str, Any]) -> None:
    fine, coarse = (
        write_dataset_of_labelmaps(tmp_path / name, **{**exact, "spacing_mm": spacing})
        for name, spacing in (("fine", 1.0), ("coarse", 2.0))
    )
    for row in rows(fine):
        small_voxels, image = voxels(fine / row["image"]), voxels(coarse / row["image"])
        padded = np.pad(small_voxels, [(0, 2 * n - m) for n, m in zip(image.shape, small_voxels.shape, strict=True)])
        blocks = padded.reshape([part for n in image.shape for part in (n, 2)]).mean(axis=(1, 3, 5))
        # grey levels are rounded
        np.testing.assert_allclose(image, blocks, atol=1)


def test_a_label_holds_declared_values_only_and_rare_ones_go_to_their_structure(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **small)
    for row in rows(folder):
        label = voxels(folder / row["label"])
        assert label.dtype == np.uint8
        assert set(np.unique(label)) == {0, 2, 3, 4, 41}


def test_what_is_no_structure_is_imaged_but_not_labelled(tmp_path: Path, exact: dict[str, Any]) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **{**exact, "structures": {"ventricle": 4}})
    for row in rows(folder):
        image, label = voxels(folder / row["image"]), voxels(folder / row["label"])
        assert set(np.unique(label)) == {0, 4}
        assert image[label == 0].max() == 800


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path, small: dict[str, Any]) -> None:
    first, second = (write_dataset_of_labelmaps(tmp_path / name, **small) for name in ("a", "b"))
    assert hashes(first) == hashes(second)
    other = write_dataset_of_labelmaps(tmp_path / "c", **small, seed=1)
    common = [name for name in hashes(first) if name.startswith("images") and name in hashes(other)]
    assert common
    assert all(hashes(first)[name] != hashes(other)[name] for name in common)


def test_scanners_see_the_same_head_in_other_contrasts(tmp_path: Path, small: dict[str, Any]) -> None:
    arguments = {**small, "scanners": SCANNERS, "first": {"train": 1, "val": 1}, "spacing_mm": 1.0}
    for number in range(7, 9):
        nib.Nifti1Image(head(number), AFFINE).to_filename(small["labelmaps"] / f"head{number}.nii.gz")
    folder = write_dataset_of_labelmaps(tmp_path / "set", **arguments)
    signals = [means(folder, row) for row in rows(folder) if row["split"] == "test"]
    assert len(signals) == 4
    # cortex and ventricle relative to white matter, which scaling would not make alike
    relative = np.array([[signal[3] / signal[2], signal[4] / signal[2]] for signal in signals])
    apart = np.abs(relative[:, None] - relative[None]).max(axis=2)[np.triu_indices(4, k=1)]
    assert (apart > 0.04).all()
    assert all(signal[4] < signal[3] < signal[2] for signal in signals)


def test_a_subject_deviates_alike_on_both_sides_and_in_every_scanner(tmp_path: Path, exact: dict[str, Any]) -> None:
    written(exact["table"], *(f"{row.rsplit(',', 1)[0]},0" for row in ROWS))
    folder = write_dataset_of_labelmaps(tmp_path / "set", **{**exact, "spacing_mm": 1.0})
    image_of = defaultdict(dict)
    whites = set()
    for row in rows(folder):
        image, original = voxels(folder / row["image"]), voxels(folder / row["label"])
        left, right = (np.bincount(image[original == value]).argmax() for value in (2, 41))
        assert left == right
        whites.add(int(left))
        image_of[row["subject"]][row["domain"]] = image
    assert len(whites) > 4
    for images in image_of.values():
        if len(images) == 2:
            np.testing.assert_array_equal(images["one"], images["two"])


def test_without_deviation_every_subject_has_the_signal_of_the_table(tmp_path: Path, exact: dict[str, Any]) -> None:
    written(exact["table"], *(f"{row.rsplit(',', 1)[0]},0" for row in ROWS))
    folder = write_dataset_of_labelmaps(tmp_path / "set", **{**exact, "spacing_mm": 1.0}, deviation=0)
    for row in rows(folder):
        assert means(folder, row)[41] == 800


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, small: dict[str, Any]) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        write_dataset_of_labelmaps(folder, **small, progress=stop)
    with pytest.raises(DataError):
        Dataset.open(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    assert before
    calls: list[tuple[int, int]] = []
    write_dataset_of_labelmaps(folder, **small, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 9) for number in range(1, 10)]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert hashes(folder) == hashes(write_dataset_of_labelmaps(tmp_path / "at_once", **small))


def test_a_scan_that_is_gone_is_made_again_as_it_was(tmp_path: Path, small: dict[str, Any]) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **small)
    before = hashes(folder)
    (folder / rows(folder)[0]["image"]).unlink()
    (folder / rows(folder)[-1]["label"]).unlink()
    assert hashes(write_dataset_of_labelmaps(folder, **small)) == before


@pytest.mark.parametrize(
    ("change", "field"), [({"seed": 5}, "seed"), ({"spacing_mm": 3.0}, "spacing_mm"), ({"deviation": 0}, "deviation")]
)
def test_a_folder_made_with_other_arguments_is_refused_by_their_names(
    tmp_path: Path, small: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **small)
    before = hashes(folder)
    with pytest.raises(DataError, match=rf"phantom\.json: {field}: found a set made with other arguments"):
        write_dataset_of_labelmaps(folder, **{**small, **change})
    assert hashes(folder) == before


def test_a_label_map_that_changed_is_noticed(tmp_path: Path, small: dict[str, Any]) -> None:
    folder = write_dataset_of_labelmaps(tmp_path / "set", **small)
    nib.Nifti1Image(head(9), AFFINE).to_filename(small["labelmaps"] / "head0.nii.gz")
    with pytest.raises(DataError, match=r"phantom\.json: labelmaps: found a set made with other arguments"):
        write_dataset_of_labelmaps(folder, **small)


def test_a_folder_with_other_files_is_refused_and_kept(tmp_path: Path, small: dict[str, Any]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"set: folder: found no phantom\.json; .*give another folder"):
        write_dataset_of_labelmaps(tmp_path / "set", **small)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("value,mean", ["0,1"], r"table\.csv: header: found value, mean; the columns t1_mean_mu"),
        (HEADER, [*ROWS, "5,dark,1,1"], r"table\.csv: line 9: found 5, dark, 1, 1"),
        (HEADER, [*ROWS, "5,nan,1,1"], r"table\.csv: value 5: .*nan.*finite numbers, 0 or more"),
        (HEADER, [*ROWS, "5,1,-1,1"], r"table\.csv: value 5: .*finite numbers, 0 or more"),
        (HEADER, ROWS[1:], r"table\.csv: value: found no row with 0"),
        (HEADER, ROWS[:-1], r"head0\.nii\.gz: values: found 507; each needs a row in .*table\.csv"),
    ],
)
def test_a_bad_table_is_refused_by_place(
    tmp_path: Path, small: dict[str, Any], header: str, lines: list[str], message: str
) -> None:
    written(small["table"], *lines, header=header)
    with pytest.raises(DataError, match=message):
        write_dataset_of_labelmaps(tmp_path / "set", **small)
    assert not (tmp_path / "set").exists()


def test_a_table_that_is_not_there_is_refused_by_name(tmp_path: Path, small: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"none\.csv: file: .*a readable CSV table goes here"):
        write_dataset_of_labelmaps(tmp_path / "set", **{**small, "table": tmp_path / "none.csv"})


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_label_maps_is_refused(tmp_path: Path, small: dict[str, Any], there: bool) -> None:
    if there:
        (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: folder: found no label map"):
        write_dataset_of_labelmaps(tmp_path / "set", **{**small, "labelmaps": tmp_path / "empty"})


def test_too_few_label_maps_are_refused_with_the_number_needed(tmp_path: Path, small: dict[str, Any]) -> None:
    for number in (5, 6):
        (small["labelmaps"] / f"head{number}.nii.gz").unlink()
    with pytest.raises(DataError, match=r"maps: label maps: found 5; 6 or more: 5 for training and validation"):
        write_dataset_of_labelmaps(tmp_path / "set", **small)


def test_all_bad_label_maps_are_reported_at_once(tmp_path: Path, small: dict[str, Any]) -> None:
    maps = small["labelmaps"]
    (maps / "head1.nii.gz").write_bytes(b"no image")
    nib.Nifti1Image(np.full((4, 4, 4), 507, dtype=np.uint16), AFFINE).to_filename(maps / "head2.nii.gz")
    with pytest.raises(DataError) as error:
        write_dataset_of_labelmaps(tmp_path / "set", **small)
    assert [(Path(problem.file).name, problem.field) for problem in error.value.problems] == [
        ("head1.nii.gz", "file"),
        ("head2.nii.gz", "values"),
    ]


def test_two_maps_of_one_subject_are_refused(tmp_path: Path, small: dict[str, Any]) -> None:
    nib.Nifti1Image(head(0), AFFINE).to_filename(small["labelmaps"] / "head0.nii")
    with pytest.raises(DataError, match=r"head0\.nii\.gz: name: found subject head0 a second time; head0\.nii is"):
        write_dataset_of_labelmaps(tmp_path / "set", **small)


def test_a_structure_that_no_map_has_is_refused_by_name(tmp_path: Path, small: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"maps: structure moon: found none of \[12\] in any label map"):
        write_dataset_of_labelmaps(tmp_path / "set", **{**small, "structures": {**NAMED, "moon": 12}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing_mm": 0}, "`spacing_mm` must be above 0"),
        ({"spacing_mm": float("nan")}, "`spacing_mm` must be above 0"),
        ({"deviation": -1}, "`deviation` and `seed` 0 or more"),
        ({"seed": -1}, "`deviation` and `seed` 0 or more"),
        ({"structures": {"a": 2, "b": (3, 2)}}, "every structure values of its own"),
        ({"structures": {}}, "every structure values of its own"),
        ({"scanners": []}, "Each scanner needs a name of its own"),
        ({"scanners": [SCANNERS[0], SCANNERS[0]]}, "Each scanner needs a name of its own"),
        ({"scanners": [replace(SCANNERS[0], name="a/b")]}, "Each scanner needs a name of its own"),
        ({"first": {"train": 2}}, "`first` must give 1 or more"),
        ({"following": {"train": 0, "val": 1}}, "`following` must give 1 or more"),
        ({"following": {"train": 1, "val": 1, "test": 1}}, "`following` must give 1 or more"),
    ],
)
def test_an_argument_outside_its_range_is_refused(
    tmp_path: Path, small: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset_of_labelmaps(tmp_path / "set", **{**small, **change})


def test_real_label_maps_look_like_t1_images_in_every_structure(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "brain_labelmaps"
    (tmp_path / "maps").mkdir()
    for name in ("brain03", "brain10", "brain18"):
        (tmp_path / "maps" / f"{name}.nii.gz").symlink_to(source / "labels" / f"{name}.nii.gz")
    folder = write_dataset_of_labelmaps(
        tmp_path / "set",
        tmp_path / "maps",
        source / "label_table.csv",
        scanners=SCANNERS[:1],
        first={"train": 1, "val": 1},
        spacing_mm=3.0,
    )
    Dataset.open(folder).check(cache=tmp_path / "cache")
    for row in rows(folder):
        signal = means(folder, row)
        assert set(signal) <= {0, *(values[0] for values in STRUCTURES.values())}
        assert signal[4] < signal[3] < signal[10] < signal[2]
