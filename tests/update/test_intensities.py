"""The intensities that a release keeps of a domain."""

from __future__ import annotations

import pytest
import torch

from perdure.update.intensities import LEVELS, distribution, intensities_of
from reference.domains import TinyDomain, contract


def test_the_distribution_of_known_values() -> None:
    image = torch.tensor([[0.0, 0.0], [0.5, 1.0]]).reshape(1, 1, 2, 2)
    found = distribution(image, contract())[0, 0]
    # two of four pixels are 0, three are at most 0.5, and the last level is below 1
    assert found[0] == 0.5
    assert found[LEVELS // 2 - 1] == 0.5
    assert found[LEVELS // 2] == 0.75
    assert found[-1] == 0.75


def test_mean_and_deviation_of_the_contract_do_not_matter() -> None:
    image = torch.rand(3, 1, 6, 6)
    plain = contract()
    changed = plain.intensity.model_copy(update={"mean": (0.3,), "std": (0.2,)})
    standardised = plain.model_copy(update={"intensity": changed})
    assert distribution((image - 0.3) / 0.2, standardised) == pytest.approx(distribution(image, plain), abs=0.03)


def test_a_domain_keeps_the_mean_of_its_training_samples() -> None:
    domain = TinyDomain(train=7)
    (row,) = intensities_of(domain) or ()
    expected = distribution(domain.samples("train")[0], domain.contract).mean(dim=0)[0]
    assert row == pytest.approx(expected.tolist(), abs=1e-6)
    assert list(row) == sorted(row)


def test_a_domain_of_four_subjects_keeps_none() -> None:
    assert intensities_of(TinyDomain(train=4)) is None
