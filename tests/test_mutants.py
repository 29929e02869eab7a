"""`make mutants` means what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import mutants

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


def test_a_fault_is_not_called_caught_where_its_tests_fail_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mutants.py", "signed"])
    monkeypatch.setattr(mutants, "outcome", lambda tests, mutant=None: (1, "1 failed in 0.1s"))
    assert mutants.main() == 1
    assert capsys.readouterr().out == "tests/importance fails without any fault: 1 failed in 0.1s\n"


@pytest.mark.parametrize(("code", "missed"), [(1, 0), (0, 1)])
def test_a_fault_is_caught_where_its_tests_fail_with_it_alone(
    monkeypatch: pytest.MonkeyPatch, code: int, missed: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["mutants.py", "signed"])
    monkeypatch.setattr(mutants, "outcome", lambda tests, mutant=None: (code if mutant else 0, "1 failed in 0.1s"))
    assert mutants.main() == missed


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_every_fault_can_be_planted(mutant: mutants.Mutant) -> None:
    text = (mutants.ROOT / "src" / "perdure" / mutant.file).read_text(encoding="utf-8")
    assert mutant.right in text


def test_no_target_of_make_can_be_hidden_by_a_file_of_its_name() -> None:
    text = MAKEFILE.read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    rules = re.findall(r"^([a-z -]+):", text, re.MULTILINE)
    assert sorted(phony.split()) == sorted(name for rule in rules for name in rule.split())
