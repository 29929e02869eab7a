"""Does `release.json` hold what a release says of itself, and nothing else?

Every field has either a strict form (a hash, a version, a time, a number, a word of a list), or is text or a setting
that somebody chose; those are read for what could name a patient.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from perdure.evidence.audit.objection import IDENTITY, MEMORY, WEIGHTS, Kind, Objection
from perdure.evidence.audit.parts import REMOVE, part_objections, strict_problems
from perdure.evidence.audit.patient_text import hidden, patient_like
from perdure.release import Identity
from perdure.types import SPLITS
from perdure.update.provenance import LIBRARIES
from perdure.update.rates import Trial
from perdure.update.run_folder import Epoch

_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(\+00:00|Z)")
_VERSION = re.compile(r"\d{1,4}(\.\d{1,6}){1,3}((a|b|rc|\.dev|\.post)\d{1,4})*(\+[a-z0-9.]{1,16})?")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*)?", re.ASCII)

# a place is a path of keys and positions; * stands for any one of them
_STRICT: dict[str, re.Pattern[str]] = {
    "id": _HASH,
    "created": _TIME,
    "domains.*.data": _HASH,
    "lineage.*.id": _HASH,
    f"files.{WEIGHTS}": _HASH,
    f"files.{MEMORY}": _HASH,
    "training.interpolated.candidate": _HASH,
    "versions.*": _VERSION,
}
_KEYS: dict[str, frozenset[str]] = {
    "files": frozenset((WEIGHTS, MEMORY)),
    "versions": frozenset(("python", *LIBRARIES)),
    "training.epochs.*": frozenset(Epoch.__dataclass_fields__),
    "training.rates.*": frozenset(Trial.__dataclass_fields__),
    **{f"domains.*.counts.{what}": frozenset(SPLITS) for what in ("subjects", "cases", "samples")},
}
_COUNTED = (
    "recipe.seed",
    "method.importance.seed",
    "measures.*.settings.seed",
    "measures.*.samples",
    "domains.*.counts.samples.*",
    "training.report.steps",
    "training.report.shortened_steps",
)
"""Places whose whole numbers may have any digits: a seed is drawn, and samples and steps are many. Elsewhere a number
of six digits or more could be that of a person."""

_MOST_VALUES = {("network", "arguments"): 128, ("method",): 64, ("recipe",): 32}
"""Values in all, however nested, of what somebody chose: an image has thousands."""
_LONGEST_LIST = 64
"""Entries of any other list that does not grow with the work."""
_MOST_MERGED = 256
"""Values in label files that mean one structure; a parcellation of the cortex has some 70."""
_MOST_DIGITS = 17
"""Significant digits of a number as written; 64 bits hold no more."""
_DEEPEST = 8


def record_objections(text: str) -> tuple[Identity | None, list[Objection]]:
    """What `release.json` holds that it may not.

    Args:
        text: the file.

    Returns:
        What the file says (None where it is no identity at all), and the objections.

    Raises:
        ValueError: if it is no JSON object.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"it is a {type(content).__name__}, and a release says what it is in an object")
    found = list(_form(text))
    content, identity, more = _typed(content)
    found += more
    found += [one for place, value in _leaves(content, ()) for one in _leaf(place, value)]
    found += list(_keys(content, ()))
    found += list(_many(content))
    found += [] if identity is None else list(part_objections(identity))
    return identity, found


def _form(text: str) -> Iterator[Objection]:
    """Objections to how the file is written: what a parser passes over can carry a message."""
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(sorted({name for name in names if names.count(name) > 1}))
        return dict(pairs)

    numbers: list[str] = []

    def as_written(digits: str) -> str:
        numbers.append(digits)
        return f"\0{digits}"

    # numbers as they stand there, because 1e-05 and 0.00001 are both right
    literal = json.loads(text, object_pairs_hook=once, parse_float=as_written, parse_int=as_written)
    for name in twice:
        yield _objection("key", name, "the same key twice", "A parser shows the last one and hides the first.")
    plain = re.sub(r'"\\u0000([^"]*)"', r"\1", json.dumps(literal, indent=2, ensure_ascii=False)) + "\n"
    if not twice and plain != text:
        at = next((i for i, (a, b) in enumerate(zip(plain, text, strict=False)) if a != b), min(len(plain), len(text)))
        yield _objection(
            "form", f"character {at}", f"{len(text)} characters where {len(plain)} say the same",
            "Spaces and escapes that a parser passes over can carry a message.",
        )  # fmt: skip
    if long := next((digits for digits in numbers if _digits(digits) > _MOST_DIGITS), None):
        yield _objection(
            "form", "numbers", f"a number of {_digits(long)} significant digits", "Digits beyond 64 bits hold no value."
        )


def _digits(number: str) -> int:
    mantissa = re.split("[eE]", number)[0]
    return len(mantissa.strip("-").replace(".", "").lstrip("0"))


def _typed(content: Any) -> tuple[Any, Identity | None, list[Objection]]:
    """The content without keys that an identity does not have, the identity, and an objection to each such key."""
    found: list[Objection] = []
    try:
        return content, _identity(content), found
    except ValidationError as error:
        extra = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
        found += strict_problems(error, "")
    for *way, last in extra:
        holder = content
        for step in way:
            holder = holder[step]
        # its text is read too before it is forgotten
        found += [one for place, value in _leaves(holder[last], (*way, last)) for one in _leaf(place, value)]
        del holder[last]
    try:
        return content, _identity(content), found
    except ValidationError:
        return content, None, found


def _identity(content: Any) -> Identity:
    # strict, because a reader that takes the text "12" for a number also passes over it
    return Identity.model_validate_json(json.dumps(content), strict=True)


def _many(content: Any) -> Iterator[Objection]:
    """Objections to more values than somebody chooses."""
    for place, most in _MOST_VALUES.items():
        holder = content
        for step in place:
            holder = holder.get(step) if isinstance(holder, Mapping) else None
        if (count := _count(holder)) > most:
            yield _objection(
                "form", ".".join(place), f"{count} values", "So many values could be an image or a list of subjects."
            )


def _count(value: Any) -> int:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
    return 1 if inner is None else sum(map(_count, inner))


def _leaves(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, Mapping) and len(place) < _DEEPEST:
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list) and len(place) < _DEEPEST and len(value) <= _longest(place):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*place, number))
    else:
        yield place, value


def _longest(place: tuple[Any, ...]) -> float:
    # one entry an epoch, a domain, a structure: these grow with the work
    grows = place in (("training", "epochs"), ("domains",), ("lineage",), ("contract", "structures"))
    is_merged = place[:2] == ("contract", "structures") and place[3:] == ("values",)
    return float("inf") if grows else _MOST_MERGED if is_merged else _LONGEST_LIST


def _leaf(place: tuple[Any, ...], value: Any) -> Iterator[Objection]:
    where = ".".join(map(str, place))
    form = next((form for pattern, form in _STRICT.items() if _matches(pattern, place)), None)
    if form is not None:
        if not (isinstance(value, str) and form.fullmatch(value)):
            yield _objection(
                "form", where, "another form than this field has", "A field of a strict form holds no text."
            )
    elif isinstance(value, dict | list):
        yield _objection(
            "form", where, f"{len(value)} entries", "So many values could be an image or a list of subjects."
        )
    elif isinstance(value, str):
        if place == ("network", "factory") and not _FACTORY.fullmatch(value):
            yield _objection(
                "form", where, "no name of a network", "It must be a name of Perdure's, or package.module:name."
            )
        yield from _text(where, value)
    elif _is_whole(value) and not any(_matches(pattern, place) for pattern in _COUNTED):
        yield from _text(where, str(abs(int(value))))


def _keys(value: Any, place: tuple[Any, ...]) -> Iterator[Objection]:
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _keys(inner, (*place, number))
        return
    if not isinstance(value, Mapping):
        return
    allowed = next((keys for pattern, keys in _KEYS.items() if _matches(pattern, place)), None)
    for key, inner in value.items():
        where = ".".join(map(str, (*place, key)))
        if allowed is not None and key not in allowed:
            yield _objection(
                "key", where, "a key that a release does not have", "Only what is listed can be vouched for."
            )
        if place[:1] != ("files",):
            yield from _text(where, key)
        yield from _keys(inner, (*place, key))


def _text(where: str, text: str) -> Iterator[Objection]:
    for what in patient_like(text):
        yield _objection(
            "text", where, what, "It could name a patient, or a person who handled one.",
            "Name domains, files and releases without anything of a person, and make the release again; if it names "
            "nobody, accept it.",
        )  # fmt: skip
    for what in hidden(text):
        yield _objection("unicode", where, what, "A reader does not see it, or reads something else than stands there.")


def _matches(pattern: str, place: tuple[Any, ...]) -> bool:
    if pattern.startswith("files."):
        return place == ("files", pattern.removeprefix("files."))
    parts = pattern.split(".")
    return len(parts) == len(place) and all(part in ("*", str(step)) for part, step in zip(parts, place, strict=True))


def _is_whole(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value == int(value)


def _objection(kind: Kind, field: str, found: str, why: str, what_to_do: str = REMOVE) -> Objection:
    return Objection(kind=kind, file=IDENTITY, field=field, found=found, why=why, what_to_do=what_to_do)
