"""Starts several processes, and brings a failure in one of them back as the error that it was."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from perdure import errors
from perdure.release.folder import replace_file

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def launch(fabric: Fabric, work: Callable[[Fabric], None]) -> None:
    """Runs `work(fabric)` in every process of a Fabric and waits for all.

    Args:
        fabric: with a strategy that spawns processes.
        work: can be pickled; called once in each process.

    Raises:
        PerdureError: the first one that a process raised, with its own class and message.
        UpdateError: if a process ended without an error, as for want of memory.
    """
    with tempfile.TemporaryDirectory(prefix="perdure-") as folder:
        report = Path(folder) / "failure.json"
        try:
            fabric.launch(_Reporting(work, report))
        except (ProcessRaisedException, ProcessExitedException) as failure:
            # whichever process is found dead first: the report has the cause
            if not report.exists():
                if isinstance(failure, ProcessRaisedException):
                    raise
                raise errors.UpdateError(
                    f"Training was ended from outside or for want of memory: {failure}."
                ) from failure
            found = json.loads(report.read_text(encoding="utf-8"))
            raise getattr(errors, found["error"], errors.PerdureError)(found["message"]) from failure


class _Reporting:
    def __init__(self, work: Callable[[Fabric], None], report: Path) -> None:
        self.work = work
        self.report = report

    def __call__(self, fabric: Fabric) -> None:
        try:
            self.work(fabric)
        except errors.PerdureError as error:
            if not self.report.exists():
                text = json.dumps({"error": type(error).__name__, "message": str(error)})
                replace_file(self.report, text.encode())
            raise
