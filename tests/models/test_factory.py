from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from perdure.errors import NetworkError
from perdure.models import NetworkSpec, QuickNAT, build, describe, networks, training_mode

THEIRS = """
import os
from functools import partial
from torch import nn

class Net(nn.Module):
    def __init__(self, n_channels, n_classes, width=4):
        super().__init__()
        self.linear = nn.Linear(n_channels * width, n_classes)

class Outer:
    class Inner(nn.Linear):
        def __init__(self, in_channels, num_classes):
            super().__init__(in_channels, num_classes)

def fixed():
    return nn.Linear(2, 2)

def flexible(**kwargs):
    return nn.Linear(**kwargs)

def annotated(width=2, **kwargs) -> Net:
    return Net(width=width, **kwargs)

def list_maker(classes):
    return [classes]

def picky(classes):
    raise ValueError("never enough classes")

def lazy(classes):
    import their_layers
    return their_layers.layer(classes)

shortcut = partial(Net, width=2)
number = 3
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stranger's module in the current directory."""
    (tmp_path / "their_networks.py").write_text(THEIRS)
    (tmp_path / "their_layers.py").write_text(
        "from torch import nn\ndef layer(classes): return nn.Linear(1, classes)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    yield "their_networks"
    for module in ("their_networks", "their_layers"):
        sys.modules.pop(module, None)


def built(factory: str, trusted: tuple[str, ...] = (), spatial_dims: int = 2, **arguments: object) -> nn.Module:
    spec = NetworkSpec.model_validate({"factory": factory, "arguments": arguments})
    return build(spec, channels=1, classes=3, spatial_dims=spatial_dims, trusted=trusted)


def test_channels_and_classes_come_from_the_data() -> None:
    model = built("quicknat", filters=4, kernel_size=3)
    assert isinstance(model, QuickNAT)
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, 3, 16, 16)


def test_resnet50_is_built_by_name() -> None:
    model = built("resnet50")
    assert model.get_parameter("conv1.weight").shape == (64, 1, 7, 7)
    assert model.get_parameter("fc.weight").shape == (3, 2048)


@pytest.mark.parametrize("factory", ["quicknat", "resnet50"])
def test_a_2d_network_is_refused_for_volumes(factory: str) -> None:
    with pytest.raises(NetworkError, match=f"'{factory}' is 2-D; the data have 3 dimensions"):
        built(factory, spatial_dims=3)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_monai_unet_is_built_and_trains_without_arguments(spatial_dims: int) -> None:
    model = built("monai:UNet", spatial_dims=spatial_dims)
    x = torch.rand(2, 1, *[16] * spatial_dims)
    with training_mode(model, "original"):
        logits = model(x)
        logits.square().mean().backward()
    assert logits.shape == (2, 3, *[16] * spatial_dims)
    assert all(p.grad is not None for p in model.parameters())


def test_a_small_3d_unet_with_batch_norm_follows_the_original_statistics() -> None:
    model = built("monai:UNet", spatial_dims=3, channels=[2, 4], strides=[2], norm="batch")
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert before
    with training_mode(model, "original"):
        model(torch.rand(2, 1, 8, 8, 8)).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("name", ["DenseNet121", "resnet18", "SEResNet50"])
def test_monai_classifiers_get_their_numbers_through_their_kwargs(name: str) -> None:
    """`resnet18(**kwargs) -> ResNet` and `SEResNet50(SENet)` hide the arguments behind `**kwargs`."""
    model = built(f"monai:{name}").eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, 64, 64)).shape == (1, 3)


def test_monai_networks_do_not_download() -> None:
    """EfficientNetBN fetches ImageNet weights by default."""
    model = built("monai:EfficientNetBN", model_name="efficientnet-b0")
    spec = describe(model)
    assert spec is not None
    assert spec.arguments["pretrained"] is False
    with pytest.raises(NetworkError, match="`pretrained` would fetch weights"):
        built("monai:DenseNet121", pretrained=True)


def test_an_unknown_monai_name_suggests_the_nearest() -> None:
    with pytest.raises(NetworkError, match=r"MONAI has no network 'UNett'\. Did you mean .*UNet"):
        built("monai:UNett")
    with pytest.raises(NetworkError, match="no network 'drop_connect'"):
        built("monai:drop_connect")


def test_what_monai_cannot_do_without_is_asked_for() -> None:
    with pytest.raises(NetworkError, match=r"'monai:UNETR' needs a value for \['img_size'\]"):
        built("monai:UNETR")


@pytest.mark.parametrize("name", ["unet", "quicknet", "monai", "", "a b:c", "os.system", "their:", ":Net", "x:1y"])
def test_any_other_name_lists_the_networks(name: str) -> None:
    with pytest.raises(NetworkError) as caught:
        built(name)
    assert all(form in str(caught.value) for form in networks())


def test_an_unknown_argument_lists_the_known() -> None:
    with pytest.raises(NetworkError, match=r"'quicknat' has no argument \['filter'\]; allowed are \['in_channels'"):
        built("quicknat", filter=3)


def test_an_argument_of_a_wrong_type_is_an_error_of_the_network() -> None:
    with pytest.raises(NetworkError, match="'quicknat' refuses its arguments"):
        built("quicknat", filters="many")


def test_a_number_that_contradicts_the_data_is_refused() -> None:
    with pytest.raises(NetworkError, match="`classes` is 4, but the data need 3"):
        built("quicknat", classes=4)


def test_a_strangers_code_is_not_imported_unless_it_is_trusted(theirs: str) -> None:
    with pytest.raises(NetworkError, match=f"--trust {theirs}"):
        built(f"{theirs}:Net")
    assert theirs not in sys.modules
    assert built(f"{theirs}:Net", trusted=(theirs,)).get_parameter("linear.weight").shape == (3, 4)


def test_trusting_a_package_or_a_module_says_nothing_of_others(theirs: str) -> None:
    for trusted in ("their", "their_networks_too", "their_networks.part", ""):
        with pytest.raises(NetworkError, match="--trust"):
            built(f"{theirs}:Net", trusted=(trusted,))
    assert built("torch.nn.modules.linear:Linear", trusted=("torch",), in_features=1, out_features=2)
    assert built("torch.nn.modules.linear:Linear", trusted=("torch.nn",), in_features=1, out_features=2)


def test_a_trusted_module_does_not_lend_what_it_imports(theirs: str) -> None:
    """Otherwise a release that names `their_networks:os.system` would run a shell."""
    for name in ("os.system", "nn.Linear", "shortcut", "number"):
        with pytest.raises(NetworkError, match=f"'{theirs}:{name}' must be a class or function defined in a trusted"):
            built(f"{theirs}:{name}", trusted=(theirs,))


def test_the_import_path_is_left_as_it_was(theirs: str) -> None:
    before = list(sys.path)
    built(f"{theirs}:Net", trusted=(theirs,))
    with pytest.raises(NetworkError, match="cannot import 'nowhere'"):
        built("nowhere:Net", trusted=("nowhere",))
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Net", {"width": 2}),
        ("Outer.Inner", {}),
        ("fixed", {}),
        ("flexible", {"in_features": 2, "out_features": 3}),
        ("annotated", {}),
        ("lazy", {}),
    ],
)
def test_classes_and_functions_of_a_stranger_are_built(theirs: str, name: str, arguments: dict[str, int]) -> None:
    model = built(f"{theirs}:{name}", trusted=(theirs,), **arguments)
    spec = describe(model)
    assert spec is not None
    again = build(spec, channels=1, classes=3, spatial_dims=2, trusted=(theirs,))
    assert [p.shape for p in again.parameters()] == [p.shape for p in model.parameters()]


def test_a_name_that_the_module_lacks_is_an_error(theirs: str) -> None:
    with pytest.raises(NetworkError, match="has no 'Missing'"):
        built(f"{theirs}:Missing", trusted=(theirs,))


def test_a_factory_must_return_a_torch_module(theirs: str) -> None:
    with pytest.raises(NetworkError, match="returned list"):
        built(f"{theirs}:list_maker", trusted=(theirs,))


def test_what_a_factory_refuses_is_passed_on(theirs: str) -> None:
    with pytest.raises(NetworkError, match="never enough classes"):
        built(f"{theirs}:picky", trusted=(theirs,))


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": [], "strides": []},
        {"channels": [4, -8], "strides": [2]},
        {"channels": "16", "strides": [2]},
        {"channels": [4, 8], "strides": [2], "norm": "no such norm"},
        {"channels": [4, 8], "strides": [2], "act": {"a": 1}},
        {"channels": {"a": 1}, "strides": [2]},
    ],
)
def test_arguments_that_a_factory_cannot_take_are_refused_whatever_it_raises(arguments: dict[str, object]) -> None:
    with pytest.raises(NetworkError, match="refuses its arguments"):
        built("monai:UNet", **arguments)
