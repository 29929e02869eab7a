"""A model of another tool is adopted, updated and predicted with, from the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

import nnunet_folder
import synthetic
from command import Command
from layouts import write_decathlon, write_export

UPDATE = ("update", "--data", "data", "--domain", "scanner-b", "--epochs", 1, "--batch-size", 2, "--method", "mas-lr")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, in which the command is started."""
    synthetic.write_volumes(tmp_path / "data", cases=(2, 1, 1), shape=(12, 14, 13), orientation="LPS")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def volumes(path: str) -> list[list[str]]:
    with Path(path, "volumes.csv").open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_model_folder_of_nnu_net_is_adopted_updated_and_predicted_with(
    place: Path, command: Command, dims: int
) -> None:
    nnunet_folder.write(place / "trained", nnunet_folder.network(dims), nnunet_folder.plans(dims))
    adopted = command.succeeds(
        "adopt", "--nnunet", "trained", "--data", "data", "--domain", "scanner-a", "--out", "releases/base", "--json"
    )
    assert adopted.json["network"]["factory"] == "nnunet:PlainConvUNet"
    assert adopted.json["contract"]["intensity"]["scaling"] == "zscore"
    assert len(adopted.json["differences"]) == adopted.err.count("note: ") > 0
    command.succeeds(*UPDATE, "--release", "releases/base", "--out", "releases/b")
    predict = ("predict", "--release", "releases/b", "--input", "data/images", "--out", "predicted", "--volumes")
    assert len(command.succeeds(*predict, "--json").json["written"]) == 8
    assert len(volumes("predicted")) == 1 + 8 * 3
    scores = ("evaluate", "--release", "releases/base", "--release", "releases/b", "--data", "data")
    assert command.succeeds(*scores, "--out", "scores.parquet", "--json").json["matrices"]["b"]


@pytest.mark.parametrize(
    ("layout", "write", "said", "axes"),
    [("msd", write_decathlon, (), "SAR"), ("dicom", write_export, ("--stored", "LPS"), "SPL")],
)
def test_a_model_of_another_tool_is_adopted_on_images_that_lie_outside_the_data_folder(
    place: Path,
    command: Command,
    layout: str,
    write: Callable[[Path], Path],
    said: tuple[str, ...],
    axes: str,
) -> None:
    """NIfTI lies as it lay in training, here in RAS, and nnU-Net takes the last axis first; of DICOM one has to say."""
    labels = {"background": 0, "ball": 1, "core": 2}
    nnunet_folder.write(place / "trained", nnunet_folder.network(classes=3), labels=labels)
    imported = ("--out", "imported", "--salt", "salt", "--domain", "site-a")
    command.succeeds("import", layout, write(place / "source"), *imported)
    words = ("adopt", "--nnunet", "trained", "--data", "imported", "--domain", "site-a", "--json")
    assert command.succeeds(*words, *said, "--out", "base").json["contract"]["orientation"] == axes


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "none: name one of --network"),
        (("--nnunet", "a", "--bundle", "b"), "--nnunet and --bundle: name one of"),
        (("--network", "quicknat"), "--weights: missing"),
        (("--nnunet", "a", "--size", 16, "--view", "coronal"), "--size, --view: not with --nnunet"),
        (("--nnunet", "a", "--weights", "w.pt"), "--weights: not with --nnunet"),
        (("--bundle", "a", "--fold", "0"), "--fold: not with --bundle"),
        (("--network", "quicknat", "--weights", "w.pt", "--stored", "RAS"), "--stored: not with --network"),
    ],
)
def test_what_is_adopted_is_said_once(place: Path, command: Command, words: tuple[object, ...], why: str) -> None:
    ended = command("adopt", "--data", "data", "--domain", "scanner-a", "--out", "base", *words)
    assert ended.code == 2
    assert why in ended.err
    assert not (place / "base").exists()


def test_a_release_leaves_as_a_bundle_and_comes_back_with_its_contract(place: Path, command: Command) -> None:
    settings = ("--network-arg", "channels=[2,4]", "--network-arg", "strides=[2]", "--epochs", 1)
    train = ("train", "--data", "data", "--domain", "scanner-a", "--network", "monai:UNet", *settings)
    command.succeeds(*train, "--view", "axial", "--mean", 0.5, "--out", "releases/a")
    export = ("export", "releases/a", "--format", "monai", "--out", "bundle", "--input", "data/images/scanner-a")
    assert command.succeeds(*export, "--json").json["different"] == 0
    adopt = ("adopt", "--bundle", "bundle", "--data", "data", "--domain", "scanner-a")
    back = command.succeeds(*adopt, "--out", "back/a", "--json").json
    first = command.succeeds("inspect", "releases/a", "--json").json
    assert (back["contract"], back["network"]) == (first["contract"], first["network"])
    ended = command(*adopt, "--out", "back/b", "--size", 16)
    assert ended.code == 1
    assert "release.json: says the network and its input contract; leave out size" in ended.err
    # without what Perdure wrote beside it, it is a bundle like any other
    (place / "bundle" / "docs" / "release.json").unlink()
    ended = command.succeeds(*adopt, "--out", "back/c", "--view", "axial", "--json")
    assert ended.json["contract"]["size"] == first["contract"]["size"]
    assert any("Prepared" in sentence for sentence in ended.json["differences"])
    for release in ("releases/a", "back/a"):
        command.succeeds("predict", "--release", release, "--input", "data/images", "--out", f"p/{release}")
    files = sorted(path.relative_to(place / "p/back/a") for path in (place / "p/back/a").rglob("*.nii.gz"))
    assert len(files) == 8
    for file in files:
        assert (place / "p/back/a" / file).read_bytes() == (place / "p/releases/a" / file).read_bytes()


def test_an_adoption_that_was_stopped_before_its_entry_in_the_ledger_is_recorded_by_the_same_command(
    place: Path, command: Command
) -> None:
    nnunet_folder.write(place / "trained", nnunet_folder.network(2), nnunet_folder.plans(2))
    adopt = ("adopt", "--nnunet", "trained", "--data", "data", "--domain", "scanner-a", "--out", "releases/base")
    command.succeeds(*adopt)
    made = (place / "releases/base/release.json").read_bytes()
    # as it is when the process is killed between the two
    for name in ("ledger.jsonl", "ledger.head"):
        (place / "releases" / name).unlink()
    ended = command(*adopt, "--seed", 7)
    assert ended.code == 1
    assert "releases/base exists, and nothing is overwritten" in ended.err
    assert command("verify", "releases").code != 0
    command.succeeds(*adopt)
    command.succeeds("verify", "releases")
    assert (place / "releases/base/release.json").read_bytes() == made
    assert "exists, and nothing is overwritten" in command(*adopt).err


def test_an_export_that_is_there_is_not_overwritten(place: Path, command: Command) -> None:
    (place / "bundle").mkdir()
    ended = command("export", "releases/a", "--format", "monai", "--out", "bundle")
    assert ended.code == 1
    assert "bundle exists, and nothing is overwritten" in ended.err
