"""One case of a domain, prepared: what training cuts its samples from, and what evaluation scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from perdure.data.cache import Arrays, Cache, Entry, Json, sha256_text
from perdure.data.geometry import Grid, grid_for
from perdure.data.images import labels_key
from perdure.data.preparation import prepare_image, prepare_labels, preprocessing_key
from perdure.types import IGNORED, Contract, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CaseFiles:
    """Where a case comes from.

    Args:
        image: the image file.
        label: the label file of a segmentation.
        mask: pixels where it is 0 do not count.
        grade: the index of its class, of a classification.
        names: what structures of a DICOM label are in a label map.
    """

    image: Path
    label: Path | None = None
    mask: Path | None = None
    grade: int | None = None
    names: Mapping[str, int] = field(default_factory=dict)

    def digest(self, cache: Cache) -> str:
        """SHA-256 of the image and its truth.

        Of a segmentation, of the SHA-256 in hexadecimal of image, label and mask, joined by spaces. Of a
        classification, of that of the image and `class N` behind a space, where N is the index of the class.
        """
        files = self.files_digest(cache)
        return files if self.grade is None else sha256_text(f"{files} class {self.grade}")

    def files_digest(self, cache: Cache) -> str:
        """The same without the class, which no prepared array depends on."""
        digests = [cache.sha256(path) for path in (self.image, self.label, self.mask) if path is not None]
        return digests[0] if len(digests) == 1 else sha256_text(" ".join(digests))


@dataclass(frozen=True)
class PreparedCase:
    """One case as a network takes it, with its truth and the way back.

    Args:
        id: of the case in the manifest.
        subject: the patient.
        domain: site, scanner or population.
        split: train, val or test.
        files: where it comes from.
        contract: that it is prepared under.
        entry: its arrays in the cache.
        metadata: the other columns of the manifest.
    """

    id: str
    subject: str
    domain: str
    split: Split
    files: CaseFiles
    contract: Contract
    entry: Entry
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def image(self) -> NDArray[np.float32]:
        """Uncropped, mapped into memory.

        `(slices, channels, H, W)` of a volume for a 2-D network, `(1, channels, H, W)` of a picture, `(1, channels, D,
        H, W)` for a 3-D network.
        """
        return cast("NDArray[np.float32]", self.entry.array("image"))

    @property
    def target(self) -> NDArray[np.uint8]:
        """Class indices on the network's grid, of a segmentation: the shape of `image` without channels."""
        return cast("NDArray[np.uint8]", self.entry.array("target"))

    def reference(self) -> NDArray[np.uint8]:
        """The truth: class indices on the grid of the file, `IGNORED` where nothing counts.

        Of a classification it is one index, an array without axes.
        """
        if self.files.grade is not None:
            return np.asarray(self.files.grade, np.uint8)
        return cast("NDArray[np.uint8]", self.entry.array("reference"))

    def foreground(self) -> NDArray[np.int64]:
        """`(slices, 2)`: in each slice of a segmentation the pixels of structures, and the pixels that count."""
        return cast("NDArray[np.int64]", self.entry.array("foreground"))

    @cached_property
    def grid(self) -> Grid:
        """The way from the file's grid to the network's, and back."""
        shape, affine = cast("tuple[list[int], list[list[float]] | None]", self.entry.notes["grid"])
        return grid_for(self.contract, tuple(shape), None if affine is None else np.asarray(affine))

    @property
    def grid_slices(self) -> int:
        """How many slices it is cut into for a 2-D network; 1 for a picture or a 3-D network."""
        return 1 if self.contract.spatial_dims == 3 else self.grid.network_shape[0]


def prepared_entry(files: CaseFiles, contract: Contract, cache: Cache, ignored_values: tuple[int, ...] = ()) -> Entry:
    """The arrays of a case, from the cache or made now.

    Raises:
        DataError: a file cannot be read or prepared.
    """

    def build() -> tuple[Arrays, Json]:
        image = prepare_image(files.image, contract)
        affine = image.header.affine
        notes: Json = {"grid": [image.header.shape, None if affine is None else affine.tolist()]}
        if files.label is None:
            return {"image": image.pixels}, notes
        labels = prepare_labels(
            files.label,
            files.mask,
            image.grid,
            contract.structures,
            ignored_values,
            image=files.image,
            names=files.names,
        )
        counted = labels.target != IGNORED
        slices = labels.target.shape[-3]
        both = (counted & (labels.target != 0), counted)
        foreground = np.stack([np.count_nonzero(some.reshape(slices, -1), axis=1) for some in both], axis=1)
        arrays: dict[str, NDArray[np.generic]] = {"image": image.pixels, "foreground": foreground.astype(np.int64)}
        return {**arrays, "target": labels.target, "reference": labels.reference}, notes

    names = labels_key(files.label, files.names)
    key = sha256_text(f"{files.files_digest(cache)} {preprocessing_key(contract, ignored_values)}{names}")
    return cache.entry(key, build)
