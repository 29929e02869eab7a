"""Does a release carry anything of a patient?"""

from perdure.evidence.audit.audit import Audit, audit
from perdure.evidence.audit.objection import Kind, Objection

__all__ = ["Audit", "Kind", "Objection", "audit"]
