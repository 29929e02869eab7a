"""What a release says of an image comes back on the image's own grid, whatever its size."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import fakes
from perdure.data.geometry import grid_for
from perdure.errors import BatchNormError, EvaluationError
from perdure.evaluation import Output, Predictor, predict_files
from perdure.models import QuickNAT
from perdure.types import Intensity, Structure

THRESHOLDS = (0.25, 0.5, 0.75)


def levels(pixels: np.ndarray) -> np.ndarray:
    """The classes that `fakes.Threshold` gives, without torch."""
    return np.searchsorted(np.array(THRESHOLDS, np.float32), pixels, side="left").astype(np.uint8)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def predictor(model: nn.Module, **changes: object) -> Predictor:
    return Predictor(fakes.release(model, fakes.volume_contract(**changes)))


@pytest.mark.parametrize("shape", [(32, 32), (33, 32), (1, 77), (65, 63), (5, 31)])
def test_slices_of_any_size_reach_a_network_that_halves_five_times(shape: tuple[int, int]) -> None:
    model = fakes.Threshold(THRESHOLDS, multiple=32)
    pixels = image(3, 1, *shape)
    np.testing.assert_array_equal(predictor(model).classes_on_network_grid(pixels), levels(pixels[:, 0]))
    # the size of training stays where it is enough, because a network is known to take that
    assert all(extent == 32 or extent % 32 == 0 for seen in model.seen for extent in seen[2:])


def test_a_network_that_halves_takes_slices_of_any_size() -> None:
    from monai.networks.nets import UNet

    model = UNet(spatial_dims=2, in_channels=1, out_channels=4, channels=(4, 8, 8, 8), strides=(2, 2, 2))
    assert predictor(model, size=(16, 24)).classes_on_network_grid(image(2, 1, 37, 21)).shape == (2, 37, 21)


def test_what_is_no_larger_than_a_training_sample_is_padded_to_just_that() -> None:
    model = fakes.Threshold(THRESHOLDS)
    predictor(model, size=(40, 24)).classes_on_network_grid(image(2, 1, 33, 24))
    assert model.seen == [(2, 1, 40, 24)]


@pytest.mark.parametrize(("size", "together"), [(32, [16, 5]), (64, [4, 4, 4, 4, 4, 1]), (256, [1] * 21)])
def test_many_slices_go_through_a_few_at_a_time_and_come_back_in_order(size: int, together: list[int]) -> None:
    """As many as have 16,384 pixels together, and at least one."""
    model = fakes.Threshold(THRESHOLDS)
    pixels = image(21, 1, size, size)
    found = predictor(model, size=(size, size)).classes_on_network_grid(pixels)
    np.testing.assert_array_equal(found, levels(pixels[:, 0]))
    assert [seen[0] for seen in model.seen] == together


def test_padding_is_black_as_in_training_also_after_mean_and_deviation() -> None:
    seen = []

    class Border(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return torch.zeros(len(x), 4, *x.shape[2:])

    model = Border()
    intensity = Intensity(scaling="robust", mean=(0.5, 0.25), std=(0.25, 0.125))
    predictor(model, channels=2, size=(6, 8), intensity=intensity).classes_on_network_grid(image(1, 2, 3, 8))
    # 3 of 6 rows: of an odd difference the smaller half comes first, as in training
    assert seen[0][0, :, [0, 4, 5]].unique().tolist() == [-2.0]
    assert (seen[0][0, :, 1:4] >= 0).all()


def test_volumes_are_looked_at_window_by_window_of_the_training_size() -> None:
    model = fakes.Threshold(THRESHOLDS)
    pixels = image(1, 1, 9, 20, 6)
    changes = {"spatial_dims": 3, "view": None, "size": (8, 8, 8)}
    np.testing.assert_array_equal(predictor(model, **changes).classes_on_network_grid(pixels), levels(pixels[:, 0]))
    assert {seen[2:] for seen in model.seen} == {(8, 8, 8)}


def test_values_are_those_of_the_label_set_on_the_image_s_own_grid() -> None:
    merged = (*fakes.structures(background=0, core=16), Structure(name="cortex", values=(3, 42)))
    one = predictor(fakes.Threshold((0.3, 0.6)), structures=merged)
    grid = grid_for(one.contract, (7, 8, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    volume = image(7, 8, 9)
    found = one.values(grid.image_to_network(volume), grid)
    # a merged structure is written as its first value
    np.testing.assert_array_equal(found, np.select([volume <= np.float32(0.3), volume <= np.float32(0.6)], [0, 16], 3))
    assert (found.dtype, one.largest_value) == (np.uint8, 16)


def test_a_picture_that_was_made_smaller_gets_a_mask_of_its_own_size() -> None:
    one = Predictor(fakes.release(fakes.Threshold((0.5,)), fakes.picture_contract(size=(16, 16))))
    grid = grid_for(one.contract, (50, 34), None)
    picture = np.zeros((3, 50, 34), np.float32)
    picture[:, 25:] = 1
    found = one.values(grid.image_to_network(picture), grid)
    assert found.shape == (50, 34)
    np.testing.assert_array_equal(found[[0, 22, 27, 49]], np.repeat([[0], [0], [1], [1]], 34, axis=1))


def test_probabilities_are_the_softmax_in_double_precision() -> None:
    one = Predictor(fakes.release(fakes.Brightness(), fakes.picture_contract(task="classification", size=(8, 8))))
    pixels = image(1, 3, 8, 8)
    odds = np.exp(10 * (pixels.mean(dtype=np.float64) - 0.25))
    np.testing.assert_allclose(one.probabilities(pixels), [[1 / (1 + odds), odds / (1 + odds)]], rtol=1e-5)
    assert one.probabilities(pixels).sum() == pytest.approx(1, abs=1e-12)


def test_images_that_are_classified_together_each_have_their_own_row() -> None:
    one = Predictor(fakes.release(fakes.Brightness(), fakes.picture_contract(task="classification", size=(8, 8))))
    bright, dark = np.full((1, 3, 8, 8), 0.75, np.float32), np.zeros((1, 3, 8, 8), np.float32)
    np.testing.assert_allclose(one.probabilities(dark, bright, dark)[:, 1], 1 / (1 + np.exp([2.5, -5, 2.5])), rtol=1e-5)


def test_a_classified_volume_is_padded_or_cropped_about_its_middle_as_in_training() -> None:
    model = fakes.Brightness()
    changes = {"task": "classification", "spatial_dims": 3, "view": None, "size": (4, 6, 5)}
    one = predictor(model, **changes, structures=fakes.structures(no=0, yes=1))
    pixels = image(1, 1, 8, 3, 5)
    one.probabilities(pixels)
    assert model.seen == [(1, 1, 4, 6, 5)]
    mean = pixels[0, 0, 2:6].sum(dtype=np.float64) / (4 * 6 * 5)
    odds = np.exp(10 * (mean - 0.25))
    np.testing.assert_allclose(one.probabilities(pixels)[0, 1], odds / (1 + odds), rtol=1e-5)


def test_predicting_leaves_modes_gradients_and_buffers_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    one = predictor(model)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (one.classes_on_network_grid(image(2, 1, 32, 32)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_that_cannot_be_put_into_evaluation_mode_is_an_error() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return torch.zeros(len(x), 4, *x.shape[2:])

    with pytest.raises(BatchNormError, match="calls"):
        predictor(Stubborn()).classes_on_network_grid(image(1, 1, 32, 32))


@pytest.mark.parametrize("model", [nn.AvgPool2d(2), nn.Identity()])
def test_an_output_of_another_size_or_number_of_classes_is_an_error_that_shows_both(model: nn.Module) -> None:
    with pytest.raises(EvaluationError, match=r"output of shape \(1, 1, .*contract asks for \(1, 4, 32, 32\)"):
        predictor(model).classes_on_network_grid(image(1, 1, 32, 32))


def test_half_precision_moves_few_labels_and_is_not_mixed_with_results_in_single_precision(tmp_path: Path) -> None:
    """The network computes in bf16, what comes out of it is float32 again, and the folder of results says so."""
    torch.manual_seed(0)
    contract = fakes.volume_contract(size=(16, 16))
    release = fakes.release(QuickNAT(1, contract.classes, filters=8, kernel_size=3), contract)
    pixels = image(3, 1, 16, 16)
    seen: dict[str, list[torch.Tensor]] = {}
    for precision in ("32-true", "bf16-mixed"):
        one = Predictor(release, precision=precision)
        outputs: list[torch.Tensor] = []
        one.model.register_forward_hook(lambda _, args, out, kept=outputs: kept.append(out))
        one.classes_on_network_grid(pixels)
        seen[precision] = outputs
    assert [out.dtype for out in seen["bf16-mixed"]] == [torch.bfloat16]
    assert [out.dtype for out in seen["32-true"]] == [torch.float32]
    differ = seen["32-true"][0].argmax(1) != seen["bf16-mixed"][0].float().argmax(1)
    assert differ.float().mean() < 0.1
    predict_files(release, volume_file(tmp_path), tmp_path / "out", output=Output(precision="bf16-mixed"))
    with pytest.raises(EvaluationError, match="results with the precision bf16-mixed, not 32-true"):
        predict_files(release, volume_file(tmp_path), tmp_path / "out")


def volume_file(folder: Path) -> Path:
    file = folder / "scan.nii.gz"
    if not file.exists():
        nib.save(nib.Nifti1Image(np.random.default_rng(0).random((8, 8, 8), np.float32), np.diag([2.0, 2, 2, 1])), file)
    return file
