"""What a person sees: progress on standard error, results on standard output."""

from __future__ import annotations

import atexit
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED, USAGE, SOME_FAILED, ALTERED, OBJECTED, INTERRUPTED = 1, 2, 6, 7, 8, 130
REJECTED, OUTSIDE_PLAN, INCONCLUSIVE = 3, 4, 5
"""Exit codes besides 0; see docs/cli.md."""

PIPE_WIDTH = 120


class Bar:
    """Progress of long work: a bar that moves for what is going on, and a line for each thing that is over.

    The bar is for terminals only. It can be sent to another process, and draws there from then on.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._line = ""

    def __getstate__(self) -> dict[str, Any]:
        # two processes would write over each other's lines
        self.stop()
        return vars(Bar())

    def __call__(self, what: str, done: int, total: int, loss: float | None = None) -> None:
        """Shows that `done` of `total` of `what` is done, with a loss if there is one."""
        if self._progress is None:
            self._progress = _progress()
            if self._progress.console.is_interactive:
                self._progress.start()
            # a process that was started for a part of the work never comes to `stop`
            atexit.register(self.stop)
        text = "" if loss is None else f"loss {loss:.4f}"
        if self._task is None or what != self._what:
            self._leave()
            self._task = self._progress.add_task(what, total=total if total > 1 else None, loss=text)
        self._progress.update(self._task, completed=done, loss=text)
        self._what = what
        self._line = "  ".join(part for part in (what, f"{done}/{total}" if total > 1 else "", text) if part)

    def stop(self) -> None:
        """Takes the bar away and leaves its lines."""
        if self._progress is None:
            return
        self._leave()
        if self._progress.console.is_interactive:
            self._progress.stop()
        self._progress = None
        atexit.unregister(self.stop)

    def _leave(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)
            self._progress.console.print(self._line, markup=False, highlight=False, soft_wrap=True)
        self._task = None


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True, emoji=False),
        transient=True,
    )


@contextmanager
def progress_bar() -> Iterator[Bar]:
    """A bar that is stopped at the end, whatever happens."""
    bar = Bar()
    try:
        yield bar
    finally:
        bar.stop()


def counting(bar: Bar, what: str) -> Callable[[int, int], None]:
    """The bar as a function of done and total alone."""
    return lambda done, total: bar(what, done, total)


def show(result: dict[str, Any], as_json: bool, *renderables: RenderableType) -> None:
    """Prints a result on standard output: JSON for machines, or what a person wants to read."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2, allow_nan=False) + "\n")
        return
    # a file or a pipe has no width of its own; tables are as wide as they need to be
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, emoji=False)
    for renderable in renderables:
        if isinstance(renderable, str):  # a path in it stays in one piece, to be copied
            console.print(renderable, markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(renderable)


def note(text: str) -> None:
    """Tells something on standard error that is no failure."""
    _tell("bold", "note:", text)


def fail(message: str, code: int = FAILED) -> typer.Exit:
    """Prints an error and gives the exit to raise."""
    _tell("bold red", "error:", message)
    return typer.Exit(code)


def _tell(style: str, what: str, text: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    console.print(what, style=style, end=" ")
    console.print(text, markup=False)
