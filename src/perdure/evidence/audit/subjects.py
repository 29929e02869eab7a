"""Is there a statistic over so few subjects that it is nearly one subject's own?

Mean activations, importance and hashes over n subjects say of each about 1/n of what they say at all; over one subject
they are that subject's. Releases of the same line can also be subtracted from each other, which leaves what the newest
domain added: so each domain has to be large enough by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from perdure.evidence.audit.objection import IDENTITY, Objection
from perdure.release import Identity


def subject_objections(identity: Identity, fewest: int) -> Iterator[Objection]:
    """Objections to domains, and to importance, that stand on too few.

    Args:
        identity: of the release.
        fewest: subjects that a statistic may stand on, at least 1.
    """
    more = f"Learn it with at least {fewest} subjects, several sites together, or keep the release in the building."
    for number, seen in enumerate(identity.domains):
        place = f"domains.{number}.counts.subjects"
        train, val = (seen.counts.subjects.get(split, 0) for split in ("train", "val"))
        if train < fewest:
            yield _few(
                f"{place}.train", f"{train} training subject(s) of domain {seen.domain!r}",
                "Batch-norm statistics and importance of this domain are nearly those of single patients; the weights "
                "have seen nobody else there.", more,
            )  # fmt: skip
        if train + val < fewest:
            yield Objection(
                kind="hash", file=IDENTITY, field=f"domains.{number}.data",
                found=f"one hash over the cases of {train + val} subject(s)",
                why="Whoever holds these few files can compute it, and so prove that the patient was in the data.",
                what_to_do=more,
            )  # fmt: skip
    for key, measure in identity.measures.items():
        # the one needs no data, the other is gathered over all of training
        has_samples = measure.settings.get("measure") not in ("uniform", "si")
        if has_samples and measure.samples < fewest * measure.domains:
            yield _few(
                f"measures.{key}.samples", f"{measure.samples} sample(s) over {measure.domains} domain(s)",
                "Importance of a sample is its squared gradient, or nearly: it can give the sample back.",
                "Measure importance on more samples (--importance-samples), or on all.",
            )  # fmt: skip
    for place, samples in _limits(identity):
        if samples is not None and samples < fewest:
            yield _few(
                place, f"importance of the newest domain on {samples} sample(s)",
                "Importance of a sample is its squared gradient, or nearly: it can give the sample back.",
                "Measure importance on more samples (--importance-samples), or on all.",
            )  # fmt: skip


def _limits(identity: Identity) -> Iterator[tuple[str, int | None]]:
    limits = {
        "recipe.importance_samples": identity.recipe.get("importance_samples"),
        "training.samples_measured": identity.training.get("samples_measured"),
    }
    if any(measure.samples for measure in identity.measures.values()):
        yield from limits.items()


def _few(field: str, found: str, why: str, what_to_do: str) -> Objection:
    return Objection(kind="few subjects", file=IDENTITY, field=field, found=found, why=why, what_to_do=what_to_do)
