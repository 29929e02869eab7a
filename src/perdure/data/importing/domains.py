"""Which domain a case belongs to, from the tags of its scanner."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

PROPOSED = ("manufacturer", "model", "field_strength", "station")
"""What makes a domain unless somebody chooses: a model of scanner at one station is one source of images."""


def domain_of(tags: Mapping[str, str], chosen: Sequence[str], otherwise: str) -> str:
    """The name of a domain: the values of these tags, `otherwise` if a case has none of them.

    Args:
        tags: of one case.
        chosen: which tags.
        otherwise: the name where nothing is known.
    """
    parts = [_tesla(tags[tag]) if tag == "field_strength" else tags[tag] for tag in chosen if tags.get(tag)]
    return slug("-".join(parts)) or slug(otherwise) or "unknown"


def slug(text: str) -> str:
    """Lower-case letters of any script, digits and dots, with dashes between."""
    # NFC, because some systems write one letter as two; marks, because some scripts need them to tell words apart
    plain = unicodedata.normalize("NFC", text.lower())
    kept = "".join(one if one == "." or unicodedata.category(one)[0] in "LMN" else " " for one in plain)
    return "-".join(kept.split()).strip("-.")


def _tesla(text: str) -> str:
    """A field strength as people say it: scanners write 3, 3.0 and 2.89362 of one model."""
    try:
        return f"{round(float(text), 1):g}t"
    except ValueError:
        return text
