"""Does a bundle give the labels of its release, from file to file?

The steps are those of the bundle's own configuration, built by MONAI from it; only its transforms are imported from
here and not from the copies of them that the bundle has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from perdure.data import prepare_image
from perdure.evidence.exchange.agreement import Agreement
from perdure.evidence.exchange.quiet import quietly

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.evaluation import Predictor
    from perdure.types import Contract

_SLICES, _COARSE = 12, 8


def compared(
    release: Predictor,
    config: Mapping[str, Any],
    weights: Path,
    images: Sequence[Path],
    folder: Path,
    progress: Callable[[int, int], None],
) -> Agreement:
    """Counts the labels that a bundle's steps give otherwise than a release.

    Args:
        release: that predicts as it would for itself.
        config: the bundle's configuration.
        weights: its state dict.
        images: files; images are made up without any.
        folder: where these go.
        progress: told how many of how many images are done.

    Raises:
        DataError: if an image cannot be read or prepared.
    """
    files = list(images) or _made_up_files(release.contract, folder)
    with quietly("monai", logging.ERROR):
        return _compared(release, config, weights, files, "" if images else " made of noise", progress)


def _compared(
    release: Predictor,
    config: Mapping[str, Any],
    weights: Path,
    files: Sequence[Path],
    kind: str,
    progress: Callable[[int, int], None],
) -> Agreement:
    from monai.bundle import ConfigParser

    parser = ConfigParser(dict(config))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    prepared, inferer, restored = (parser.get_parsed_content(name) for name in ("preprocessing", "inferer", "restored"))
    total = different = 0
    for done, file in enumerate(files, 1):
        item = prepared({"image": str(file)})
        with torch.inference_mode():
            item["pred"] = inferer(item["image"][None], network)[0]
        labels = np.asarray(restored(item)["pred"])
        expected = _expected(release, file)
        if release.contract.task == "classification":
            labels = np.atleast_1d(labels.argmax())
        total += expected.size
        different += int(np.count_nonzero(labels.reshape(expected.shape) != expected))
        progress(done, len(files))
    return Agreement(f"{len(files)} image{'' if len(files) == 1 else 's'}{kind}", total, different)


def _expected(release: Predictor, file: Path) -> NDArray[np.generic]:
    image = prepare_image(file, release.contract)
    if release.contract.task == "classification":
        return np.asarray(release.probabilities(image.pixels).argmax(axis=1))
    return release.values(image.pixels, image.grid)


def _made_up_files(contract: Contract, folder: Path) -> list[Path]:
    """Two images of smooth noise as files: one like a training sample, one of another size and, a volume, spacing."""
    import imagecodecs
    import nibabel as nib

    files = []
    for number, scale in enumerate((1.0, 1.3)):
        size = tuple(round(extent * scale) for extent in contract.size)
        if contract.is_volumetric:
            assert contract.spacing is not None
            noise = _noise((1, *((_SLICES, *size) if len(size) == 2 else size)), number)[0]
            affine = np.diag([*(spacing / scale for spacing in contract.spacing), 1.0])
            files.append(folder / f"{number}.nii.gz")
            nib.save(nib.Nifti1Image(noise, affine), files[-1])
        else:
            noise = _noise((3 if contract.channels == 3 else 1, *size), number)
            files.append(folder / f"{number}.png")
            files[-1].write_bytes(imagecodecs.png_encode(np.ascontiguousarray(np.moveaxis(noise, 0, -1).squeeze())))
    return files


def _noise(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Smooth noise between 0 and 200, `(channels, *spatial)`."""
    coarse = torch.rand(
        (1, shape[0], *(-(-extent // _COARSE) for extent in shape[1:])), generator=torch.Generator().manual_seed(seed)
    )
    mode = "bilinear" if len(shape) == 3 else "trilinear"
    fine = torch.nn.functional.interpolate(coarse, shape[1:], mode=mode, align_corners=False)
    return np.asarray((fine[0].numpy() * 200).round(), np.uint8)
