"""Predictions as files: a folder in, a folder out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import DataError, EvaluationError
from perdure.evaluation.prediction import Predictor, norm_domain
from perdure.evaluation.prediction_layout import Output, bids_dataset, bids_root
from perdure.evaluation.prediction_writing import Classifications, Segmentations
from perdure.evaluation.segmented import Segmenter
from perdure.evaluation.views import View, ViewAggregation, view_weights
from perdure.release.folder import held, replace_file

if TYPE_CHECKING:
    from perdure.data.dicom.writing import Origin
    from perdure.data.listing import Listing
    from perdure.release import Release

RECORD = "prediction.json"
SPOOL = ".spool"
"""Folder below the results in which series from a PACS lie until they are segmented."""


_USUAL = {"precision": Output.precision, "engine": Output.engine}
"""What a folder of results does not have to say."""


@dataclass
class Predicted:
    """What became of each file.

    Args:
        written: what was predicted now.
        skipped: how many were done before.
        failed: file to reason.
        passed_over: what is no image, and how much there is of it: see `Listing.passed_over`.
    """

    written: list[Path] = field(default_factory=list)
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """Releases that may predict into a folder.

    Args:
        releases: one, or one a view.
        owner: what the folder says of itself.
    """

    releases: tuple[Release, ...]
    owner: dict[str, Any]


def predict_files(
    release: Release | Sequence[Release],
    source: Path,
    out: Path,
    *,
    device: str = "cpu",
    domain: str | None = None,
    output: Output | None = None,
    match: str | None = None,
    weights: Mapping[View, float] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Predicted:
    """Predicts a file or every image of a folder, below it too, and writes each result under the same relative name.

    Segmentation gives a label map on the image's own grid; classification gives one `predictions.csv` with the image,
    the most probable class, and the probability of each. What is there already is not done again, if the same release
    made it of the same bytes; a result of others is left as it is, and the image has failed. One bad file is reported
    and does not stop the others.

    Args:
        release: whose model predicts; several, one for each view of a volume, predict together.
        source: an image, a list of the files of one, or a folder. Hidden files, and those in `out`, are no images.
        out: the folder for the results: new, empty, or with results of the same release.
        device: where the network runs.
        domain: where the images are from; a release that keeps one batch norm a domain has to know, others do not look
            at it.
        output: formats, and what is written besides label maps.
        match: only images of a name that this fits, as `*_T1w.nii.gz`; all if left out.
        weights: of the views, where there are several releases.
        progress: told how many of how many files are done.

    Raises:
        EvaluationError: if there is no image, two images would have one result, `out` holds something else than results
            of this release (and domain, and format), the release keeps one batch norm a domain and `domain` is none of
            them, several releases do not belong together, or `output` asks for what there is not for this task.
        ConfigurationError, NetworkError: as of `Predictor`.
    """
    output = output or Output()
    checked = check_results(release, out, domain=domain, output=output, weights=weights)
    releases, owner = checked.releases, checked.owner
    found = images_in(source, out, match)
    root = source.parent if found.images == [source] else source
    segmenter: Segmenter
    if len(releases) > 1:
        segmenter = ViewAggregation(releases, device, domain, weights, output.precision, output.engine)
    else:
        segmenter = Predictor(releases[0], device, owner["domain"], output.precision, output.engine)
    refusal = EvaluationError(
        f"{out}: another process predicts into it; wait until it has ended, or name another --out."
    )
    with held(out.absolute().parent / f".{out.name}.lock", refusal):
        return _predicted(segmenter, out, output, owner, releases, found, root, progress)


def _predicted(
    segmenter: Segmenter,
    out: Path,
    output: Output,
    owner: Mapping[str, Any],
    releases: Sequence[Release],
    found: Listing,
    root: Path,
    progress: Callable[[int, int], None],
) -> Predicted:
    files, others = found.images, frozenset(found.others)
    if output.form == "bids":
        root = bids_root(root)
    names = [Path(os.path.relpath(file, root)) for file in files]
    write: Segmentations | Classifications
    if isinstance(segmenter, Predictor) and segmenter.contract.task == "classification":
        write = Classifications(segmenter, out, names, others)
    else:
        write = Segmentations(segmenter, out, output, names, _origin(releases, owner), others)
    replace_file(out / RECORD, (json.dumps(owner, indent=2) + "\n").encode())
    if output.form == "bids":
        for path, content in bids_dataset(root, out, [f"{one.name} {one.id}" for one in releases]).items():
            replace_file(out / path, content)
    result = Predicted(passed_over=found.passed_over)
    for done, (file, outcome) in enumerate(zip(files, write.each(files, names), strict=True), 1):
        if isinstance(outcome, DataError):
            result.failed[str(file)] = str(outcome)
        elif outcome is None:
            result.skipped += 1
        else:
            result.written.append(outcome)
        progress(done, len(files))
    return result


def check_results(
    release: Release | Sequence[Release],
    out: Path,
    *,
    domain: str | None,
    output: Output,
    weights: Mapping[View, float] | None,
) -> Checked:
    """Passes if results of these releases may go into a folder; nothing is written.

    Raises:
        EvaluationError: as of `predict_files`.
    """
    # views may be named in any order, and give the same results
    releases = tuple(sorted(release, key=_view)) if isinstance(release, Sequence) else (release,)
    whose = [norm_domain(one, domain) for one in releases]
    output.check(releases[0].contract)
    owner = _owner(releases, next((one for one in whose if one), None), output, weights)
    _check_owner(out, owner)
    return Checked(releases, owner)


def _view(release: Release) -> str:
    return release.contract.view or ""


def _owner(
    releases: Sequence[Release], domain: str | None, output: Output, weights: Mapping[View, float] | None
) -> dict[str, Any]:
    """What a folder of results says of itself; results of which this differs do not mix."""
    if len(releases) == 1:
        if weights:
            raise EvaluationError("Weights of views are for several releases (--release), one a view.")
        owner: dict[str, Any] = {"release": releases[0].id, "name": releases[0].name, "domain": domain}
    else:
        views = view_weights(releases, weights)
        named = {one.contract.view: {"release": one.id, "name": one.name} for one in releases}
        owner = {
            "release": " ".join(one.id for one in releases),
            "domain": domain,
            "views": [{"view": view, "weight": weight, **named[view]} for view, weight in views.items()],
        }
    owner |= {"format": output.form} if output.form else {}
    return owner | {name: getattr(output, name) for name, own in _USUAL.items() if getattr(output, name) != own}


def _origin(releases: Sequence[Release], owner: Mapping[str, Any]) -> Origin:
    """What a DICOM SEG says of its making: one id, also of several releases and their weights."""
    from perdure.data.dicom.writing import Origin

    name = " + ".join(one.name for one in releases)
    if len(releases) == 1:
        return Origin(name, releases[0].id, owner["domain"])
    together = json.dumps([owner["release"], owner["views"]], sort_keys=True)
    return Origin(name, hashlib.sha256(together.encode()).hexdigest(), owner["domain"])


def _check_owner(out: Path, owner: Mapping[str, Any]) -> None:
    """Refuses to mix the results of two releases, or results with other files."""
    record = out / RECORD
    if not record.exists():
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise EvaluationError(f"{out}: holds other files than predictions; choose a new or an empty --out.")
        return
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        found, place = str(content["release"]), content.get("domain")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{record}: damaged; choose another --out.") from error
    if found != owner["release"]:
        raise EvaluationError(
            f"{out}: holds the results of release {_short(found)}, not of {_short(owner['release'])}; choose another "
            "--out."
        )
    if place != owner["domain"]:
        raise EvaluationError(
            f"{out}: holds results for domain {place}, not for {owner['domain']}; choose another --out."
        )
    for what in ("format", "views", "precision", "engine"):
        had, asked = (one.get(what, _USUAL.get(what)) for one in (content, owner))
        if had != asked:
            raise EvaluationError(f"{out}: holds results with the {what} {had}, not {asked}; choose another --out.")


def _short(release: str) -> str:
    """The beginning of the id of a release, or of that of each view."""
    return " with ".join(one[:12] for one in release.split()[:3])


def images_in(source: Path, out: Path, match: str | None = None) -> Listing:
    """The image itself, or all of a folder and below it, hidden files and those in `out` left out.

    Raises:
        EvaluationError: if there is none, or none of a name that `match` fits.
    """
    from perdure.data.listing import READABLE, Listing, listing

    if not source.exists():
        raise EvaluationError(f"{source}: no such file or folder; --input names an image or a folder of images.")
    # results are no images; what was fetched to be segmented lies among them, out of sight
    results = out.resolve()
    is_fetched = source.resolve().is_relative_to(results / SPOOL)
    listed = listing(source)
    # not Path.resolve, which takes no link that leads to itself
    images, *others = (
        [file for file in files if is_fetched or not Path(os.path.realpath(file)).is_relative_to(results)]
        for files in (listed.images, listed.others, listed.unread, listed.links)
    )
    found = Listing(images, *others)
    if not images:
        passed = "".join(f"; {number} {what} passed over" for what, number in found.passed_over.items())
        raise EvaluationError(f"{source}: found no image there{passed}; allowed are {READABLE}.")
    matching = [file for file in images if match is None or fnmatch(file.name, match)]
    if not matching:
        raise EvaluationError(f"{source}: none of its {len(images)} images has a name like {match} (--match).")
    return replace(found, images=matching)
