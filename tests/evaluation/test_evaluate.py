"""Every release is scored on every case of every domain, on the case's own grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import fakes
import synthetic
from perdure.data import Dataset, FolderDomain
from perdure.errors import DataError, EvaluationError
from perdure.evaluation import Predictor, accuracy, auc, evaluate, linear_kappa, surface_distances
from perdure.release import Ancestor, Release

THRESHOLDS = (0.2, 0.5, 0.7)


@pytest.fixture
def domains(tmp_path: Path) -> list[FolderDomain]:
    dataset = Dataset.open(synthetic.write_volumes(tmp_path / "volumes", shape=(9, 10, 8), orientation="PIR"))
    contract = fakes.volume_contract()
    return [dataset.domain(name, contract, cache=tmp_path / "cache") for name in dataset.domains]


def base(
    *, name: str = "base", thresholds: tuple[float, ...] = THRESHOLDS, learnt: tuple[str, ...] = ("scanner-a",)
) -> Release:
    return fakes.release(fakes.Threshold(thresholds), fakes.volume_contract(), name=name, learnt=learnt)


def child(parent: Release, name: str) -> Release:
    made = base(name=name, thresholds=(0.1, 0.5, 0.6), learnt=("scanner-a", "scanner-b"))
    ancestor = Ancestor(id=parent.id, name=parent.name, domain="scanner-a", method="base")
    return replace(made, identity=made.identity.model_copy(update={"lineage": (ancestor,)}))


def test_dice_is_that_of_the_files_themselves(domains: list[FolderDomain], tmp_path: Path) -> None:
    scores = evaluate([base()], domains)
    for domain in domains:
        for case in domain.cases("test"):
            image, label = (
                np.asarray(nib.load(tmp_path / "volumes" / f"{kind}s/{domain.name}/{case.subject}.nii.gz").dataobj)
                for kind in ("image", "label")
            )
            scaled = image.astype(float) - image.min()
            scaled = (scaled / (np.percentile(image[image != 0], 99.9) - image.min())).clip(0, 1)
            found = np.array([0, 16, 3, 42])[np.searchsorted(THRESHOLDS, scaled)]
            rows = scores.table.filter((pl.col("case") == case.id) & (pl.col("metric") == "dice"))
            assert rows["structure"].to_list() == ["background", "core", "left_cortex", "right_cortex"]
            assert rows["subject"].unique().to_list() == [case.subject]
            expected = [
                2 * np.sum((found == k) & (label == k)) / np.sum((found == k) + (label == k) * 1.0)
                for k in (0, 16, 3, 42)
            ]
            np.testing.assert_allclose(rows["value"].to_numpy(), expected, rtol=1e-12)


def test_distances_are_in_mm_by_the_spacing_of_each_file(tmp_path: Path) -> None:
    """The network's grid is of 2 mm and turned; the files are not."""
    spacing = (1.0, 2.5, 4.0)
    folder = synthetic.write_volumes(tmp_path / "v", shape=(16, 12, 10), spacing=spacing, domains=("a",))
    domain = Dataset.open(folder).domain("a", fakes.volume_contract(), cache=tmp_path / "cache")
    release = base(learnt=("a",))
    scores = evaluate([release], [domain], surface_distance=True)
    assert scores.header.unit == "mm"
    for case in domain.cases("test"):
        found = Predictor(release).classes(case.image, case.grid)
        expected = surface_distances(found, case.reference(), 4, spacing)
        rows = scores.table.filter(pl.col("case") == case.id)
        for metric, values in (("hd95", expected.hd95), ("assd", expected.assd)):
            ours = rows.filter(pl.col("metric") == metric)["value"].fill_null(np.nan).to_numpy()
            np.testing.assert_allclose(ours, values, rtol=1e-12)
            assert (values[1:] > 0).any()
    without = evaluate([release], [domain])
    assert_frame_equal(scores.table.filter(pl.col("metric") == "dice"), without.table)


def test_distances_of_pictures_are_in_pixels(tmp_path: Path) -> None:
    dataset = Dataset.open(synthetic.write_images(tmp_path / "p", domains=("a",)))
    domain = dataset.domain("a", fakes.picture_contract(), cache=tmp_path / "cache")
    scores = evaluate([fakes.release(fakes.Threshold([0.5]), domain.contract)], [domain], surface_distance=True)
    assert scores.header.unit == "pixels"
    assert (
        scores.table.filter((pl.col("metric") == "hd95") & (pl.col("structure") == "disc"))["value"].is_finite().any()
    )


def test_distances_of_a_classification_are_refused(tmp_path: Path) -> None:
    dataset = Dataset.open(synthetic.write_classes(tmp_path / "c", cases=(2, 2, 2)))
    contract = dataset.default_contract(dataset.domains[0], size=32, cache=tmp_path / "cache")
    domain = dataset.domain(dataset.domains[0], contract, cache=tmp_path / "cache")
    with pytest.raises(EvaluationError, match=r"release 'base' is of a classification\. Leave them out"):
        evaluate([fakes.release(fakes.Brightness(), contract)], [domain], surface_distance=True)


def test_the_header_says_what_was_scored_parents_first(domains: list[FolderDomain]) -> None:
    first = base()
    second = child(first, "candidate")
    header = evaluate([second, first], domains).header
    assert [(r.id, r.name, r.domain, r.parent) for r in header.releases] == [
        (first.id, "base", "scanner-a", None),
        (second.id, "candidate", "scanner-b", first.id),
    ]
    assert (header.split, header.domains, header.task) == ("test", ("scanner-a", "scanner-b"), "segmentation")
    assert header.structures == ("background", "core", "left_cortex", "right_cortex")


def test_progress_counts_each_case_of_each_release_as_it_is_scored(
    domains: list[FolderDomain], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []
    original = Predictor.classes
    monkeypatch.setattr(Predictor, "classes", lambda *arguments: events.append("case") or original(*arguments))
    first = base()
    evaluate([first, child(first, "b")], domains, progress=lambda *at: events.append(at))
    # 2 releases, 2 domains of 2 test cases each
    assert events == [event for done in range(1, 9) for event in ("case", (done, 8))]


def test_another_split_can_be_scored(domains: list[FolderDomain]) -> None:
    scores = evaluate([base()], domains[:1], "val")
    assert scores.header.split == "val"
    assert scores.table["case"].unique().to_list() == ["scanner-a-val-0-t1"]


def test_a_split_without_cases_is_an_error(tmp_path: Path) -> None:
    dataset = Dataset.open(synthetic.write_volumes(tmp_path / "v", shape=(6, 7, 8), cases=(1, 0, 1), domains=("a",)))
    domain = dataset.domain("a", fakes.volume_contract(), required=("train",), cache=tmp_path / "cache")
    with pytest.raises(DataError, match="'a' has no val case"):
        evaluate([base()], [domain], "val")


def test_classification_has_scores_of_each_case_and_of_the_domain(tmp_path: Path) -> None:
    dataset = Dataset.open(synthetic.write_classes(tmp_path / "c", cases=(2, 2, 12), ordinal=True))
    contract = dataset.default_contract(dataset.domains[0], size=32, cache=tmp_path / "cache")
    domain = dataset.domain(dataset.domains[0], contract, cache=tmp_path / "cache")
    # as bright as a picture of the first class is on average, so that about half of those are called the second
    model = fakes.Brightness(middle=0.2146)
    table = evaluate([fakes.release(model, contract)], [domain]).table
    cases = domain.cases("test")
    one = Predictor(fakes.release(model, contract))
    probability = np.array([one.probabilities(case.image)[0] for case in cases])
    found = probability.argmax(axis=1)
    truth = np.array([int(case.reference()) for case in cases])
    assert 0 < (found == truth).sum() < 12

    def values(metric: str) -> np.ndarray:
        return table.filter(pl.col("metric") == metric)["value"].to_numpy()

    np.testing.assert_allclose(values("probability"), probability.ravel())
    np.testing.assert_array_equal(values("truth"), truth)
    np.testing.assert_array_equal(values("prediction"), found)
    assert values("kappa").tolist() == [linear_kappa(truth, found, 2)]
    assert values("accuracy").tolist() == [accuracy(truth, found, 2)]
    assert values("auc").tolist() == [auc(truth, probability)]


def test_releases_and_domains_of_another_contract_are_refused(domains: list[FolderDomain]) -> None:
    other = fakes.release(fakes.Threshold(THRESHOLDS), fakes.volume_contract(spacing=(1, 1, 1)), name="other")
    with pytest.raises(EvaluationError, match="release 'other' has another input contract than release 'base'"):
        evaluate([base(), other], domains)
    with pytest.raises(EvaluationError, match="domain 'scanner-a' has another input contract than release 'other'"):
        evaluate([other], domains)


def test_what_is_named_twice_is_refused(domains: list[FolderDomain]) -> None:
    with pytest.raises(EvaluationError, match="release 'base' is named twice"):
        evaluate([base(), base()], domains)
    with pytest.raises(EvaluationError, match="domain 'scanner-a' is named twice"):
        evaluate([base()], [domains[0], domains[0]])


def test_there_must_be_something_to_score(domains: list[FolderDomain]) -> None:
    for releases, some in (([], domains), ([base()], [])):
        with pytest.raises(EvaluationError, match="at least one release and one domain"):
            evaluate(releases, some)
