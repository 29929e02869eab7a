from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from perdure.update.processes import sum_over_processes

SCRIPT = Path(__file__).with_name("gloo_sum.py")


def test_with_one_process_the_sum_is_the_tensor_itself() -> None:
    value = torch.tensor([1.0], requires_grad=True)
    assert sum_over_processes(value) is value


def test_two_processes_over_gloo(tmp_path: Path) -> None:
    """x = 2 and 3 give the sum 5 and, for the loss 5², the gradient 2 * 5 on each of two processes: 20.

    The values themselves stay as they were, also where they lie otherwise in memory.
    """
    processes = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(rank), str(tmp_path)], stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    for rank in (0, 1):
        found = torch.load(tmp_path / f"output_{rank}.pt", weights_only=True)
        assert found["sum"].item() == 5
        assert found["gradient"].item() == 20
        assert found["value"].item() == 2 + rank
        assert found["count"].tolist() == [3, 3]
        assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert found["turned sum"].tolist() == [[0, 6], [2, 8], [4, 10]]
