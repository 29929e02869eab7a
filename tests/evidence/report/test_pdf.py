"""The same page for print."""

from __future__ import annotations

import sys

import pytest

from perdure.errors import EvaluationError
from perdure.evidence.report import Collected, check_can_print, html, pdf


def test_a_pdf_comes_of_the_same_report(collected: Collected) -> None:
    pytest.importorskip("weasyprint")
    content = pdf(collected)
    assert content.startswith(b"%PDF-")
    assert len(content) < 15_000_000


def test_the_printed_page_is_open_throughout_and_has_no_controls(collected: Collected) -> None:
    text = html(collected, for_print=True)
    assert text.count("<details") == text.count('<details class="section"') + text.count('<details class="small"')
    assert text.count('<details class="section"') == 15
    assert '<details class="section" id="data" open' in text
    for control in ("<button", "<select", "<input", "<canvas"):
        assert control not in text


def test_without_weasyprint_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(EvaluationError, match=r'pip install "perdure\[pdf\]"'):
        check_can_print()
