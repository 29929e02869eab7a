from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console, RenderableType

from perdure.evaluation import TrainTestMatrix, summary
from perdure.evidence.text import (
    forgotten_sentences,
    left_out,
    matrix_table,
    measures_table,
    number,
    with_no_update,
    worst_in_words,
)

MakeMatrix = Callable[..., TrainTestMatrix]

# s1 of site-1 falls from .9 to .5, s2 rises from .7 to .8
LOST = [[[0.9, 0.7], [0.3, 0.3]], [[0.5, 0.8], [0.6, 0.8]]]


def shown(table: RenderableType, width: int = 120) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (0.25, "0.250", "+0.250"),
        (-0.25, "−0.250", "−0.250"),
        (0.0001, "0.000", "0.000"),
        (-0.0001, "−0.000", "0.000"),
        (None, "–", "–"),
        (float("nan"), "–", "–"),
    ],
)
def test_numbers_have_three_decimals_and_changes_a_sign(value: float | None, plain: str, signed: str) -> None:
    assert number(value) == plain
    assert number(value, signed=True) == signed


class TestSentences:
    def test_say_what_was_lost_and_where_most(self, make_matrix: MakeMatrix) -> None:
        assert forgotten_sentences(make_matrix(LOST)) == (
            "site-1 lost 0.150 Dice: 0.800 right after it was learnt, 0.650 now; most in s1 (−0.400).",
            "site-2 was learnt last and scores 0.700 Dice.",
        )

    def test_do_not_hide_a_loss_behind_a_gain(self, make_matrix: MakeMatrix) -> None:
        """s1 gains .3, s2 loses .1: the mean gains .1."""
        first, _ = forgotten_sentences(make_matrix([[[0.5, 0.5], [0.1, 0.1]], [[0.8, 0.4], [0.6, 0.6]]]))
        assert first == (
            "site-1 gained 0.100 Dice: 0.500 right after it was learnt, 0.600 now, but it lost in s2 (−0.100)."
        )

    def test_say_that_a_score_was_kept(self, make_matrix: MakeMatrix) -> None:
        first, _ = forgotten_sentences(make_matrix([[0.5, 0.1], [0.5, 0.6]]))
        assert first == "site-1 kept its score: 0.500 right after it was learnt, 0.500 now."

    def test_say_that_a_loss_is_not_known(self, make_matrix: MakeMatrix) -> None:
        first, _ = forgotten_sentences(make_matrix([[np.nan, 0.1], [0.5, 0.6]]))
        assert first == "site-1 could not be scored at both stages, so what it lost is not known."

    def test_of_one_domain_and_of_one_never_learnt(self, make_matrix: MakeMatrix) -> None:
        assert forgotten_sentences(make_matrix([[0.5, 0.25]])) == (
            "site-1 is the only domain learnt and scores 0.500 kappa.",
            "site-2 was never learnt: 0.250 at first, 0.250 now.",
        )


class TestMatrixTable:
    def test_shows_every_score_and_the_change_of_earlier_domains(self, make_matrix: MakeMatrix) -> None:
        lines = shown(matrix_table(make_matrix(LOST))).splitlines()
        assert "Dice on each domain" in lines[0]
        first, second = (next(line for line in lines if line.strip().startswith(name)) for name in ("site-1", "site-2"))
        assert first.split() == ["site-1", "0.800", "0.300"]
        assert second.split() == ["site-2", "0.650", "−0.150", "0.700"]

    def test_numbers_are_never_cut(self, make_matrix: MakeMatrix) -> None:
        text = shown(
            matrix_table(make_matrix(np.full((8, 8), 0.123), names=[f"a long name {j}" for j in range(8)])), 80
        )
        assert text.count("0.123") == 64

    def test_names_in_brackets_are_no_markup(self, make_matrix: MakeMatrix) -> None:
        text = shown(matrix_table(make_matrix([[0.5]], names=["[red]"]), title="[bold]"))
        assert text.count("[red]") == 2
        assert "[bold]" in text

    def test_tells_domains_that_were_never_learnt(self, make_matrix: MakeMatrix) -> None:
        assert "on site-2 (never learnt)" in shown(matrix_table(make_matrix([[0.5, 0.25]])))

    def test_says_how_much_is_in_no_mean(self, make_matrix: MakeMatrix) -> None:
        matrix = make_matrix([[[0.5, np.nan]]])
        assert left_out(matrix) == ("1 of 2 scores are in no mean: the structure is absent in truth and prediction.")
        assert "1 of 2 scores are in no mean" in shown(matrix_table(matrix))
        assert left_out(make_matrix([[[0.5, 0.5]]])) is None


class TestMeasuresTable:
    def test_has_no_update_before_the_methods(self, make_matrix: MakeMatrix) -> None:
        summaries = with_no_update({"finetune": make_matrix(LOST)})
        assert list(summaries) == ["no update", "finetune"]
        lines = shown(measures_table(summaries)).splitlines()
        control, method = (next(line for line in lines if name in line) for name in ("no update", "finetune"))
        assert control.split()[2:7] == ["1.000", "0.000", "0.550", "0.300", "0.633"]
        assert method.split()[1:6] == ["0.800", "0.050", "0.750", "0.300", "0.717"]
        assert "site-1 −0.150" in method
        assert "s1 on site-1 −0.400" in method
        assert "none lost" in control

    def test_has_a_control_for_every_base_release(self, make_matrix: MakeMatrix) -> None:
        summaries = with_no_update({"a": make_matrix(LOST, base="x"), "b": make_matrix(LOST, base="y")})
        assert list(summaries) == ["no update of x-name", "no update of y-name", "a", "b"]

    def test_shows_a_dash_for_what_is_not_defined(self, make_matrix: MakeMatrix) -> None:
        text = shown(measures_table({"adopted": summary(make_matrix([[0.7]]))}))
        assert "CL kappa" in text
        assert next(line for line in text.splitlines() if "adopted" in line).split() == (
            ["adopted", "–", "–", "0.700", "–", "0.700", "no", "earlier", "domain"]
        )

    def test_never_shows_a_bare_plus_minus(self, make_matrix: MakeMatrix) -> None:
        assert "±" not in shown(measures_table(with_no_update({"finetune": make_matrix(LOST)})))


def test_worst_in_words_never_calls_a_gain_a_loss(make_matrix: MakeMatrix) -> None:
    assert worst_in_words(make_matrix([[0.5, 0.1], [0.6, 0.6]]).worst_domain()) == "none lost"
    assert worst_in_words(make_matrix([[0.5, 0.1], [0.4, 0.6]]).worst_domain()) == "site-1 −0.100"
