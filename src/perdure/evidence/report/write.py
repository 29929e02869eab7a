"""Which files come of a report?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.evidence.report.card import card_json, card_markdown
from perdure.evidence.report.page import as_json, html
from perdure.evidence.report.pdf import pdf
from perdure.release.folder import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from perdure.evidence.report.collect import Collected


def bill_path(out: Path) -> Path:
    """Where the bill of materials of a report is: beside it, with the suffix that CycloneDX asks for."""
    return out.with_name(f"{out.stem}.cdx.json")


def write(
    collected: Collected,
    out: Path,
    *,
    json_out: Path | None = None,
    pdf_out: Path | None = None,
    card: Path | None = None,
) -> list[Path]:
    """Writes what is asked for, and the bill of materials; a crash leaves each file as it was or as it should be.

    Args:
        collected: the report.
        out: the page.
        json_out: the same content for machines.
        pdf_out: the same for print.
        card: folder for the model card.

    Returns:
        The files.

    Raises:
        EvaluationError: if a PDF is asked for and cannot be made.
    """
    content = {out: html(collected).encode(), bill_path(out): collected.bill}
    if json_out is not None:
        content[json_out] = as_json(collected.report).encode()
    if pdf_out is not None:
        content[pdf_out] = pdf(collected)
    if card is not None:
        content[card / "model-card.md"] = card_markdown(collected.report).encode()
        content[card / "model-card.json"] = card_json(collected.report).encode()
    for path, text in content.items():
        replace_file(path, text)
    return list(content)
