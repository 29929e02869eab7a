"""Distances of surfaces: by hand, beside a slow loop over distance transforms, and beside MONAI's own metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import HausdorffDistanceMetric, SurfaceDistanceMetric
from scipy import ndimage

from perdure.errors import EvaluationError
from perdure.evaluation import SurfaceDistances, surface_distances
from perdure.types import IGNORED

CLASSES = 4

label_maps = arrays(np.uint8, (4, 5, 3), elements=st.integers(0, CLASSES - 1))
references = arrays(np.uint8, (4, 5, 3), elements=st.sampled_from([*range(CLASSES), IGNORED]))
spacings = st.tuples(*[st.floats(0.5, 4)] * 3)


def by_distance_transforms(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """HD95 and ASSD `(classes,)` of float64 distance transforms over the whole image."""
    found = np.full((2, CLASSES), np.nan)
    for k in range(1, CLASSES):
        surfaces = [surface((labels == k) & (reference != IGNORED)) for labels in (prediction, reference)]
        if all(one.any() for one in surfaces):
            far = [ndimage.distance_transform_edt(~one, sampling=spacing) for one in surfaces]
            ways = [far[1][surfaces[0]], far[0][surfaces[1]]]
            found[:, k] = max(np.percentile(way, 95) for way in ways), np.concatenate(ways).mean()
    return found[0], found[1]


def surface(mask: np.ndarray) -> np.ndarray:
    """Pixels of which some neighbour across a face is outside, or is none."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
    return mask & ~inside


def is_like(found: SurfaceDistances, hd95: object, assd: object, rtol: float) -> None:
    np.testing.assert_allclose(found.hd95, hd95, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(found.assd, assd, rtol=rtol, atol=1e-6)


@given(label_maps, references, spacings)
def test_equals_a_loop_over_distance_transforms(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]
) -> None:
    found = surface_distances(prediction, reference, CLASSES, spacing)
    is_like(found, *by_distance_transforms(prediction, reference, spacing), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.filterwarnings("ignore:the (ground truth|prediction) of class:UserWarning")
@given(label_maps, references, spacings)
def test_equals_the_metrics_of_monai_where_they_have_a_number(
    prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]
) -> None:
    """Theirs are NaN or infinite where a structure is absent, or 0; ours NaN."""
    found = surface_distances(prediction, reference, CLASSES, spacing)
    p, t = (
        torch.from_numpy(np.stack([labels == k for k in range(CLASSES)])[None]).float()
        for labels in (prediction, reference)
    )
    there = np.isfinite(found.hd95)
    hausdorff = HausdorffDistanceMetric(percentile=95, reduction="none", ignore_index=IGNORED)
    average = SurfaceDistanceMetric(symmetric=True, reduction="none", ignore_index=IGNORED)
    for ours, metric in ((found.hd95, hausdorff), (found.assd, average)):
        theirs = metric(p, t, spacing=spacing)[0].numpy()
        np.testing.assert_allclose(ours[there], theirs[there[1:]], rtol=1e-5, atol=1e-6)


def test_of_two_boxes_one_of_which_is_shifted() -> None:
    """10 voxels a side, 2 of 3 mm apart: of 488 voxels of either surface the 100 of one face have 6 mm, none more."""
    prediction, reference = np.zeros((2, 16, 14, 12), np.uint8)
    reference[1:11, 2:12, 1:11] = 1
    prediction[3:13, 2:12, 1:11] = 1
    assert surface_distances(prediction, reference, 2, (3, 0.5, 1)).hd95[1] == 6
    # along an axis of half a millimetre
    assert surface_distances(prediction.swapaxes(0, 1), reference.swapaxes(0, 1), 2, (3, 0.5, 1)).hd95[1] == 1


def test_the_average_is_over_the_pixels_of_both_surfaces() -> None:
    """A square of 4 pixels a side, and the same one row of 3 lower.

    Of the 12 pixels of either surface the 4 of one row are 3 away, 2 inside the other square 1, the others lie on it.
    """
    prediction, reference = np.zeros((2, 5, 4), np.uint8)
    reference[:4], prediction[1:] = 1, 1
    found = surface_distances(prediction, reference, 2, (3, 1))
    is_like(found, [np.nan, 3], [np.nan, 14 / 12], rtol=1e-12)


def test_one_voxel_far_away_moves_the_average_and_not_the_percentile() -> None:
    """98 voxels of the box, and one at 10 of 2 mm from it: 20 mm among 98 + 99 distances of 0."""
    reference = np.zeros((5, 5, 16), np.uint8)
    reference[..., :5] = 1
    prediction = reference.copy()
    prediction[2, 2, 14] = 1
    found = surface_distances(prediction, reference, 2, (1, 1, 2))
    is_like(found, [np.nan, 0], [np.nan, 20 / 197], rtol=1e-6)


def test_the_percentile_lies_between_two_neighbours() -> None:
    """The distances of the prediction are 0 and 10: 95 % of the way from one to the other."""
    reference, prediction = np.zeros((2, 11), np.uint8)
    reference[0], prediction[[0, 10]] = 1, 1
    assert surface_distances(prediction, reference, 2, (1,)).hd95[1] == pytest.approx(9.5)


def test_a_structure_that_one_of_them_lacks_has_no_distance_and_neither_has_the_background() -> None:
    prediction, reference = np.array([0, 1, 1, 0, 3]), np.array([0, 1, 1, 2, 0])
    is_like(
        surface_distances(prediction, reference, 5, (1,)), [np.nan, 0] + [np.nan] * 3, [np.nan, 0] + [np.nan] * 3, 0
    )


def test_where_pixels_are_ignored_neither_has_a_structure() -> None:
    """A row of six; the last three of the reference do not count, so that the prediction ends where they begin."""
    reference, prediction = np.array([1, 1, 1] + [IGNORED] * 3), np.array([0, 1, 1, 1, 1, 1])
    known = surface_distances(prediction[:3], reference[:3], 2, (1,))
    found = surface_distances(prediction, reference, 2, (1,))
    is_like(found, known.hd95, known.assd, rtol=0)
    only_there = surface_distances(np.array([0, 0, 0, 1, 1, 1]), reference, 2, (1,))
    assert np.isnan(only_there.hd95).all()


def test_a_volume_of_one_slice_is_measured_as_a_picture() -> None:
    rng = np.random.default_rng(0)
    prediction, reference = (ndimage.zoom(rng.integers(0, 3, (4, 4)), 5, order=0).astype(np.uint8) for _ in range(2))
    flat = surface_distances(prediction, reference, 3, (1, 2))
    deep = surface_distances(prediction[:, None], reference[:, None], 3, (1, 7, 2))
    is_like(deep, flat.hd95, flat.assd, rtol=0)
    is_like(surface_distances(np.ones((1, 1), int), np.ones((1, 1), int), 2, (1, 1)), [np.nan, 0], [np.nan, 0], 0)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -1), (1, 1, np.nan), (1, 1, np.inf)])
def test_refuses_a_spacing_that_is_none(spacing: tuple[float, ...]) -> None:
    volume = np.zeros((2, 2, 2), int)
    with pytest.raises(EvaluationError, match="`spacing` must have a number above 0 for each of 3 axes"):
        surface_distances(volume, volume, 2, spacing)


def test_refuses_other_shapes_and_what_is_no_class() -> None:
    with pytest.raises(EvaluationError, match="must be the same"):
        surface_distances(np.zeros((2, 3), int), np.zeros((3, 2), int), 2, (1, 1))
    with pytest.raises(EvaluationError, match="holds the value 2; class indices run from 0 to 1"):
        surface_distances(np.full((2, 2), 2), np.zeros((2, 2), int), 2, (1, 1))
