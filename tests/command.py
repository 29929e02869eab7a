"""Runs the command line inside the test's own process, which is quick, or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import perdure.cli

SCRIPT = Path(sys.executable).with_name("perdure")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: the exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, all of it, as JSON."""
        return json.loads(self.out)


class Command:
    """`perdure` with arguments, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ended:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            perdure.cli.main([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Ended(caught.value.code, out, err)

    def succeeds(self, *arguments: object) -> Ended:
        """The same, of a command that must end well."""
        ended = self(*arguments)
        assert ended.code == 0, ended.err
        return ended


def in_a_process_of_its_own(*arguments: object, cwd: Path | None = None) -> Ended:
    """`perdure` as a person starts it."""
    words = [str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=cwd)
    return Ended(done.returncode, done.stdout, done.stderr)


def quietly(*arguments: object) -> None:
    """A command in this process that must end well, for fixtures that several tests share."""
    with pytest.raises(SystemExit) as caught:
        perdure.cli.main([str(argument) for argument in arguments])
    assert caught.value.code == 0, arguments
