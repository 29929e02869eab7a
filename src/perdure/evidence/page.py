"""One static page that shows what updates did to every domain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.errors import EvaluationError
from perdure.evaluation import LITERATURE, MEASURES, TrainTestMatrix
from perdure.evidence.figures import (
    ENVIRONMENT,
    change_heat_map,
    matrix_heat_map,
    slice_image,
    structure_colours,
)
from perdure.evidence.text import (
    forgotten_sentences,
    left_out,
    measure_symbol,
    metric_title,
    no_updates,
    number,
    with_no_update,
    worst_in_words,
)
from perdure.release.folder import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from perdure.evaluation import Loss, Summary


@dataclass(frozen=True, eq=False)
class SliceEvidence:
    """One slice of one domain, as four pictures side by side.

    Args:
        domain: where it comes from.
        image: `(height, width)` or `(height, width, 3)`.
        truth: class indices `(height, width)`; 255 where a pixel does not count.
        before: what an earlier release made of it.
        after: what the last release makes of it.
        before_is: which release `before` is, in words.
        after_is: which release `after` is, in words.
        before_score: the case's score of `before`, if known.
        after_score: the case's score of `after`, if known.
        caption: which subject and which slice.
    """

    domain: str
    image: NDArray[Any]
    truth: NDArray[Any]
    before: NDArray[Any]
    after: NDArray[Any]
    before_is: str = "right after learning it"
    after_is: str = "after the last update"
    before_score: float | None = None
    after_score: float | None = None
    caption: str = ""


@dataclass(frozen=True, eq=False)
class MethodEvidence:
    """What one method did.

    Args:
        name: what the method is called.
        matrix: its train-test matrix; matrices of one page hold the same metric and domains.
        description: one sentence on what the method does.
        slices: one a domain.
    """

    name: str
    matrix: TrainTestMatrix
    description: str = ""
    slices: tuple[SliceEvidence, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """How the numbers were made, so that somebody else can make them again.

    Args:
        command: the command line.
        seeds: every seed.
        created: date and time, with the time zone.
        versions: library to version.
        further: anything else, heading to text.
    """

    command: str
    seeds: tuple[int, ...]
    created: str
    versions: Mapping[str, str]
    further: Mapping[str, str] = field(default_factory=dict)


def write_page(
    path: Path,
    *,
    title: str,
    introduction: str,
    methods: Sequence[MethodEvidence],
    provenance: Provenance,
    structures: Sequence[str] = (),
    notice: str | None = None,
) -> None:
    """Writes one HTML file that asks nothing of the network; a crash leaves the old file or the new one.

    Args:
        path: the file.
        title: its heading.
        introduction: what was done and what for, in a sentence or two.
        methods: at least one.
        provenance: how it was made.
        structures: the names of all classes, background first; needed where slices are shown.
        notice: what a reader must know before anything else, for example that the data are simulated.

    Raises:
        EvaluationError: if the methods cannot be compared, or a slice does not fit.
    """
    _check_comparable(methods)
    matrices = {method.name: method.matrix for method in methods}
    summaries = with_no_update(matrices)
    metric = methods[0].matrix.metric
    limits, extent = matrix_limits(matrices.values()), matrix_extent(matrices.values())
    page = ENVIRONMENT.get_template("page.html.j2").render(
        title=title,
        introduction=introduction,
        notice=notice,
        metric=metric_title(metric),
        definitions=[(one, measure_symbol(one, metric)) for one in MEASURES],
        summaries=summaries,
        fates=_fates(matrices),
        methods=[_section(method, summaries[method.name], limits, extent, structures) for method in methods],
        provenance=provenance,
        number=number,
        worst=worst_in_words,
    )
    replace_file(path, page.encode("utf-8"))


@dataclass(frozen=True)
class _Fate:
    """One domain under one method: its score right after it was learnt (None: not asked), now, and the change."""

    before: str | None
    after: str
    change: str
    kind: str


def _fates(matrices: Mapping[str, TrainTestMatrix]) -> dict[str, list[_Fate]]:
    """By domain: what became of it, without update and under each method."""
    controls = no_updates(matrices)
    first = next(iter(matrices.values()))
    fates: dict[str, list[_Fate]] = {}
    for j, domain in enumerate(first.domains):
        row = fates.setdefault(domain, [])
        row.extend(_Fate(None, number(control.mean[-1, j]), "", "") for control in controls.values())
        for matrix in matrices.values():
            before, after = matrix.mean[j, j], matrix.mean[-1, j]
            is_last = j == len(first.domains) - 1
            change = "" if is_last else number(after - before, signed=True)
            kind = "" if change in ("", "0.000", "–") else "loss" if after < before else "gain"
            row.append(_Fate(None if is_last else number(before), number(after), change, kind))
    return fates


def _section(
    method: MethodEvidence,
    summary: Summary,
    limits: tuple[float, float],
    extent: float,
    structures: Sequence[str],
) -> dict[str, object]:
    matrix = method.matrix
    colours = structure_colours(len(structures))
    drawn = [labels for one in method.slices for labels in (one.truth, one.before, one.after)]
    seen = sorted({int(k) for labels in drawn for k in np.unique(labels) if 0 < k < len(structures)})
    worst: list[tuple[str, Loss | None]] = [
        ("Worst domain at the last stage", summary.worst_domain),
        ("Worst domain over all stages", summary.worst_domain_of_all_stages),
    ]
    if matrix.structures:
        worst += [
            ("Worst structure at the last stage", summary.worst_structure),
            ("Worst structure over all stages", summary.worst_structure_of_all_stages),
        ]
    return {
        "name": method.name,
        "description": method.description,
        "sentences": forgotten_sentences(matrix),
        "matrix": matrix_heat_map(matrix, limits),
        "change": change_heat_map(matrix, extent) if len(matrix.domains) > 1 else None,
        "worst": worst,
        "left_out": left_out(matrix),
        "measures": [
            (one, measure_symbol(one, matrix.metric), summary.measure(one.key)) for one in (*MEASURES, *LITERATURE)
        ],
        "has_structures": bool(matrix.structures),
        "legend": [(structures[k], colours[k]) for k in seen],
        "slices": [_slice(one, colours) for one in method.slices],
        "releases": matrix.releases,
    }


def _slice(one: SliceEvidence, colours: Sequence[str]) -> dict[str, object]:
    pictures = [
        ("image", slice_image(one.image), None),
        ("truth", slice_image(one.image, one.truth, colours), None),
        (one.before_is, slice_image(one.image, one.before, colours), one.before_score),
        (one.after_is, slice_image(one.image, one.after, colours), one.after_score),
    ]
    height, width = one.image.shape[:2]
    return {"domain": one.domain, "caption": one.caption, "pictures": pictures, "width": width, "height": height}


def _check_comparable(methods: Sequence[MethodEvidence]) -> None:
    if not methods:
        raise EvaluationError("A page needs at least one method; got none.")
    names = [method.name for method in methods]
    if len(set(names)) != len(names):
        raise EvaluationError(f"Methods on one page must have different names; got {', '.join(names)}.")
    first = methods[0].matrix
    for method in methods[1:]:
        for what in ("metric", "domains", "structures"):
            found, expected = getattr(method.matrix, what), getattr(first, what)
            if found != expected:
                raise EvaluationError(
                    f"Method {method.name!r} has the {what} {found!r}, {methods[0].name!r} has {expected!r}; methods "
                    "on one page must have the same."
                )


def matrix_limits(matrices: Collection[TrainTestMatrix]) -> tuple[float, float]:
    """The range of all scores, widened to tenths."""
    every = np.concatenate([np.append(matrix.mean, matrix.unseen_mean) for matrix in matrices])
    every = every[~np.isnan(every)]
    if every.size == 0:
        return 0.0, 1.0
    return float(np.floor(every.min() * 10) / 10), float(np.ceil(every.max() * 10) / 10)


def matrix_extent(matrices: Collection[TrainTestMatrix]) -> float:
    """The largest change, but at least .05, so that noise does not shine."""
    every = np.abs(np.concatenate([matrix.change.ravel() for matrix in matrices]))
    largest = float(every[~np.isnan(every)].max(initial=0.0))
    return max(0.05, float(np.ceil(largest * 20) / 20))
