"""What does prediction cost from file to file, beside a plain loop in float32? How much memory, how many voxels?"""

from __future__ import annotations

import csv
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import scans
import torch
from numpy.typing import NDArray
from releases import pictures, release_of, volumes
from results import Found
from script import Measure, Options, run
from timing import Memory, alone, as_a_command, clock, over, paired, side_by_side
from torch import nn

from perdure.data import prepare_image
from perdure.evaluation import Output, predict_files
from perdure.models import Engine, QuickNAT, resnet50
from perdure.release import Release
from perdure.types import Precision

CLASSES = 33


def segmenter(options: Options) -> Release:
    """A release of the published QuickNAT with random weights."""
    torch.manual_seed(0)
    model = QuickNAT(classes=CLASSES, filters=options.pick(4, 64, 64))
    return release_of(model, volumes(options.pick(32, 256, 256), CLASSES))


def classifier(options: Options) -> Release:
    """A release of a ResNet-50 with random weights."""
    torch.manual_seed(0)
    return release_of(resnet50(classes=4, in_channels=3), pictures(options.pick(32, 224, 224)))


def scan(options: Options, slices: int | None = None) -> Path:
    """A volume of so many slices; of as many as the form has."""
    pixels, number = options.pick(32, 256, 256), slices or options.pick(8, 16, 256)
    return scans.volume(options.work / f"volume-{pixels}-{number}.nii.gz", pixels, number)


def by_library(
    release: Release, source: Path, options: Options, precision: Precision = "bf16-mixed", engine: Engine = "torch"
) -> Callable[[], None]:
    """`predict_files` into a new folder each time."""

    def predict() -> None:
        with tempfile.TemporaryDirectory() as folder:
            out, how = Path(folder) / "out", Output(precision=precision, engine=engine)
            result = predict_files(release, source, out, device=options.device, output=how)
        assert result.written
        assert not result.failed

    return predict


def slice_by_slice(model: nn.Module, source: Path, device: str) -> Callable[[], None]:
    """As one would first write it: read, one slice after the other, softmax, argmax, write."""
    model = model.to(device).eval()

    def predict() -> None:
        image = nib.load(source)
        pixels = scaled(image.get_fdata(dtype=np.float32))
        labels = np.zeros(pixels.shape, np.uint8)
        with torch.no_grad():
            for k in range(pixels.shape[2]):
                x = torch.from_numpy(pixels[:, :, k].copy())[None, None].to(device)
                labels[:, :, k] = model(x).softmax(dim=1).argmax(dim=1)[0].cpu().numpy()
        with tempfile.TemporaryDirectory() as folder:
            nib.save(nib.Nifti1Image(labels, image.affine), Path(folder) / "labels.nii.gz")

    return predict


def scaled(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """To [0, 1], the brightest thousandth cut off."""
    top = np.quantile(pixels[pixels > 0], 0.999)
    return np.clip(pixels / np.float32(top), 0, 1)


def picture_by_picture(model: nn.Module, source: Path, device: str) -> Callable[[], None]:
    """As one would first write it: read, softmax, a line of a table."""
    from PIL import Image

    model = model.to(device).eval()

    def predict() -> None:
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "table.csv").open("w") as file, torch.no_grad():
            for picture in sorted(source.iterdir()):
                pixels = np.asarray(Image.open(picture), np.float32).transpose(2, 0, 1) / 255
                probability = model(torch.from_numpy(pixels)[None].to(device)).softmax(dim=1)[0]
                csv.writer(file).writerow([picture.name, *probability.tolist()])

    return predict


def volume(options: Options) -> Mapping[str, Found]:
    """The library, as its command, over the loop, each in a process of its own, in turns; warmed up by a few slices."""
    source = scan(options)
    pairs = paired(Path(__file__), "ours", "loop", options.pick(1, 1, 3), options.words)
    ours, loop = zip(*pairs, strict=True)
    return {"prediction/volume": Found(tuple(over(ours, loop)), _slices(source, loop))}


def _whole(which: str, options: Options) -> list[float]:
    if which == "ours":
        as_a_command()
    release = segmenter(options)

    def on(source: Path) -> Callable[[], None]:
        if which == "ours":
            return by_library(release, source, options)
        return slice_by_slice(release.model, source, options.device)

    on(scan(options, options.pick(8, 4, 8)))()
    start, now = clock(options.device)(), clock(options.device)
    on(scan(options))()
    return [now() - start]


def others(options: Options) -> Mapping[str, Found]:
    """The library in float32 and by OpenVINO, and MONAI's inferer over the loop, in turns, on fewer slices."""
    source = scan(options, 32)
    works = {
        "loop": slice_by_slice(segmenter(options).model, source, options.device),
        "volume-32-true": by_library(segmenter(options), source, options, "32-true"),
        "volume-openvino": by_library(segmenter(options), source, options, engine="openvino"),
        "monai": by_monai(segmenter(options).model, source, options),
    }
    taken = side_by_side(works, options.pick(1, 2, 5), clock(options.device))
    loop = taken.pop("loop")
    note = _slices(source, loop)
    return {f"prediction/{name}": Found(tuple(over(values, loop)), note) for name, values in taken.items()}


def _slices(source: Path, loop: Sequence[float]) -> str:
    return f"{nib.load(source).shape[2]} slices; the loop {statistics.median(loop):.0f} s"


def by_monai(model: nn.Module, source: Path, options: Options) -> Callable[[], None]:
    """MONAI's SliceInferer: 8 slices a time, all logits kept, as it is usually called."""
    from monai.inferers import SliceInferer

    model = model.to(options.device).eval()
    size = options.pick(32, 256, 256)
    inferer = SliceInferer(roi_size=(size, size), sw_batch_size=8, spatial_dim=2)

    def predict() -> None:
        image = nib.load(source)
        pixels = torch.from_numpy(scaled(image.get_fdata(dtype=np.float32)))[None, None].to(options.device)
        with torch.no_grad():
            labels = inferer(pixels, model).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
        with tempfile.TemporaryDirectory() as folder:
            nib.save(nib.Nifti1Image(labels, image.affine), Path(folder) / "labels.nii.gz")

    return predict


def classified(options: Options) -> Mapping[str, Found]:
    """The library over the loop on pictures, in turns; so many that to compile the network is a small part."""
    release = classifier(options)
    size, number = release.contract.size[0], options.pick(4, 32, 512)
    source = scans.pictures(options.work / f"pictures-{size}-{number}", size, number)
    ways: dict[str, tuple[Precision, Engine]] = {
        "resnet50": ("bf16-mixed", "torch"),
        "resnet50-openvino": ("bf16-mixed", "openvino"),
        "resnet50-32-true": ("32-true", "torch"),
        "resnet50-openvino-32-true": ("32-true", "openvino"),
    }
    works = {
        name: by_library(release, source, options, *how)
        for name, how in ways.items()
        if f"prediction/{name}" in options.missing
    }
    works["loop"] = picture_by_picture(classifier(options).model, source, options.device)
    taken = side_by_side(works, options.pick(1, 2, 5), clock(options.device))
    loop = taken.pop("loop")
    note = f"{number} files; the loop {statistics.median(loop):.1f} s"
    return {f"prediction/{name}": Found(tuple(over(values, loop)), note) for name, values in taken.items()}


def loader(options: Options) -> Mapping[str, Found]:
    """Reading and preparing over the whole of it; both grow with the number of slices."""
    release, source = segmenter(options), scan(options, options.pick(8, 8, 32))
    works = {
        "whole": by_library(release, source, options),
        "read": lambda: prepare_image(source, release.contract),
    }
    taken = side_by_side(works, options.pick(1, 2, 5), clock(options.device))
    note = f"{1e3 * statistics.median(taken['read']):.0f} ms, {nib.load(source).shape[2]} slices"
    return {"prediction/loader": Found(tuple(over(taken["read"], taken["whole"])), note)}


def memory(options: Options) -> Mapping[str, Found]:
    """The peak of a process that predicts one volume."""
    scan(options)
    (peak,) = alone(Path(__file__), "volume", *options.words)
    return {"prediction/memory": Found((peak / 1024,), "beyond what the imported libraries take")}


def _peak(options: Options) -> list[float]:
    as_a_command()
    used = Memory(options.device)
    by_library(segmenter(options), scan(options), options)()
    return [used.peak()]


PICTURES = tuple(f"prediction/resnet50{way}" for way in ("", "-openvino", "-32-true", "-openvino-32-true"))
ALL = (
    Measure(("prediction/volume",), volume),
    Measure(("prediction/volume-32-true", "prediction/volume-openvino", "prediction/monai"), others),
    Measure(("prediction/memory",), memory),
    Measure(PICTURES, classified),
    Measure(("prediction/loader",), loader),
)
ALONE = {
    "volume": _peak,
    "ours": lambda options: _whole("ours", options),
    "loop": lambda options: _whole("loop", options),
}

if __name__ == "__main__":
    run(__file__, ALL, ALONE)
