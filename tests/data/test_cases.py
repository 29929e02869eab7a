from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

import synthetic
from perdure.data import Cache, Dataset, ImageGrid, VolumeGrid
from perdure.data.cases import CaseFiles, prepared_entry
from perdure.types import IGNORED


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_case_is_known_by_all_of_its_files_and_its_class(tmp_path: Path, cache: Cache) -> None:
    paths = [tmp_path / name for name in ("image", "label", "mask")]
    for path in paths:
        path.write_text(path.name)
    digests = [sha256(path.read_bytes()) for path in paths]
    assert CaseFiles(paths[0]).digest(cache) == digests[0]
    assert CaseFiles(paths[0], grade=1).digest(cache) == sha256(f"{digests[0]} class 1".encode())
    assert CaseFiles(*paths[:2]).digest(cache) == sha256(f"{digests[0]} {digests[1]}".encode())
    assert CaseFiles(*paths).digest(cache) == sha256(" ".join(digests).encode())


def test_a_volume_is_complete_and_its_truth_stands_on_the_file_s_own_grid(tmp_path: Path, cache: Cache) -> None:
    folder = synthetic.write_volumes(tmp_path / "v", shape=(12, 14, 10), spacing=(2, 1, 1.5), orientation="PSR")
    dataset = Dataset.open(folder)
    domain = dataset.domain("scanner-a", dataset.default_contract(size=16, cache=cache), cache=cache)
    case = domain.cases("test")[1]
    assert (case.id, case.subject, case.domain, case.split) == (
        "scanner-a-test-1-t1",
        "scanner-a-test-1",
        "scanner-a",
        "test",
    )
    # 12 x 2 mm to the right, 14 x 1 mm to the front, 10 x 1.5 mm up; larger than the size of samples, and not cropped
    assert case.image.shape == (14, 1, 24, 15)
    assert case.target.shape == (14, 24, 15)
    assert case.grid_slices == 14
    # the file's axes run back, up and right
    reference = case.reference()
    assert reference.shape == (14, 10, 12)
    assert isinstance(case.grid, VolumeGrid)
    np.testing.assert_array_equal(case.grid.labels_to_original(case.target), reference)
    # the core lies in front: towards index 0 of an axis that runs back
    assert np.argwhere(reference == 1)[:, 0].mean() < np.argwhere(reference >= 2)[:, 0].mean()
    structures = (case.target != 0).sum((1, 2))
    np.testing.assert_array_equal(case.foreground(), np.stack([structures, np.full(14, 24 * 15)], axis=1))


def test_a_picture_has_its_truth_in_its_own_pixels_and_its_field_of_view(tmp_path: Path, cache: Cache) -> None:
    folder = synthetic.write_images(tmp_path / "i", size=(20, 40), field_of_view=True)
    dataset = Dataset.open(folder)
    domain = dataset.domain("camera-b", dataset.default_contract(size=32, cache=cache), cache=cache)
    case = domain.case("camera-b-val-0-eye")
    assert case.image.shape == (1, 3, 32, 32)
    assert case.reference().shape == (20, 40)
    assert isinstance(case.grid, ImageGrid)
    assert case.reference()[0, 0] == IGNORED
    assert set(np.unique(case.reference())) == {0, 1, IGNORED}
    # 20 x 40 becomes 16 x 32, with 8 rows of padding above and below
    assert (case.target[0, [0, 7, 24, 31]] == IGNORED).all()
    assert case.metadata == {}


def test_a_class_is_one_number_without_axes(tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(synthetic.write_classes(tmp_path / "c", classes=("a", "b", "c")))
    domain = dataset.domain("hospital-a", dataset.default_contract(cache=cache), cache=cache)
    cases = domain.cases("test")
    assert [int(case.reference()) for case in cases] == [
        int(dict(case.metadata)["class_name"] == "b") + 2 * (case.metadata["class_name"] == "c") for case in cases
    ]
    assert cases[0].reference().shape == ()


def test_another_contract_or_another_mask_is_another_entry(tmp_path: Path, cache: Cache) -> None:
    dataset = Dataset.open(synthetic.write_images(tmp_path / "i", field_of_view=True))
    contract = dataset.default_contract(cache=cache)
    folder = dataset.folder
    row = dataset.cases[0]
    files = CaseFiles(folder / row.image, folder / row.label, folder / row.mask)
    first = prepared_entry(files, contract, cache).folder
    assert prepared_entry(files, contract, cache).folder == first
    assert prepared_entry(files, contract.model_copy(update={"size": (16, 16)}), cache).folder != first
    assert prepared_entry(CaseFiles(files.image, files.label), contract, cache).folder != first
    assert prepared_entry(files, contract, cache, (7,)).folder != first
