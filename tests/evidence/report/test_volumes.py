"""Volumes in a page stand where they stood, whatever is cropped and thinned."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import pytest

from perdure.evidence.report.pictures import difference
from perdure.evidence.report.volumes import LONGEST, Canonical, closest_canonical, plane, volume_of
from perdure.types import IGNORED

AFFINE = np.array([[0.0, 0, 3, -20], [-2, 0, 0, 40], [0, 1, 0, 5], [0, 0, 0, 1]])


def layers(shape: tuple[int, int, int], voxel: tuple[int, int, int]) -> dict[str, np.ndarray]:
    image = np.zeros(shape)
    image[voxel] = 7
    truth = np.zeros(shape, np.uint8)
    truth[voxel] = 1
    return {"image": image, "truth": truth, "before": truth.copy(), "after": np.zeros(shape, np.uint8),
            "difference": truth.copy()}  # fmt: skip


def read(content: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(content)))


@pytest.mark.parametrize("voxel", [(4, 5, 6), (0, 0, 0), (9, 11, 13)])
def test_a_voxel_keeps_its_place_in_the_body(voxel: tuple[int, int, int]) -> None:
    turned = closest_canonical(AFFINE, layers((10, 12, 14), voxel))
    volume, step = volume_of(turned, structures=("background", "s"), room=10**6)
    assert step == 1
    assert volume is not None
    for name in ("image", "truth", "before", "difference"):
        image = read(volume.layers[name])
        where = np.argwhere(np.asarray(image.dataobj))
        assert len(where) == 1
        assert np.allclose(image.affine @ [*where[0], 1], AFFINE @ [*voxel, 1])
    assert nib.aff2axcodes(read(volume.layers["image"]).affine) == ("R", "A", "S")


def test_a_large_volume_is_thinned_and_one_without_room_is_left_out() -> None:
    arrays = layers((2 * LONGEST + 2, 4, 4), (0, 0, 0))
    arrays["truth"][:] = 1
    turned = Canonical(arrays, np.eye(4))
    volume, step = volume_of(turned, structures=("background", "s"), room=10**6)
    assert step == 3
    assert volume is not None
    assert max(read(volume.layers["truth"]).shape) <= LONGEST
    assert np.allclose(read(volume.layers["truth"]).affine[:3, :3], 3 * np.eye(3))
    assert volume_of(turned, structures=("background", "s"), room=volume.size - 1)[0] is None


def test_a_plane_stands_upright_with_the_patients_right_on_the_left() -> None:
    """One voxel far right, one far up in front: x to the right, y forwards, z upwards."""
    marks = np.zeros((3, 4, 5))
    marks[2, :, 0] = 1
    marks[0, 3, 4] = 2
    turned = Canonical({"image": marks}, np.eye(4))
    coronal = turned.cut("image", "coronal", 3)
    assert coronal.shape == (5, 3)
    assert coronal[-1, 0] == 1  # low, and right stands left
    assert coronal[0, -1] == 2  # high, and left stands right
    assert turned.cut("image", "axial", 4)[0, -1] == 2  # front is up
    assert turned.cut("image", "sagittal", 0)[0, 0] == 2  # high, and the front stands left


def test_the_plane_with_the_largest_loss_is_shown_but_none_without_structures() -> None:
    arrays = {"truth": np.zeros((6, 6, 6), np.uint8), "difference": np.zeros((6, 6, 6), np.uint8)}
    arrays["truth"][2:5] = 1
    arrays["difference"][0] = 1  # noise where there is nothing
    arrays["difference"][4, :2] = 1
    arrays["difference"][2, :3] = 2  # gains do not count while there is a loss
    assert plane(arrays, "sagittal") == 4
    arrays["difference"][4] = 0
    assert plane(arrays, "sagittal") == 2


def test_a_difference_knows_lost_from_won_and_leaves_out_what_does_not_count() -> None:
    truth = np.array([1, 1, 1, 1, 0, IGNORED, 2])
    before = np.array([1, 0, 2, 1, 1, 1, 0])
    after = np.array([0, 1, 0, 1, 0, 0, 1])
    assert difference(truth, before, after).tolist() == [1, 2, 3, 0, 2, 0, 3]
