r"""What happens to the signal of a tissue between the magnet and the file.

Every effect is one class with a closed form. Signals are relative: 1 is the scanner's full scale. A volume has shape
`(x, y, z)` and is float32; its axes are those of the label map.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from perdure.errors import DataError, Problem

Volume: TypeAlias = "NDArray[np.float32]"
Labels: TypeAlias = "NDArray[np.integer]"
Spacing: TypeAlias = "tuple[float, float, float]"
"""Voxel size along each axis, mm."""

_FWHM_IN_SIGMAS = 2 * math.sqrt(2 * math.log(2))


class Effect(Protocol):
    """One step of the acquisition. Make it a frozen dataclass: its `repr` goes into the record of a data set."""

    def apply(self, volume: Volume, spacing_mm: Spacing, generator: np.random.Generator) -> Volume:
        """The volume after this step."""
        ...


@dataclass(frozen=True)
class Tissue:
    """The signal of one tissue.

    Args:
        mean: over all subjects, relative to full scale.
        between: standard deviation of the mean from subject to subject.
        within: standard deviation from voxel to voxel in one subject (texture, not noise).
    """

    mean: float
    between: float = 0.0
    within: float = 0.0


@dataclass(frozen=True)
class TissueContrast:
    """The signal of every label value: what a pulse sequence makes of the anatomy.

    Args:
        tissues: label value -> its tissue. Every value of the label maps must be in it.
    """

    tissues: Mapping[int, Tissue] = field(default_factory=dict)

    @classmethod
    def from_table(cls, path: Path | str, modality: str = "t1", full_scale: float = 255.0) -> TissueContrast:
        """The contrast in a CSV file, as the priors of SynthSeg (Billot et al. 2023) are tabulated.

        Its columns are `value` and, with the modality before them, `_mean_mu` and `_mean_sd` (mean and standard
        deviation over subjects of a tissue's mean) and `_std_mu` (its standard deviation in one subject).

        Args:
            path: the table, one row a label value.
            modality: the prefix of the columns.
            full_scale: the intensity that becomes 1.

        Raises:
            DataError: the table lacks a column, or a field is no number.
        """
        columns = ("value", f"{modality}_mean_mu", f"{modality}_mean_sd", f"{modality}_std_mu")
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(reader.fieldnames or ())
                raise DataError(
                    [Problem(str(path), "header", found, f"the columns {', '.join(missing)} must be there")]
                )
            tissues, problems = {}, []
            for line, row in enumerate(reader, start=2):
                try:
                    value = int(row[columns[0]])
                    mean, between, within = (float(row[column]) / full_scale for column in columns[1:])
                except (TypeError, ValueError):
                    found = ", ".join(str(row[column]) for column in columns)
                    problems.append(
                        Problem(str(path), f"line {line}", found, "a whole number and three numbers go here")
                    )
                else:
                    tissues[value] = Tissue(mean, between, within)
        if problems:
            raise DataError(problems)
        return cls(tissues)

    def signal(self, labels: Labels, generator: np.random.Generator) -> Volume:
        """The signal of one subject's tissues; never below 0.

        Raises:
            DataError: a label value has no tissue.
        """
        values = np.unique(labels)
        missing = [int(value) for value in values if int(value) not in self.tissues]
        if missing:
            raise DataError(
                f"The label values {missing} have no tissue in this contrast, which has {sorted(self.tissues)}. "
                "Add them, or set them to the background in the label map."
            )
        tissues = [self.tissues[int(value)] for value in values]
        means = np.array([generator.normal(tissue.mean, tissue.between) for tissue in tissues], dtype=np.float32)
        within = np.array([tissue.within for tissue in tissues], dtype=np.float32)
        index = np.searchsorted(values, labels)
        texture = generator.standard_normal(labels.shape, dtype=np.float32)
        return np.maximum(means[index] + within[index] * texture, np.float32(0))


@dataclass(frozen=True)
class BiasField:
    r"""A smooth gain over the volume, as the sensitivity of a receive coil leaves it.

    .. math:: b(x) = \exp(s\,z(x)) / \overline{\exp(s\,z)}

    z is a cubic spline through normal numbers on a coarse grid, with mean 0 and standard deviation 1 over the volume;
    b is positive and has mean 1.

    Args:
        strength: s, the standard deviation of the log of the gain.
        points: grid points along each axis.
    """

    strength: float
    points: int = 4

    def __post_init__(self) -> None:
        if self.strength < 0 or self.points < 2:
            raise ValueError(
                f"`strength` must be 0 or more and `points` 2 or more; got {self.strength} and {self.points}."
            )

    def gain(self, shape: tuple[int, ...], generator: np.random.Generator) -> Volume:
        """A random gain field of this shape."""
        grid = generator.standard_normal((self.points,) * len(shape))
        # points >= 2 and a volume one voxel thick: zoom takes the corners, which is what we want there
        zoom = [length / self.points for length in shape]
        z = np.asarray(ndimage.zoom(grid, zoom, order=3, mode="nearest"), dtype=np.float32)
        spread = float(z.std())
        gain = np.exp(self.strength * (z - z.mean()) / (spread if spread > 0 else 1.0))
        return np.asarray(gain / gain.mean(), dtype=np.float32)

    def apply(self, volume: Volume, spacing_mm: Spacing, generator: np.random.Generator) -> Volume:
        """The volume times the gain."""
        return volume * self.gain(volume.shape, generator)


@dataclass(frozen=True)
class PointSpread:
    r"""A Gaussian point spread: what a finite acquisition matrix and signal decay make of a point.

    .. math:: \sigma = \mathrm{FWHM} / (2\sqrt{2\ln 2})

    Args:
        fwhm_mm: full width at half maximum along each axis of the volume, mm; 0 leaves that axis sharp.
    """

    fwhm_mm: Spacing

    def __post_init__(self) -> None:
        if min(self.fwhm_mm) < 0:
            raise ValueError(f"`fwhm_mm` must be 0 or more along each axis; got {self.fwhm_mm}.")

    def apply(self, volume: Volume, spacing_mm: Spacing, generator: np.random.Generator) -> Volume:
        """The blurred volume."""
        sigma = [fwhm / _FWHM_IN_SIGMAS / voxel for fwhm, voxel in zip(self.fwhm_mm, spacing_mm, strict=True)]
        return np.asarray(ndimage.gaussian_filter(volume, sigma, mode="nearest"), dtype=np.float32)


@dataclass(frozen=True)
class GibbsRinging:
    """Ripples beside edges: the outer part of k-space along one axis is not measured and filled with zeros.

    Args:
        axis: 0, 1 or 2 (of the volume).
        kept: the fraction of k-space along that axis that is measured, in (0, 1].
    """

    axis: int
    kept: float

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2) or not 0 < self.kept <= 1:
            raise ValueError(f"`axis` must be 0, 1 or 2 and `kept` in (0, 1]; got {self.axis} and {self.kept}.")

    def apply(self, volume: Volume, spacing_mm: Spacing, generator: np.random.Generator) -> Volume:
        """The magnitude of the reconstruction from the centre of k-space."""
        length = volume.shape[self.axis]
        spectrum = np.fft.rfft(volume, axis=self.axis)
        measured = np.fft.rfftfreq(length) <= 0.5 * self.kept
        spectrum *= np.expand_dims(measured, tuple(axis for axis in range(volume.ndim) if axis != self.axis))
        return np.abs(np.fft.irfft(spectrum, n=length, axis=self.axis)).astype(np.float32)


@dataclass(frozen=True)
class RicianNoise:
    r"""Noise of a magnitude image: complex Gaussian noise on the signal, of which only the length is kept.

    .. math:: m = |s + n_1 + i\,n_2|,\quad n_1, n_2 \sim N(0, \sigma^2)

    Where there is no signal, its mean is :math:`\sigma\sqrt{\pi/2}` (Rayleigh), not 0. The noise is white also where
    `GibbsRinging` has emptied the outer k-space; a real reconstruction would have filtered it with the signal.

    Source: Gudbjartsson and Patz 1995, The Rician distribution of noisy MRI data, Magn Reson Med 34.

    Args:
        sigma: relative to full scale.
    """

    sigma: float

    def __post_init__(self) -> None:
        if self.sigma < 0:
            raise ValueError(f"`sigma` must be 0 or more; got {self.sigma}.")

    def apply(self, volume: Volume, spacing_mm: Spacing, generator: np.random.Generator) -> Volume:
        """The noisy magnitude."""
        real, imaginary = np.float32(self.sigma) * generator.standard_normal((2, *volume.shape), dtype=np.float32)
        return np.asarray(np.hypot(volume + real, imaginary))


@dataclass(frozen=True)
class Gamma:
    r"""The scanner's grey-level curve, applied when the image is stored: :math:`v \mapsto v^\gamma`.

    Args:
        exponent: above 1 darkens the middle greys, below 1 brightens them.
    """

    exponent: float

    def __post_init__(self) -> None:
        if self.exponent <= 0:
            raise ValueError(f"`exponent` must be above 0; got {self.exponent}.")

    def apply(self, volume: Volume, spacing_mm: Spacing, generator: np.random.Generator) -> Volume:
        """The volume on the curve; signals below 0 count as 0."""
        return np.asarray(np.maximum(volume, np.float32(0)) ** np.float32(self.exponent))
