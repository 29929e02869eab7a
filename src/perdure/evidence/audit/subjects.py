"""Is there a statistic over so few subjects that it is nearly one subject's own?

Mean activations, importance and hashes over n subjects say of each about 1/n of what they say at all; over one subject
they are that subject's. Releases of the same line can also be subtracted from each other, which leaves what the newest
domain added: so each domain has to be large enough by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from perdure.evidence.audit.objection import IDENTITY, Objection
from perdure.release import Identity
from perdure.update.intensities import FEWEST_SUBJECTS

_GRADIENT = "Importance of a subject is its squared gradient, or nearly: it can give the scans back."
_MORE_SAMPLES = "Measure importance on more samples (--importance-samples), or on all."


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
        if measure.settings.get("measure") not in ("uniform", "si") and (found := _measured_on(identity, key, fewest)):
            yield _few(f"measures.{key}.samples", found, _GRADIENT, _MORE_SAMPLES)
    for place, samples in _limits(identity):
        if samples is not None and samples < fewest:
            yield _few(place, f"importance of the newest domain on {samples} sample(s)", _GRADIENT, _MORE_SAMPLES)
    yield from _validation(identity, fewest)


def _measured_on(identity: Identity, key: str, fewest: int) -> str:
    """What is too few about the samples of a measure; empty where they are of enough subjects."""
    measure = identity.measures[key]
    over = f"over {measure.domains} domain(s)"
    if measure.subjects is not None and measure.subjects < fewest:
        return f"samples of {measure.subjects} subject(s) of one domain, {over}"
    if measure.samples < fewest * measure.domains:
        return f"{measure.samples} sample(s) {over}"
    # many samples may be the slices of one volume
    if measure.subjects is None and measure.samples < (
        everything := sum(seen.counts.samples.get("train", 0) for seen in identity.domains)
    ):
        return f"{measure.samples} of {everything} training samples, and nobody counted of how many subjects"
    return ""


def _validation(identity: Identity, fewest: int) -> Iterator[Objection]:
    """An objection to losses of validation samples that are those of a few subjects."""
    is_joint = identity.method.get("data") == "cumulative"
    among = identity.domains if is_joint else identity.domains[-1:]
    subjects = sum(seen.counts.subjects.get("val", 0) for seen in among)
    for part in ("epochs", "rates"):
        if subjects < fewest and any(one.get("validation_loss") is not None for one in identity.training.get(part, ())):
            yield _few(
                f"training.{part}", f"validation losses of {subjects} subject(s)",
                "Whoever holds their scans can compute them, and so prove that they were in the data.",
                f"Make the release again with this version, which keeps no loss of fewer than {FEWEST_SUBJECTS} "
                f"subjects, or with at least {fewest} subjects to validate on.",
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
