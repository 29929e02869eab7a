"""What does a report not show? Said before anybody concludes something from it."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.evidence.report.content import Report
from perdure.evidence.text import metric_title


def limits_of(report: Report) -> tuple[str, ...]:
    """All limits, the graver ones first."""
    return tuple(_limits(report))


def _limits(report: Report) -> Iterator[str]:
    for name, why in report.refused.items():
        yield f"The folder {name} was left out: {why}"
    yield from report.verdict_notes
    yield from _few(report)
    if report.split == "val":
        yield "Scores are of the val split, which training may have looked at; they are too good."
    yield (
        "Intervals are over subjects: what other patients would give with this model. What another training would give "
        "is not in them."
    )
    if report.structures:
        yield (
            "Intervals of single structures are not corrected for how many there are: among many, some leave 0 out by "
            "chance."
        )
    yield from _of_scores(report)
    for file in report.score_files:
        if not file.used:
            yield f"The score file {file.name} was not used: {file.reason}."
    if len(report.candidates) > 1:
        yield (
            f"{len(report.candidates)} candidates were scored on the same cases. Whoever picks the best of them by "
            "these scores sees it better than it is."
        )
    yield "Nothing here says how the release does on scanners, sites or patients that are not among the scored domains."
    yield "Research software; not a medical device."


def _few(report: Report) -> Iterator[str]:
    few = [one for one in report.changes if one.interval is not None and not one.interval.is_decided]
    if few:
        said = ", ".join(f"{one.domain}: {one.interval.reason if one.interval else ''}" for one in few)
        yield f"Too few subjects to decide anything: {said}."


def _of_scores(report: Report) -> Iterator[str]:
    if report.task == "segmentation":
        yield (
            f"{metric_title(report.metric)} measures overlap: it does not see whether an error matters to a patient, "
            "and weighs a thin structure's edge more than a large one's."
        )
    if report.shown:
        yield (
            "Pictures show the cases that got worse most, not typical ones; volumes in the viewer are thinned and "
            "cropped, scores are of the whole volume."
        )
