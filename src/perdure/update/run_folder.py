"""Where a training run keeps what it needs to go on after a crash."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict

from perdure.errors import UpdateError
from perdure.models.weights import DAMAGED
from perdure.release.folder import held, replace_file
from perdure.release.recorded import MethodRecord, RecipeRecord

if TYPE_CHECKING:
    from torch import Tensor

IDENTITY, CHECKPOINT, LOG, LOCK = "run.json", "checkpoint.pt", "training.csv", ".lock"

_DIGEST_BYTES = 32


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
        restraint: what the restraint costs where the model stands at the end, also for forms that act on the step.
        task_gradient: norm of the task's own gradient, in the last step and before clipping.
        restraint_gradient: norm of the penalty's gradient, in the last step; None for forms that act on the step.
        step_share: norm of the last step taken over that of the step that the optimizer computed.
        step_change: norm of what the restraint changed in the last step, over that of the step computed.
    """

    epoch: int
    learning_rate: float
    loss: float
    penalty: float
    gradient_norm: float
    validation_loss: float | None
    restraint: float | None = None
    task_gradient: float | None = None
    restraint_gradient: float | None = None
    step_share: float | None = None
    step_change: float | None = None


@dataclass
class State:
    """Where training stands after an epoch.

    Args:
        model: parameters and buffers.
        optimizer: the optimizer's state.
        history: the epochs so far.
        best: parameters and buffers of the best epoch, where training stops early.
        first_loss: what the guard compares with.
        watched: what measures gather while the model trains, by key.
        watched_best: the same, as it stood at the best epoch.
        report: what the form has to say of the steps so far, see `Past.report`.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    first_loss: float | None = None
    watched: dict[str, dict[str, Any]] = field(default_factory=dict)
    watched_best: dict[str, dict[str, Any]] = field(default_factory=dict)
    report: dict[str, float] = field(default_factory=dict)


class _RunRecord(BaseModel):
    """What readers rely on in `run.json`; see `Job.identity` for the rest."""

    model_config = ConfigDict(extra="allow")

    method: MethodRecord = {}
    recipe: RecipeRecord = {}
    parent: str | None = None


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Nobody else trains in a run folder meanwhile; it is made if there is none.

    Raises:
        UpdateError: if somebody does.
    """
    refusal = UpdateError(
        f"{path}: another process is training here, and two would mix what they write. Wait until it has ended; the "
        "same command then goes on, or opens what was made."
    )
    with held(path / LOCK, refusal):
        yield


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
        text = _written(identity)
        file = path / IDENTITY
        if not file.exists():
            replace_file(file, text)
        elif (found := file.read_bytes()) != text:
            raise UpdateError(
                f"{file}: {_difference(found, text)} Choose another --out, or remove the folder to start anew."
            )

    @staticmethod
    def belongs(path: Path, identity: dict[str, Any]) -> bool:
        """Whether a folder is that of a run with this identity."""
        file = path / IDENTITY
        return file.exists() and file.read_bytes() == _written(identity)

    @staticmethod
    def clear(path: Path) -> bool:
        """Empties the folder of a run that has not finished an epoch; says whether it did."""
        if next(path.rglob(CHECKPOINT), None) is not None:
            return False
        for entry in [entry for entry in path.iterdir() if entry.name != LOCK]:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return True

    def save(self, state: State) -> None:
        """Replaces the checkpoint in one step and rewrites the log."""
        content = {**state.__dict__, "history": [asdict(epoch) for epoch in state.history]}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        saved = buffer.getvalue()
        # torch does not look at the checksums in its own files: a bit that flips would be trained on
        replace_file(self.path / CHECKPOINT, _digest(saved) + saved)
        self.write_log(state.history)

    def load(self) -> State | None:
        """The checkpoint, or None if the run has not finished an epoch.

        Raises:
            UpdateError: if the file is damaged.
        """
        file = self.path / CHECKPOINT
        if not file.exists():
            return None
        try:
            saved = file.read_bytes()
            if saved[:_DIGEST_BYTES] != _digest(saved[_DIGEST_BYTES:]):
                raise ValueError("its content is not what was written")
            content = torch.load(io.BytesIO(saved[_DIGEST_BYTES:]), map_location="cpu", weights_only=True)
            return State(**{**content, "history": [Epoch(**epoch) for epoch in content["history"]]})
        except DAMAGED as error:
            raise UpdateError(
                f"{file}: damaged, no checkpoint can be read; remove it to start the run anew."
            ) from error

    def finish(self) -> None:
        """Removes checkpoints, and what a killed process left, once the release is written; the logs stay."""
        for file in [*self.path.rglob(CHECKPOINT), *self.path.rglob(".*.unfinished")]:
            file.unlink(missing_ok=True)

    @staticmethod
    def read(path: Path) -> tuple[dict[str, Any], list[Epoch]]:
        """The identity and the epochs of a run that is finished, stopped or still going on.

        Raises:
            UpdateError: naming the file that is missing or damaged.
        """
        if not (path / IDENTITY).is_file():
            raise UpdateError(
                f"{path / IDENTITY}: missing; name the folder that `perdure update` leaves beside a release, <out>.run."
            )
        try:
            identity: dict[str, Any] = json.loads((path / IDENTITY).read_bytes())
            _RunRecord.model_validate(identity)
        except (OSError, ValueError, RecursionError) as error:
            raise UpdateError(f"{path / IDENTITY}: damaged: {error}.") from error
        if not (path / LOG).is_file():
            return identity, []
        try:
            rows = list(csv.DictReader(io.StringIO((path / LOG).read_text(encoding="utf-8"))))
            return identity, [_epoch(row) for row in rows]
        except (OSError, ValueError, TypeError, LookupError, csv.Error) as error:
            raise UpdateError(f"{path / LOG}: damaged: {error}.") from error

    def write_log(self, history: list[Epoch]) -> None:
        """Rewrites the log of epochs."""
        lines = [list(Epoch.__dataclass_fields__), *(list(asdict(epoch).values()) for epoch in history)]
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        replace_file(self.path / LOG, text.getvalue().encode())


def _epoch(row: dict[str, str]) -> Epoch:
    figures: dict[str, Any] = {name: float(text) if text else None for name, text in row.items() if name != "epoch"}
    if empty := [one.name for one in fields(Epoch) if "None" not in one.type and figures.get(one.name, 0) is None]:
        raise ValueError(f"epoch {row['epoch']} has no {', '.join(empty)}")
    return Epoch(int(row["epoch"]), **figures)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _written(identity: dict[str, Any]) -> bytes:
    return (json.dumps(identity, indent=2, sort_keys=True, default=str) + "\n").encode()


def _difference(found: bytes, wanted: bytes) -> str:
    try:
        before, now = json.loads(found), json.loads(wanted)
        before, now = dict(before), dict(now)
    except (ValueError, TypeError, RecursionError):
        return "damaged."
    fields = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return f"belongs to a run with other settings; these differ: {', '.join(fields)}."
