"""Small synthetic datasets in the folder layout that `--data` takes: volumes, pictures, and pictures with a class.

Each has domains that differ by a known shift (contrast and noise), so that a network trained on the first does worse on
the next, and structures that a small network learns within seconds.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

VOLUME_LABELS = {"background": 0, "core": 16, "left_cortex": 3, "right_cortex": 42}
IMAGE_LABELS = {"background": 0, "disc": 1}


def write_dataset(
    folder: Path,
    *,
    task: str,
    labels: Mapping[str, int | Sequence[int]],
    rows: Sequence[Mapping[str, object]],
    more: str = "",
) -> Path:
    """Writes `dataset.toml` and `manifest.csv`; `more` is TOML that goes between the name and the labels."""
    folder.mkdir(parents=True, exist_ok=True)
    table = "\n".join(f"{name} = {value if isinstance(value, int) else list(value)}" for name, value in labels.items())
    (folder / "dataset.toml").write_text(
        f'name = "{folder.name}"\ntask = "{task}"\nmodality = "synthetic"\n{more}\n[labels]\n{table}\n'
    )
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_volumes(
    folder: Path,
    *,
    domains: Sequence[str] = ("scanner-a", "scanner-b"),
    cases: tuple[int, int, int] = (2, 1, 2),
    shape: tuple[int, int, int] = (20, 24, 22),
    spacing: tuple[float, float, float] = (2.0, 2.0, 2.0),
    orientation: str = "RAS",
    seed: int = 0,
) -> Path:
    """NIfTI segmentation: an ellipsoid of left and right cortex with a core in front, one volume a subject.

    Args:
        folder: where the dataset goes.
        domains: their names; the contrast between cortex and core turns from one to the next.
        cases: volumes in train, val and test of each domain.
        shape: voxels towards right, anterior and superior, whatever the orientation of the file.
        spacing: mm, in the same order.
        orientation: the axis codes of the files.
        seed: of the noise and the sizes.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number, domain, split, subject in _subjects(domains, cases):
        labels = _head(shape, rng)
        cortex, core = ((90, 160), (150, 80), (120, 200), (200, 140))[number % 4]
        means = np.zeros(43)
        means[[3, 42, 16]] = cortex, cortex, core
        image = means[labels] + rng.normal(0, 4 + 4 * number, shape)
        row = {"id": f"{subject}-t1", "subject": subject, "domain": domain, "split": split}
        for kind, volume in (("image", image.clip(0, 255)), ("label", labels)):
            row[kind] = f"{kind}s/{domain}/{subject}.nii.gz"
            save_volume(folder / row[kind], volume.astype(np.uint8), spacing, orientation)
        rows.append(row)
    return write_dataset(folder, task="segmentation", labels=VOLUME_LABELS, rows=rows)


def save_volume(path: Path, volume: NDArray[np.generic], spacing: Sequence[float], orientation: str = "RAS") -> None:
    """Writes a volume that is given in RAS order in another orientation, at the same place in space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.asarray(spacing) * (np.asarray(volume.shape) - 1) / 2
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(orientation))
    turned = nib.orientations.apply_orientation(volume, turn)
    nib.save(nib.Nifti1Image(turned, affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)), path)


def write_images(
    folder: Path,
    *,
    domains: Sequence[str] = ("camera-a", "camera-b"),
    cases: tuple[int, int, int] = (4, 2, 3),
    size: tuple[int, int] = (40, 48),
    channels: int = 3,
    bits: int = 8,
    field_of_view: bool = False,
    seed: int = 0,
) -> Path:
    """PNG segmentation: a disc on a noisy ground, one picture a subject.

    Args:
        folder: where the dataset goes.
        domains: their names; disc and ground come closer, and the noise grows, from one to the next.
        cases: pictures in train, val and test of each domain.
        size: height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
        bits: 8 or 16 a channel.
        field_of_view: whether there is a column `fov` with masks, which `dataset.toml` names in `ignore_outside`.
        seed: of noise, places and sizes.
    """
    rng = np.random.default_rng(seed)
    rows = []
    y, x = np.indices(size)
    for number, domain, split, subject in _subjects(domains, cases):
        centre, radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.15, 0.3) * min(size)
        disc = np.hypot(y - centre[0], x - centre[1]) < radius
        noise = rng.normal(0, 0.03 * (number + 1), (*size, channels))
        image = np.where(disc, 0.75 - 0.1 * number, 0.35 + 0.05 * number)[..., None] + noise
        row = {"id": f"{subject}-eye", "subject": subject, "domain": domain, "split": split}
        fov = np.hypot((y + 0.5) / size[0] - 0.5, (x + 0.5) / size[1] - 0.5) < 0.5
        pictures = {"image": _pixels(image, bits), "label": disc.astype(np.uint8), "fov": fov.astype(np.uint8)}
        for kind in pictures if field_of_view else ("image", "label"):
            row[kind] = f"{kind}s/{domain}/{subject}.png"
            save_image(folder / row[kind], pictures[kind])
        rows.append(row)
    more = 'ignore_outside = "fov"' if field_of_view else ""
    return write_dataset(folder, task="segmentation", labels=IMAGE_LABELS, rows=rows, more=more)


def write_classes(
    folder: Path,
    *,
    domains: Sequence[str] = ("hospital-a", "hospital-b"),
    cases: tuple[int, int, int] = (12, 4, 8),
    classes: Sequence[str] = ("normal", "abnormal"),
    size: tuple[int, int] = (32, 32),
    channels: int = 1,
    bits: int = 8,
    ordinal: bool = False,
    seed: int = 0,
) -> Path:
    """PNG classification: the higher the class, the larger a bright square; one picture a subject, classes in turn.

    Args:
        folder: where the dataset goes.
        domains: their names; the pictures darken and the noise grows from one to the next.
        cases: pictures in train, val and test of each domain.
        classes: their names, in order.
        size: height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
        bits: 8 or 16 a channel.
        ordinal: what `dataset.toml` says about the order of the classes.
        seed: of noise and places.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for count, (number, domain, split, subject) in enumerate(_subjects(domains, cases)):
        grade = count % len(classes)
        side = round(min(size) * (0.15 + 0.6 * grade / (len(classes) - 1)))
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in size)
        image = rng.normal(0.2, 0.03 * (number + 1), (*size, channels))
        image[top : top + side, left : left + side] += 0.6 / (number + 1)
        path = f"images/{domain}/{subject}.png"
        save_image(folder / path, _pixels(image, bits))
        row = {"id": f"{subject}-xray", "subject": subject, "domain": domain, "split": split, "image": path}
        rows.append({**row, "class": grade, "class_name": classes[grade]})
    labels = {name: value for value, name in enumerate(classes)}
    more = "ordinal = true" if ordinal else ""
    return write_dataset(folder, task="classification", labels=labels, rows=rows, more=more)


def save_image(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes a PNG of 8 or 16 bits: `(height, width)`, or `(height, width, channels)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(picture))


def _subjects(domains: Sequence[str], cases: tuple[int, int, int]) -> Iterator[tuple[int, str, str, str]]:
    for number, domain in enumerate(domains):
        for split, count in zip(("train", "val", "test"), cases, strict=True):
            for i in range(count):
                yield number, domain, split, f"{domain}-{split}-{i}"


def _head(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    right, anterior, superior = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    size = rng.uniform(0.75, 0.85)
    labels = np.zeros(shape, np.int64)
    inside = right**2 + anterior**2 + superior**2 < size**2
    labels[inside & (right < 0)], labels[inside & (right >= 0)] = 3, 42
    # in front and above, so that a turned volume cannot be mistaken for the original
    labels[right**2 + (anterior - 0.25) ** 2 + (superior - 0.2) ** 2 < (0.5 * size) ** 2] = 16
    return labels


def _pixels(image: NDArray[np.float64], bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    maximum = 2**bits - 1
    pixels = (image.clip(0, 1) * maximum).round().astype(np.uint8 if bits == 8 else np.uint16)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels
