"""Which of the domains that a release has learnt new scans are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import synthetic
from fakes import Threshold, picture_contract, release
from perdure.data.unlabelled import unlabelled_scans
from perdure.evaluation.shift_of_scans import shifts
from perdure.release import Release


def without_batch_norm(intensities: dict[str, list[float] | None]) -> Release:
    """A release that keeps distributions of intensities and nothing else, each `(levels,)` for three channels."""
    contract = picture_contract(channels=3, size=(32, 32))
    made = release(Threshold([0.5]), contract, learnt=tuple(intensities))
    seen = tuple(
        one.model_copy(update={"intensities": None if (row := intensities[one.domain]) is None else (tuple(row),) * 3})
        for one in made.identity.domains
    )
    return replace(made, identity=made.identity.model_copy(update={"domains": seen}))


def test_a_network_without_batch_norm_is_compared_with_every_domain(tmp_path: Path) -> None:
    """The newest one may be too small for its intensities to be kept."""
    scans = unlabelled_scans(synthetic.write_images(tmp_path, domains=("x",), cases=(4, 0, 0), size=(32, 32)))
    kept = {"dark": [1.0] * 32, "even": list(np.linspace(0, 1, 32)), "small": None}
    found = shifts(without_batch_norm(kept), scans)
    assert {one.like for one in found.domains} == set(kept)
    assert found.domains[-1].like == "small"
    assert found.domains[-1].intensities is None
    assert found.domains[0].intensities is not None
