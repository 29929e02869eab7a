from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import LedgerError
from perdure.evidence.ledger.ledger import START, Head, Ledger
from perdure.release.folder import replace_file

ENTRIES = 5


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return filled(tmp_path)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Of a ledger and its head."""
    made = filled(tmp_path_factory.mktemp("content"))
    return made.path.read_bytes(), made.head_path.read_bytes()


def filled(folder: Path) -> Ledger:
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.append("trained", "a" * 64, name="base", domain="Zürich \u2028", method="trained", parent=None)
    ledger.append("declared", plan="b" * 64, name="plan")
    ledger.append("looked", "a" * 64, domain="s\n1", split="test", scores="c" * 64, cases=12)
    ledger.append("gated", "a" * 64, scores=["d" * 64], figure=0.1, verdict="ACCEPT", nested={"yes": True})
    ledger.append("approved", "a" * 64, name='"Dr. \\ O\'Neil"')
    return ledger


def lines(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


def fields(ledger: Ledger) -> list[str]:
    return [problem.field for problem in ledger.problems()]


def rehashed(line: bytes, **changes: object) -> bytes:
    """The line of somebody who changes an entry and gives it a hash that fits."""
    entry = {**json.loads(line), **changes}
    del entry["hash"]
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    entry["hash"] = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_entries_come_back_as_they_were_appended(ledger: Ledger) -> None:
    entries = ledger.entries()
    assert [entry.number for entry in entries] == list(range(ENTRIES))
    assert [entry.action for entry in entries] == ["trained", "declared", "looked", "gated", "approved"]
    assert entries[0].details == {"name": "base", "domain": "Zürich \u2028", "method": "trained", "parent": None}
    assert entries[3].details["nested"] == {"yes": True}
    assert entries[1].release is None
    assert all(entry.time.utcoffset() == timedelta(0) for entry in entries)
    assert ledger.problems() == ()


def test_each_entry_holds_the_hash_of_the_one_before(ledger: Ledger) -> None:
    entries = ledger.entries()
    assert [entry.previous for entry in entries] == [START, *(entry.hash for entry in entries[:-1])]


def test_the_hash_is_that_of_the_canonical_json_of_all_other_fields(ledger: Ledger) -> None:
    for line in lines(ledger):
        entry = json.loads(line)
        rest = {key: value for key, value in entry.items() if key != "hash"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        assert entry["hash"] == hashlib.sha256(text.encode("ascii")).hexdigest()


def test_the_head_says_how_many_entries_there_are_and_the_hash_of_the_last(ledger: Ledger) -> None:
    head = Head.model_validate_json(ledger.head_path.read_text())
    assert head == ledger.head() == Head(entries=ENTRIES, hash=ledger.entries()[-1].hash)


def test_a_ledger_that_is_not_there_has_no_entries_and_no_problem_and_reading_makes_no_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert (ledger.entries(), ledger.problems(), ledger.head()) == ((), (), Head())
    assert list(tmp_path.iterdir()) == []


def test_it_stands_beside_the_release_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Ledger.beside(Path("base")).path == tmp_path / "ledger.jsonl"


@pytest.mark.parametrize("details", [{"x": float("nan")}, {"x": {1, 2}}, {"x": b"x"}])
def test_what_is_no_json_is_refused_and_nothing_is_added(ledger: Ledger, details: dict[str, object]) -> None:
    before = ledger.path.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        ledger.append("looked", "a", **details)
    assert ledger.path.read_bytes() == before
    ledger.append("looked", "a")


def test_an_action_that_is_none_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="must be one of trained, adopted"):
        ledger.append("signed")  # type: ignore[arg-type]


def test_any_byte_changed_in_any_line_is_found_and_located(tmp_path: Path, content: tuple[bytes, bytes]) -> None:
    text, head = content
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.head_path.write_bytes(head)
    missed = []
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1
        ledger.path.write_bytes(changed)
        if fields(ledger)[:1] != [f"line {text[:place].count(10) + 1}"]:
            missed.append(place)
    assert missed == []


@given(data=st.data())
def test_a_byte_that_becomes_any_other_byte_is_found_and_located(
    content: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text, head = content
    ledger = Ledger(tmp_path_factory.mktemp("changed") / "ledger.jsonl")
    ledger.head_path.write_bytes(head)
    place = data.draw(st.integers(0, len(text) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != text[place]))
    ledger.path.write_bytes(text[:place] + bytes([value]) + text[place + 1 :])
    assert fields(ledger)[0] == f"line {text[:place].count(10) + 1}"
    with pytest.raises(LedgerError, match=f"line {text[:place].count(10) + 1}: found"):
        ledger.entries()


def test_any_byte_changed_in_the_head_is_found(ledger: Ledger) -> None:
    head = ledger.head_path.read_bytes()
    for place in range(len(head)):
        changed = bytearray(head)
        changed[place] ^= 1
        ledger.head_path.write_bytes(changed)
        assert [problem.file for problem in ledger.problems()] == [str(ledger.head_path)], place


def test_an_edit_with_a_hash_that_fits_is_found_at_the_line_after_it(ledger: Ledger) -> None:
    all_lines = lines(ledger)
    all_lines[2] = rehashed(all_lines[2], details={"cases": 1})
    ledger.path.write_bytes(b"".join(all_lines))
    (problem,) = ledger.problems()
    assert problem.field == "line 4"
    assert "does not follow on line 3; that line was changed together with its hash" in problem.found


def test_an_edit_of_the_last_line_with_a_hash_that_fits_is_found_by_the_head(ledger: Ledger) -> None:
    all_lines = lines(ledger)
    all_lines[-1] = rehashed(all_lines[-1], details={"name": "somebody else"})
    ledger.path.write_bytes(b"".join(all_lines))
    (problem,) = ledger.problems()
    assert (problem.file, problem.field) == (str(ledger.head_path), "hash")


@pytest.mark.parametrize("line", range(1, ENTRIES))
def test_a_deleted_line_is_located(ledger: Ledger, line: int) -> None:
    all_lines = lines(ledger)
    del all_lines[line - 1]
    ledger.path.write_bytes(b"".join(all_lines))
    first = ledger.problems()[0]
    assert first.field == f"line {line}"
    assert f"entry {line}, where entry {line - 1} follows; what stood between was removed or moved" in first.found


def test_lines_deleted_at_the_end_are_found_by_the_head_and_counted(ledger: Ledger) -> None:
    ledger.path.write_bytes(b"".join(lines(ledger)[:-2]))
    (problem,) = ledger.problems()
    assert problem.file == str(ledger.head_path)
    assert "5 entries, so 2 were taken away at the end of ledger.jsonl" in problem.found
    with pytest.raises(LedgerError, match="2 were taken away"):
        ledger.append("looked", "a")


def test_a_ledger_that_was_removed_is_found_by_the_head(ledger: Ledger) -> None:
    ledger.path.unlink()
    assert ["5 were taken away" in problem.found for problem in ledger.problems()] == [True]


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (1, 3), (0, 4), (3, 4)])
def test_lines_that_changed_places_are_located(ledger: Ledger, one: int, other: int) -> None:
    all_lines = lines(ledger)
    all_lines[one], all_lines[other] = all_lines[other], all_lines[one]
    ledger.path.write_bytes(b"".join(all_lines))
    found = fields(ledger)
    assert found[0] == f"line {one + 1}"
    assert f"line {other + 1}" in found


@pytest.mark.parametrize("line", [1, 3, 5])
def test_a_line_written_twice_is_located(ledger: Ledger, line: int) -> None:
    all_lines = lines(ledger)
    all_lines.insert(line, all_lines[line - 1])
    ledger.path.write_bytes(b"".join(all_lines))
    assert fields(ledger)[0] == f"line {line + 1}"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b":", b": ", 1),  # spaces
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\n" + text,
        lambda text: text.replace(b'{"action"', b'{"number":0,"action"', 1),  # a key twice
        lambda text: text.replace(b"Z\\u00fcrich", "Zürich".encode()),
    ],
)
def test_the_same_entry_written_otherwise_is_found(ledger: Ledger, change: Callable[[bytes], bytes]) -> None:
    ledger.path.write_bytes(change(ledger.path.read_bytes()))
    assert fields(ledger)[0] == "line 1"


def test_a_missing_head_is_found_and_nothing_is_added(ledger: Ledger) -> None:
    ledger.head_path.unlink()
    (problem,) = ledger.problems()
    assert (problem.file, problem.found) == (str(ledger.head_path), "none")
    with pytest.raises(LedgerError, match="restore it from a copy"):
        ledger.append("looked", "a")


def test_nothing_is_added_after_a_damaged_last_line(ledger: Ledger) -> None:
    damaged = b"".join([*lines(ledger)[:-1], b"{}\n"])
    ledger.path.write_bytes(damaged)
    with pytest.raises(LedgerError, match="line 5: found no entry .*Nothing was added"):
        ledger.append("looked", "a")
    assert ledger.path.read_bytes() == damaged


def test_readable_leaves_out_what_was_changed_and_keeps_the_rest(ledger: Ledger) -> None:
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"cases":12', b'"cases":13'))
    assert [entry.number for entry in ledger.readable()] == [0, 1, 3, 4]


def test_one_line_that_is_left_without_a_head_takes_no_entry(ledger: Ledger) -> None:
    """A head stands there before the first line does, so that no crash leaves a line without one."""
    ledger.path.write_bytes(ledger.path.read_bytes().split(b"\n")[0] + b"\n")
    ledger.head_path.unlink()
    (problem,) = ledger.problems()
    assert (problem.file, problem.found) == (str(ledger.head_path), "none")
    with pytest.raises(LedgerError, match="Nothing was added"):
        ledger.append("evaluated", "r")


def test_a_crash_after_the_first_line_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    written = []

    def killed(path: Path, content: bytes) -> None:
        written.append(content)
        if len(written) == 2:
            raise KeyboardInterrupt
        replace_file(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("perdure.evidence.ledger.ledger.replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            ledger.append("evaluated", "r")
    assert ledger.problems() == ()
    ledger.append("evaluated", "r")
    assert ledger.head().entries == 2


def test_a_crash_between_line_and_head_is_no_problem_and_is_made_good(ledger: Ledger) -> None:
    head = ledger.head_path.read_bytes()
    ledger.append("looked", "a")
    ledger.head_path.write_bytes(head)
    assert ledger.problems() == ()
    ledger.append("looked", "b")
    assert ledger.head().entries == ENTRIES + 2
    assert ledger.problems() == ()


@pytest.mark.parametrize("length", [1, 40, None])
def test_an_unfinished_last_line_is_noticed_and_what_it_held_goes_into_the_next_entry(
    ledger: Ledger, tmp_path: Path, length: int | None
) -> None:
    before, head = ledger.path.read_bytes(), ledger.head_path.read_bytes()
    ledger.append("looked", "x", cases=3)
    torn = ledger.path.read_bytes()[len(before) : -1][:length]
    ledger.path.write_bytes(before + torn)
    ledger.head_path.write_bytes(head)
    (problem,) = ledger.problems()
    assert problem.field == "line 6"
    assert f"an unfinished line of {len(torn)} bytes" in problem.found
    with pytest.raises(LedgerError, match="line 6"):
        ledger.entries()
    ledger.append("looked", "x", cases=3)
    assert ledger.entries()[-1].details == {"cases": 3, "unfinished": torn.decode()}
    assert ledger.problems() == ()


APPENDS = """
import sys
from pathlib import Path
from perdure.evidence.ledger.ledger import Ledger
from perdure.release.folder import replace_file

for i in range(100):
    Ledger(Path(sys.argv[1])).append("looked", sys.argv[2], cases=i)
"""


def test_two_processes_that_append_100_entries_each_leave_a_chain_that_verifies(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    words = [sys.executable, "-c", APPENDS, str(path)]
    running = [subprocess.Popen([*words, writer]) for writer in ("one", "two")]
    assert [process.wait() for process in running] == [0, 0]
    entries = Ledger(path).entries()
    assert len(entries) == 200
    for writer in ("one", "two"):
        assert [entry.details["cases"] for entry in entries if entry.release == writer] == list(range(100))
    assert Ledger(path).problems() == ()


def test_whoever_reads_while_others_write_sees_a_whole_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    writing = subprocess.Popen([sys.executable, "-c", APPENDS, str(path), "one"])
    found = []
    while writing.poll() is None:
        found.append(Ledger(path).problems())
    assert writing.returncode == 0
    assert [problems for problems in found if problems] == []


def test_a_writer_that_never_ends_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.evidence.ledger.ledger._PATIENCE", 0.05)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("declared")
    with (
        FileLock(tmp_path / ".ledger.jsonl.lock"),
        pytest.raises(LedgerError, match="another command has been writing"),
    ):
        ledger.append("declared")
    assert len(ledger.entries()) == 1


def test_a_disk_that_is_full_is_named_and_the_next_entry_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a line may stand there; the next entry takes it up."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("declared")
    write = os.write

    def half(descriptor: int, content: bytes) -> int:
        write(descriptor, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", half)
        with pytest.raises(OSError, match="No space left on device") as caught:
            ledger.append("declared")
    assert caught.value.filename == str(tmp_path / "ledger.jsonl")
    entry = ledger.append("declared")
    assert entry.number == 1
    assert str(entry.details["unfinished"]).startswith('{"action":"declared"')
    assert len(ledger.entries()) == 2


def test_a_clock_that_goes_back_leaves_the_order_of_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers and hashes are the order; times are only told."""
    clock = iter([datetime(2030, 1, 1, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)])

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return next(clock)

    monkeypatch.setattr("perdure.evidence.ledger.ledger.datetime", Jumping)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for _ in range(3):
        ledger.append("declared")
    assert ledger.problems() == ()
    assert [entry.time.year for entry in ledger.entries()] == [2030, 1999, 2031]
