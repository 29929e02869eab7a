"""Two processes share each batch and end with the same weights and importance as one, within rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import synthetic
from command import in_a_process_of_its_own, quietly


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a base release, and its update in one process."""
    folder = tmp_path_factory.mktemp("one")
    data = synthetic.write_images(folder / "data", domains=("a", "b"), cases=(5, 1, 1), size=(24, 24))
    network = ("--filters", 3, "--kernel-size", 3, "--size", 24)
    quietly("train", "--data", data, "--domain", "a", *network, "--epochs", 2, "--out", folder / "base")
    quietly(*words(folder, folder / "one"))
    return folder


def words(folder: Path, out: Path) -> tuple[object, ...]:
    # 5 samples in batches of 4: the two processes do not have equally many, and the last batch has one
    where = ("--release", folder / "base", "--data", folder / "data", "--domain", "b", "--out", out)
    return "update", *where, "--epochs", 2, "--batch-size", 4


def test_an_update_by_two_processes(one: Path, tmp_path: Path) -> None:
    ended = in_a_process_of_its_own(*words(one, tmp_path / "two"), "--devices", 2, "--json")
    assert ended.code == 0, ended.err
    # whatever the processes have to say, standard output is the result
    assert ended.json["lineage"][0]["name"] == "base"
    assert ended.err.count("epoch 2 of 2") == 1
    for name in ("weights.safetensors", "memory.safetensors"):
        expected, found = (load_file(path / name) for path in (one / "one", tmp_path / "two"))
        assert expected.keys() == found.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(
                found[key], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_what_goes_wrong_in_one_of_them_is_one_message(one: Path, tmp_path: Path) -> None:
    ended = in_a_process_of_its_own(*words(one, tmp_path / "two"), "--devices", 2, "--learning-rate", 1e30)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "Lower the learning rate (--learning-rate)" in ended.err.partition("error: ")[2]
    assert not (tmp_path / "two").exists()
