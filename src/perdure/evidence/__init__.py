"""What do we record, gate and print of it?"""

from perdure.evidence.page import MethodEvidence, Provenance, SliceEvidence, write_page
from perdure.evidence.text import forgotten_sentences, matrix_table, measures_table, with_no_update

__all__ = [
    "MethodEvidence",
    "Provenance",
    "SliceEvidence",
    "forgotten_sentences",
    "matrix_table",
    "measures_table",
    "with_no_update",
    "write_page",
]
