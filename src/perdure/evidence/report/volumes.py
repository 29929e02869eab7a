"""How does a volume come into a page? Turned upright, cropped, thinned, in 8 bits, as gzipped NIfTI."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perdure.types import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray

VIEWS = ("sagittal", "coronal", "axial")
"""The planes, by the axis of a canonical volume that they stand across."""
LONGEST = 128
"""Voxels along the longest side of a volume in the viewer."""
MARGIN = 6
"""Voxels around all structures that are kept."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One case for the viewer: base64 of gzipped NIfTI files on one grid.

    Args:
        layers: `image`, `truth`, `before`, `after` and `difference`.
        structures: the names of the classes.
        step: every so many voxels were kept.
    """

    layers: Mapping[str, str]
    structures: tuple[str, ...]
    step: int

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(map(len, self.layers.values()))


@dataclass(frozen=True, eq=False)
class Canonical:
    """Arrays whose axes go to the right, forwards and upwards.

    Args:
        arrays: by name, of one shape.
        affine: voxel indices to mm.
    """

    arrays: Mapping[str, NDArray[Any]]
    affine: NDArray[np.float64]

    def cut(self, name: str, view: str, place: int) -> NDArray[Any]:
        """One plane, upright: the patient's right stands left, and of a sagittal plane the front."""
        flat: NDArray[Any] = np.take(self.arrays[name], place, axis=VIEWS.index(view))
        return flat.T[::-1, ::-1]


def closest_canonical(affine: NDArray[np.float64], arrays: Mapping[str, NDArray[Any]]) -> Canonical:
    """Turns arrays by whole axes, so that nothing is interpolated."""
    from nibabel import orientations

    turn: NDArray[np.float64] = orientations.io_orientation(affine)
    shape = next(iter(arrays.values())).shape
    turned = {name: orientations.apply_orientation(array, turn) for name, array in arrays.items()}
    return Canonical(turned, affine @ orientations.inv_ornt_aff(turn, shape))


def plane(arrays: Mapping[str, NDArray[Any]], view: str) -> int:
    """The index of the plane that shows most of what was lost; without a loss, of what changed, or of the truth.

    Only planes that hold a fair part of the structures count, a tenth of what the fullest holds.
    """
    axis = VIEWS.index(view)
    others = tuple(i for i in range(3) if i != axis)
    truth = ((arrays["truth"] != 0) & (arrays["truth"] != IGNORED)).sum(axis=others)
    for found in ((arrays["difference"] == 1).sum(axis=others), (arrays["difference"] != 0).sum(axis=others), truth):
        counts = np.where(10 * truth >= truth.max(), found, 0)
        if counts.any():
            return int(counts.argmax())
    return int(arrays["truth"].shape[axis] // 2)


def volume_of(canonical: Canonical, *, structures: Sequence[str], room: int) -> tuple[Volume | None, int]:
    """A volume for the viewer, and every how many voxels are kept; None where it does not fit into the room.

    Args:
        canonical: image, truth, before, after and difference.
        structures: the names of the classes.
        room: bytes that it may take.
    """
    box = _box(canonical.arrays)
    step = max(1, -(-max(s.stop - s.start for s in box) // LONGEST))
    kept = tuple(slice(s.start, s.stop, step) for s in box)
    affine = canonical.affine.copy()
    affine[:3, 3] = (canonical.affine @ [*(s.start for s in box), 1])[:3]
    affine[:3, :3] *= step
    layers = {}
    for name, array in canonical.arrays.items():
        part = _grey(array, kept) if name == "image" else array[kept].astype(np.uint8)
        if name != "image":
            part = np.where(part == IGNORED, 0, part).astype(np.uint8)
        layers[name] = _nifti(part, affine)
    volume = Volume(layers, tuple(structures), step)
    return (volume if volume.size <= room else None), step


def _box(arrays: Mapping[str, NDArray[Any]]) -> tuple[slice, ...]:
    """What holds every structure of truth and predictions, with a margin; everything where there is none."""
    any_of = sum((arrays[name] != 0) & (arrays[name] != IGNORED) for name in ("truth", "before", "after"))
    found = np.nonzero(any_of)
    if not len(found[0]):
        return tuple(slice(0, n) for n in arrays["truth"].shape)
    return tuple(
        slice(max(0, int(where.min()) - MARGIN), min(n, int(where.max()) + 1 + MARGIN))
        for where, n in zip(found, arrays["truth"].shape, strict=True)
    )


def _grey(image: NDArray[Any], kept: tuple[slice, ...]) -> NDArray[np.uint8]:
    """The minimum becomes black, the 99.5th percentile white; the maximum where nearly all is as black as that."""
    part = np.asarray(image[kept], np.float64)
    low, high = float(part.min()), float(np.quantile(part, 0.995))
    high = high if high > low else float(part.max())
    scaled = 255 * np.clip((part - low) / (high - low), 0, 1) if high > low else np.zeros_like(part)
    return scaled.round().astype(np.uint8)


def _nifti(array: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    import nibabel as nib

    content = nib.Nifti1Image(np.asfortranarray(array), affine).to_bytes()
    # no time inside, so that the same volume gives the same bytes
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")
