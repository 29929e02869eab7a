"""Where a training run keeps what it needs to go on after a crash."""

from __future__ import annotations

import csv
import io
import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from perdure.errors import UpdateError
from perdure.release.folder import replace_file

if TYPE_CHECKING:
    from torch import Tensor

IDENTITY, CHECKPOINT, LOG = "run.json", "checkpoint.pt", "training.csv"


@dataclass(frozen=True)
class Epoch:
    """What happened in one epoch.

    Args:
        epoch: counted from 1.
        learning_rate: in force.
        loss: mean over steps of the task's loss on the training samples.
        penalty: mean over steps of the regularizer's term.
        gradient_norm: mean over steps, before clipping.
        validation_loss: on the new domain's validation samples; None where there are none.
    """

    epoch: int
    learning_rate: float
    loss: float
    penalty: float
    gradient_norm: float
    validation_loss: float | None


@dataclass
class State:
    """Where training stands after an epoch.

    Args:
        model: parameters and buffers.
        optimizer: the optimizer's state.
        history: the epochs so far.
        best: parameters and buffers of the best epoch, where training stops early.
        first_loss: what the guard compares with.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    first_loss: float | None = None


class RunFolder:
    """A folder with the identity of a run, its checkpoint and its logs.

    Args:
        path: the folder; it is made.
        identity: everything that decides the result, as plain JSON values.

    Raises:
        UpdateError: if the folder belongs to a run with another identity.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(identity, indent=2, sort_keys=True, default=str) + "\n"
        file = path / IDENTITY
        if not file.exists():
            replace_file(file, text.encode())
        elif (found := file.read_text(encoding="utf-8")) != text:
            raise UpdateError(
                f"{file}: {_difference(found, text)} Choose another --out, or remove the folder to start anew."
            )

    def save(self, state: State) -> None:
        """Replaces the checkpoint in one step and rewrites the log."""
        content = {**state.__dict__, "history": [asdict(epoch) for epoch in state.history]}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        replace_file(self.path / CHECKPOINT, buffer.getvalue())
        self._write_log(state.history)

    def load(self) -> State | None:
        """The checkpoint, or None if the run has not finished an epoch.

        Raises:
            UpdateError: if the file is damaged.
        """
        file = self.path / CHECKPOINT
        if not file.exists():
            return None
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            return State(**{**content, "history": [Epoch(**epoch) for epoch in content["history"]]})
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise UpdateError(f"{file}: damaged ({error}); remove it to start the run anew.") from error

    def finish(self) -> None:
        """Removes the checkpoint, and what a killed process left, once the release is written; the logs stay."""
        for file in [self.path / CHECKPOINT, *self.path.glob(".*.unfinished")]:
            file.unlink(missing_ok=True)

    def _write_log(self, history: list[Epoch]) -> None:
        lines = [list(Epoch.__dataclass_fields__), *(list(asdict(epoch).values()) for epoch in history)]
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        replace_file(self.path / LOG, text.getvalue().encode())


def _difference(found: str, wanted: str) -> str:
    try:
        before, now = json.loads(found), json.loads(wanted)
    except json.JSONDecodeError:
        return "damaged."
    fields = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return f"belongs to a run with other settings; these differ: {', '.join(fields)}."
