r"""The way from an image's own grid to the network's, and back.

A volume is turned so that its axes point as the contract says (a permutation and flips: nothing is lost), then
resampled along each axis to the contract's spacing, both grids having one centre. With n voxels of s mm becoming n' of
s' mm, network index j lies at

.. math:: i = (j - \tfrac{n' - 1}{2}) \frac{s'}{s} + \tfrac{n - 1}{2}, \qquad n' = \max(1, \operatorname{round}(n s /
s'))

Images are interpolated linearly, labels take the nearest voxel, both ways. Where s and s' agree to one part in a
thousand nothing is resampled, and the way there and back changes no bit. An oblique volume stays oblique: it is turned
by quarter turns only. For a 2-D network the volume is then cut across the axis of the view, with the other two axes
following in cyclic order, as QuickNAT's own preprocessing has it: coronal slices of "LIA" are (A; L, I).

A picture is resized to the contract's size: `stretch` both axes at will, `fit` with its aspect ratio kept, in the
middle, and padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.types import Contract

    Affine: TypeAlias = "NDArray[np.float64]"

Scalar = TypeVar("Scalar", bound=np.generic)

SAME_SPACING = 1e-3
"""Spacings whose ratio is nearer to 1 than this are the same: half a voxel over 500."""

_VIEW_AXES = {"coronal": "AP", "axial": "IS", "sagittal": "LR"}


@dataclass(frozen=True, eq=False)
class VolumeGrid:
    """Between the grid of a volume file and that of a network.

    Args:
        shape: voxels of the file along its three axes.
        affine: voxel indices of the file to mm, 4x4.
        orientation: axis codes of the network's grid.
        spacing: mm, of the network's grid along its own axes.
        view: the plane in which the volume is cut for a 2-D network; None for a 3-D network.
    """

    shape: tuple[int, ...]
    affine: Affine
    orientation: str
    spacing: tuple[float, ...]
    view: Literal["coronal", "axial", "sagittal"] | None

    @cached_property
    def _turn(self) -> NDArray[np.float64]:
        from nibabel import orientations

        there = orientations.axcodes2ornt(tuple(self.orientation))
        turn: NDArray[np.float64] = orientations.ornt_transform(orientations.io_orientation(self.affine), there)
        return turn

    @cached_property
    def _turned_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[i] for i in np.argsort(self._turn[:, 0]))

    @cached_property
    def _ratio(self) -> NDArray[np.float64]:
        """The network's spacing over that of the turned volume; exactly 1 where nothing is resampled."""
        own = np.asarray(self.own_spacing)[np.argsort(self._turn[:, 0])]
        ratio = np.asarray(self.spacing, np.float64) / own
        return np.where(np.abs(ratio - 1) < SAME_SPACING, 1.0, ratio)

    @cached_property
    def _conformed_shape(self) -> tuple[int, ...]:
        return tuple(max(1, round(n / r)) for n, r in zip(self._turned_shape, self._ratio, strict=True))

    @cached_property
    def _order(self) -> tuple[int, int, int]:
        """The axes of the turned volume in the order of the network: slices first."""
        first = 0
        if self.view is not None:
            first = next(i for i, code in enumerate(self.orientation) if code in _VIEW_AXES[self.view])
        return first, (first + 1) % 3, (first + 2) % 3

    @property
    def own_spacing(self) -> tuple[float, ...]:
        """From one voxel of the file to the next along its own axes, in mm."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())

    @property
    def network_shape(self) -> tuple[int, ...]:
        """`(slices, height, width)` for a 2-D network, `(depth, height, width)` for a 3-D one."""
        return tuple(self._conformed_shape[i] for i in self._order)

    @property
    def voxels(self) -> float:
        """How many voxels the network's grid has: more than memory holds, where the file's spacing is none."""
        with np.errstate(all="ignore"):  # what overflows here is infinitely many
            return float(np.prod(np.maximum(1.0, np.asarray(self._turned_shape) / self._ratio)))

    def image_to_network(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """A volume of the file's shape as `(slices, 1, H, W)`, or `(1, 1, D, H, W)`, by linear interpolation."""
        from scipy import ndimage

        turned = self._turned(volume)
        if self._conformed_shape != turned.shape or (self._ratio != 1).any():
            offset = [(n - 1) / 2 - r * (m - 1) / 2 for n, r, m in self._axes()]
            turned = ndimage.affine_transform(
                turned, self._ratio, offset, self._conformed_shape, np.float32, order=1, mode="nearest"
            )
        cut = np.ascontiguousarray(turned.transpose(self._order))
        return cut[None, None] if self.view is None else cut[:, None]

    def as_slices(self, volumes: NDArray[Scalar]) -> NDArray[Scalar]:
        """Whole volumes `(classes, D, H, W)` as `(classes, slices, H, W)` of this view; the same memory."""
        return volumes.transpose(0, *(axis + 1 for axis in self._order))

    def labels_to_network(self, labels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Labels of the file's shape as `(slices, H, W)`, or `(1, D, H, W)`, each from the nearest voxel."""
        nearest = [_nearest(m, n, r) for n, r, m in self._axes()]
        cut = np.ascontiguousarray(self._turned(labels)[np.ix_(*nearest)].transpose(self._order))
        return cut[None] if self.view is None else cut

    def labels_to_original(self, labels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Labels as a network gives them, `(slices, H, W)` or `(1, D, H, W)`, on the grid of the file.

        Raises:
            ValueError: the labels are not of the shape that this grid gives to a network.
        """
        from nibabel import orientations

        labels = labels[0] if self.view is None and labels.ndim == 4 else labels
        if labels.shape != self.network_shape:
            raise ValueError(f"`labels` must be of shape {self.network_shape}; got {labels.shape}.")
        conformed = labels.transpose(np.argsort(self._order))
        nearest = [_nearest(n, m, 1 / r) for n, r, m in self._axes()]
        back = orientations.ornt_transform(
            orientations.axcodes2ornt(tuple(self.orientation)), orientations.io_orientation(self.affine)
        )
        return np.ascontiguousarray(orientations.apply_orientation(conformed[np.ix_(*nearest)], back))

    def _turned(self, volume: NDArray[Scalar]) -> NDArray[Scalar]:
        from nibabel import orientations

        if volume.shape != self.shape:
            raise ValueError(f"the volume must be of shape {self.shape}; got {volume.shape}.")
        turned: NDArray[Scalar] = orientations.apply_orientation(volume, self._turn)
        return turned

    def _axes(self) -> list[tuple[int, float, int]]:
        """Of each axis of the turned volume: voxels before, ratio of the spacings, voxels after resampling."""
        return list(zip(self._turned_shape, self._ratio.tolist(), self._conformed_shape, strict=True))


@dataclass(frozen=True)
class ImageGrid:
    """Between the pixels of a picture and those of a network's input.

    Args:
        shape: height and width of the picture.
        size: height and width of the input.
        resize: `fit` keeps the aspect ratio and pads, `stretch` does not.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    resize: Literal["fit", "stretch"]

    @property
    def own_spacing(self) -> tuple[float, ...]:
        """From one pixel of the picture to the next, in pixels: how large they are nobody says."""
        return (1.0, 1.0)

    @property
    def network_shape(self) -> tuple[int, ...]:
        """`(1, height, width)`: a picture is one slice."""
        return (1, *self.size)

    @cached_property
    def _resized(self) -> tuple[int, ...]:
        if self.resize == "stretch":
            return self.size
        scale = min(new / old for old, new in zip(self.shape, self.size, strict=True))
        return tuple(min(new, max(1, round(old * scale))) for old, new in zip(self.shape, self.size, strict=True))

    @cached_property
    def _window(self) -> tuple[slice, ...]:
        """Where in the input the picture lies."""
        starts = [(new - own) // 2 for own, new in zip(self._resized, self.size, strict=True)]
        return tuple(slice(start, start + own) for start, own in zip(starts, self._resized, strict=True))

    def image_to_network(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """A picture `(channels, h, w)` as `(1, channels, H, W)`, smoothed before it is made smaller, padded with 0."""
        result = np.zeros((1, picture.shape[0], *self.size), np.float32)
        result[0][(slice(None), *self._window)] = _interpolated(picture, self._resized, antialias=True)
        return result

    def labels_to_network(self, labels: NDArray[Scalar], padding: int = 0) -> NDArray[Scalar]:
        """Labels `(h, w)` as `(1, H, W)`, each from the nearest pixel, and `padding` around them."""
        nearest = [_nearest(m, n, n / m) for n, m in zip(self.shape, self._resized, strict=True)]
        result = np.full((1, *self.size), padding, labels.dtype)
        result[0][self._window] = labels[np.ix_(*nearest)]
        return result

    def labels_to_original(self, labels: NDArray[Scalar]) -> NDArray[Scalar]:
        """Labels `(1, H, W)` or `(H, W)` as `(h, w)`, each from the nearest pixel."""
        nearest = [_nearest(n, m, m / n) for n, m in zip(self.shape, self._resized, strict=True)]
        return np.ascontiguousarray(labels.reshape(self.size)[self._window][np.ix_(*nearest)])

    def probabilities_to_original(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores `(classes, H, W)` as `(classes, h, w)`, by bilinear interpolation: smoother than resized labels."""
        return _interpolated(scores.reshape(-1, *self.size)[(slice(None), *self._window)], self.shape, antialias=False)


Grid: TypeAlias = VolumeGrid | ImageGrid


def grid_for(contract: Contract, shape: tuple[int, ...], affine: Affine | None) -> Grid:
    """The grid of an image of this shape (and affine, for a volume) under a contract."""
    if affine is None:
        return ImageGrid(shape, contract.size, contract.resize)
    if contract.orientation is None or contract.spacing is None:
        raise ValueError("a volume needs a contract with orientation and spacing; this contract is for pictures.")
    return VolumeGrid(shape, affine, contract.orientation, contract.spacing, contract.view)


def window(array: NDArray[Scalar], corner: tuple[int, ...], size: tuple[int, ...], fill: Scalar) -> NDArray[Scalar]:
    """The part of the last axes that starts at `corner` (which may be negative) and measures `size`; `fill` outside."""
    spatial = array.shape[-len(size) :]
    result = np.full((*array.shape[: -len(size)], *size), fill, array.dtype)
    there: list[slice] = []
    here: list[slice] = []
    for start, want, have in zip(corner, size, spatial, strict=True):
        first, last = max(start, 0), min(start + want, have)
        there.append(slice(first - start, last - start))
        here.append(slice(first, last))
    every = (slice(None),) * (array.ndim - len(size))
    result[(*every, *there)] = array[(*every, *here)]
    return result


def centred(spatial: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    """The corner of a window of `size` in the middle of `spatial`; negative where the window is the larger one.

    Of an odd difference the smaller half comes first, whether it is cut off or padded.
    """
    return tuple(int((have - want) / 2) for have, want in zip(spatial, size, strict=True))


def _nearest(count: int, available: int, ratio: float) -> NDArray[np.intp]:
    """For each of `count` indices the nearest of `available`, whose spacing is `1 / ratio` times as large."""
    there = (np.arange(count) - (count - 1) / 2) * ratio + (available - 1) / 2
    # a hair up, so that a tie that rounding error has split still goes one way
    nearest: NDArray[np.intp] = np.clip(np.floor(there + 0.5 + 1e-9), 0, available - 1).astype(np.intp)
    return nearest


def _interpolated(pixels: NDArray[np.float32], size: tuple[int, ...], *, antialias: bool) -> NDArray[np.float32]:
    import torch

    if pixels.shape[1:] == size:
        return pixels
    # a copy, because torch warns of arrays that it may not write to
    tensor = torch.from_numpy(np.array(pixels, np.float32))[None]
    resized = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=antialias)
    return resized[0].numpy()
