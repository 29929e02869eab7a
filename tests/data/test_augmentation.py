from __future__ import annotations

import numpy as np
import pytest

from perdure.data.augmentation import Augmentation
from perdure.types import Contract, Intensity, Structure


def contract(task: str, dims: int = 2) -> Contract:
    volumetric = {"orientation": "LIA", "spacing": (1.0, 1.0, 1.0)} if dims == 3 else {}
    structures = (Structure(name="a", values=(0,)), Structure(name="b", values=(7,)))
    return Contract(
        task=task, structures=structures, channels=2, spatial_dims=dims, size=(16,) * dims,
        intensity=Intensity(scaling="format"), **volumetric,
    )  # fmt: skip


def sample(dims: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = np.zeros((16,) * dims, np.uint8)
    target[(slice(4, 12),) * dims] = 1
    target[0] = 255
    return (rng.random((2, *target.shape)) * 0.1 + 0.5 * (target == 1)).astype(np.float32), target


@pytest.mark.parametrize("dims", [2, 3])
def test_the_same_numbers_give_the_same_sample_and_others_another(dims: int) -> None:
    augmentation, (image, target) = Augmentation(contract("segmentation", dims)), sample(dims)
    before = image.copy(), target.copy()
    # one object for all samples: an earlier one must leave no trace
    runs = [augmentation(image, target, np.random.default_rng(seed)) for seed in (1, 2, 1)]
    np.testing.assert_array_equal(runs[0][0], runs[2][0])
    np.testing.assert_array_equal(runs[0][1], runs[2][1])
    assert (runs[0][0] != runs[1][0]).any()
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(target, before[1])


@pytest.mark.parametrize("dims", [2, 3])
def test_labels_move_with_the_image_and_none_is_invented(dims: int) -> None:
    augmentation, (image, target) = Augmentation(contract("segmentation", dims)), sample(dims)
    for seed in range(8):
        new, labels = augmentation(image, target, np.random.default_rng(seed))
        assert (new.shape, new.dtype, labels.shape, labels.dtype) == (image.shape, np.float32, target.shape, np.uint8)
        assert set(labels.ravel().tolist()) <= {0, 1, 255}
        # the bright part is still where the labels say
        assert new[0][labels == 1].mean() > new[0][labels == 0].mean() + 0.2


def test_a_segmentation_is_never_mirrored_and_a_picture_with_a_class_sometimes() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 16, dtype=np.float32), (2, 16, 16)).copy()

    def mirrored(task: str, target: np.ndarray) -> list[bool]:
        augmentation = Augmentation(contract(task))
        results = [augmentation(ramp, target, np.random.default_rng(seed))[0] for seed in range(20)]
        return [bool(image[0, :, 0].mean() > image[0, :, -1].mean()) for image in results]

    assert not any(mirrored("segmentation", np.zeros((16, 16), np.uint8)))
    assert 3 < sum(mirrored("classification", np.asarray(1, np.uint8))) < 17


def test_a_class_stays_as_it_is() -> None:
    target = np.asarray(1, np.uint8)
    assert Augmentation(contract("classification"))(sample(2)[0], target, np.random.default_rng(0))[1] is target
