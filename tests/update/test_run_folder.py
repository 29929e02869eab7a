from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perdure.errors import UpdateError
from perdure.update.run_folder import Epoch, RunFolder, State, alone_in
from reference.networks import bits, network

EPOCHS = [Epoch(1, 0.1, 2.0, 0.0, 3.5, None), Epoch(2, 0.05, 1 / 3, 0.25, 0.5, 0.75)]


def adam_state() -> State:
    model = network("batch norm", 0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model(torch.randn(4, 2, 6, 6)).square().mean().backward()
    optimizer.step()
    return State(model.state_dict(), optimizer.state_dict(), list(EPOCHS), dict(model.state_dict()), 2.0)


def leaves(value: object) -> object:
    """The same structure with bits for tensors."""
    if isinstance(value, torch.Tensor):
        return bits(value)
    if isinstance(value, dict):
        return {key: leaves(item) for key, item in value.items()}
    return [leaves(item) for item in value] if isinstance(value, list | tuple) else value


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = adam_state()
    RunFolder(tmp_path / "run", {"seed": 1}).save(state)
    back = RunFolder(tmp_path / "run", {"seed": 1}).load()
    assert leaves(vars(back)) == leaves(vars(state))


def test_before_the_first_epoch_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert RunFolder(tmp_path / "run", {}).load() is None


def test_the_log_has_a_line_an_epoch(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {}).save(adam_state())
    with (tmp_path / "run" / "training.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    known = {name: value for name, value in first.items() if value}
    assert known == {
        "epoch": "1",
        "learning_rate": "0.1",
        "loss": "2.0",
        "penalty": "0.0",
        "gradient_norm": "3.5",
    }
    assert math.isclose(float(second["loss"]), 1 / 3)


def test_a_run_with_other_settings_is_refused_by_the_fields_that_differ(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"seed": 1, "recipe": {"epochs": 3}, "method": "finetune"})
    with pytest.raises(UpdateError) as error:
        RunFolder(tmp_path / "run", {"seed": 1, "recipe": {"epochs": 4}, "devices": 2, "method": "finetune"})
    assert "run.json: belongs to a run with other settings; these differ: devices, recipe." in str(error.value)
    assert "Choose another --out, or remove the folder to start anew" in str(error.value)


def test_the_order_of_settings_does_not_matter(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"a": 1, "b": 2})
    RunFolder(tmp_path / "run", {"b": 2, "a": 1})


def test_a_damaged_identity_is_named(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"a": 1})
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(UpdateError, match=r"run.json: damaged\."):
        RunFolder(tmp_path / "run", {"a": 1})


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x02garbage", b"\x80\x02h\x05", b"PK\x03\x04cut"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path / "run", {})
    (tmp_path / "run" / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UpdateError, match="checkpoint.pt: damaged, no checkpoint can be read; remove it to start"):
        folder.load()


def test_a_checkpoint_that_was_cut_short_or_lacks_a_part_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", {})
    folder.save(adam_state())
    file = tmp_path / "run" / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UpdateError, match="checkpoint.pt: damaged"):
        folder.load()
    torch.save({"model": {}}, file)
    with pytest.raises(UpdateError, match="checkpoint.pt: damaged"):
        folder.load()


def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was here",))

    folder = RunFolder(tmp_path / "run", {})
    torch.save(Runs(), tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(UpdateError, match="checkpoint.pt: damaged"):
        folder.load()
    assert not (tmp_path / "was here").exists()


def test_a_crash_while_saving_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run", {})
    state = adam_state()
    folder.save(state)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            folder.save(State({}, {}))
    assert leaves(vars(folder.load())) == leaves(vars(state))


def test_when_the_run_is_finished_only_identity_and_logs_stay(tmp_path: Path) -> None:
    """Of a process that was killed while it saved, too."""
    folder = RunFolder(tmp_path / "run", {})
    folder.save(adam_state())
    (tmp_path / "run" / ".checkpoint.pt.0123456789ab.unfinished").write_bytes(b"half")
    folder.finish()
    folder.finish()
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["run.json", "training.csv"]


def test_identity_and_epochs_are_read_from_a_run_that_is_finished(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", {"seed": 1})
    full = Epoch(3, 0.01, 0.5, 0.1, 2.0, 0.25, 1e-3, 1.0, 1 / 3, 0.9, None)
    folder.save(State({}, {}, [*EPOCHS, full]))
    folder.finish()
    assert RunFolder.read(tmp_path / "run") == ({"seed": 1}, [*EPOCHS, full])


def test_a_run_without_a_finished_epoch_has_no_epochs(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"seed": 1})
    assert RunFolder.read(tmp_path / "run") == ({"seed": 1}, [])


@pytest.mark.parametrize("log", [b"\xff", b"epoch,loss\n1,two\n", b"epoch,loss\n1,2.0\n", b"loss\n1\n"])
def test_a_damaged_log_is_named(tmp_path: Path, log: bytes) -> None:
    RunFolder(tmp_path / "run", {})
    (tmp_path / "run" / "training.csv").write_bytes(log)
    with pytest.raises(UpdateError, match=r"training.csv: damaged"):
        RunFolder.read(tmp_path / "run")


def test_a_folder_that_is_no_run_is_told_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match=r"run.json: missing; name the folder .* <out>.run"):
        RunFolder.read(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UpdateError, match=r"run.json: damaged"):
        RunFolder.read(tmp_path)


def test_no_bit_that_flips_in_a_checkpoint_is_trained_on(tmp_path: Path) -> None:
    """torch reads its own files without a look at their checksums."""
    folder = RunFolder(tmp_path / "run", {})
    folder.save(adam_state())
    file = tmp_path / "run" / "checkpoint.pt"
    content = file.read_bytes()
    for place in range(0, len(content), len(content) // 40):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        file.write_bytes(changed)
        with pytest.raises(UpdateError, match="checkpoint.pt: damaged, no checkpoint can be read"):
            folder.load()


def test_a_second_process_in_the_same_folder_is_told_so(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        script = f"""
from pathlib import Path
from perdure.update.run_folder import alone_in
with alone_in(Path({str(tmp_path / "run")!r})):
    pass
"""
        second = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert second.returncode == 1
    assert "UpdateError" in second.stderr
    assert f"{tmp_path / 'run'}: another process is training here" in second.stderr
    with alone_in(tmp_path / "run"):
        pass


@pytest.mark.parametrize("identity", [b"\xff", b"[" * 5000, b"9" * 5000, b'{"method": 3}', b'{"parent": [1]}', b"[]"])
def test_an_identity_of_something_else_is_damage(tmp_path: Path, identity: bytes) -> None:
    RunFolder(tmp_path / "run", {})
    (tmp_path / "run" / "run.json").write_bytes(identity)
    with pytest.raises(UpdateError, match=r"run.json: damaged"):
        RunFolder.read(tmp_path / "run")
    with pytest.raises(UpdateError, match=r"run.json: (damaged|belongs to a run with other settings)"):
        RunFolder(tmp_path / "run", {"seed": 1})


def test_an_epoch_of_the_log_without_a_loss_is_damage(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {}).save(adam_state())
    log = tmp_path / "run" / "training.csv"
    log.write_text(log.read_text().replace("2.0,0.0", ",0.0"))
    with pytest.raises(UpdateError, match=r"training.csv: damaged: epoch 1 has no loss"):
        RunFolder.read(tmp_path / "run")


def test_a_folder_is_emptied_only_while_no_epoch_is_finished(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with alone_in(run):
        folder = RunFolder(run, {"seed": 1})
        (run / "tensorboard").mkdir()
        assert RunFolder.clear(run)
        assert [path.name for path in run.iterdir()] == [".lock"]
        folder.save(adam_state())
        assert not RunFolder.clear(run)
        assert folder.load() is not None
