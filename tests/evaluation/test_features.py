"""What a network sees before it decides, and two axes to draw it on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import fakes
import synthetic
from perdure.data import Dataset, FolderDomain
from perdure.errors import EvaluationError
from perdure.evaluation.features import features, principal_components, umap_coordinates
from perdure.release import Release


class Small(nn.Module):
    """Batch norm and dropout, which features must not depend on the batch or on chance through."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5))
        self.last = nn.Linear(3, 4)

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.seen(x))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("features") / "data"
    classes = ("none", "some", "much", "all")
    return Dataset.open(synthetic.write_classes(folder, classes=classes, cases=(4, 5, 1), size=(12, 12)))


@pytest.fixture(scope="module")
def domains(dataset: Dataset) -> list[FolderDomain]:
    contract = dataset.default_contract()
    return [dataset.domain(name, contract) for name in dataset.domains]


@pytest.fixture
def release(domains: list[FolderDomain]) -> Release:
    model = Small()
    model.body[1].running_mean += 0.3
    return fakes.release(model, domains[0].contract)


def test_features_are_what_goes_into_the_last_linear_layer(release: Release, domains: list[FolderDomain]) -> None:
    found = features(release, domains, "val", at_once=2)
    cases = [case for domain in domains for case in domain.cases("val")]
    model = release.model.eval()
    with torch.no_grad():
        expected = np.concatenate([model.seen(torch.from_numpy(np.array(case.image))).numpy() for case in cases])
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)
    assert found.values.shape == (10, 3)
    assert found.ids == tuple(case.id for case in cases)
    assert found.domains == tuple(case.domain for case in cases)
    assert found.classes == tuple(int(case.reference()) for case in cases)


def test_features_do_not_depend_on_how_many_cases_pass_at_once(release: Release, domains: list[FolderDomain]) -> None:
    one, many = (features(release, domains, "val", at_once=count) for count in (1, 7))
    np.testing.assert_allclose(one.values, many.values, rtol=1e-5, atol=1e-7)


def test_the_network_is_left_as_it_was(release: Release, domains: list[FolderDomain]) -> None:
    release.model.train()
    before = {name: value.clone() for name, value in release.model.state_dict().items()}
    features(release, domains, "val")
    assert all(torch.equal(value, before[name]) for name, value in release.model.state_dict().items())
    assert all(module.training for module in release.model.modules())
    assert not release.model.last._forward_pre_hooks


def test_a_segmentation_has_no_features(domains: list[FolderDomain]) -> None:
    release = fakes.release(nn.Conv2d(1, 4, 1), domains[0].contract.model_copy(update={"task": "segmentation"}))
    with pytest.raises(EvaluationError, match="this release is of a segmentation"):
        features(release, domains, "val")


def test_a_network_without_a_linear_layer_has_no_features(domains: list[FolderDomain]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(EvaluationError, match="Sequential has no linear layer"):
        features(fakes.release(model, domains[0].contract), domains, "val")


def cloud(cases: int = 60) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(cases, 5)) * [1, 9, 0.1, 3, 2] + [4, 3, 2, 1, 0]


def test_principal_components_are_uncorrelated_and_the_first_has_most_of_the_variance() -> None:
    points, shares = principal_components(cloud(), 3)
    covariance = np.cov(points.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    assert shares[0] > shares[1] > shares[2] > 0
    whole = np.cov(cloud().T).trace()
    np.testing.assert_allclose(shares, np.diag(covariance) / whole)


def test_principal_components_are_those_of_scikit_learn_but_for_the_sign() -> None:
    from sklearn.decomposition import PCA

    reference = PCA(2, svd_solver="full")
    expected = reference.fit_transform(cloud())
    points, shares = principal_components(cloud())
    np.testing.assert_allclose(np.abs(points), np.abs(expected))
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_)


def test_principal_components_do_not_turn_over_when_cases_come_in_another_order() -> None:
    values, order = cloud(), np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(principal_components(values[order])[0], principal_components(values)[0][order])
    # mirrored values give the same axes, and mirrored cases on them
    np.testing.assert_allclose(principal_components(-values)[0], -principal_components(values)[0])


def test_cases_that_are_all_alike_lie_in_one_place() -> None:
    points, shares = principal_components(np.ones((4, 3)))
    assert not points.any()
    assert not shares.any()


def test_principal_components_need_cases_enough() -> None:
    with pytest.raises(EvaluationError, match="2 components need as many cases"):
        principal_components(np.ones((1, 3)))


def test_umap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(EvaluationError, match="pip install umap-learn"):
        umap_coordinates(cloud())


def test_umap_is_asked_with_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, int] = {}

    def made(**settings: int) -> SimpleNamespace:
        asked.update(settings)
        return SimpleNamespace(fit_transform=lambda values: values[:, :2])

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=made))
    np.testing.assert_array_equal(umap_coordinates(cloud(), seed=3), cloud()[:, :2])
    assert asked == {"n_components": 2, "random_state": 3}
