"""How does a report become a PDF? The page's own template, printed by WeasyPrint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import EvaluationError
from perdure.evidence.report.page import html

if TYPE_CHECKING:
    from perdure.evidence.report.collect import Collected


def check_can_print() -> None:
    """Passes if PDF can be written here.

    Raises:
        EvaluationError: saying what to install.
    """
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: Pango, a library of the system, is not there
        raise EvaluationError(
            f'A PDF takes WeasyPrint, which cannot be used here ({error}): run `pip install "perdure[pdf]"` (on Debian '
            "also `apt-get install libpango-1.0-0 libpangoft2-1.0-0`), or print the HTML page from a browser."
        ) from error


def pdf(collected: Collected) -> bytes:
    """The report as a tagged PDF.

    Raises:
        EvaluationError: if WeasyPrint is not installed.
    """
    check_can_print()
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    # pictures stand in the page itself; nothing else is read
    only_own = URLFetcher(allowed_protocols={"data"})
    content: bytes = HTML(string=html(collected, for_print=True), url_fetcher=only_own).write_pdf(pdf_tags=True)
    return content
