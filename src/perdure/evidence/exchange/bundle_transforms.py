"""What a MONAI bundle of a release does before and after its network.

This file and the two that it stands on, `geometry` and `intensity`, are copied into the bundle, which so needs no
Perdure and gives its numbers to the last bit: MONAI's own transforms resample onto other places and scale by other
percentiles.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from perdure.data.geometry import ImageGrid, centred, grid_for, window
from perdure.data.intensity import padding, scaled, standardised

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAXIMA = {"bool": 1, "uint8": 255, "uint16": 65535, "int32": 65535}
"""The largest number of a picture's format; PIL may give 16 bits in 32."""


class _Contract(MapTransform):
    """A transform that follows an input contract.

    Args:
        keys: what it changes.
        contract: the fields of the contract that a transform needs, as JSON has them.
        multiple: what divides the extents of a slice that is larger than a training sample, an axis each.
    """

    def __init__(self, keys: Sequence[str], contract: Mapping[str, Any], multiple: Sequence[int]) -> None:
        super().__init__(keys)
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in contract.items()}
        intensity = {"mean": None, "std": None, "window": None, **contract["intensity"]}
        self.contract: Any = SimpleNamespace(**{**fields, "intensity": SimpleNamespace(**intensity)})
        self.multiple = tuple(multiple)

    def grid(self, meta: Mapping[str, Any]) -> Any:
        """Between an image's own grid and the network's."""
        shape = tuple(int(extent) for extent in meta["own_shape"])
        affine = np.asarray(meta["own_affine"], np.float64) if self.contract.orientation else None
        return grid_for(self.contract, shape, affine)

    def extents(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """What an image of this size on the network's grid is padded to (or, of a classification, cropped)."""
        if self.contract.task == "classification":
            return tuple(self.contract.size)
        volume = self.contract.spatial_dims == 3
        return tuple(
            want if have <= want else have if volume else -(-have // times) * times
            for have, want, times in zip(spatial, self.contract.size, self.multiple, strict=True)
        )


class Prepared(_Contract):
    """An image as it was loaded, channel first, as the network takes it: `(channels, *spatial)`.

    A volume for a 2-D network becomes `(channels, slices, height, width)`, for an inferer of slices along the first
    axis.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Changes each of the keys."""
        result = dict(data)
        for key in self.keys:
            image = result[key]
            own = np.asarray(image)
            volumetric = bool(self.contract.orientation)
            meta = {**image.meta, "own_shape": torch.tensor(own.shape[1:])}
            if volumetric:
                meta["own_affine"] = torch.as_tensor(np.asarray(image.affine, np.float64))
            pixels = self._pixels(own[0] if volumetric else own[: 3 if len(own) >= 3 else 1], meta)
            extents = self.extents(pixels.shape[2:])
            corner = centred(pixels.shape[2:], extents)
            black = padding(self.contract.intensity, self.contract.channels)
            cut = [window(pixels[:, i], corner, extents, black[i]) for i in range(self.contract.channels)]
            stacked = np.stack(cut, axis=0)  # (channels, slices or 1, *spatial)
            whole = self.contract.spatial_dims == 3 or not volumetric
            result[key] = MetaTensor(torch.from_numpy(stacked[:, 0] if whole else stacked), meta=meta)
        return result

    def _pixels(self, own: NDArray[Any], meta: Mapping[str, Any]) -> NDArray[np.float32]:
        """`(slices, channels, *spatial)` on the network's grid."""
        volumetric = bool(self.contract.orientation)
        maximum = _MAXIMA.get(own.dtype.name)
        intensity = scaled(own, self.contract.intensity, maximum, is_volume=volumetric)
        pixels = self.grid(meta).image_to_network(intensity)
        if pixels.shape[1] != self.contract.channels:
            pixels = np.repeat(pixels, self.contract.channels, axis=1)
        result: NDArray[np.float32] = standardised(pixels, self.contract.intensity)
        return result


class Restored(_Contract):
    """Logits of a segmentation `(classes, *spatial)` as label values on the image's own grid, `(1, *own)`.

    Args:
        keys: of the logits.
        image_key: of the image that was prepared.
        values: the label value of each class.
        contract: as in `Prepared`.
        multiple: as in `Prepared`.
    """

    def __init__(
        self,
        keys: Sequence[str],
        image_key: str,
        values: Sequence[int],
        contract: Mapping[str, Any],
        multiple: Sequence[int],
    ) -> None:
        super().__init__(keys, contract, multiple)
        self.image_key = image_key
        self.values = np.array(values, np.min_scalar_type(max(values)))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Changes each of the keys."""
        result = dict(data)
        meta = data[self.image_key].meta
        grid = self.grid(meta)
        for key in self.keys:
            logits = torch.as_tensor(result[key]).float()
            spatial = grid.network_shape[1:] if self.contract.spatial_dims == 2 else grid.network_shape
            before = [-start for start in centred(spatial, self.extents(spatial))]
            for axis, (start, have) in enumerate(zip(before, spatial, strict=True), logits.ndim - len(spatial)):
                logits = logits.narrow(axis, start, have)
            if isinstance(grid, ImageGrid):
                classes = grid.probabilities_to_original(logits.softmax(dim=0).cpu().numpy()).argmax(axis=0)
            else:
                labels = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
                classes = grid.labels_to_original(labels)
            kept = {name: value for name, value in meta.items() if name != "affine" and not name.startswith("own_")}
            affine = meta["own_affine"] if self.contract.orientation else None
            values = torch.from_numpy(self.values[classes][None].astype(np.int32))
            result[key] = MetaTensor(values, affine=affine, meta=kept)
        return result
