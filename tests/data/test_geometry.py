"""The network's grid and the way back: checked against where each voxel lies in space."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel import orientations

from perdure.data.geometry import ImageGrid, VolumeGrid, centred, window

ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)
]
DIRECTIONS = {"L": (-1, 0, 0), "R": (1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "I": (0, 0, -1), "S": (0, 0, 1)}

shapes = st.tuples(*[st.integers(1, 9)] * 3)
spacings = st.tuples(*[st.floats(0.4, 3.0)] * 3)
views = st.sampled_from(["coronal", "axial", "sagittal", None])


def affine_of(orientation: str, spacing: tuple[float, ...], rotation: np.ndarray | None = None) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array([DIRECTIONS[code] for code in orientation]).T * np.asarray(spacing)
    if rotation is not None:
        affine[:3, :3] = rotation @ affine[:3, :3]
    affine[:3, 3] = (11.0, -7.0, 3.0)
    return affine


def small_rotation(angles: tuple[float, ...]) -> np.ndarray:
    x, y, z = angles
    about = [
        np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]),
        np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]),
        np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]),
    ]
    return about[0] @ about[1] @ about[2]


def places(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where the middle of each voxel lies, in mm."""
    return np.stack(np.indices(shape), -1) @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_at_the_same_spacing_every_orientation_comes_back_bit_for_bit(orientation: str) -> None:
    shape = (5, 6, 7)
    grid = VolumeGrid(shape, affine_of(orientation, (1.0, 1.0, 1.0)), "LIA", (1.0, 1.0, 1.0), "coronal")
    labels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    network = grid.labels_to_network(labels)
    assert sorted(network.ravel()) == sorted(labels.ravel())
    np.testing.assert_array_equal(grid.labels_to_original(network), labels)
    np.testing.assert_array_equal(grid.image_to_network(labels.astype(np.float32))[:, 0], network)


@given(
    st.sampled_from(ORIENTATIONS),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(4, 9)] * 3),
    spacings,
    spacings,
    views,
)
def test_a_voxel_of_the_network_s_grid_holds_what_stands_at_its_place_in_space(
    own: str,
    wanted: str,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    target: tuple[float, ...],
    view: str | None,
) -> None:
    affine = affine_of(own, spacing)
    there = places(affine, shape)
    slope = np.array([0.3, -0.7, 1.1])
    grid = VolumeGrid(shape, affine, wanted, target, view)
    image = grid.image_to_network((there @ slope).astype(np.float32))

    # the expected place of each network voxel, from the definition alone: same middle, axes by the codes
    axes = list(range(3))
    if view is not None:
        first = next(
            i for i, code in enumerate(wanted) if code in {"coronal": "AP", "axial": "IS", "sagittal": "LR"}[view]
        )
        axes = [first, (first + 1) % 3, (first + 2) % 3]
    steps = np.array([DIRECTIONS[wanted[i]] for i in axes]) * np.asarray(target)[axes][:, None]
    middle = there.reshape(-1, 3).mean(axis=0)
    n = np.array(grid.network_shape)
    expected = middle + (np.stack(np.indices(grid.network_shape), -1) - (n - 1) / 2) @ steps
    inside = ((expected >= there.min((0, 1, 2)) - 1e-6) & (expected <= there.max((0, 1, 2)) + 1e-6)).all(-1)
    assert inside.any()
    # 1e-3 of the spacing counts as the same spacing
    np.testing.assert_allclose(image.reshape(grid.network_shape)[inside], (expected @ slope)[inside], atol=0.05)


@given(st.sampled_from(ORIENTATIONS), shapes, spacings, views, st.tuples(*[st.floats(-0.5, 0.5)] * 3))
def test_labels_come_back_exactly_from_a_grid_that_is_as_fine_or_finer(
    own: str, shape: tuple[int, ...], spacing: tuple[float, ...], view: str | None, angles: tuple[float, ...]
) -> None:
    affine = affine_of(own, spacing, small_rotation(angles))
    grid = VolumeGrid(shape, affine, "LIA", (min(spacing) * 0.9,) * 3, view)
    labels = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    np.testing.assert_array_equal(grid.labels_to_original(grid.labels_to_network(labels)), labels)


@given(st.sampled_from(ORIENTATIONS), shapes, spacings, spacings, views)
def test_a_prediction_has_the_shape_of_the_file_and_no_new_values(
    own: str, shape: tuple[int, ...], spacing: tuple[float, ...], target: tuple[float, ...], view: str | None
) -> None:
    grid = VolumeGrid(shape, affine_of(own, spacing), "LIA", target, view)
    image = grid.image_to_network(np.zeros(shape, np.float32))
    assert image.shape == (
        (1, 1, *grid.network_shape) if view is None else (grid.network_shape[0], 1, *grid.network_shape[1:])
    )
    predicted = np.random.default_rng(2).choice(np.array([0, 3, 42], np.uint8), grid.network_shape)
    original = grid.labels_to_original(predicted)
    assert original.shape == shape
    assert original.dtype == np.uint8
    assert set(original.ravel().tolist()) <= set(predicted.ravel().tolist())


def test_coronal_slices_run_from_back_to_front_with_left_and_down_as_their_axes() -> None:
    grid = VolumeGrid((10, 12, 14), affine_of("RAS", (1, 1, 1)), "LIA", (1, 1, 1), "coronal")
    volume = np.zeros((10, 12, 14), np.float32)
    volume[2, 5, 11] = 1  # 2 from the left side's opposite, 5 from the back, 11 from below
    # A = 5; L counts from the right: 10 - 1 - 2; I counts from above: 14 - 1 - 11
    assert np.argwhere(grid.image_to_network(volume)).tolist() == [[5, 0, 7, 2]]


def test_an_oblique_volume_is_turned_by_quarter_turns_only() -> None:
    affine = affine_of("LAS", (1, 1, 1), small_rotation((0.2, -0.3, 0.1)))
    grid = VolumeGrid((4, 5, 6), affine, "RAS", (1, 1, 1), "axial")
    volume = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    expected = orientations.apply_orientation(volume, [[0, -1], [1, 1], [2, 1]]).transpose(2, 0, 1)
    np.testing.assert_array_equal(grid.image_to_network(volume)[:, 0], expected)


def test_spacings_that_differ_by_rounding_are_the_same() -> None:
    volume = np.random.default_rng(0).random((6, 6, 6)).astype(np.float32)
    grid = VolumeGrid((6, 6, 6), affine_of("LIA", (1.0000001, 0.9999, 1.0004)), "LIA", (1, 1, 1), None)
    np.testing.assert_array_equal(grid.image_to_network(volume)[0, 0], volume)


@given(spacings, st.sampled_from(ORIENTATIONS), st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_the_spacing_of_a_file_is_that_along_its_own_axes(
    spacing: tuple[float, ...], orientation: str, angles: tuple[float, ...]
) -> None:
    grid = VolumeGrid((4, 5, 6), affine_of(orientation, spacing, small_rotation(angles)), "LIA", (1, 1, 1), None)
    np.testing.assert_allclose(grid.own_spacing, spacing, rtol=1e-12)


def test_labels_of_another_shape_are_refused() -> None:
    grid = VolumeGrid((4, 5, 6), affine_of("RAS", (1, 1, 1)), "LIA", (1, 1, 1), "coronal")
    with pytest.raises(ValueError, match=r"must be of shape \(5, 4, 6\); got \(4, 5, 6\)"):
        grid.labels_to_original(np.zeros((4, 5, 6), np.uint8))


sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(sizes, sizes, st.sampled_from(["fit", "stretch"]))
def test_a_picture_is_resized_to_the_size_and_its_prediction_to_the_picture(
    shape: tuple[int, int], size: tuple[int, int], resize: str
) -> None:
    grid = ImageGrid(shape, size, resize)
    assert grid.image_to_network(np.ones((3, *shape), np.float32)).shape == (1, 3, *size)
    assert grid.labels_to_original(np.zeros((1, *size), np.uint8)).shape == shape
    scores = np.random.default_rng(0).random((4, *size)).astype(np.float32)
    original = grid.probabilities_to_original(scores)
    assert original.shape == (4, *shape)
    assert scores.min() - 1e-6 <= original.min() <= original.max() <= scores.max() + 1e-6


@given(sizes, st.integers(1, 3), st.integers(0, 4), st.integers(0, 4))
def test_a_picture_that_is_only_padded_or_enlarged_comes_back_exactly(
    shape: tuple[int, int], factor: int, above: int, beside: int
) -> None:
    labels = np.random.default_rng(0).integers(0, 9, shape, dtype=np.uint8)
    # padding on one axis only, or `fit` would enlarge
    more = (above, 0) if shape[0] % 2 else (0, beside)
    size = tuple(n * factor + extra for n, extra in zip(shape, more, strict=True))
    grid = ImageGrid(shape, size, "fit")
    network = grid.labels_to_network(labels, padding=255)
    np.testing.assert_array_equal(grid.labels_to_original(network), labels)
    assert np.count_nonzero(network == 255) == size[0] * size[1] - labels.size * factor**2


def test_fit_keeps_the_aspect_ratio_and_stretch_does_not() -> None:
    white = np.ones((1, 10, 20), np.float32)
    fitted = ImageGrid((10, 20), (16, 16), "fit").image_to_network(white)[0, 0]
    np.testing.assert_array_equal(fitted[:, 0] > 0, [False] * 4 + [True] * 8 + [False] * 4)
    np.testing.assert_allclose(ImageGrid((10, 20), (16, 16), "stretch").image_to_network(white), 1, rtol=1e-6)


def test_scores_go_back_without_what_was_padding() -> None:
    grid = ImageGrid((10, 20), (16, 16), "fit")
    scores = np.zeros((2, 16, 16), np.float32)
    scores[0, 4:12] = 1  # the picture
    scores[1] = 1 - scores[0]  # the padding
    np.testing.assert_allclose(grid.probabilities_to_original(scores)[0], 1)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(-15, 15))
def test_a_window_holds_what_stands_there_and_the_fill_beside_it(have: int, want: int, corner: int) -> None:
    line = np.arange(1, have + 1)
    expected = [line[i] if 0 <= i < have else 0 for i in range(corner, corner + want)]
    if not 0 < corner + want <= have + want - 1 or corner >= have:
        return  # no overlap: nothing asks for such a window
    assert window(line, (corner,), (want,), np.int64(0)).tolist() == expected


def test_a_window_in_the_middle_has_as_much_on_either_side() -> None:
    assert centred((10, 10, 7), (6, 14, 7)) == (2, -2, 0)
    # one more behind than before
    assert centred((10, 10), (7, 13)) == (1, -1)
