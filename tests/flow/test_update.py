"""What the options of `update` change, and what is refused before anything is trained; on pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import synthetic
from command import Command, quietly
from perdure.release import Release


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    data = synthetic.write_images(folder / "data", domains=("a", "b"))
    words = ("--filters", 3, "--kernel-size", 3, "--size", 32, "--epochs", 2)
    quietly("train", "--data", data, "--domain", "a", *words, "--out", folder / "base")
    return folder / "base"


def updated(command: Command, base: Path, *words: object) -> Path:
    out = base.parent / ("-".join(map(str, words)).replace("--", "") or "default")
    data = base.parent / "data"
    command.succeeds("update", "--release", base, "--data", data, "--domain", "b", "--epochs", 1, *words, "--out", out)
    return out


@pytest.mark.parametrize(
    ("words", "method"),
    [
        (("--method", "finetune"), {"name": "finetune", "importance": None, "data": "target"}),
        (("--method", "mas-lr"), {"name": "mas-lr", "granularity": "filter", "batch_norm": "target"}),
        (("--method", "mas-lr", "--granularity", "parameter"), {"name": "mas-lr", "granularity": "parameter"}),
        (("--method", "mas-lr", "--granularity", "kernel"), {"name": "mas-lr", "granularity": "kernel"}),
        (("--method", "joint", "--joint-with", "a"), {"name": "joint", "data": "cumulative"}),
        ((), {"name": "dsbn", "trainable": "batch-norm", "batch_norm": "per-domain"}),
        (("--method", "mas-lr", "--batch-norm", "original"), {"name": "mas-lr", "batch_norm": "original"}),
    ],
)
def test_the_release_says_how_it_was_made(
    command: Command, base: Path, words: tuple[object, ...], method: dict[str, object]
) -> None:
    release = Release.open(updated(command, base, *words))
    assert {key: release.identity.method[key] for key in method} == method
    assert [seen.domain for seen in release.identity.domains] == ["a", "b"]
    assert release.identity.lineage[-1].id == Release.open(base).id
    before, after = (load_file(path / "weights.safetensors") for path in (base, base.parent / release.name))
    assert any(not (before[name] == after[name]).all() for name in before)


def test_under_original_no_statistic_changes_by_a_bit(command: Command, base: Path) -> None:
    out = updated(command, base, "--method", "finetune", "--batch-norm", "original")
    before, after = (load_file(path / "weights.safetensors") for path in (base, out))
    statistics = [name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(statistics) == 81  # three batch norms a block, nine blocks, three buffers
    assert all((before[name] == after[name]).all() for name in statistics)
    assert any((before[name] != after[name]).any() for name in before.keys() - set(statistics))


def test_two_methods_of_one_base_are_compared_in_one_command(command: Command, base: Path) -> None:
    both = [updated(command, base, "--method", method) for method in ("finetune", "mas-lr")]
    releases = [word for path in (base, *both) for word in ("--release", path)]
    out = base.parent / "scores.parquet"
    record = command.succeeds("evaluate", *releases, "--data", base.parent / "data", "--out", out, "--json").json
    assert list(record["matrices"]) == [path.name for path in both]
    first, second = record["matrices"].values()
    assert first["R"][0] == second["R"][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "no-such"), "There is no method 'no-such'."),
        (("--method", "joint"), "--joint-with"),
        (("--method", "finetune", "--joint-with", "a"), "does not use"),
        (("--method", "finetune", "--granularity", "kernel"), "granularity"),
        (("--domain", "a"), "has learnt domain 'a' already"),
        (("--release", "nowhere"), "nowhere: there is no release folder of this name"),
    ],
)
def test_what_does_not_go_together_is_an_error_before_training(
    command: Command, base: Path, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    out, data = tmp_path / "never", base.parent / "data"
    ended = command("update", "--release", base, "--data", data, "--domain", "b", "--out", out, *words)
    assert ended.code == 1
    assert message in ended.err
    assert "epoch" not in ended.err
    assert not out.exists()


def test_another_run_under_the_same_name_is_refused_and_names_what_differs(command: Command, base: Path) -> None:
    out = updated(command, base, "--method", "finetune", "--seed", 1)
    words = ("--release", base, "--data", base.parent / "data", "--domain", "b", "--out", out)
    ended = command("update", *words, "--method", "mas-lr", "--epochs", 3)
    assert ended.code == 1
    assert "other settings; these differ: method, recipe" in ended.err
    moved = out.rename(out.with_name("moved"))
    out.with_name(f"{out.name}.run").rename(base.parent / "old.run")
    ended = command("update", *words[:-1], moved, "--method", "mas-lr")
    assert ended.code == 1
    assert f"{moved} exists, and nothing is overwritten" in ended.err


def test_a_damaged_release_is_refused_by_the_name_of_the_file(command: Command, base: Path) -> None:
    out = updated(command, base, "--method", "finetune", "--seed", 2)
    with (out / "memory.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    for words in (("inspect", out), ("predict", "--release", out, "--input", base, "--out", base.parent / "p")):
        ended = command(*words)
        assert ended.code == 1
        assert f"{out / 'memory.safetensors'}: damaged" in ended.err


def test_evaluate_says_which_learnt_domain_the_data_lack(command: Command, base: Path) -> None:
    other = synthetic.write_images(base.parent / "other", domains=("c",))
    words = ("evaluate", "--release", base, "--data", other, "--out", base.parent / "x.parquet")
    ended = command(*words)
    assert ended.code == 2
    assert f"--data {other}: it lacks a, which the releases have learnt; name the domains" in ended.err
    text = command.succeeds(*words, "--domain", "c").out
    assert "No train-test matrix of base: it has no parent" in text


def test_scores_are_not_written_over_a_folder(command: Command, base: Path) -> None:
    ended = command("evaluate", "--release", base, "--data", base.parent / "data", "--out", base)
    assert ended.code == 2
    assert "is a folder; name a file" in ended.err


def test_one_bad_file_gives_code_6_and_its_name(command: Command, base: Path) -> None:
    source = base.parent / "mixed"
    synthetic.save_image(source / "good.png", np.zeros((40, 48, 3), np.uint8))
    (source / "bad.png").write_bytes(b"\x89PNG")
    ended = command("predict", "--release", base, "--input", source, "--out", base.parent / "mixed-out")
    assert ended.code == 6
    assert ended.out == f"1 predicted, 0 done before, in {base.parent / 'mixed-out'}\n"
    assert f"error: 1 failed:\n{source / 'bad.png'}: content: found" in ended.err


def test_a_configuration_file_does_for_a_whole_command(command: Command, base: Path, tmp_path: Path) -> None:
    (tmp_path / "update.toml").write_text(
        f'release = "{base}"\ndata = "{base.parent / "data"}"\ndomain = "b"\nmethod = "joint"\njoint-with = ["a"]\n'
        f'epochs = 1\nclip-norm = 1.0\naugment = true\nout = "{tmp_path / "b"}"\njson = true\n'
    )
    record = command.succeeds("update", "--config", tmp_path / "update.toml", "--epochs", 2).json
    assert record["method"]["name"] == "joint"
    assert (record["recipe"]["epochs"], record["recipe"]["augmentation"]) == (2, True)
