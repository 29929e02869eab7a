"""nnU-Net's networks are built from names on a short list, and its checkpoints are read without running anything."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nnunet_folder
from perdure.errors import NetworkError
from perdure.models import NetworkSpec, build, size_multiple
from perdure.models.nnunet import network_arguments, read_checkpoint


def spec(dims: int = 3, residual: bool = False, **changes: Any) -> NetworkSpec:
    described = nnunet_folder.architecture(dims, residual)
    name = described["network_class_name"].rpartition(".")[2]
    return NetworkSpec(factory=f"nnunet:{name}", arguments=network_arguments({**described["arch_kwargs"], **changes}))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_the_network_of_a_plan_computes_what_nnu_net_s_own_does(dims: int, residual: bool) -> None:
    theirs = nnunet_folder.network(dims, residual).eval()
    ours = build(spec(dims, residual), channels=1, classes=4, spatial_dims=dims).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 1, *[16] * dims)
    with torch.no_grad():
        # theirs gives the coarser outputs of deep supervision behind the one that counts
        assert torch.equal(ours(x), theirs(x)[0])


def test_a_network_can_be_built_again_from_what_it_says_of_itself() -> None:
    first = build(spec(), channels=1, classes=4, spatial_dims=3)
    said = NetworkSpec.model_validate_json(first.network_spec.model_dump_json())  # type: ignore[union-attr, operator]
    again = build(said, channels=1, classes=4, spatial_dims=3)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in first.state_dict().items()}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("conv_op", "os.system"),
        ("conv_op", "torch.nn.modules.conv.Conv1d"),
        ("norm_op", "torch.nn.functional.relu"),
        ("norm_op", "torch.nn.modules.instancenorm.InstanceNorm3d; import os"),
        ("nonlin", "torch.nn.__builtins__"),
        ("nonlin", "mypackage.LeakyReLU"),
        ("dropout_op", 3),
        ("block", "os.path.join"),
    ],
)
def test_a_class_that_is_not_on_the_list_is_refused_by_name_and_not_imported(key: str, value: object) -> None:
    with pytest.raises(NetworkError, match=rf"{key}: found {re.escape(repr(value))}; allowed are .*not imported"):
        network_arguments({**nnunet_folder.architecture()["arch_kwargs"], key: value})
    arguments = {**spec(residual=True).arguments, key: value}
    with pytest.raises(NetworkError, match="not imported"):
        build(
            NetworkSpec(factory="nnunet:ResidualEncoderUNet", arguments=arguments),
            channels=1,
            classes=4,
            spatial_dims=3,
        )


@pytest.mark.parametrize("name", ["ResNet50", "__init__", "nn.Linear", ""])
def test_a_network_that_is_not_on_the_list_is_refused(name: str) -> None:
    with pytest.raises(NetworkError, match=r"allowed are PlainConvUNet, ResidualEncoderUNet"):
        build(NetworkSpec(factory=f"nnunet:{name}"), channels=1, classes=4, spatial_dims=3)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dynamic_network_architectures.architectures", None)
    with pytest.raises(NetworkError, match=r"pip install 'perdure\[nnunet\]'"):
        build(spec(), channels=1, classes=4, spatial_dims=3)


def test_the_strides_say_what_must_divide_an_input() -> None:
    strides = [[1, 1], [2, 2], [2, 2], [1, 2]]
    assert size_multiple(NetworkSpec(factory="nnunet:PlainConvUNet", arguments={"strides": strides})) == (4, 8)
    assert size_multiple(NetworkSpec(factory="monai:UNet", arguments={"strides": [2, 2]})) is None


def test_a_checkpoint_with_numbers_of_numpy_is_read_without_them(tmp_path: Path) -> None:
    model = nnunet_folder.network()
    folder = nnunet_folder.write(tmp_path / "model", model)
    path = folder / "fold_0" / "checkpoint_final.pth"
    weights, beside = read_checkpoint(path)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert beside["init_args"]["configuration"] == "3d_fullres"
    assert beside["logging"]["mean_fg_dice"] == [None]


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (Runs, "posix.system"),
        (lambda path: np.random.default_rng(0), r"numpy\.random\."),
        (lambda path: np.array([Runs(path)], object), r"posix\.system"),
    ],
)
def test_a_checkpoint_that_could_run_code_stays_closed_and_no_command_opens_it(
    tmp_path: Path, value: Any, asked: str
) -> None:
    torch.save({"network_weights": {"a": torch.zeros(1)}, "more": value(tmp_path / "ran")}, tmp_path / "x.pth")
    with pytest.raises(NetworkError, match=rf"x\.pth: cannot be read as plain tensors: it asks for {asked}") as caught:
        read_checkpoint(tmp_path / "x.pth")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_with_arrays_of_numpy_says_how_to_keep_what_is_needed(tmp_path: Path) -> None:
    torch.save({"network_weights": {"a": torch.zeros(1)}, "more": np.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(
        NetworkError, match=r"x\.pth: cannot be read as plain tensors(.|\n)*python -c .*network_weights"
    ):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "network_weights: found nothing"),
        ([1], "network_weights: found nothing"),
        ({"network_weights": {"a": 3}}, "a: found int; it must be a tensor"),
        ({"network_weights": {"a": torch.tensor([float("nan")])}}, "a: found NaN or infinity"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_by_what_is_wrong(tmp_path: Path, content: Any, why: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(NetworkError, match=why):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("length", [0, 3, 100, -10])
def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = nnunet_folder.write(tmp_path / "model", nnunet_folder.network()) / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(NetworkError, match="damaged: copy it again"):
        read_checkpoint(path)
