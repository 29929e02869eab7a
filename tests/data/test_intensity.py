from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perdure.data.content import Header, Image
from perdure.data.intensity import padding, robust, scaled, standardised
from perdure.errors import DataError
from perdure.types import Intensity


def picture(pixels: np.ndarray, maximum: int | None) -> Image:
    return Image(Header(pixels.shape[1:], pixels.shape[0], None), pixels, maximum)


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
    result = scaled(picture(pixels, maximum), Intensity(scaling="format"), Path("a.png"))
    np.testing.assert_allclose(result, pixels / maximum, rtol=1e-6)
    assert result.dtype == np.float32


def test_format_scaling_of_floating_point_numbers_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"scan\.nii: voxels: found voxels of type float32; .*use `robust`"):
        scaled(picture(np.ones((1, 2, 2), np.float32), None), Intensity(scaling="format"), Path("scan.nii"))


def test_mean_and_deviation_are_taken_channel_by_channel() -> None:
    intensity = Intensity(scaling="format", mean=(0.5, 0.25), std=(0.5, 2.0))
    pixels = np.ones((3, 2, 4, 4), np.float32)
    result = standardised(pixels, intensity)
    assert (result[:, 0] == 1).all()
    assert (result[:, 1] == 0.375).all()
    assert padding(intensity, 2).tolist() == [-1, -0.125]
