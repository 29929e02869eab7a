"""A study in a PACS in, its segmentation back into it.

What was fetched lies below the results until it is segmented and stored, one file an instance, each whole or not there;
so a run that was stopped anywhere goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.data.dicom.modalities import modalities_of
from perdure.errors import ConfigurationError, DataError, EvaluationError, PacsError
from perdure.evaluation.prediction_files import SPOOL, check_results, predict_files
from perdure.evaluation.prediction_layout import Output, place_of
from perdure.evaluation.prediction_writing import are_segmented
from perdure.release.folder import replace_file

if TYPE_CHECKING:
    from perdure.data.dicom.web import OfferedSeries, Pacs
    from perdure.evaluation.views import View
    from perdure.release import Release
    from perdure.types import Contract


@dataclass(frozen=True)
class SegmentedStudy:
    """What became of a study.

    Args:
        series: UID of the series that was segmented.
        files: the segmentations, each a DICOM SEG: one of a volume, or one of each picture.
        stored: what the PACS made of each, in the same order; empty if they were not sent there.
    """

    series: str
    files: tuple[Path, ...]
    stored: tuple[str, ...]


def predict_study(
    release: Release | Sequence[Release],
    pacs: Pacs,
    study: str,
    out: Path,
    *,
    series: str | None = None,
    store: bool = True,
    keep: bool = False,
    device: str = "cpu",
    domain: str | None = None,
    output: Output | None = None,
    weights: Mapping[View, float] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> SegmentedStudy:
    """Fetches a series of a study, segments it, and stores the segmentation in the study.

    Args:
        release: whose model predicts; several, one for each view of a volume, predict together.
        pacs: where the study is.
        study: its Study Instance UID.
        out: the folder for the results: new, empty, or with results of the same release.
        series: Series Instance UID; may be left out where only one fits the contract.
        store: whether the segmentation is sent to the PACS.
        keep: whether what was fetched stays in `out`.
        device: where the network runs.
        domain: as of `predict_files`.
        output: what is written besides; the format is DICOM SEG.
        weights: as of `predict_files`.
        progress: told what is done, and how much of it.

    Raises:
        ConfigurationError: several series fit; or a UID is none.
        DataError: what was fetched is no image that the contract is for.
        EvaluationError: as of `predict_files`; also if `out` holds a segmentation of other images of the series.
        PacsError: nothing fits, or the PACS cannot be asked, or did not store.
    """
    from perdure.data.dicom.writing import segmented_instances

    output = replace(output or Output(), form="dicom-seg")
    checked = check_results(release, out, domain=domain, output=output, weights=weights)
    contract = checked.releases[0].contract
    if contract.task == "classification":
        raise EvaluationError("A PACS gets segmentations; a classification has none to store. Use --input.")
    chosen = _chosen(pacs.series(study), series, contract, pacs.host)
    instances = pacs.instances(study, chosen)
    folder = out / SPOOL / chosen.uid
    if not are_segmented(_segmented(out, chosen.uid, instances), out, output, contract):
        _fetch(pacs, study, chosen.uid, instances, folder, progress)
        result = predict_files(
            checked.releases,
            folder,
            out,
            device=device,
            domain=domain,
            output=output,
            weights=weights,
            progress=lambda done, total: progress("predicting", done, total),
        )
        if result.failed:
            raise DataError("\n".join(result.failed.values()))
    files = tuple(out / place_of(name, output, contract).labels for name in _segmented(out, chosen.uid, instances))
    for file in files:
        segmented_instances(file)  # what another run left may be damaged
    stored = tuple(pacs.store(file.read_bytes()) for file in files) if store else ()
    if not keep and folder.exists():
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()
    return SegmentedStudy(chosen.uid, files, stored)


def _segmented(out: Path, series: str, instances: Sequence[str]) -> tuple[Path, ...]:
    """What is segmented: the series, if there is a SEG of all of it, or each of its pictures or multi-frame files.

    Raises:
        EvaluationError: there is a SEG, of other images than the PACS has now.
    """
    from perdure.data.dicom.writing import segmented_instances

    whole = out / f"{series}.seg.dcm"
    if not whole.exists():
        return tuple(Path(f"{uid}.dcm") for uid in instances)
    if segmented_instances(whole) != set(instances):
        raise EvaluationError(
            f"{whole}: segments other images of the series than the {len(instances)} that the PACS has now; choose "
            "another --out."
        )
    return (Path(series),)


def _chosen(offered: Sequence[OfferedSeries], wanted: str | None, contract: Contract, host: str) -> OfferedSeries:
    """The series to segment.

    Raises:
        ConfigurationError: several fit.
        PacsError: none does.
    """
    allowed = modalities_of(contract.modality)
    fitting = [one for one in offered if one.modality in allowed and wanted in (None, one.uid)]
    kind = f"the contract is for {contract.modality!r}, which is {' or '.join(allowed)}"
    if not fitting:
        named = "" if wanted is None else f" that is {wanted}"
        raise PacsError(f"{host}: no series of the study{named} fits; {kind}. It has:\n{_listing(offered)}")
    if len(fitting) > 1:
        raise ConfigurationError(
            f"{len(fitting)} series of the study fit; {kind}. Name one by --series:\n{_listing(fitting)}"
        )
    return fitting[0]


def _listing(offered: Sequence[OfferedSeries]) -> str:
    lines = []
    for one in offered:
        described = "".join(letter if letter.isprintable() else "?" for letter in one.description)[:64]
        lines.append(f"  {one.uid}  {one.modality[:16]}  {one.instances or '?'} instances  {described}".rstrip())
    return "\n".join(lines)


def _fetch(
    pacs: Pacs,
    study: str,
    series: str,
    instances: Sequence[str],
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> None:
    """Fetches the instances that are not there yet, and removes all else."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{uid}.dcm": uid for uid in instances}
    for other in [entry for entry in folder.iterdir() if entry.name not in names]:
        other.unlink()
    for done, (name, uid) in enumerate(names.items(), 1):
        if not (folder / name).exists():
            replace_file(folder / name, pacs.instance(study, series, uid))
        progress("fetching", done, len(names))
