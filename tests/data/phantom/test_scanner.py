from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from perdure.data.phantom import SCANNERS, Scanner, Tissue, TissueContrast
from perdure.data.phantom.scanner import CSF, GREY, REFERENCE, WHITE, averaged

MM = (2.0, 2.0, 2.0)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_an_image_depends_on_the_seed_alone(scanner: Scanner, shells: NDArray[np.uint8]) -> None:
    first, again, other = (scanner.image(shells, MM, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32
    assert first.shape == shells.shape
    assert first.min() >= 0


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_the_four_scanners_are_t1_weighted(scanner: Scanner) -> None:
    means = [scanner.contrast.tissues[value].mean for value in (0, CSF, GREY, WHITE)]
    assert means == sorted(means)


def test_scanner_names_are_their_domains() -> None:
    assert [scanner.name for scanner in SCANNERS] == ["scanner1", "scanner2", "scanner3", "scanner4"]


def test_effects_act_in_their_order_at_the_size_of_an_image_voxel(
    shells: NDArray[np.uint8], plain: Scanner, generator: np.random.Generator
) -> None:
    seen = []

    class Probe:
        def apply(self, volume, spacing_mm, generator):
            seen.append((spacing_mm, volume.shape))
            return volume + len(seen)

    scanner = Scanner("probe", plain.contrast, (Probe(), Probe()))
    image = scanner.image(shells, (1.0, 1.0, 3.0), generator, supersampling=2)
    assert seen == [((2.0, 2.0, 6.0), (12, 14, 13))] * 2
    np.testing.assert_allclose(image - 3, averaged(plain.image(shells, MM, generator), 2), atol=1e-6)


def test_a_voxel_across_a_border_has_the_mean_of_both_tissues(plain: Scanner, generator: np.random.Generator) -> None:
    labels = np.array([[[1, 1], [1, 1]], [[3, 3], [1, 1]]], dtype=np.uint8)
    assert plain.image(labels, MM, generator, supersampling=2).item() == pytest.approx((6 * 0.2 + 2 * 0.8) / 8)


def test_a_shape_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"divides the shape \(5, 4, 4\); got 2"):
        averaged(np.zeros((5, 4, 4), dtype=np.float32), 2)


def test_other_tissues_are_put_on_the_curve_of_the_scanner() -> None:
    scanner = SCANNERS[2]
    own = {value: tissue.mean for value, tissue in scanner.contrast.tissues.items()}
    between = (REFERENCE[GREY] + REFERENCE[WHITE]) / 2
    t1 = TissueContrast({41: Tissue(REFERENCE[WHITE]), 42: Tissue(REFERENCE[GREY]), 49: Tissue(between, within=0.1)})
    seen = scanner.seeing(t1).contrast.tissues
    assert seen[41].mean == pytest.approx(own[WHITE])
    assert seen[42].mean == pytest.approx(own[GREY])
    assert seen[49].mean == pytest.approx((own[GREY] + own[WHITE]) / 2)
    slope = (own[WHITE] - own[GREY]) / (REFERENCE[WHITE] - REFERENCE[GREY])
    assert seen[49].within == pytest.approx(0.1 * slope)
    assert scanner.seeing(t1).effects == scanner.effects


def test_a_scanner_of_other_labels_has_no_such_curve() -> None:
    with pytest.raises(ValueError, match=r"`odd` must know exactly the labels \[0, 1, 2, 3\].*it knows \[7\]"):
        Scanner("odd", TissueContrast({7: Tissue(1.0)})).seeing(TissueContrast())
