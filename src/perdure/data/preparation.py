"""From files to what a network takes: read, scale, bring onto the network's grid."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perdure.data.content import Header, Image
from perdure.data.dicom.modalities import IMAGES, modalities_of
from perdure.data.geometry import Grid, ImageGrid, VolumeGrid, grid_for
from perdure.data.images import read_image, read_labels
from perdure.data.intensity import scaled, standardised
from perdure.errors import DataError, Problem
from perdure.types import IGNORED, MAX_VOXELS, Contract, Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREPROCESSING = 2
"""Counted up whenever the same file and contract come to give other numbers; part of every cache key."""

_LARGEST_VALUE = 65535

_ALWAYS_FINE = 2**26  # numbers on the network's grid, whatever the file; 400 x 400 x 400
_FINER = 64  # so many times as many as the file has: 4 x 4 x 4 mm resampled to 1 mm

_PREPROCESSING_FIELDS = (
    "task", "channels", "spatial_dims", "orientation", "spacing", "view", "resize", "intensity",
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """One image as a network takes it.

    Args:
        pixels: `(slices, channels, H, W)` of a volume for a 2-D network, `(1, channels, H, W)` of a picture, or
            `(1, channels, D, H, W)` for a 3-D network.
        grid: the way back to the file's own grid.
        header: of the file.
    """

    pixels: NDArray[np.float32]
    grid: Grid
    header: Header


@dataclass(frozen=True)
class PreparedLabels:
    """One label file as class indices, `IGNORED` where nothing counts.

    Args:
        target: on the network's grid, `(slices, H, W)`, `(1, H, W)` or `(1, D, H, W)`.
        reference: on the file's own grid.
    """

    target: NDArray[np.uint8]
    reference: NDArray[np.uint8]


def prepare_image(path: Path, contract: Contract) -> Prepared:
    """Reads an image, with or without labels anywhere, as the contract has it.

    A grey picture for a network of several channels is repeated in each of them.

    Raises:
        DataError: the file cannot be read, or the contract is for another kind of image.
    """
    image = read_image(path)
    if problems := contract_problems(image.header, contract, path):
        raise DataError(problems)
    if contract.intensity.scaling == "format" and image.maximum is None:
        wanted = "`format` scaling needs 8 or 16 bits unsigned; use `robust` in the contract"
        raise DataError([Problem(str(path), "voxels", f"voxels of type {image.pixels.dtype}", wanted)])
    header = image.header
    grid = grid_for(contract, header.shape, header.affine)
    pixels = grid.image_to_network(scaled(image.pixels, contract.intensity, image.maximum, is_volume=header.is_volume))
    if pixels.shape[1] != contract.channels:
        pixels = np.repeat(pixels, contract.channels, axis=1)
    return Prepared(standardised(pixels, contract.intensity), grid, image.header)


def contract_problems(header: Header, contract: Contract, path: Path) -> list[Problem]:
    """Why an image cannot be prepared under a contract, if it cannot."""
    allowed = modalities_of(contract.modality)
    # codes that no text names (OT, RG, XC ...) contradict none
    if header.modality in IMAGES and header.modality not in allowed:
        wanted = f"the contract is for {contract.modality!r}, which is {' or '.join(allowed)}; use a release for these"
        return [Problem(str(path), "Modality", header.modality, wanted)]
    if header.is_volume != contract.is_volumetric:
        kinds = {True: "volume", False: "picture"}
        wanted = f"the contract is for {kinds[contract.is_volumetric]}s; it belongs to another release"
        return [Problem(str(path), "content", f"a {kinds[header.is_volume]}", wanted)]
    if header.channels not in (1, contract.channels):
        wanted = f"the contract has {contract.channels}; convert the image, or use a release for its channels"
        return [Problem(str(path), "channels", str(header.channels), wanted)]
    grid = grid_for(contract, header.shape, header.affine)
    if isinstance(grid, VolumeGrid) and grid.voxels * contract.channels > _most_voxels(header):
        lengths = " x ".join(f"{length:g}" for length in np.linalg.norm(grid.affine[:3, :3], axis=0))
        wanted = f"at {' x '.join(f'{s:g}' for s in grid.spacing)} mm these are {grid.voxels:.3g}, and at most "
        wanted += f"{_most_voxels(header):,} numbers are worked on; is its affine in mm?"
        return [Problem(str(path), "affine", f"{header.shape} voxels of {lengths} mm", wanted)]
    return []


def _most_voxels(header: Header) -> int:
    """Numbers that an image may have on the network's grid: a small file must not fill the memory."""
    return min(MAX_VOXELS, max(_ALWAYS_FINE, _FINER * math.prod(header.shape)))


def prepare_labels(
    label: Path,
    mask: Path | None,
    grid: Grid,
    structures: Sequence[Structure],
    ignored_values: Sequence[int] = (),
    *,
    image: Path | None = None,
    names: Mapping[str, int] | None = None,
) -> PreparedLabels:
    """Reads a label file as class indices.

    Args:
        label: the label file.
        mask: where it is 0 the reference is `IGNORED`.
        grid: the grid of its image.
        structures: the classes in order; each takes all of its values.
        ignored_values: values that become `IGNORED`.
        image: its image; labels of DICOM need it.
        names: of a DICOM label what its structures are in a label map, by `Description.structure_values`.

    Raises:
        DataError: a file cannot be read, is not on the image's grid, or has a value that means nothing.
    """
    labels = read_labels(label, image, names)
    if labels.header.shape != grid.shape:
        raise DataError([Problem(str(label), "shape", str(labels.header.shape), f"the image is of shape {grid.shape}")])
    table = np.full(_LARGEST_VALUE + 1, -1, np.int16)
    for index, structure in enumerate(structures):
        table[list(structure.values)] = index
    table[list(ignored_values)] = IGNORED
    if unknown := [value for value in values_present(labels) if not 0 <= value <= _LARGEST_VALUE or table[value] < 0]:
        known = "a value of the label set, or of `ignore_values` in dataset.toml"
        raise DataError([Problem(str(label), "values", ", ".join(map(str, unknown)), f"each must be {known}")])
    reference = table.astype(np.uint8)[labels.pixels]
    if mask is not None:
        outside = read_labels(mask, image, names).pixels == 0
        if outside.shape != grid.shape:
            raise DataError([Problem(str(mask), "shape", str(outside.shape), f"the image is of shape {grid.shape}")])
        reference[outside] = IGNORED
    if isinstance(grid, ImageGrid):
        return PreparedLabels(grid.labels_to_network(reference, IGNORED), reference)
    return PreparedLabels(grid.labels_to_network(reference), reference)


def values_present(labels: Image) -> list[int]:
    """The values that occur in a label map, in order."""
    pixels = labels.pixels
    if pixels.dtype.itemsize <= 2 and pixels.dtype.kind == "u":
        # np.unique sorts all voxels, which takes ten times as long
        return [int(value) for value in np.flatnonzero(np.bincount(pixels.ravel()))]
    return [int(value) for value in np.unique(pixels)]


def preprocessing_key(contract: Contract, ignored_values: Sequence[int] = ()) -> str:
    """All in a contract that changes a prepared array, as canonical JSON.

    The size counts for pictures only, which are resized to it; the names of structures do not count.
    """
    fields = contract.model_dump(mode="json")
    key = {name: fields[name] for name in _PREPROCESSING_FIELDS}
    key["size"] = None if contract.is_volumetric else fields["size"]
    if contract.task == "segmentation":
        key["values"] = [structure.values for structure in contract.structures]
        key["ignored_values"] = sorted(ignored_values)
    return json.dumps({"preprocessing": PREPROCESSING, **key}, sort_keys=True, separators=(",", ":"))
