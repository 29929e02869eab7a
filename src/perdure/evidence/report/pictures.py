"""What do the cases look like that got worse most? Image, truth, what each release makes of it, and the difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.data.images import read_image
from perdure.evaluation import Predictor, dice
from perdure.evidence.figures import slice_image, structure_colours
from perdure.evidence.report.content import CaseChange, ShownCase
from perdure.evidence.report.volumes import VIEWS, Volume, closest_canonical, plane, volume_of
from perdure.types import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.data import FolderDomain, PreparedCase
    from perdure.release import Release

DIFFERENCE = {1: "lost: right before, wrong now", 2: "won: wrong before, right now", 3: "wrong both times, otherwise"}
"""What the colours of a difference mean."""
DIFFERENCE_COLOURS = ("#000000", "#d55e00", "#56b4e9", "#f0e442")
LONGEST = 512
"""Pixels along the longer side of a picture; larger ones are thinned."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a case.

    Args:
        what: it shows.
        uri: a PNG.
        width: in pixels.
        height: likewise.
    """

    what: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Pictures:
    """One case as the page shows it.

    Args:
        facts: what of it is numbers.
        pictures: side by side.
        volume: for the viewer; None of a picture, or where it would make the page too large.
    """

    facts: ShownCase
    pictures: tuple[Picture, ...]
    volume: Volume | None = None


def worst_cases(
    cases: Sequence[CaseChange], names: Mapping[int, tuple[str, str]], domains: Sequence[FolderDomain], most: int
) -> list[tuple[CaseChange, FolderDomain]]:
    """Of each domain those that got worse most, as many as are asked for, as far as they are in the data folder.

    Args:
        cases: what got worse most first.
        names: by the number of a case its subject and id, also where the report leaves them out.
        domains: of the data folder.
        most: cases of each domain.
    """
    chosen = []
    for domain in domains:
        own = [one for one in cases if one.domain == domain.name and names[one.number][1] in domain.rows]
        chosen += [(one, domain) for one in own[:most]]
    return sorted(chosen, key=lambda pair: pair[0].number)


def pictures_of(
    chosen: Sequence[tuple[CaseChange, FolderDomain]],
    names: Mapping[int, tuple[str, str]],
    before: Release,
    after: Release,
    *,
    room: int,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Pictures, ...]:
    """Runs both releases on the cases.

    Args:
        chosen: with their domains.
        names: see `worst_cases`.
        before: the parent.
        after: the candidate.
        room: bytes that all volumes for the viewer may take in the page together.
        device: where the networks run.
        progress: told how many of how many are done.
    """
    shown = []
    for done, (case, domain) in enumerate(chosen, 1):
        prepared = domain.case(names[case.number][1])
        if domain.contract.task == "classification":
            one = _classified(case, prepared)
        else:
            sides = [
                Predictor(release, device, domain.name).classes(prepared.image, prepared.grid)
                for release in (before, after)
            ]
            one = _segmented(case, prepared, sides[0], sides[1], room)
            room -= 0 if one.volume is None else one.volume.size
        shown.append(one)
        progress(done, len(chosen))
    return tuple(shown)


def difference(truth: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.uint8]:
    """Where the two differ, by the keys of `DIFFERENCE`; 0 where they agree and where nothing counts."""
    differs = (before != after) & (truth != IGNORED)
    found = np.zeros(truth.shape, np.uint8)
    found[differs & (before == truth)] = 1
    found[differs & (after == truth)] = 2
    found[differs & (before != truth) & (after != truth)] = 3
    return found


def _segmented(
    case: CaseChange, prepared: PreparedCase, before: NDArray[np.uint8], after: NDArray[np.uint8], room: int
) -> Pictures:
    truth, file = prepared.reference(), read_image(prepared.files.image)
    names = [structure.name for structure in prepared.contract.structures]
    changed = difference(truth, before, after)
    scores = [dice(side, truth, len(names)) for side in (before, after)]
    facts: dict[str, Any] = {
        "number": case.number,
        "dice": {name: (_known(scores[0][k]), _known(scores[1][k])) for k, name in enumerate(names) if k},
    }
    layers = {"truth": truth, "before": before, "after": after, "difference": changed}
    if file.header.affine is None:
        return Pictures(ShownCase(**facts), _row(_upright(file.pixels), layers, len(names)))
    view = prepared.contract.view or "axial"
    turned = closest_canonical(file.header.affine, {"image": file.pixels, **layers})
    place = plane(turned.arrays, view)
    flat = {name: turned.cut(name, view, place) for name in turned.arrays}
    volume, step = volume_of(turned, structures=names, room=room)
    reason = None if volume is not None else "it would have made the page larger than it may be"
    facts |= {"view": view, "slice": place, "step": step if volume is not None else None, "reason": reason}
    image = flat.pop("image")
    return Pictures(ShownCase(**facts), _row(image, flat, len(names)), volume)


def _classified(case: CaseChange, prepared: PreparedCase) -> Pictures:
    image = read_image(prepared.files.image)
    facts: dict[str, Any] = {"number": case.number, "dice": {}}
    if image.header.affine is None:
        return Pictures(ShownCase(**facts), (_picture("image", _upright(image.pixels)),))
    view = prepared.contract.view or "axial"
    turned = closest_canonical(image.header.affine, {"image": image.pixels})
    place = turned.arrays["image"].shape[VIEWS.index(view)] // 2
    facts |= {"view": view, "slice": place}
    return Pictures(ShownCase(**facts), (_picture("image", turned.cut("image", view, place)),))


def _row(image: NDArray[Any], layers: Mapping[str, NDArray[Any]], classes: int) -> tuple[Picture, ...]:
    colours = structure_colours(classes)
    drawn = [_picture("image", image)]
    for name, labels in layers.items():
        drawn.append(_picture(name, image, labels, DIFFERENCE_COLOURS if name == "difference" else colours))
    return tuple(drawn)


def _picture(
    what: str, image: NDArray[Any], labels: NDArray[Any] | None = None, colours: Sequence[str] = ()
) -> Picture:
    step = -(-max(image.shape[:2]) // LONGEST)
    thin = image[::step, ::step]
    uri = slice_image(thin, None if labels is None else labels[::step, ::step], colours)
    return Picture(what, uri, thin.shape[1], thin.shape[0])


def _upright(pixels: NDArray[Any]) -> NDArray[Any]:
    """`(channels, height, width)` as pictures are drawn."""
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels[:3], 0, -1)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
