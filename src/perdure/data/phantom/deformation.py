"""New subjects from one anatomy."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from perdure.data.phantom.anatomy import Anatomy
from perdure.data.phantom.physics import Labels

_SQUARINGS = 6
_MARGIN_MM = 12.0


@dataclass(frozen=True)
class Deformation:
    r"""A random smooth and invertible warp, and a small affine map.

    .. math:: \varphi = A \circ \exp(v)

    v is a stationary velocity field: a cubic spline through normal vectors on a coarse grid. Its exponential is taken
    by scaling and squaring (Arsigny et al. 2006), at an eighth of the distance of the grid points. The Jacobian
    determinant of every map drawn is checked to be positive, so that no tissue folds or vanishes.

    Args:
        magnitude_mm: standard deviation of the velocity at a grid point along each axis.
        smoothness_mm: distance of the grid points.
        rotation_deg: largest angle about each axis.
        scaling: largest relative change of length along each axis.
    """

    magnitude_mm: float = 4.0
    smoothness_mm: float = 40.0
    rotation_deg: float = 6.0
    scaling: float = 0.05

    def __post_init__(self) -> None:
        if min(self.magnitude_mm, self.rotation_deg, self.scaling) < 0 or self.smoothness_mm <= 0 or self.scaling >= 1:
            raise ValueError(
                f"Magnitudes must be 0 or more, `smoothness_mm` above 0 and `scaling` below 1; got {self}."
            )

    def map(self, shape: tuple[int, ...], spacing_mm: float, generator: np.random.Generator) -> NDArray[np.float32]:
        """Where every voxel of a new grid lies in the anatomy, mm from the centre; shape `(3, *shape)`.

        Args:
            shape: voxels along each axis.
            spacing_mm: isotropic voxel size.
            generator: where all randomness comes from.

        Raises:
            ValueError: the map folds; the magnitude is too large for the smoothness.
        """
        angles = generator.uniform(-self.rotation_deg, self.rotation_deg, 3)
        lengths = 1 + generator.uniform(-self.scaling, self.scaling, 3)
        affine = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(lengths)
        centred = [(np.arange(length) - (length - 1) / 2) * spacing_mm for length in shape]
        identity = np.stack(np.meshgrid(*centred, indexing="ij")).astype(np.float32)
        warped = identity + self._displacement(shape, spacing_mm, generator)
        points = np.asarray(np.einsum("ij,jxyz->ixyz", affine.astype(np.float32), warped, optimize=True))
        smallest = float(jacobian(points, spacing_mm).min())
        if smallest <= 0:
            raise ValueError(
                f"The deformation folds (smallest Jacobian determinant {smallest:.2f}): lower `magnitude_mm` "
                f"({self.magnitude_mm}) or raise `smoothness_mm` ({self.smoothness_mm})."
            )
        return points

    def _displacement(
        self, shape: tuple[int, ...], spacing_mm: float, generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """exp(v) - identity on the grid without its mean, mm."""
        extent = [(length - 1) * spacing_mm for length in shape]
        points = [math.ceil(length / self.smoothness_mm) + 2 for length in extent]
        coarse = [math.ceil(length / max(spacing_mm, self.smoothness_mm / 8)) + 2 for length in extent]
        grid = np.float32(self.magnitude_mm) * generator.standard_normal((3, *points), dtype=np.float32)
        at_mm = [np.linspace(0, length, n) for length, n in zip(extent, coarse, strict=True)]
        velocity = _splined(grid, [along / self.smoothness_mm for along in at_mm], order=3)
        # along an axis of one voxel, any step will do
        step = np.array([max(along[1], 1.0) for along in at_mm], dtype=np.float32).reshape(3, 1, 1, 1)
        index = np.indices(coarse, dtype=np.float32)
        displacement = velocity / 2**_SQUARINGS
        for _ in range(_SQUARINGS):
            at = index + displacement / step
            displacement = displacement + np.stack(
                [ndimage.map_coordinates(component, at, order=1, mode="nearest") for component in displacement]
            )
        # a shift of the whole head is no anatomy, and would need a wider margin
        displacement = displacement - displacement.mean(axis=(1, 2, 3), keepdims=True)
        return _splined(displacement, [np.linspace(0, n - 1, m) for n, m in zip(coarse, shape, strict=True)], order=1)

    def subject(
        self, anatomy: Anatomy, spacing_mm: float, generator: np.random.Generator, multiple: int = 1
    ) -> Anatomy:
        """A new subject: the anatomy deformed, on a grid of isotropic voxels with a margin of 12 mm.

        Args:
            anatomy: the label map to deform.
            spacing_mm: voxel size of the new label map; its axes are those of the anatomy.
            generator: where all randomness comes from.
            multiple: the shape is made a multiple of it.
        """
        extent = [n * voxel for n, voxel in zip(anatomy.labels.shape, anatomy.spacing_mm, strict=True)]
        shape = [multiple * math.ceil((length + 2 * _MARGIN_MM) / spacing_mm / multiple) for length in extent]
        points = self.map(tuple(shape), spacing_mm, generator)
        old = np.array(anatomy.spacing_mm, dtype=np.float32)
        middle = (np.array(anatomy.labels.shape, dtype=np.float32) - 1) / 2
        coordinates = np.asarray(points / old.reshape(3, 1, 1, 1) + middle.reshape(3, 1, 1, 1), dtype=np.float32)
        affine = np.eye(4)
        affine[:3, :3] = anatomy.affine[:3, :3] / old * spacing_mm
        centre = anatomy.affine[:3, :3] @ middle + anatomy.affine[:3, 3]
        affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return Anatomy(sampled(anatomy.labels, coordinates), affine)


def jacobian(points: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
    """Jacobian determinant of a map `(3, x, y, z)` in mm on a grid of isotropic voxels, by central differences."""
    a, b, c = (np.gradient(component, spacing_mm) for component in points)
    determinant = (
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
    return np.asarray(determinant, dtype=np.float32)


def sampled(labels: Labels, coordinates: NDArray[np.float32]) -> Labels:
    """The label map at points between voxels: of the eight neighbours, the value with the largest trilinear weight.

    That is the argmax of all labels' indicator maps interpolated linearly, without making them. Outside the map lies 0.

    Args:
        labels: label map.
        coordinates: voxel coordinates `(3, *shape)`.
    """
    padded = np.pad(labels, 1)
    corners = list(itertools.product((0, 1), repeat=3))
    cells = [
        padded[tuple(slice(side, side + n - 1) for side, n in zip(corner, padded.shape, strict=True))]
        for corner in corners
    ]
    # most points lie between eight voxels of one value; only the others need a vote
    mixed_cells = np.logical_or.reduce([cell != cells[0] for cell in cells[1:]])
    cell, fractions = [], []
    for along, n in zip(coordinates.reshape(3, -1), mixed_cells.shape, strict=True):
        at = np.clip(along + 1, 0, np.nextafter(np.float32(n), np.float32(0)))
        low = at.astype(np.int32)
        cell.append(low)
        fractions.append(at - low)
    result = cells[0][tuple(cell)]
    mixed = np.flatnonzero(mixed_cells[tuple(cell)])
    cell = [low[mixed] for low in cell]
    fractions = [fraction[mixed] for fraction in fractions]
    votes = np.stack([neighbour[tuple(cell)] for neighbour in cells])
    weights = np.stack(
        [
            np.prod([f if side else 1 - f for f, side in zip(fractions, corner, strict=True)], axis=0)
            for corner in corners
        ]
    )
    support = np.stack([(weights * (votes == vote)).sum(axis=0) for vote in votes])
    result[mixed] = np.take_along_axis(votes, support.argmax(axis=0)[None], axis=0)[0]
    return np.asarray(result.reshape(coordinates.shape[1:]))


def majority(labels: Labels, factor: int) -> Labels:
    """The commonest value of every block of `factor` voxels a side; of equally common ones, the first in the block."""
    if factor == 1:
        return labels
    parts = [part for length in labels.shape for part in (length // factor, factor)]
    blocks = labels.reshape(parts).transpose(1, 3, 5, 0, 2, 4).reshape(factor**3, -1)
    counts = np.stack([(blocks == block).sum(axis=0) for block in blocks])
    winner = np.take_along_axis(blocks, counts.argmax(axis=0)[None], axis=0)[0]
    return np.asarray(winner.reshape([length // factor for length in labels.shape]))


def _splined(fields: NDArray[np.float32], positions: list[NDArray[np.float64]], order: int) -> NDArray[np.float32]:
    """Each field of `(3, *grid)` at grid positions along each axis, by splines of this order."""
    for axis, along in enumerate(positions, start=1):
        # splines are separable: one small matrix an axis is several times faster than interpolating in three dimensions
        units = np.eye(fields.shape[axis], dtype=np.float32)
        columns = [ndimage.map_coordinates(unit, along[None], order=order, mode="nearest") for unit in units]
        fields = np.moveaxis(np.tensordot(np.stack(columns, axis=1), fields, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(fields)
