"""Which DICOM modalities does a contract's free text speak of?"""

from __future__ import annotations

import re

IMAGES = ("CR", "CT", "DX", "MG", "MR", "OP", "PT")
"""Modalities of images that can be read; a text that speaks of none in particular means any."""

_WORDS = {
    ("MR",): r"mri?|magnetic resonance",
    ("CT",): r"ct|cbct|computed tomography",
    ("PT",): r"pt|pet|positron emission tomography",
    ("MG",): r"mg|mammogra\w+",
    ("CR", "DX"): r"cr|dx|x-?rays?|radiogra\w+",
    ("OP",): r"op|fundus",
}


def modalities_of(text: str) -> tuple[str, ...]:
    """The modalities that a text names, as `T1-weighted MRI` names MR; all of `IMAGES` if it names none."""
    named = [codes for codes, words in _WORDS.items() if re.search(rf"\b({words})\b", text.lower())]
    return tuple(code for codes in named for code in codes) or IMAGES
