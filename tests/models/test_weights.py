from __future__ import annotations

import gc
import shlex
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from monai.networks.nets import UNet
from safetensors.torch import save_file
from torch import Tensor, nn

from perdure.errors import NetworkError
from perdure.models import load_weights
from perdure.models.weights import read_weights


class Network(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, classes)


class Explosive:
    """Says whether somebody unpickled it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))


def state(classes: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(7)
    return {name: torch.randn(tensor.shape) for name, tensor in Network(classes).state_dict().items()}


def assert_loaded(model: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, tensor in weights.items():
        torch.testing.assert_close(model.state_dict()[name], tensor.to(model.state_dict()[name].dtype), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_state_dict_loads_by_name_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state(), path)
    model = Network()
    loaded = load_weights(model, path)
    assert_loaded(model, state())
    assert (loaded.kept, loaded.ignored) == ((), ())


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": state(), "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": OrderedDict(state())},
        {f"module.{name}": tensor for name, tensor in state().items()},
        {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state().items()}},
        {"state_dict": {f"model.{name}": tensor for name, tensor in state().items()}},
    ],
    ids=["state_dict", "model", "DataParallel", "compiled", "Lightning"],
)
def test_nesting_and_prefixes_of_known_tools_are_taken_off(tmp_path: Path, content: dict[str, object]) -> None:
    torch.save(content, tmp_path / "weights.pt")
    model = Network()
    load_weights(model, tmp_path / "weights.pt")
    assert_loaded(model, state())


def test_a_prefix_that_the_network_has_itself_stays(tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict(model=nn.Linear(2, 2)))
    torch.save({"model.weight": torch.ones(2, 2), "model.bias": torch.ones(2)}, tmp_path / "weights.pt")
    assert load_weights(model, tmp_path / "weights.pt").kept == ()


def test_batch_counters_may_be_missing_as_in_old_files(tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in state().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "weights.pth")
    model = Network()
    assert load_weights(model, tmp_path / "weights.pth").kept == ("body.1.num_batches_tracked",)
    assert_loaded(model, old)


def test_missing_unexpected_and_misshapen_names_are_all_reported_with_their_shapes(tmp_path: Path) -> None:
    wrong = state()
    del wrong["body.1.running_var"]
    wrong["body.9.weight"] = torch.zeros(2, 5)
    wrong["body.0.weight"] = torch.zeros(4, 3, 3, 3)
    torch.save(wrong, tmp_path / "weights.pt")
    model = Network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NetworkError) as caught:
        load_weights(model, tmp_path / "weights.pt")
    text = str(caught.value)
    assert str(tmp_path / "weights.pt") in text
    assert "body.0.weight: found shape (4, 3, 3, 3); the network has (4, 1, 3, 3)" in text
    assert "body.1.running_var: missing in the file; the network has (4,)" in text
    assert "body.9.weight: found shape (2, 5); the network has no such name" in text
    assert_loaded(model, before)


def test_without_strict_the_rest_loads_and_what_was_left_is_returned(tmp_path: Path) -> None:
    partial = state()
    del partial["body.1.running_var"]
    partial["other"] = torch.zeros(2)
    torch.save(partial, tmp_path / "weights.pt")
    model = Network()
    loaded = load_weights(model, tmp_path / "weights.pt", strict=False)
    assert loaded.kept == ("body.1.running_var",)
    assert loaded.ignored == ("other",)
    assert_loaded(model, {name: tensor for name, tensor in partial.items() if name != "other"})


def test_a_wrong_shape_is_an_error_even_without_strict(tmp_path: Path) -> None:
    torch.save(state() | {"body.0.bias": torch.zeros(5)}, tmp_path / "weights.pt")
    with pytest.raises(NetworkError, match=r"body\.0\.bias: found shape \(5,\)"):
        load_weights(Network(), tmp_path / "weights.pt", strict=False, replace_head=True)


def test_the_head_of_other_classes_is_replaced_on_request_and_named(tmp_path: Path) -> None:
    torch.save(state(classes=1000), tmp_path / "imagenet.pth")
    model = Network(classes=3)
    initial = model.fc.weight.detach().clone()
    with pytest.raises(NetworkError, match=r"fc\.bias: found shape \(1000,\)[\s\S]*replace_head=True"):
        load_weights(model, tmp_path / "imagenet.pth")
    loaded = load_weights(model, tmp_path / "imagenet.pth", replace_head=True)
    assert loaded.kept == loaded.ignored == ("fc.bias", "fc.weight")
    assert torch.equal(model.fc.weight, initial)
    assert_loaded(model, {name: tensor for name, tensor in state(1000).items() if not name.startswith("fc.")})


def test_a_head_that_fits_is_loaded_even_if_it_might_be_replaced(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "weights.pt")
    model = Network()
    assert load_weights(model, tmp_path / "weights.pt", replace_head=True).kept == ()
    assert_loaded(model, state())


def test_a_pickled_model_is_refused_unopened_with_the_way_to_convert_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a model of Anne's.pt"
    for content, legacy in (
        (nn.Linear(2, 2), False),
        (nn.Linear(2, 2), True),
        (UNet(2, 1, 2, channels=(2, 4), strides=(2,)), False),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(NetworkError, match=r"Anne's\.pt: cannot be read as plain tensors") as caught:
            load_weights(Network(), path)
        command = next(line for line in str(caught.value).splitlines() if "python -c" in line)
        _, option, code = shlex.split(command)
        assert option == "-c"
        exec(code)  # noqa: S102 - what a user would run, and of a model made here
        converted = path.with_suffix(".weights.pt")
        assert read_weights(converted).keys() == content.state_dict().keys()
        converted.unlink()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_asks_for_anything_else_gets_no_command_that_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (Explosive(), {"state_dict": state(), "extra": Explosive()}, [nn.Linear(2, 2), Explosive()]):
        torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(
            NetworkError, match=r"model\.pt: cannot be read as plain tensors: it asks for .*getattr"
        ) as caught:
            load_weights(Network(), tmp_path / "model.pt")
        assert "python" not in str(caught.value)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.modules linear.Linear",
        "torch.nn.modules.linear init.os.system",
        "monai.networks.utils torch.hub.X",
        "torch load",
        "a\x1b[31m b",
    ],
)
def test_a_name_behind_that_of_a_layer_is_unknown(tmp_path: Path, name: str) -> None:
    module, function = name.split(" ")
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl", f"\x80\x02c{module}\n{function}\n.".encode("latin-1"))
        archive.writestr("w/version", "3\n")
    with pytest.raises(NetworkError, match=r"w\.pt: cannot be read as plain tensors: it asks for ") as caught:
        load_weights(Network(), tmp_path / "w.pt")
    assert "python" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_a_way_round_the_names_counts_as_unknown(tmp_path: Path) -> None:
    torch.save({"a": Explosive()}, tmp_path / "w.pt", pickle_protocol=4)
    with pytest.raises(NetworkError, match=r"it asks for something by STACK_GLOBAL\."):
        load_weights(Network(), tmp_path / "w.pt")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("length", [0, 3, 60, 300, -300, -10])
def test_a_file_that_was_cut_short_is_damaged_and_gets_no_command(tmp_path: Path, legacy: bool, length: int) -> None:
    torch.save(state(), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:length])
    with pytest.raises(NetworkError, match=r"w\.pt: cannot be read .*the file is damaged: copy it again") as caught:
        load_weights(Network(), tmp_path / "w.pt")
    assert "python" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(NetworkError, match=f"weights{suffix}: "):
        load_weights(Network(), path)
    path.write_bytes(b"")
    with pytest.raises(NetworkError, match=f"weights{suffix}: "):
        load_weights(Network(), path)


@pytest.mark.parametrize(
    ("content", "found"),
    [(torch.zeros(3), "found Tensor"), ([1], "found list"), ({}, "found dict"), ({"lr": 0.1}, "lr: found float")],
)
def test_a_file_that_holds_no_state_dict_says_what_it_holds(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(NetworkError, match=found):
        load_weights(Network(), tmp_path / "weights.pt")


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    torch.save(state() | {"fc.bias": torch.tensor([0.0, float("nan"), 1.0])}, tmp_path / "weights.pt")
    with pytest.raises(NetworkError, match=r"fc\.bias: found NaN or infinity"):
        load_weights(Network(), tmp_path / "weights.pt")


def test_a_missing_file_and_an_unknown_suffix_say_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"nowhere\.pt: no such file"):
        load_weights(Network(), tmp_path / "nowhere.pt")
    (tmp_path / "weights.h5").touch()
    with pytest.raises(NetworkError, match=r"weights\.h5: found suffix '\.h5'; weights are read from \.safetensors"):
        load_weights(Network(), tmp_path / "weights.h5")


@pytest.mark.parametrize("content", [b"\x80\x02cbuiltins\neval\n\x85R.", b"cos\nsystem\n(S'x'\ntR.", b"\xff" * 9, b""])
def test_bytes_of_any_kind_are_refused_by_the_name_of_their_file(tmp_path: Path, content: bytes) -> None:
    for suffix in (".pt", ".safetensors"):
        path = tmp_path / f"w{suffix}"
        path.write_bytes(content)
        with pytest.raises(NetworkError, match=rf"w\{suffix}: (cannot be read as plain tensors|not a readable)"):
            load_weights(nn.Linear(1, 1), path)


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    """`load_file` of safetensors 0.8 forgets some bytes for each tensor: 400 kB here."""
    save_file({f"layer{number}.weight": torch.rand(3) for number in range(100)}, tmp_path / "w.safetensors")
    read_weights(tmp_path / "w.safetensors")
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(80):
        read_weights(tmp_path / "w.safetensors")
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    assert sum(one.size_diff for one in after.compare_to(before, "filename")) < 100_000
