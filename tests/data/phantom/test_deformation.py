from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from perdure.data.phantom import Anatomy, Deformation
from perdure.data.phantom.deformation import jacobian, majority, sampled

STILL = Deformation(magnitude_mm=0, rotation_deg=0, scaling=0)


@given(
    seed=st.integers(0, 2**32), shape=st.sampled_from([(36, 44, 40), (7, 9, 8), (2, 2, 30)]), spacing=st.floats(1, 5)
)
def test_no_subject_folds_or_vanishes(seed: int, shape: tuple[int, ...], spacing: float) -> None:
    points = Deformation().map(shape, spacing, np.random.default_rng(seed))
    determinant = jacobian(points, spacing)
    assert determinant.min() > 0.05
    assert determinant.max() < 10


def test_subjects_differ_by_some_millimetres(generator: np.random.Generator) -> None:
    first, second = (Deformation().map((36, 44, 40), 4.0, generator) for _ in range(2))
    distance = np.linalg.norm(first - second, axis=0)
    assert 3 < distance.mean() < 20


def test_a_deformation_that_folds_is_refused(generator: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"folds \(smallest Jacobian determinant -.*lower `magnitude_mm`"):
        Deformation(magnitude_mm=80, smoothness_mm=10).map((20, 20, 20), 4.0, generator)


def test_the_jacobian_of_a_linear_map_is_its_determinant(generator: np.random.Generator) -> None:
    matrix = generator.normal(size=(3, 3))
    points = np.einsum("ij,jxyz->ixyz", matrix, np.indices((5, 6, 7)) * 2.5)
    np.testing.assert_allclose(jacobian(points, 2.5), np.linalg.det(matrix), rtol=1e-5)


def test_a_subject_has_the_labels_of_its_anatomy_and_about_their_volumes(
    shells: NDArray[np.uint8], generator: np.random.Generator
) -> None:
    anatomy = Anatomy(shells * np.uint16(300), np.diag([6.0, 6, 6, 1]))
    subject = Deformation().subject(anatomy, 4.0, generator)
    assert set(np.unique(subject.labels)) == {0, 300, 600, 900}
    for value in (300, 600, 900):
        before, after = (anatomy.labels == value).sum() * 6**3, (subject.labels == value).sum() * 4**3
        assert after == pytest.approx(before, rel=0.4)


def test_a_subject_that_is_not_deformed_lies_where_its_anatomy_lay(
    shells: NDArray[np.uint8], generator: np.random.Generator
) -> None:
    affine = np.array([[0, 0, 1.5, 30], [-2, 0, 0, 4], [0, 1, 0, -50], [0, 0, 0, 1]], dtype=float)
    anatomy = Anatomy(np.roll(shells, 2, axis=1), affine)
    subject = STILL.subject(anatomy, 0.9, generator, multiple=4)
    assert all(length % 4 == 0 for length in subject.labels.shape)
    assert subject.spacing_mm == pytest.approx((0.9, 0.9, 0.9))
    centres = [(case.affine @ [*np.argwhere(case.labels == 3).mean(axis=0), 1])[:3] for case in (anatomy, subject)]
    np.testing.assert_allclose(centres[1], centres[0], atol=0.25)


def test_the_same_grid_without_deformation_gives_the_same_labels(
    shells: NDArray[np.uint8], generator: np.random.Generator
) -> None:
    subject = STILL.subject(Anatomy(shells, np.diag([2.0, 2, 2, 1])), 2.0, generator)
    margin = [(new - old) // 2 for new, old in zip(subject.labels.shape, shells.shape, strict=True)]
    inside = tuple(slice(m, m + n) for m, n in zip(margin, shells.shape, strict=True))
    np.testing.assert_array_equal(subject.labels[inside], shells)
    assert subject.labels.sum() == shells.sum()


def test_sampling_is_the_argmax_of_linearly_interpolated_indicators(generator: np.random.Generator) -> None:
    labels = generator.integers(0, 5, size=(7, 8, 6))
    points = generator.uniform(-2, 9, size=(3, 500)).astype(np.float32)
    padded = np.pad(labels, 3)
    indicators = np.stack(
        [ndimage.map_coordinates((padded == value).astype(np.float64), points + 3, order=1) for value in range(5)]
    )
    np.testing.assert_array_equal(sampled(labels, points), indicators.argmax(axis=0))


def test_points_outside_the_map_are_background() -> None:
    far = np.array([[-50.0, 50.0], [0.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    assert sampled(np.full((3, 3, 3), 9), far).tolist() == [0, 0]


def test_the_majority_of_a_block_wins() -> None:
    block = np.array([7, 7, 7, 2, 2, 2, 2, 9]).reshape(2, 2, 2)
    labels = np.concatenate([block, np.full((2, 2, 2), 4)], axis=2)
    assert majority(labels, 2).tolist() == [[[2, 4]]]


def test_a_magnitude_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="Magnitudes must be 0 or more"):
        Deformation(magnitude_mm=-1)
