"""Everything that is wrong with a manifest, by file and field, all of it at once."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import synthetic
from perdure.data import Cache, Dataset
from perdure.data.images import read_image
from perdure.data.validation import contract_mismatches, grade_of
from perdure.errors import DataError
from perdure.types import Intensity

Row = dict[str, str]


def read_rows(folder: Path) -> list[Row]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder: Path, rows: list[Row]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def change_volume(
    folder: Path, name: str, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> None:
    volume = nib.load(folder / name)
    pixels, affine = change(np.asarray(volume.dataobj).copy(), volume.affine.copy())
    nib.save(nib.Nifti1Image(pixels, affine), folder / name)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    return synthetic.write_volumes(tmp_path / "volumes", shape=(6, 7, 8))


def problems(folder: Path, cache: Cache, **arguments: object) -> list[tuple[str, str, str, str]]:
    with pytest.raises(DataError) as caught:
        Dataset.open(folder).check(cache=cache, **arguments)
    found = caught.value.problems
    assert all(str(problem) in str(caught.value) for problem in found)
    return [(str(Path(p.file).relative_to(folder)), p.field, p.found, p.allowed) for p in found]


def test_what_is_sound_passes(volumes: Path, tmp_path: Path, cache: Cache) -> None:
    Dataset.open(volumes).check(cache=cache)
    Dataset.open(synthetic.write_images(tmp_path / "i", field_of_view=True)).check(cache=cache)
    Dataset.open(synthetic.write_classes(tmp_path / "c")).check(cache=cache)


def test_the_same_subject_in_two_splits(volumes: Path, cache: Cache) -> None:
    rows = read_rows(volumes)
    rows[0]["subject"] = rows[4]["subject"]
    write_rows(volumes, rows)
    ((file, field, found, allowed),) = problems(volumes, cache)
    assert (file, field) == ("manifest.csv", "columns subject and split")
    assert found == "subject 'scanner-a-test-1' in train and test (train: line 2; test: line 6)"
    assert "go in one split" in allowed


def test_the_same_subject_in_different_splits_of_two_domains(volumes: Path, cache: Cache) -> None:
    rows = read_rows(volumes)
    rows[0]["subject"] = next(row["subject"] for row in rows if (row["domain"], row["split"]) == ("scanner-b", "test"))
    write_rows(volumes, rows)
    ((_, field, found, _),) = problems(volumes, cache, domains=["scanner-a"])
    assert field == "columns subject and split"
    assert "'scanner-b-test-0' in train and test" in found


def test_a_duplicated_id(volumes: Path, cache: Cache) -> None:
    rows = read_rows(volumes)
    rows[3]["id"] = rows[1]["id"]
    write_rows(volumes, rows)
    assert problems(volumes, cache) == [
        ("manifest.csv", "lines 3, 5, column id", "'scanner-a-train-1-t1' 2 times", "each id once; rename one")
    ]


def test_a_missing_file(volumes: Path, cache: Cache) -> None:
    rows = read_rows(volumes)
    (volumes / rows[2]["label"]).unlink()
    assert problems(volumes, cache) == [
        (
            "manifest.csv",
            "line 4 (id 'scanner-a-val-0-t1'), column label",
            repr(rows[2]["label"]),
            "there is no such file",
        )
    ]


@pytest.mark.parametrize("path", ["/etc/passwd", "../volumes/images/x.nii"])
def test_a_path_that_leaves_the_folder(volumes: Path, cache: Cache, path: str) -> None:
    rows = read_rows(volumes)
    rows[0]["image"] = path
    write_rows(volumes, rows)
    ((file, field, found, allowed),) = problems(volumes, cache)
    assert (file, field, found) == ("manifest.csv", "line 2 (id 'scanner-a-train-0-t1'), column image", repr(path))
    assert "stay in it" in allowed


def test_an_unreadable_image(volumes: Path, cache: Cache) -> None:
    image = read_rows(volumes)[0]["image"]
    content = (volumes / image).read_bytes()
    (volumes / image).write_bytes(content[: len(content) // 2])
    ((file, field, found, _),) = problems(volumes, cache)
    assert (file, field) == (image, "content")
    assert "unreadable" in found


def test_a_label_outside_the_label_set(volumes: Path, cache: Cache) -> None:
    label = read_rows(volumes)[0]["label"]
    change_volume(volumes, label, lambda pixels, affine: (np.where(pixels == 3, 99, pixels), affine))
    ((file, field, found, allowed),) = problems(volumes, cache)
    assert (file, field, found) == (label, "values", "99, not in the label set")
    assert "[labels] or `ignore_values`" in allowed
    # the same file is sound where the dataset says that 99 does not count
    toml = (volumes / "dataset.toml").read_text()
    (volumes / "dataset.toml").write_text(toml.replace("[labels]", "ignore_values = [99]\n[labels]"))
    Dataset.open(volumes).check(cache=cache)


def test_image_and_label_of_different_shape(volumes: Path, cache: Cache) -> None:
    label = read_rows(volumes)[0]["label"]
    change_volume(volumes, label, lambda pixels, affine: (pixels[:-1], affine))
    ((file, field, found, allowed),) = problems(volumes, cache)
    assert (file, field, found) == (label, "shape", "(5, 7, 8)")
    assert allowed == "the image scanner-a-train-0.nii.gz is of shape (6, 7, 8)"


def shifted(pixels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 3] += 0.3
    return pixels, affine


def mirrored(pixels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[:, 0] *= -1
    return pixels, affine


@pytest.mark.parametrize(("change", "far"), [(shifted, "0.3 mm"), (mirrored, "20 mm")])
def test_image_and_label_at_different_places(
    volumes: Path, cache: Cache, change: Callable[..., tuple], far: str
) -> None:
    label = read_rows(volumes)[0]["label"]
    change_volume(volumes, label, change)
    ((file, field, found, _),) = problems(volumes, cache)
    assert (file, field) == (label, "affine")
    assert far in found


def test_affines_that_differ_by_rounding_are_the_same(volumes: Path, cache: Cache) -> None:
    change_volume(volumes, read_rows(volumes)[0]["label"], lambda pixels, affine: (pixels, affine + 1e-4))
    Dataset.open(volumes).check(cache=cache)


def test_a_voxel_that_is_not_finite(volumes: Path, cache: Cache) -> None:
    image = read_rows(volumes)[0]["image"]

    def with_nan(pixels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = pixels.astype(np.float32)
        pixels[1, 2, 3] = np.nan
        return pixels, affine

    change_volume(volumes, image, with_nan)
    ((file, field, found, allowed),) = problems(volumes, cache)
    assert (file, field) == (image, "voxels")
    assert "nan at (1, 2, 3)" in found
    assert allowed == "every voxel must be a finite number"


def test_an_empty_split(volumes: Path, cache: Cache) -> None:
    write_rows(volumes, [row for row in read_rows(volumes) if (row["domain"], row["split"]) != ("scanner-b", "val")])
    assert problems(volumes, cache) == [
        ("manifest.csv", "domain scanner-b", "no val case", "at least one row with this domain and split val")
    ]
    Dataset.open(volumes).check(["scanner-a"], cache=cache)
    Dataset.open(volumes).check(required=("train", "test"), cache=cache)


def test_an_unknown_split_domain_and_class_and_empty_cells(tmp_path: Path, cache: Cache) -> None:
    folder = synthetic.write_classes(tmp_path / "c", cases=(3, 2, 2))
    toml = (folder / "dataset.toml").read_text().replace("[labels]", 'domains = ["hospital-a", "hospital-b"]\n[labels]')
    (folder / "dataset.toml").write_text(toml)
    rows = read_rows(folder)
    rows[0]["split"], rows[1]["domain"], rows[2]["class"], rows[3]["subject"], rows[4]["class"] = (
        "dev",
        "mars",
        "2",
        "",
        "",
    )
    write_rows(folder, rows)
    empty = "every case needs one; fill it, or remove the row"
    domains = "one of `domains` in dataset.toml: hospital-a, hospital-b"
    classes = "one of the labels of dataset.toml: normal [0], abnormal [1]"
    assert problems(folder, cache) == [
        ("manifest.csv", "line 2 (id 'hospital-a-train-0-xray'), column split", "'dev'", "one of train, val, test"),
        ("manifest.csv", "line 3 (id 'hospital-a-train-1-xray'), column domain", "'mars'", domains),
        ("manifest.csv", "line 4 (id 'hospital-a-train-2-xray'), column class", "'2'", classes),
        ("manifest.csv", "line 5 (id 'hospital-a-val-0-xray'), column subject", "an empty cell", empty),
        ("manifest.csv", "line 6 (id 'hospital-a-val-1-xray'), column class", "an empty cell", empty),
    ]  # fmt: skip


def test_a_domain_that_does_not_exist(volumes: Path, cache: Cache) -> None:
    assert problems(volumes, cache, domains=["scanner-c"]) == [
        ("manifest.csv", "domain", "'scanner-c'", "it has scanner-a, scanner-b")
    ]


def test_a_mask_of_another_shape(tmp_path: Path, cache: Cache) -> None:
    folder = synthetic.write_images(tmp_path / "i", field_of_view=True)
    mask = read_rows(folder)[0]["fov"]
    synthetic.save_image(folder / mask, np.ones((5, 5), np.uint8))
    ((file, field, found, _),) = problems(folder, cache)
    assert (file, field, found) == (mask, "shape", "(5, 5)")


def test_all_problems_of_a_manifest_come_together(volumes: Path, cache: Cache) -> None:
    rows = read_rows(volumes)
    label, image = rows[0]["label"], rows[1]["image"]
    change_volume(volumes, label, lambda pixels, affine: (pixels[1:], affine))
    (volumes / image).write_bytes(b"")
    rows[2]["image"] = "none.nii"
    rows[3]["id"] = rows[4]["id"]
    rows[5]["subject"] = rows[9]["subject"]
    write_rows(volumes, rows)
    found = problems(volumes, cache)
    assert [file for file, *_ in found] == ["manifest.csv"] * 3 + [label, image]
    assert [field.split(" (")[0] for _, field, *_ in found] == [
        "lines 5, 6, column id",
        "columns subject and split",
        "line 4",
        "shape",
        "content",
    ]


def test_nothing_is_prepared_from_a_dataset_with_a_problem(volumes: Path, cache: Cache) -> None:
    contract = Dataset.open(volumes).default_contract(cache=cache)
    rows = read_rows(volumes)
    rows[1]["id"] = rows[0]["id"]
    write_rows(volumes, rows)
    for call in (lambda d: d.domain("scanner-a", contract, cache=cache), lambda d: d.default_contract(cache=cache)):
        with pytest.raises(DataError, match="column id"):
            call(Dataset.open(volumes))
    assert list((cache.folder / "entries").iterdir()) == []


def test_a_file_that_has_passed_is_not_read_again_until_it_changes(
    volumes: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr("perdure.data.validation.read_image", lambda path: read.append(path.name) or read_image(path))
    calls = []
    Dataset.open(volumes).check(cache=cache, progress=lambda done, of: calls.append((done, of)))
    assert len(read) == 10
    assert calls == [(i, 10) for i in range(11)]
    Dataset.open(volumes).check(cache=cache)
    assert len(read) == 10
    change_volume(volumes, read_rows(volumes)[0]["image"], lambda pixels, affine: (pixels + 1, affine))
    Dataset.open(volumes).check(cache=cache)
    assert len(read) == 11


def test_a_file_that_has_not_passed_is_read_again(volumes: Path, cache: Cache) -> None:
    change_volume(volumes, read_rows(volumes)[0]["label"], lambda pixels, affine: (pixels[1:], affine))
    assert problems(volumes, cache) == problems(volumes, cache)


def test_a_contract_for_other_structures_is_refused(volumes: Path, tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(volumes)
    contract = dataset.default_contract(cache=cache)
    merged = dataset.default_contract(merge_sides=True, cache=cache)

    def mismatches(toml: str) -> str:
        (volumes / "dataset.toml").write_text(toml)
        return "\n".join(map(str, contract_mismatches(volumes, Dataset.open(volumes).description, contract)))

    toml = (volumes / "dataset.toml").read_text()
    assert contract_mismatches(volumes, dataset.description, merged) == []
    assert "labels: found core = [17], which is nothing in the contract" in mismatches(toml.replace("16", "17"))
    assert "core = [16] is a class of the contract; add it" in mismatches(toml.replace("core = 16\n", ""))
    assert "found stem = [16], which is core in the contract" in mismatches(toml.replace("core", "stem"))
    swapped = toml.replace("left_cortex = 3", "left_cortex = 42").replace("right_cortex = 42", "right_cortex = 3")
    assert "left_cortex = [42], which is right_cortex in the contract" in mismatches(swapped)
    assert mismatches(toml) == ""


def test_a_contract_that_does_not_fit_the_images_is_refused(volumes: Path, tmp_path: Path, cache: Cache) -> None:
    images = Dataset.open(synthetic.write_images(tmp_path / "rgb"))
    contract = images.default_contract(cache=cache)
    with pytest.raises(DataError, match="channels: found 3; the contract has 1") as caught:
        images.domain("camera-a", contract.model_copy(update={"channels": 1}), cache=cache)
    assert len(caught.value.problems) == 9
    unfit = contract.model_copy(update={"intensity": Intensity(scaling="format", mean=(0.5,))})
    with pytest.raises(DataError, match=r"intensity.mean: found \(0.5,\); one number for each of 3 channel"):
        images.domain("camera-a", unfit, cache=cache)
    classes = Dataset.open(synthetic.write_classes(tmp_path / "c"))
    with pytest.raises(DataError, match="task: found classification; the contract is for segmentation"):
        classes.domain("hospital-a", contract, cache=cache)


def test_a_class_is_a_value_or_a_name(tmp_path: Path) -> None:
    description = Dataset.open(synthetic.write_classes(tmp_path / "c", classes=("a", "b"))).description
    assert [grade_of(description, cell) for cell in ("0", "1", "a", "b", "2", "A", "1.0")] == [
        0,
        1,
        0,
        1,
        None,
        None,
        None,
    ]
