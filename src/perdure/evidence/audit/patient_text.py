r"""Which text could name a patient, or hide something from a reader?

A text is compared after Unicode normalisation (NFKC), so that full-width digits count as digits. Patterns err towards
objecting: a person can look and accept, but cannot look at what was never shown. Text of a strict form (hashes,
versions, times) is not compared here at all; `record.py` checks its form instead.

Source of what counts: the 18 identifiers of the HIPAA safe harbour, 45 CFR 164.514(b)(2), as far as they have a form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

LONGEST = 300
"""Characters of one text; the longest of ours, a method's summary, has some 100."""

_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
_MONTHS = "jan|feb|mar|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez"
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:18|19|20)\d\d"
_TITLES = "Mr|Mrs|Ms|Miss|Dr|Prof|Herr|Frau|Mme|Sr|Sra|Sig"

# frequent given names of several languages, without those that are words of medicine or technology (Max, Mark, Ray)
_GIVEN = frozenset(Path(__file__).with_name("given_names.txt").read_text(encoding="ascii").split())


def _is_round(text: str) -> bool:
    """Whether a text is a number with fewer than six digits that say something; 1000000 has one."""
    return text.isdecimal() and len(text.strip("0")) < 6


_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("an e-mail address", re.compile(r"[\w.+-]+@[\w-]+")),
    (
        "a DICOM UID",
        re.compile(r"(?<![\d.])(?:[0-2](?:\.\d+){6,}|(?:1\.2\.840|1\.3\.6\.1\.4|2\.25)(?:\.\d+)+)"),
    ),
    ("a path", re.compile(r"(?:^|[\s\"'(=:,])(?:~[\w-]*/|/[^/\s]+/|/[^/\s]+$|file://)")),
    ("a path", re.compile(rf"{_START}[A-Za-z]:[\\/]|\\\\[^\s\\]+|\\Users\\")),
    ("a date", re.compile(rf"(?<!\d){_YEAR}[-/._ ]{_MONTH}[-/._ ]{_DAY}(?!\d)")),
    ("a date", re.compile(rf"(?<![\d.]){_DAY}[-/._ ]{_MONTH}[-/._ ]{_YEAR}(?!\d)")),
    ("a date", re.compile(rf"(?<![\d.]){_MONTH}[-/._ ]{_DAY}[-/._ ]{_YEAR}(?!\d)")),
    ("a date", re.compile(rf"(?<!\d){_DAY}/{_MONTH}/\d\d(?!\d)|(?<!\d){_MONTH}/{_DAY}/\d\d(?!\d)")),
    ("a date", re.compile(rf"(?<!\d){_DAY}[ ._-]*(?:{_MONTHS})[a-z]*[ ._,-]*{_YEAR}(?!\d)", re.IGNORECASE)),
    ("a date", re.compile(rf"{_START}(?:{_MONTHS})[a-z]*[ ._-]*{_DAY}[ ._,-]+{_YEAR}(?!\d)", re.IGNORECASE)),
    ("a number as of a person", re.compile(r"(?<!\d)\d{3}[- ]\d{2}[- ]\d{4}(?!\d)")),
    ("a number as of a person", re.compile(r"(?<!\d)\+?\d{2,4}[-/ ()]+\d{2,4}(?:[- ]\d{2,5})+(?!\d)")),
    ("a number as of a person", re.compile(r"(?<![\d.])\d{6,}(?!\d)")),
    (
        "a number as of a person",
        re.compile(
            rf"{_START}(?:mrn|patients?|pat|pid|accession|study|subj|subject|person|case)[ _#:=.-]*(?:id|no|nr)?"
            rf"[ _#:=.-]*[a-z]?\d{{2,}}",
            re.IGNORECASE,
        ),
    ),
    ("a name", re.compile(r"[^\W\d_]{2,}\^[^\W\d_]")),
    ("a name", re.compile(rf"{_START}(?:{_TITLES})\.?[ _]+[A-Z][^\W\d_]+")),
    (
        "a name",
        re.compile(rf"{_START}(?:patient|surname|name|dob|born|birth ?date|date of birth)\s*[:=]\s*\S", re.IGNORECASE),
    ),
    (
        "a coded text",
        re.compile(r"(?<![A-Za-z0-9+/=_-])(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[a-zA-Z])[A-Za-z0-9+/]{40,}={0,2}"),
    ),
)

# what a grid and a lineage call releases: `ewc-site-b-seed1-ddf8f0312f`, and whole SHA-256
_OURS = re.compile(r"(?<=-)seed\d{1,10}(?:-[a-z]+)*-[0-9a-f]{10}$|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_BIDIRECTIONAL_OR_INVISIBLE = {"Cf", "Cc", "Co", "Cs", "Cn", "Zl", "Zp"}


def patient_like(text: str) -> Iterator[str]:
    """What in a text could name a patient, each described and masked, for example `an e-mail address, "j•••@•••"`."""
    # some patterns take the square of a text's length; a longer one does not pass anyway
    plain = _OURS.sub("", unicodedata.normalize("NFKC", text[: 4 * LONGEST]))
    told = set()
    for what, pattern in _PATTERNS:
        found = next((match for match in pattern.finditer(plain) if not _is_round(match[0])), None)
        if found is not None and what not in told:
            told.add(what)
            yield f'{what}, "{masked(found[0])}"'
    if "a name" not in told:
        words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain))
        if given := [word for word in words if word.casefold() in _GIVEN]:
            yield f'a given name, "{masked(given[0])}"'
    if len(text) > LONGEST:
        yield f"a text of {len(text)} characters"


def masked(text: str) -> str:
    """A text with all but its first letter or digit made unreadable."""
    text = text.strip()
    return text[:1] + re.sub(r"[^\W_]", "•", text[1:40])


def hidden(text: str) -> Iterator[str]:
    """Characters that a reader does not see, or that make them read something else, each by code point and name."""
    marks = 0
    for character in dict.fromkeys(text):
        point, category = ord(character), unicodedata.category(character)
        is_selector = 0xFE00 <= point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF
        if category in _BIDIRECTIONAL_OR_INVISIBLE or is_selector or (category == "Zs" and character != " "):
            yield f"U+{point:04X} {unicodedata.name(character, 'without a name')}"
    for character in text:
        marks = marks + 1 if unicodedata.category(character) == "Mn" else 0
        if marks == 3:
            yield "three combining marks in a row"
    for word in re.findall(r"[^\W\d_]+", text):
        scripts = {unicodedata.name(letter, "").split(" ")[0] for letter in word} & {"LATIN", "CYRILLIC", "GREEK"}
        if len(scripts) > 1 and len(word) > 1 and "CYRILLIC" in scripts:
            yield f"a word of {' and '.join(sorted(script.title() for script in scripts))} letters"
