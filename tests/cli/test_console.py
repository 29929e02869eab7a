"""Progress and messages go to standard error, results to standard output."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
from rich.table import Table

from perdure.cli.console import Bar, counting, fail, note, progress_bar, show

Captured = pytest.CaptureFixture[str]


def test_each_thing_that_is_over_leaves_a_line_on_standard_error(capsys: Captured) -> None:
    with progress_bar() as bar:
        for done in range(4):
            bar("epoch 1 of 2", done, 3, 2.0 / (done + 1))
        bar("epoch 2 of 2", 1, 3, 0.25)
        bar("measuring [importance]", 0, 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch 1 of 2  3/3  loss 0.5000",
        "epoch 2 of 2  1/3  loss 0.2500",
        "measuring [importance]",
    ]


def test_a_bar_stops_also_after_a_failure_and_shows_how_far_it_came(capsys: Captured) -> None:
    def broken_work() -> None:
        with progress_bar() as bar:
            counting(bar, "checking data")(2, 9)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken_work()
    assert capsys.readouterr().err == "checking data  2/9\n"


def test_a_bar_without_work_shows_nothing(capsys: Captured) -> None:
    with progress_bar():
        pass
    assert capsys.readouterr() == ("", "")


def test_a_bar_that_is_sent_to_another_process_stops_here_and_draws_there(capsys: Captured) -> None:
    bar = Bar()
    bar("checking data", 9, 9)
    there = pickle.loads(pickle.dumps(bar))  # noqa: S301 - our own
    assert capsys.readouterr().err == "checking data  9/9\n"
    there("epoch 1 of 1", 1, 2, 0.5)
    there.stop()
    bar.stop()
    assert capsys.readouterr().err == "epoch 1 of 1  1/2  loss 0.5000\n"


def test_a_bar_that_nobody_stops_gives_the_terminal_back_at_the_end_of_its_process() -> None:
    program = "from perdure.cli.console import Bar; Bar()('epoch 1 of 1', 1, 2, 0.5)"
    environment = {"TTY_COMPATIBLE": "1", "FORCE_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    hide, unhide = "\x1b[?25l", "\x1b[?25h"
    assert done.stderr.rindex(unhide) > done.stderr.index(hide)
    assert "epoch 1 of 1  1/2  loss 0.5000" in done.stderr
    assert done.stdout == ""


def test_json_is_all_that_stands_on_standard_output(capsys: Captured) -> None:
    show({"a": [1, None], "b": {"c": "[bold]ü"}}, True, Table("not shown"), "nor this")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": [1, None], "b": {"c": "[bold]ü"}}
    assert err == ""


def test_json_never_holds_what_is_no_json(capsys: Captured) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        show({"a": float("nan")}, True)


def test_text_is_shown_as_it_is_and_in_one_piece(capsys: Captured) -> None:
    text = "Release written to " + "/long" * 50 + "/[b]name"
    show({}, False, text)
    assert capsys.readouterr().out == text + "\n"


def test_errors_and_notes_are_shown_as_they_are_on_standard_error(capsys: Captured) -> None:
    assert fail("[red]" + "x" * 200, 6).exit_code == 6
    note("the policy [has] no effect")
    assert capsys.readouterr() == ("", "error: [red]" + "x" * 200 + "\nnote: the policy [has] no effect\n")
