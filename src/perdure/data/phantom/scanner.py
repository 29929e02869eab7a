"""A scanner, and four that differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perdure.data.phantom.physics import (
    BiasField,
    Effect,
    Gamma,
    GibbsRinging,
    Labels,
    PointSpread,
    RicianNoise,
    Spacing,
    Tissue,
    TissueContrast,
    Volume,
)

BACKGROUND, CSF, GREY, WHITE = range(4)
"""The label values of `mni_tissues`."""

REFERENCE = {BACKGROUND: 0.0, CSF: 0.17, GREY: 0.38, WHITE: 0.63}
"""The T1 signal of the four tissues on which `Scanner.seeing` bases its curve."""


@dataclass(frozen=True)
class Scanner:
    """An MR scanner with one protocol: tissues give signal, then every effect acts in order.

    Args:
        name: what the site or scanner is called; the name of the domain.
        contrast: the signal of each label value.
        effects: from the coil to the file. The physical order is bias field, point spread, ringing, noise, grey levels.
    """

    name: str
    contrast: TissueContrast
    effects: tuple[Effect, ...] = ()

    def image(
        self, labels: Labels, spacing_mm: Spacing, generator: np.random.Generator, supersampling: int = 1
    ) -> Volume:
        """The image of an anatomy, in units of full scale; the same generator state gives the same image.

        Args:
            labels: label map `(x, y, z)`.
            spacing_mm: voxel size of the label map, mm.
            generator: where all randomness comes from.
            supersampling: label voxels along each axis that one image voxel averages (partial volumes); the shape of
                the labels must be a multiple of it.
        """
        volume = averaged(self.contrast.signal(labels, generator), supersampling)
        first, second, third = (voxel * supersampling for voxel in spacing_mm)
        for effect in self.effects:
            volume = effect.apply(volume, (first, second, third), generator)
        return volume

    def seeing(self, contrast: TissueContrast) -> Scanner:
        """This scanner before other tissues, whose T1 signal is given.

        The four tissues of this scanner's contrast are read as a curve from T1 signal (`REFERENCE`) to its own signal,
        piecewise linear, and the other tissues are put on that curve. Spreads follow its slope.

        Args:
            contrast: T1 signal of every label value, relative to full scale.

        Raises:
            ValueError: this scanner's contrast has not just the four tissues of `mni_tissues`.
        """
        if set(self.contrast.tissues) != set(REFERENCE):
            raise ValueError(
                f"Scanner `{self.name}` must know exactly the labels {sorted(REFERENCE)} to be put before "
                f"other tissues; it knows {sorted(self.contrast.tissues)}."
            )
        inputs = np.array([REFERENCE[value] for value in sorted(REFERENCE)])
        outputs = np.array([self.contrast.tissues[value].mean for value in sorted(REFERENCE)])
        slopes = np.abs(np.diff(outputs) / np.diff(inputs))

        def on_curve(tissue: Tissue) -> Tissue:
            segment = int(np.clip(np.searchsorted(inputs, tissue.mean) - 1, 0, len(slopes) - 1))
            slope = float(slopes[segment])
            return Tissue(float(np.interp(tissue.mean, inputs, outputs)), slope * tissue.between, slope * tissue.within)

        return replace(self, contrast=TissueContrast({v: on_curve(t) for v, t in contrast.tissues.items()}))


def averaged(volume: Volume, factor: int) -> Volume:
    """The mean of every block of `factor` voxels a side.

    Raises:
        ValueError: the shape is no multiple of the factor.
    """
    if factor == 1:
        return volume
    if factor < 1 or any(length % factor for length in volume.shape):
        raise ValueError(f"`factor` must be a whole number that divides the shape {volume.shape}; got {factor}.")
    blocks = volume.reshape([part for length in volume.shape for part in (length // factor, factor)])
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def _contrast(csf: float, grey: float, white: float) -> TissueContrast:
    return TissueContrast(
        {
            BACKGROUND: Tissue(0.0),
            CSF: Tissue(csf, between=0.02, within=0.03),
            GREY: Tissue(grey, between=0.015, within=0.03),
            WHITE: Tissue(white, between=0.015, within=0.02),
        }
    )


SCANNERS: tuple[Scanner, ...] = (
    # 3 T, inversion-prepared gradient echo: the usual T1 contrast, little shading and noise
    Scanner(
        "scanner1",
        _contrast(csf=0.15, grey=0.48, white=0.80),
        (BiasField(0.08), PointSpread((1.5, 1.5, 1.5)), RicianNoise(0.02)),
    ),
    # 1.5 T without preparation: tissues closer together, shading of a surface coil, blur and noise
    Scanner(
        "scanner2",
        _contrast(csf=0.26, grey=0.51, white=0.70),
        (BiasField(0.15), PointSpread((2.0, 2.0, 2.0)), RicianNoise(0.03)),
    ),
    # 3 T, inversion time that nulls fluid and nearly grey matter: hard contrast, sharp
    Scanner(
        "scanner3",
        _contrast(csf=0.08, grey=0.36, white=0.84),
        (BiasField(0.10), PointSpread((1.2, 1.2, 1.2)), RicianNoise(0.015)),
    ),
    # thick slices along the second axis, truncated k-space along the third, a grey-level curve that darkens
    Scanner(
        "scanner4",
        _contrast(csf=0.20, grey=0.50, white=0.80),
        (
            BiasField(0.12),
            PointSpread((2.0, 3.5, 2.0)),
            GibbsRinging(axis=2, kept=0.65),
            RicianNoise(0.03),
            Gamma(1.6),
        ),
    ),
)
"""Four T1 protocols on which a network that is only fine-tuned forgets the ones before. Chosen after the physics named
beside each; none is fitted to a product."""
