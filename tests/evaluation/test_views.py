"""Several networks, each for another view, segment a volume together."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import fakes
import synthetic
from perdure.errors import DataError, EvaluationError
from perdure.evaluation import Output, ViewAggregation, predict_files
from perdure.models import OpenVino
from perdure.release import Release
from perdure.types import Structure

SIDES = fakes.structures(background=0, left=3, right=42)
MERGED = (*fakes.structures(background=0), Structure(name="both", values=(3, 42)))


class Logits(nn.Module):
    """Gives class k the logit `slope[k] * x`, of the first channel."""

    def __init__(self, *slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1] * self.slope.view(1, -1, 1, 1)


def release(view: str, *slope: float, structures: tuple[Structure, ...] = SIDES, **changes: object) -> Release:
    contract = fakes.volume_contract(structures=structures, view=view, size=(8, 8), **changes)
    return fakes.release(Logits(*slope), contract, name=view)


@pytest.fixture
def three() -> list[Release]:
    return [
        release("coronal", 0.0, 2.0, 1.0),
        release("axial", 0.5, -1.0, 1.5),
        release("sagittal", 0.0, 3.0, structures=MERGED),
    ]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    volume = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(np.uint8)
    synthetic.save_volume(tmp_path / "scan.nii.gz", volume, (2, 2, 2), "PSR")
    return tmp_path / "scan.nii.gz"


def scaled(path: Path) -> np.ndarray:
    volume = np.asarray(nib.load(path).dataobj).astype(np.float64)
    highest = np.percentile(volume[volume != 0], 99.9)
    return ((volume - volume.min()) / (highest - volume.min())).clip(0, 1)


def softmax(x: np.ndarray, *slope: float) -> np.ndarray:
    odds = np.exp(x[..., None] * np.array(slope))
    return odds / odds.sum(axis=-1, keepdims=True)


def expected(path: Path, coronal: float, axial: float, sagittal: float) -> np.ndarray:
    """By the definition, in float64: a merged class counts in full for both of its sides."""
    x = scaled(path)
    merged = softmax(x, 0.0, 3.0)[..., [0, 1, 1]]
    total = coronal * softmax(x, 0.0, 2.0, 1.0) + axial * softmax(x, 0.5, -1.0, 1.5) + sagittal * merged
    return total / total.sum(axis=-1, keepdims=True)


def test_probabilities_are_the_weighted_sum_of_the_views_with_the_authors_weights(
    three: list[Release], scan: Path
) -> None:
    found = ViewAggregation(three).segmented(scan, probabilities=True)
    assert found.probability is not None
    total = np.stack([found.probability(k) for k in range(3)], axis=-1)
    wanted = expected(scan, 0.4, 0.4, 0.2)
    np.testing.assert_allclose(total, wanted, atol=1e-6)
    np.testing.assert_array_equal(found.classes, wanted.argmax(axis=-1))


def test_weights_are_a_choice_and_their_sum_does_not_matter(three: list[Release], scan: Path) -> None:
    labels = {}
    for weights in ({"coronal": 8.0, "axial": 1.0, "sagittal": 0.5}, {"coronal": 0.8, "axial": 0.1, "sagittal": 0.05}):
        found = ViewAggregation(three, weights=weights).segmented(scan)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.classes, expected(scan, 8, 1, 0.5).argmax(axis=-1))
        labels[weights["coronal"]] = found.classes
    other = ViewAggregation(three, weights={"axial": 50.0}).segmented(scan)
    assert (other.classes != labels[8.0]).any()


def test_the_order_in_which_releases_are_named_does_not_matter(three: list[Release], scan: Path) -> None:
    found = [ViewAggregation(order).segmented(scan, probabilities=True) for order in permutations(three)]
    for one in found[1:]:
        np.testing.assert_array_equal(one.classes, found[0].classes)
        for index in range(len(SIDES)):
            assert one.probability(index).tobytes() == found[0].probability(index).tobytes()


def test_openvino_runs_every_view(three: list[Release], scan: Path) -> None:
    by_openvino = ViewAggregation(three, engine="openvino")
    assert all(isinstance(predictor.model, OpenVino) for predictor, _, _ in by_openvino._views)
    np.testing.assert_array_equal(by_openvino.segmented(scan).classes, ViewAggregation(three).segmented(scan).classes)


def test_each_view_sees_its_own_slices(scan: Path) -> None:
    seen = {}
    releases = []
    for view in ("coronal", "axial", "sagittal"):
        model = fakes.Threshold((0.3, 0.6))
        releases.append(
            fakes.release(model, fakes.volume_contract(structures=SIDES, view=view, size=(8, 8)), name=view)
        )
        seen[view] = model.seen
    ViewAggregation(releases).segmented(scan)
    # the file's axes are P, S, R with 5, 6 and 7 voxels as R, A, S: so it holds 6 coronal, 7 axial, 5 sagittal slices
    assert {view: sum(shape[0] for shape in shapes) for view, shapes in seen.items()} == {
        "coronal": 6, "axial": 7, "sagittal": 5,
    }  # fmt: skip


def test_three_networks_of_one_mind_say_what_each_says(tmp_path: Path, scan: Path) -> None:
    alike = [release(view, 0.3, 0.8, -1.0) for view in ("coronal", "axial", "sagittal")]
    predict_files(alike[0], scan, tmp_path / "one")
    predict_files(alike, scan, tmp_path / "all")
    assert (tmp_path / "all/scan.nii.gz").read_bytes() == (tmp_path / "one/scan.nii.gz").read_bytes()


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (1.4, 2.6, 1.7)])
def test_results_are_files_like_any_other_s(
    tmp_path: Path, three: list[Release], spacing: tuple[float, float, float]
) -> None:
    volume = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(np.uint8)
    synthetic.save_volume(tmp_path / "in/scan.nii", volume, spacing, "LAS")
    wanted = Output(form="mgz", probabilities=True, volumes=True)
    predict_files(three, tmp_path / "in", tmp_path / "out", output=wanted)
    labels = np.asarray(nib.load(tmp_path / "out/scan.mgz").dataobj)
    maps = np.asarray(nib.load(tmp_path / "out/scan_probabilities.mgz").dataobj)
    np.testing.assert_array_equal(np.array([0, 3, 42])[maps.argmax(axis=-1)], labels)
    assert predict_files(three, tmp_path / "in", tmp_path / "out", output=wanted).skipped == 1
    with pytest.raises(EvaluationError, match="holds results with the views"):
        predict_files(three, tmp_path / "in", tmp_path / "out", output=wanted, weights={"axial": 0.3})
    coronal, axial, sagittal = (one.id[:12] for one in three)
    with pytest.raises(
        EvaluationError, match=f"{axial} with {coronal} with {sagittal}, not of {axial} with {coronal};"
    ):
        predict_files(three[:2], tmp_path / "in", tmp_path / "out", output=wanted)


def test_views_named_in_another_order_go_on_with_the_same_folder(
    tmp_path: Path, three: list[Release], scan: Path
) -> None:
    predict_files(three, scan, tmp_path / "out")
    assert predict_files(three[::-1], scan, tmp_path / "out").skipped == 1


def test_the_results_of_one_release_are_told_from_those_of_three_views_with_it(
    tmp_path: Path, three: list[Release], scan: Path
) -> None:
    predict_files(three[0], scan, tmp_path / "out")
    coronal, axial, sagittal = (one.id[:12] for one in three)
    with pytest.raises(EvaluationError, match=f"of release {coronal}, not of {axial} with {coronal} with {sagittal};"):
        predict_files(three, scan, tmp_path / "out")


def test_a_picture_is_refused_by_name(three: list[Release], tmp_path: Path) -> None:
    synthetic.save_image(tmp_path / "eye.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"eye\.png: content: found a picture"):
        ViewAggregation(three).segmented(tmp_path / "eye.png")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (release("coronal", 0, 1, 2), "'coronal' is for coronal slices, and so is another; name one release a view"),
        (release("axial", 0, 1, 2, spacing=(1.0, 1.0, 1.0)), r"has the spacing \(1.0, 1.0, 1.0\), 'coronal' \(2.0"),
        (release("axial", 0, 1, 2, orientation="RAS"), "has the orientation RAS, 'coronal' LIA"),
        (
            release("axial", 0, 1, structures=fakes.structures(background=0, left=3)),
            r"no structure with the values \(42",
        ),
        (
            release("axial", 0, 1, 2, structures=(*SIDES[:2], Structure(name="right", values=(42, 43)))),
            r"'right' of release 'axial' has the values \(42, 43\).*make up only \(42,\)",
        ),
        (
            release("axial", 0, 1, structures=(Structure(name="b", values=(0, 3)), *fakes.structures(right=42))),
            "Background is merged",
        ),
        (fakes.release(Logits(0, 1), fakes.picture_contract(), name="eyes"), "'eyes' does not segment slices"),
    ],
)  # fmt: skip
def test_releases_that_do_not_belong_together_are_refused(other: Release, why: str) -> None:
    with pytest.raises(EvaluationError, match=why):
        ViewAggregation([release("coronal", 0.0, 1.0, 2.0), other])


@pytest.mark.parametrize("weights", [{"sagittal": 0.2}, {"axial": 0.0}, {"axial": -1.0}, {"axial": float("nan")}])
def test_a_weight_is_above_0_and_of_a_view_that_is_there(weights: dict[str, float]) -> None:
    two = [release("coronal", 0.0, 1.0, 2.0), release("axial", 0.0, 1.0, 2.0)]
    with pytest.raises(EvaluationError, match=r"must be above 0, for one of coronal, axial"):
        ViewAggregation(two, weights=weights)  # type: ignore[arg-type]


def test_weights_are_for_several_releases(tmp_path: Path, scan: Path) -> None:
    with pytest.raises(EvaluationError, match="one a view"):
        predict_files(release("axial", 0.0, 1.0, 2.0), scan, tmp_path / "out", weights={"axial": 1.0})
