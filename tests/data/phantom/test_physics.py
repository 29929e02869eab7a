from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.data.phantom import BiasField, Gamma, GibbsRinging, PointSpread, RicianNoise, Tissue, TissueContrast
from perdure.errors import DataError

CUBE = (40, 40, 40)
MM = (1.0, 1.0, 1.0)


def test_noise_without_signal_has_the_mean_and_spread_of_rayleigh(generator: np.random.Generator) -> None:
    noise = RicianNoise(0.1).apply(np.zeros(CUBE, dtype=np.float32), MM, generator)
    assert noise.mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.01)
    assert noise.std() == pytest.approx(0.1 * math.sqrt(2 - math.pi / 2), rel=0.02)


def test_noise_on_a_strong_signal_is_nearly_gaussian(generator: np.random.Generator) -> None:
    noisy = RicianNoise(0.05).apply(np.ones(CUBE, dtype=np.float32), MM, generator)
    # the second moment is exact at any signal: s^2 + 2 sigma^2
    assert np.mean(np.square(noisy, dtype=np.float64)) == pytest.approx(1 + 2 * 0.05**2, rel=1e-3)
    assert noisy.std() == pytest.approx(0.05, rel=0.02)


def test_an_impulse_is_blurred_to_the_width_asked_for_and_keeps_its_sum(generator: np.random.Generator) -> None:
    impulse = np.zeros((41, 41, 41), dtype=np.float32)
    impulse[20, 20, 20] = 1
    spacing = (1.0, 0.5, 2.0)
    blurred = PointSpread((6.0, 4.0, 9.0)).apply(impulse, spacing, generator)
    assert blurred.sum() == pytest.approx(1, rel=1e-4)
    profiles = blurred[20:, 20, 20], blurred[20, 20:, 20], blurred[20, 20, 20:]
    for profile, voxel, fwhm in zip(profiles, spacing, (6.0, 4.0, 9.0), strict=True):
        falling = profile[::-1] / profile[0]
        half = np.interp(0.5, falling, np.arange(len(profile))[::-1] * voxel)
        assert 2 * half == pytest.approx(fwhm, rel=0.03)


def test_a_point_spread_of_width_zero_leaves_an_axis_sharp(generator: np.random.Generator) -> None:
    lines = np.zeros((9, 9, 9), dtype=np.float32)
    lines[4] = 1
    np.testing.assert_allclose(PointSpread((0, 3, 3)).apply(lines, MM, generator), lines, atol=1e-6)


def test_truncation_removes_the_outer_frequencies_of_its_axis_and_no_others(generator: np.random.Generator) -> None:
    # well above zero, so that the magnitude is the signal itself
    volume = (5 + generator.uniform(size=(32, 30, 28))).astype(np.float32)
    before = np.fft.fft(volume, axis=1)
    after = np.fft.fft(GibbsRinging(axis=1, kept=0.6).apply(volume, MM, generator), axis=1)
    inner = np.abs(np.fft.fftfreq(30)) <= 0.3
    np.testing.assert_allclose(after[:, inner], before[:, inner], atol=1e-4)
    assert np.abs(after[:, ~inner]).max() < 1e-4 < np.abs(before[:, ~inner]).max()


def test_truncation_overshoots_an_edge_by_nine_percent(generator: np.random.Generator) -> None:
    step = np.ones((512, 1, 1), dtype=np.float32)
    step[128:384] = 2
    rung = GibbsRinging(axis=0, kept=0.25).apply(step, MM, generator)
    # Wilbraham-Gibbs: the integral of sinc to its first zero exceeds the step by 8.949 %
    assert rung.max() - 2 == pytest.approx(0.0895, abs=0.006)


@given(seed=st.integers(0, 2**32), strength=st.floats(0, 0.5), points=st.integers(2, 6))
def test_a_bias_field_is_positive_has_mean_one_and_the_strength_asked_for(
    seed: int, strength: float, points: int
) -> None:
    gain = BiasField(strength, points).gain((20, 24, 22), np.random.default_rng(seed))
    assert gain.min() > 0
    assert gain.mean() == pytest.approx(1, rel=1e-4)
    assert np.log(gain).std() == pytest.approx(strength, abs=1e-3)


def test_a_bias_field_is_smooth(generator: np.random.Generator) -> None:
    gain = BiasField(0.3).gain(CUBE, generator)
    steps = max(float(np.abs(np.diff(gain, axis=axis)).max()) for axis in range(3))
    assert steps < 0.2 * (gain.max() - gain.min())


def test_a_bias_field_multiplies(generator: np.random.Generator) -> None:
    once = BiasField(0.3).apply(np.ones(CUBE, dtype=np.float32), MM, np.random.default_rng(1))
    twice = BiasField(0.3).apply(np.full(CUBE, 2, dtype=np.float32), MM, np.random.default_rng(1))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_a_gamma_above_one_darkens_the_middle_greys_alone(generator: np.random.Generator) -> None:
    curve = Gamma(2.0).apply(np.array([0, 0.25, 0.5, 1], dtype=np.float32), MM, generator)
    np.testing.assert_allclose(curve, [0, 0.0625, 0.25, 1])


def test_each_tissue_has_its_mean_and_texture(generator: np.random.Generator) -> None:
    labels = np.repeat([3, 70], 20_000).reshape(40, 100, 10)
    contrast = TissueContrast({3: Tissue(0.4, within=0.02), 70: Tissue(0.9, within=0.05)})
    signal = contrast.signal(labels, generator)
    for value, mean, within in ((3, 0.4, 0.02), (70, 0.9, 0.05)):
        assert signal[labels == value].mean() == pytest.approx(mean, abs=0.002)
        assert signal[labels == value].std() == pytest.approx(within, rel=0.03)


def test_the_mean_of_a_tissue_varies_between_subjects(generator: np.random.Generator) -> None:
    contrast = TissueContrast({1: Tissue(0.5, between=0.05)})
    means = [float(contrast.signal(np.ones((1, 1, 1), dtype=np.uint8), generator).mean()) for _ in range(2000)]
    assert np.std(means) == pytest.approx(0.05, rel=0.06)


def test_a_label_without_tissue_is_refused_by_its_value(generator: np.random.Generator) -> None:
    with pytest.raises(DataError, match=r"label values \[5\] have no tissue.*which has \[0\]"):
        TissueContrast({0: Tissue(0.0)}).signal(np.array([[[0, 5]]]), generator)


def test_a_table_of_priors_becomes_a_contrast(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("value,name,t1_mean_mu,t1_mean_sd,t1_std_mu\n17,hippocampus,102,5.1,10.2\n")
    assert TissueContrast.from_table(table).tissues == {17: Tissue(0.4, pytest.approx(0.02), pytest.approx(0.04))}


def test_a_table_without_its_columns_is_refused_by_their_names(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("value,t1_mean_mu\n17,102\n")
    with pytest.raises(DataError, match=r"table\.csv: header: found value, t1_mean_mu; the columns t1_mean_sd, t1_std"):
        TissueContrast.from_table(table)


def test_every_bad_line_of_a_table_is_reported(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("value,t1_mean_mu,t1_mean_sd,t1_std_mu\n17,102,x,1\n18,1,1,1\nnineteen,1,1,1\n")
    with pytest.raises(DataError, match=r"(?s)2 problems.*line 2.*17, 102, x, 1.*line 4.*nineteen"):
        TissueContrast.from_table(table)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BiasField(-0.1), "`strength` must be 0 or more.*-0.1"),
        (lambda: BiasField(0.1, points=1), "`points` 2 or more.*1"),
        (lambda: PointSpread((1, -1, 1)), "`fwhm_mm` must be 0 or more"),
        (lambda: GibbsRinging(3, 0.5), "`axis` must be 0, 1 or 2.*3"),
        (lambda: GibbsRinging(0, 0), r"`kept` in \(0, 1\].*0"),
        (lambda: RicianNoise(-1), "`sigma` must be 0 or more; got -1"),
        (lambda: Gamma(0), "`exponent` must be above 0; got 0"),
    ],
)
def test_an_effect_outside_its_range_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
