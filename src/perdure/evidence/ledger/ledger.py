"""What was done to the releases of a workspace, and has anything of that record been changed?

A ledger is a file of JSON lines, each an entry that holds the hash of the one before. Beside it stands its head: how
many entries there are and the hash of the last. The chain shows every edit, deletion and reordering but one: that lines
were taken away at its end. The head shows that too, unless somebody changed both files; against that, keep the head's
hash elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from perdure.errors import LedgerError, Problem
from perdure.evidence.canonical import canonical
from perdure.release.folder import naming, replace_file
from perdure.types import Value

Action: TypeAlias = Literal[
    "trained", "adopted", "updated", "declared", "evaluated", "looked", "gated", "approved", "rolled back"
]

FILE = "ledger.jsonl"
START = "0" * 64
"""What the first entry names as the hash of the one before."""

_PATIENCE = 600
"""Seconds to wait for another writer. It copies a release at most; `perf_counter`, so no clock that jumps ends it."""

_ALLOWED = "entries are only ever added, by perdure; restore the file from a copy, and find out who changed it"


class Entry(Value):
    """One line of a ledger.

    Args:
        number: its place, from 0.
        time: when it was written, UTC.
        action: what was done.
        release: the id of the release it was done to; None where it was done to none.
        details: whatever else belongs to the action, see docs/ledger.md.
        previous: the hash of the entry before; 64 zeros for the first.
        hash: SHA-256 of the canonical JSON of all the other fields (sorted keys, no spaces, ASCII).
    """

    number: int = Field(ge=0)
    time: AwareDatetime
    action: Action
    release: str | None
    details: Mapping[str, JsonValue]
    previous: str
    hash: str


class Head(Value):
    """Where a ledger ends.

    Args:
        entries: how many there are.
        hash: of the last one; 64 zeros where there is none.
    """

    entries: int = Field(default=0, ge=0)
    hash: str = START


@dataclass(frozen=True)
class Ledger:
    """The ledger of one workspace.

    Args:
        path: the file of JSON lines; it need not exist yet.
    """

    path: Path

    @classmethod
    def beside(cls, release: Path) -> Ledger:
        """The ledger of the workspace that a release folder stands in."""
        return cls(release.absolute().parent / FILE)

    @property
    def head_path(self) -> Path:
        """The file of the head."""
        return self.path.with_suffix(".head")

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the oldest first; none where there is no ledger yet.

        Raises:
            LedgerError: if anything in the file is not as it was written, naming the lines.
        """
        lines, problems = self._read()
        if problems:
            raise LedgerError("\n".join(map(str, problems)))
        return tuple(line.entry for line in lines if line.entry is not None)

    def readable(self) -> tuple[Entry, ...]:
        """The entries whose own content is as it was written, whatever else is wrong with the ledger."""
        return tuple(line.entry for line in self._read()[0] if line.entry is not None and not line.fault)

    def problems(self) -> tuple[Problem, ...]:
        """Everything in the ledger and its head that is not as it was written, by line (counted from 1).

        A line is named where its own content does not match its hash, and where it does not follow on the line before:
        then that line was changed together with its hash, or one was removed, added or moved between them.
        """
        return self._read()[1]

    def head(self) -> Head:
        """Where the ledger ends.

        Raises:
            LedgerError: as `entries`.
        """
        entries = self.entries()
        return Head(entries=len(entries), hash=entries[-1].hash) if entries else Head()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes meanwhile; to look something up and append by what was found.

        Raises:
            LedgerError: if somebody else has been writing for ten minutes.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_path, timeout=_PATIENCE, is_singleton=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise LedgerError(
                f"{self.path}: another command has been writing here for {_PATIENCE / 60:g} minutes. See what it waits "
                "for, or end it; nothing was added."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def append(self, action: Action, release: str | None = None, **details: Any) -> Entry:
        """Adds an entry at the end and has it on the disk before it returns; safe among several writers.

        An unfinished last line, as a power cut leaves it, is taken away; what it held stands in the new entry as
        `unfinished`.

        Args:
            action: what was done.
            release: the id of the release it was done to.
            details: JSON values.

        Raises:
            LedgerError: if the end of the ledger is not as it was written; then nothing is added.
            ValueError: if the action is none, or a detail is no JSON value.
        """
        if action not in get_args(Action):
            raise ValueError(f"`action` must be one of {', '.join(get_args(Action))}; got {action!r}.")
        with self.locked():
            content = self._content()
            whole, unfinished = _parted(content)
            last = _parsed(whole[-1], len(whole)) if whole else None
            if problem := self._end_problem(last):
                raise LedgerError(f"{problem} Nothing was added.")
            if unfinished:
                details |= {"unfinished": unfinished.decode("ascii", "backslashreplace")}
            entry = _next(None if last is None else last.entry, action, release, details)
            line = canonical(entry) + b"\n"
            if last is None and not self.head_path.exists():
                # first, so that one line without a head is never what a crash leaves
                self._write_head(Head())
            if unfinished:
                replace_file(self.path, content.removesuffix(unfinished) + line)
            else:
                with naming(self.path):
                    _add(self.path, line)
            self._write_head(Head(entries=entry["number"] + 1, hash=entry["hash"]))
        return Entry.model_validate(entry)

    def _write_head(self, head: Head) -> None:
        replace_file(self.head_path, (head.model_dump_json() + "\n").encode())

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def _read(self) -> tuple[list[_Line], tuple[Problem, ...]]:
        lines, problems = self._found()
        if problems:  # or somebody was writing just then
            with self._quiet():
                lines, problems = self._found()
        return lines, problems

    def _found(self) -> tuple[list[_Line], tuple[Problem, ...]]:
        whole, unfinished = _parted(self._content())
        lines = [_parsed(line, number) for number, line in enumerate(whole, 1)]
        problems = [Problem(str(self.path), f"line {n}", found, _ALLOWED) for n, found in _broken(lines)]
        if unfinished:
            allowed = "a line ends with a line break; the next command that writes here takes it up into its own entry"
            found = f"an unfinished line of {len(unfinished)} bytes, as a power cut leaves it"
            problems.append(Problem(str(self.path), f"line {len(lines) + 1}", found, allowed))
        end = self._end_problem(lines[-1] if lines else None)
        if end is not None and end not in problems:
            problems.append(end)
        return lines, tuple(problems)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Nobody writes meanwhile, where that can be had: on a disk that is read only nobody does anyway."""
        lock = FileLock(self._lock_path, timeout=_PATIENCE, is_singleton=True)
        try:
            lock.acquire()
        except OSError:  # and Timeout is one
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def _end_problem(self, last: _Line | None) -> Problem | None:
        """What is wrong with the last line, or with the head in view of it.

        A crash between the two leaves the head one entry behind; that is no problem, because the chain shows it.
        """
        if last is not None and (last.entry is None or last.fault):
            return Problem(str(self.path), f"line {last.number}", last.fault, _ALLOWED)
        count, end = (0, START) if last is None else (last.number, last.entry.hash if last.entry else START)
        allowed = f"the ledger ends with {count} entries, hash {end}"
        try:
            text = self.head_path.read_text(encoding="utf-8")
            head = Head.model_validate_json(text, strict=True)
        except FileNotFoundError:
            text, head = "", Head()
        except (UnicodeDecodeError, ValidationError) as error:
            return Problem(str(self.head_path), "content", f"damage ({error})", allowed)
        if text not in ("", head.model_dump_json() + "\n"):
            return Problem(str(self.head_path), "content", "it written otherwise than perdure does", allowed)
        before = START if last is None or last.entry is None else last.entry.previous
        if (head.entries, head.hash) in ((count, end), (count - 1, before)) and (text or not count):
            return None
        if not text:
            return Problem(str(self.head_path), "file", "none", f"{allowed}; restore it from a copy")
        if head.entries > count:
            gone = f"{head.entries} entries, so {head.entries - count} were taken away at the end of {self.path.name}"
            return Problem(str(self.head_path), "entries", gone, allowed)
        return Problem(str(self.head_path), "hash", f"{head.hash} after {head.entries} entries", allowed)


@dataclass(frozen=True)
class _Line:
    """One line as it was found: its entry, the hash that its content gives, and what is wrong with it by itself."""

    number: int
    entry: Entry | None
    computed: str
    fault: str


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical({key: value for key, value in content.items() if key != "hash"})).hexdigest()


def _next(last: Entry | None, action: Action, release: str | None, details: Mapping[str, Any]) -> dict[str, Any]:
    entry = {
        "number": 0 if last is None else last.number + 1,
        "time": datetime.now(UTC).isoformat(),
        "action": action,
        "release": release,
        # as it will be read again: a tuple becomes a list here, and what is no JSON is refused
        "details": json.loads(json.dumps(details, allow_nan=False)),
        "previous": START if last is None else last.hash,
    }
    return {**entry, "hash": _digest(entry)}


def _parted(content: bytes) -> tuple[list[bytes], bytes]:
    """The lines that end with a line break, and what stands after the last of them."""
    *whole, unfinished = content.split(b"\n")
    return whole, unfinished


def _parsed(line: bytes, number: int) -> _Line:
    try:
        content = json.loads(line.decode("ascii"))
        entry = Entry.model_validate(content)
        written, computed = canonical(content), _digest(content)
    except (ValueError, RecursionError) as error:  # JSON, ASCII and pydantic all raise ValueErrors
        return _Line(number, None, "", f"no entry ({' '.join(str(error).split())[:200]})")
    if computed != entry.hash:
        return _Line(number, entry, computed, "content that does not match its hash; the line was changed")
    if written != line:
        return _Line(number, entry, computed, "an entry written otherwise than perdure does; the line was changed")
    return _Line(number, entry, computed, "")


def _broken(lines: Sequence[_Line]) -> Iterator[tuple[int, str]]:
    """The lines that are not as they were written, or do not follow on the line before, and why."""
    before: _Line | None = None
    expected = 0
    for line in lines:
        if line.fault or line.entry is None:
            yield line.number, line.fault
            expected += 1
        else:
            # a changed line is named by its own fault; what follows it need match only one of its hashes
            links = (START,) if before is None else (before.entry.hash, before.computed) if before.entry else None
            if line.entry.number != expected or (links is not None and line.entry.previous not in links):
                yield line.number, _out_of_place(line, expected)
            expected = line.entry.number + 1
        before = line


def _out_of_place(line: _Line, expected: int) -> str:
    number = -1 if line.entry is None else line.entry.number
    if number > expected:
        return f"entry {number}, where entry {expected} follows; what stood between was removed or moved"
    if number < expected:
        return f"entry {number}, where entry {expected} follows; lines were moved, added or written twice"
    return f"an entry that does not follow on line {line.number - 1}; that line was changed together with its hash"


def _add(path: Path, line: bytes) -> None:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = 0
        while written < len(line):
            written += os.write(descriptor, line[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
