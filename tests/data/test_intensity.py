from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fakes
from perdure.data import prepare_image
from perdure.data.intensity import padding, robust, scaled, standardised
from perdure.errors import DataError
from perdure.types import Intensity


def test_robust_scaling_takes_the_percentile_of_what_is_not_zero() -> None:
    # 0 to 1000 in steps of 1, and many zeros: of 1..1000 the 99.9th percentile (linear) is 999.001
    pixels = np.concatenate([np.zeros(5000), np.arange(1001)]).astype(np.float32)
    scaled_pixels = robust(pixels)
    np.testing.assert_allclose(scaled_pixels[5000:5999], np.arange(999) / 999.001, rtol=1e-6)
    assert scaled_pixels[-1] == 1


def test_one_hot_voxel_does_not_darken_the_rest() -> None:
    pixels = np.full(20_000, 100, np.float32)
    pixels[0], pixels[1:10] = 1e6, 0
    assert robust(pixels)[10] == pytest.approx(1)


@pytest.mark.parametrize("value", [0, 7, -3, 1e30])
def test_an_image_without_contrast_gives_zeros(value: float) -> None:
    assert (robust(np.full((3, 4, 5), value, np.float32)) == 0).all()


@given(arrays(np.float32, (4, 5), elements=st.floats(-1e6, 1e6, width=32)))
def test_robust_scaling_stays_between_0_and_1_and_keeps_the_order(pixels: np.ndarray) -> None:
    result = robust(pixels)
    assert ((result >= 0) & (result <= 1)).all()
    order = np.argsort(pixels.ravel(), kind="stable")
    assert (np.diff(result.ravel()[order]) >= 0).all()


@pytest.mark.parametrize("factor", [2.0, 0.25])
def test_robust_scaling_does_not_see_the_unit(factor: float) -> None:
    pixels = np.random.default_rng(0).random((8, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(robust(pixels * factor), robust(pixels), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "maximum"), [(np.uint8, 255), (np.uint16, 65535)])
def test_format_scaling_divides_by_the_maximum_of_the_format_whatever_the_image_holds(
    dtype: type, maximum: int
) -> None:
    pixels = np.array([[[0, 51, maximum // 5]]], dtype)
    result = scaled(pixels, Intensity(scaling="format"), maximum, is_volume=False)
    np.testing.assert_allclose(result, pixels / maximum, rtol=1e-6)
    assert result.dtype == np.float32


def test_format_scaling_of_floating_point_numbers_is_refused_by_name(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.float32), np.eye(4)), tmp_path / "scan.nii")
    contract = fakes.volume_contract(intensity=Intensity(scaling="format"))
    with pytest.raises(DataError, match=r"scan\.nii: voxels: found voxels of type float32; .*use `robust`"):
        prepare_image(tmp_path / "scan.nii", contract)


def brain() -> np.ndarray:
    """A box of 4 x 5 x 6 voxels in a field of zeros, with a hole of one zero inside and a notch at a corner."""
    volume = np.zeros((8, 8, 8), np.float32)
    volume[1:5, 2:7, 1:7] = np.random.default_rng(0).uniform(50, 200, (4, 5, 6))
    volume[3, 4, 4] = 0
    volume[1, 2, 1] = 0
    return volume


def test_zscore_is_that_of_the_smallest_box_around_what_is_not_zero() -> None:
    volume = brain()
    result = scaled(volume, Intensity(scaling="zscore"), None, is_volume=True)
    box = volume[1:5, 2:7, 1:7].astype(np.float64)
    np.testing.assert_allclose(result, (volume - box.mean()) / box.std(), atol=1e-5)
    assert result[1:5, 2:7, 1:7].mean() == pytest.approx(0, abs=1e-6)


def test_zscore_of_what_is_not_zero_fills_holes_and_leaves_zero_around_it() -> None:
    volume = brain()
    result = scaled(volume, Intensity(scaling="zscore-nonzero"), None, is_volume=True)
    mask = volume != 0
    mask[3, 4, 4] = True  # the hole; the notch is open to the outside
    values = volume[mask].astype(np.float64)
    np.testing.assert_allclose(result, np.where(mask, (volume - values.mean()) / values.std(), 0), atol=1e-5)


@pytest.mark.parametrize("scaling", ["zscore", "zscore-nonzero"])
@pytest.mark.parametrize("value", [0, 7, -3])
def test_zscore_of_an_image_without_contrast_gives_zeros(scaling: str, value: float) -> None:
    volume = np.full((3, 4, 5), value, np.float32)
    assert (scaled(volume, Intensity(scaling=scaling), None, is_volume=True) == 0).all()  # type: ignore[arg-type]


def test_channels_of_a_picture_have_a_zscore_each() -> None:
    picture = np.random.default_rng(0).uniform(1, 9, (3, 6, 7)).astype(np.float32) * [[[1]], [[10]], [[100]]]
    result = scaled(picture, Intensity(scaling="zscore"), 255, is_volume=False)
    np.testing.assert_allclose(result.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(result.std(axis=(1, 2)), 1, rtol=1e-5)


def test_a_window_clips_and_mean_and_deviation_come_after_it() -> None:
    intensity = Intensity(scaling="window", window=(-100, 300), mean=(100,), std=(50,))
    volume = np.array([[[-1000, -100, 0, 100, 300, 2000]]], np.int16)
    result = standardised(scaled(volume, intensity, None, is_volume=True)[None, None], intensity)
    assert result.ravel().tolist() == [-4, -4, -2, 0, 4, 4]
    assert padding(intensity, 1).tolist() == [0]


@pytest.mark.parametrize(
    "fields",
    [{"scaling": "window"}, {"scaling": "robust", "window": (0, 1)}, {"scaling": "window", "window": (1, 1)}],
)
def test_a_window_is_two_rising_numbers_and_stands_exactly_where_it_is_used(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`window`"):
        Intensity(**fields)


def test_a_contract_without_a_window_reads_as_it_did_before_there_were_any() -> None:
    # ids of releases and keys of caches are hashes of this
    assert Intensity(scaling="robust").model_dump_json() == '{"scaling":"robust","mean":null,"std":null}'
    windowed = Intensity(scaling="window", window=(0, 1))
    assert Intensity.model_validate_json(windowed.model_dump_json()) == windowed


def test_mean_and_deviation_are_taken_channel_by_channel() -> None:
    intensity = Intensity(scaling="format", mean=(0.5, 0.25), std=(0.5, 2.0))
    pixels = np.ones((3, 2, 4, 4), np.float32)
    result = standardised(pixels, intensity)
    assert (result[:, 0] == 1).all()
    assert (result[:, 1] == 0.375).all()
    assert padding(intensity, 2).tolist() == [-1, -0.125]
