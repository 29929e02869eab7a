"""Which DICOM modalities does a contract's free text speak of?"""

from __future__ import annotations

import re

IMAGES = ("CR", "CT", "DX", "MG", "MR", "OP", "PT")
"""Modalities of images that can be read; a text that speaks of none in particular means any."""

_WORDS = {
    # sequences, because importers and BIDS write those: T1w, t2_tse, T2star
    (
        "MR",
    ): r"mri?|magnetic resonance|t[12][a-z]*|flair|pdw?|pdt2|proton density|mp2?rage|flash|adc|dwi|dti|swi|bold|asl",
    ("CT",): r"(cb|ce|hr|ld|md|nc)?ct|cta|comput(ed|er|eri[sz]ed) tomogra\w+|hounsfield",
    ("PT",): r"pt|pet|fdg|positron emission tomogra\w+",
    ("MG",): r"mg|mammogra\w+|ffdm|dbt|tomosynthesis",
    ("CR", "DX"): r"cr|dx|c?xr|x[- ]?rays?|radiogra\w+",
    ("OP",): r"op|cfp|fundus",
}


def modalities_of(text: str) -> tuple[str, ...]:
    """The modalities that a text names, as `T1-weighted MRI` or `T1w` names MR; all of `IMAGES` if it names none."""
    words = text.lower().replace("_", " ")
    named = [codes for codes, pattern in _WORDS.items() if re.search(rf"\b({pattern})\b", words)]
    return tuple(code for codes in named for code in codes) or IMAGES
