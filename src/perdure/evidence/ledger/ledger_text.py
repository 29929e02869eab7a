"""A ledger, and what was found of it, as a person would want to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.evidence.ledger.workspace import made

if TYPE_CHECKING:
    from perdure.evidence.ledger.ledger import Entry, Head
    from perdure.evidence.ledger.verification import Verification


def entries_table(entries: Sequence[Entry]) -> Table:
    """One line an entry, the oldest first."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("no.", justify="right")
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("action", no_wrap=True)
    table.add_column("release")
    table.add_column("details")
    names = {release: str(entry.details.get("name")) for release, entry in made(entries).items()}
    for entry in entries:
        release = "" if entry.release is None else names.get(entry.release) or entry.release[:12]
        row = (f"{entry.number}", f"{entry.time:%Y-%m-%d %H:%M:%S}", entry.action, release, said(entry, names))
        table.add_row(*map(Text, row))
    return table


def said(entry: Entry, names: dict[str, str]) -> str:
    """The details of an entry in words, ids and hashes shortened.

    Args:
        entry: whose.
        names: of releases, by id.
    """
    return ", ".join(_parts(entry, names))


def head_sentence(head: Head) -> str:
    """Where a ledger ends, to be kept elsewhere."""
    return f"{head.entries} entries. Head, to be kept elsewhere: {head.hash}"


def verification_lines(found: Verification) -> tuple[str, ...]:
    """What was found, one line each."""
    lines = [str(problem) for problem in found.problems]
    lines += [f"note: {note}" for note in found.notes]
    looked = f"{found.head.entries} ledger entries, {found.releases} releases, {found.files} files"
    verdict = f"{len(found.problems)} problem(s)" if found.problems else "all as it was written"
    return (*lines, f"{looked}: {verdict}. Head: {found.head.hash}")


def verification_record(found: Verification) -> dict[str, Any]:
    """The same as plain JSON values."""
    return {
        "problems": [vars(problem) for problem in found.problems],
        "notes": list(found.notes),
        "head": found.head.model_dump(),
        "releases": found.releases,
        "files": found.files,
    }


def _parts(entry: Entry, names: dict[str, str]) -> Iterator[str]:
    for key, value in entry.details.items():
        if key in ("files", "created") or value is None:
            continue
        if key in ("parent", "from", "to"):
            value = names.get(str(value)) or value
        yield f"{key} {_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_short, value))
    if isinstance(value, dict):
        return " ".join(_short(one) for one in value.values())
    text = str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
