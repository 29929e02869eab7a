"""One file on an update that somebody can judge, and sign for."""

from perdure.evidence.report.collect import Collected, collect
from perdure.evidence.report.content import Report
from perdure.evidence.report.page import as_json, html
from perdure.evidence.report.pdf import check_can_print, pdf
from perdure.evidence.report.workspace import Workspace
from perdure.evidence.report.write import write

__all__ = ["Collected", "Report", "Workspace", "as_json", "check_can_print", "collect", "html", "pdf", "write"]
