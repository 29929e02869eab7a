from __future__ import annotations

import pytest
import torch
from torch import nn

from perdure.models import resnet50

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return resnet50(classes=1000)


def imagenet_checkpoint() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the usual ImageNet checkpoint, from the architecture (He et al. 2016, Table 1)."""

    def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        keys = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.{key}": (channels,) for key in keys} | {f"{name}.num_batches_tracked": ()}

    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **batch_norm("bn1", 64)}
    channels = 64
    for stage, (width, blocks) in enumerate(STAGES, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            layers = [(width, channels, 1), (width, width, 3), (4 * width, width, 1)]
            for i, (out, into, kernel) in enumerate(layers, start=1):
                shapes[f"{name}.conv{i}.weight"] = (out, into, kernel, kernel)
                shapes |= batch_norm(f"{name}.bn{i}", out)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * width, channels, 1, 1)
                shapes |= batch_norm(f"{name}.downsample.1", 4 * width)
            channels = 4 * width
    return shapes | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


def test_names_and_shapes_are_those_of_the_imagenet_checkpoint(model: nn.Module) -> None:
    expected = imagenet_checkpoint()
    assert len(expected) == 320
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == expected


def test_it_has_as_many_parameters_as_the_usual_resnet50(model: nn.Module) -> None:
    assert sum(p.numel() for p in model.parameters()) == 25_557_032


def test_it_halves_the_image_five_times(model: nn.Module) -> None:
    """Stride 2 in the first convolution, the pool, and the 3x3 convolutions of stages 2 to 4, as the weights expect."""
    sides: dict[str, int] = {}
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: sides.update({name: output.shape[-1]})
        )
    model.eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    assert sides == {"conv1": 32, "layer1": 16, "layer2": 8, "layer3": 4, "layer4": 2}
    strides = {name: m.stride[0] for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.stride[0] == 2}
    assert strides.keys() == {
        "conv1",
        *(f"layer{s}.0.conv2" for s in (2, 3, 4)),
        *(f"layer{s}.0.downsample.0" for s in (2, 3, 4)),
    }


def test_grey_images_and_other_classes_change_the_first_and_last_layer_only() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in resnet50(classes=4, in_channels=1).state_dict().items()}
    changed = {name for name, shape in imagenet_checkpoint().items() if shapes[name] != shape}
    assert changed == {"conv1.weight", "fc.weight", "fc.bias"}
