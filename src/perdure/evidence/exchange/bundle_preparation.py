"""What the transforms before a bundle's network do to an image, as far as a contract can say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perdure.evidence.exchange.bundle_config import BundleConfig, transforms
from perdure.types import Intensity

_HARMLESS = (
    "LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord", "ToDeviced", "DeleteItemsd",
    "SelectItemsd", "AsChannelFirstd", "AddChanneld",
)  # fmt: skip
"""Transforms that change no number of an image."""


@dataclass
class Preparation:
    """What a bundle's transforms say.

    Args:
        orientation: axis codes of the network's grid; None where volumes stay as they lie.
        spacing: mm, along its axes; None where nothing is resampled.
        intensity: the scaling that comes nearest; None where none does.
        differences: what is not, or not quite, done as the bundle does it.
    """

    orientation: str | None = None
    spacing: tuple[float, float, float] | None = None
    intensity: Intensity | None = None
    differences: list[str] = field(default_factory=list)


def preparation(config: BundleConfig) -> Preparation:
    """What the transforms before the network do to an image."""
    found = Preparation()
    for name, settings in transforms(config.get("preprocessing")):
        if name == "Orientationd" and isinstance(codes := settings.get("axcodes"), str):
            found.orientation = codes
        elif name == "Spacingd" and _are_lengths(spacing := _numbers(settings.get("pixdim"))):
            assert spacing
            found.spacing = (spacing[0], spacing[1], spacing[2])
            found.differences.append(
                "The bundle resamples from a volume's corner, here it is done about its centre: up to half a voxel off."
            )
        elif name in ("ScaleIntensityRanged", "NormalizeIntensityd", "ScaleIntensityd") and found.intensity is None:
            found.intensity = _intensity(name, settings, found.differences)
        elif name not in _HARMLESS:
            found.differences.append(f"The bundle prepares images by {name} too, which is not followed here.")
    return found


def _numbers(values: Any) -> tuple[float, ...] | None:
    """A list of numbers; None for anything else."""
    if not isinstance(values, list) or not all(type(one) in (int, float) for one in values):
        return None
    return tuple(float(one) for one in values)


def _are_lengths(values: tuple[float, ...] | None) -> bool:
    return values is not None and len(values) == 3 and min(values) > 0


def _intensity(name: str, settings: Mapping[str, Any], differences: list[str]) -> Intensity | None:
    """The scaling of a contract that comes nearest; None where none does."""
    defaults = {"b_min": 0.0, "b_max": 1.0}
    ends = [settings.get(key, defaults.get(key)) for key in ("a_min", "a_max", "b_min", "b_max")]
    if name == "ScaleIntensityRanged" and (numbers := _numbers(ends)):
        low, high, least, most = numbers
        if low < high and least < most:
            if not settings.get("clip"):
                differences.append("The bundle does not clip intensities to its range; here they are clipped.")
            std = (high - low) / (most - least)
            return Intensity(scaling="window", window=(low, high), mean=(low - least * std,), std=(std,))
    if name == "NormalizeIntensityd" and settings.get("subtrahend") is None and settings.get("divisor") is None:
        inside = bool(settings.get("nonzero"))
        differences.append(
            "Mean and deviation are taken before resampling, "
            + ("with holes among the zeros filled." if inside else "of the box around all that is not zero.")
        )
        return Intensity(scaling="zscore-nonzero" if inside else "zscore")
    differences.append(f"The bundle scales intensities by {name}; no scaling of a contract is the same.")
    return None
