"""Targets in the formats of clinics and of other people's training code: DICOM, lists of it, and foreign models."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from pathlib import Path
from random import Random

import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

import dicoms
import fakes
import layouts
import synthetic
from fuzz import mutation, targets
from perdure.errors import PerdureError

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
NAMES = {16: "core", 3: "left_cortex", 42: "right_cortex"}


class Dicom(targets.Target):
    """One file of a DICOM series, or a radiograph; compressed in every way that is read, or not."""

    def valid(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        volume = rng.integers(0, 4000, (8, 9, 3)).astype(np.uint16)
        files = dicoms.write_series(self.folder / "series", volume, AFFINE, bits=12)
        self.file = files[1]
        picture = dicoms.write_picture(self.folder / "picture.dcm", volume[:, :, 0].T, bits=12)
        enhanced = dicoms.write_enhanced(self.folder / "enhanced.dcm", volume, AFFINE)
        found = [files[1].read_bytes(), picture.read_bytes(), enhanced.read_bytes()]
        syntaxes = (JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, RLELossless, DeflatedExplicitVRLittleEndian)
        return [*found, *(self._compressed(files[1], syntax) for syntax in syntaxes)]

    def _compressed(self, file: Path, syntax: str) -> bytes:
        dataset = dcmread(file)
        pixels = dataset.pixel_array
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        elif syntax == DeflatedExplicitVRLittleEndian:
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            frame = {
                JPEGLosslessSV1: lambda: imagecodecs.ljpeg_encode(pixels, bitspersample=12),
                JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True),
                JPEGLSLossless: lambda: imagecodecs.jpegls_encode(pixels),
            }[syntax]()
            dataset.PixelData = encapsulate([bytes(frame)])
            dataset["PixelData"].is_undefined_length = True
            dataset.file_meta.TransferSyntaxUID = syntax
        path = self.folder / "compressed.dcm"
        dataset.save_as(path)
        content = path.read_bytes()
        path.unlink()
        return content

    def changed(self, content: bytes, random: Random) -> bytes:
        if random.random() < 0.4:
            return mutation.bytes_changed(
                content, random, (b"DICM", b"SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0", b"OW")
            )
        return _element_changed(content, random)

    def read(self, content: bytes) -> None:
        from perdure.data import prepare_image
        from perdure.data.dicom.instances import kind_of
        from perdure.data.images import read_header, read_image

        self.file.write_bytes(content)
        alone = self.folder / "alone.dcm"
        alone.write_bytes(content)
        kind_of(alone)
        for act, place in ((read_header, alone), (read_image, alone), (read_header, self.file.parent)):
            with contextlib.suppress(PerdureError):
                act(place)
        prepare_image(self.file.parent, fakes.volume_contract())


def _element_changed(content: bytes, random: Random) -> bytes:
    """The value of an element (its tag is kept), or its length, changed."""
    data = bytearray(content)
    # explicit VR, little endian: tag, two letters, length
    places = [found.start() for found in re.finditer(rb"[\x02\x08\x10\x18\x20\x28]\x00..[A-Z]{2}", content)]
    if not places:
        return mutation.bytes_changed(content, random)
    at = random.choice(places)
    long = data[at + 4 : at + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    start = at + (12 if long else 8)
    length = int.from_bytes(data[at + 8 : at + 12] if long else data[at + 6 : at + 8], "little")
    length = min(length, len(data) - start, 200)
    kind = random.randrange(4)
    if kind == 0:
        width = 4 if long else 2
        data[start - width : start] = struct.pack("<I", random.choice(mutation.NUMBERS[:-4]) & 0xFFFFFFFF)[:width]
    elif kind == 1:
        text = random.choice(
            ("nan", "inf", "-1", "1e308", "0", "0\\0\\0", "9" * 40, "\\", "1\\0\\0\\0\\1\\0", "ISO_IR 999")
        )
        data[start : start + length] = text.encode()[:length].ljust(length)
    elif kind == 2:
        value = struct.pack("<Q", random.choice(mutation.NUMBERS[:-1]) & (2**64 - 1))
        data[start : start + min(length, 8)] = value[: min(length, 8)]
    else:
        data[at + 4 : at + 6] = random.choice((b"SQ", b"OW", b"UN", b"DS", b"US", b"PN", b"zz"))
    return bytes(data)


class DicomLabels(Dicom):
    """A segmentation (SEG) or contours (RTSTRUCT) of a series."""

    def valid(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        volume = rng.integers(0, 4000, (8, 9, 3)).astype(np.uint16)
        labels = np.zeros((8, 9, 3), np.uint8)
        labels[2:6, 2:6, :] = 16
        labels[1:2, 3:6, 1] = 3
        self.series = self.folder / "series"
        files = dicoms.write_series(self.series, volume, AFFINE, bits=12)
        used = {value: name for value, name in NAMES.items() if value in labels}
        made = dicoms.write_segmentation(self.folder / "seg.dcm", files, labels, used)
        contours = dicoms.write_contours(self.folder / "contours.dcm", files, labels, AFFINE, used)
        return [made.read_bytes(), contours.read_bytes()]

    def read(self, content: bytes) -> None:
        from perdure.data.images import read_labels

        path = self.folder / "labels.dcm"
        path.write_bytes(content)
        read_labels(path, self.series, {name: value for value, name in NAMES.items()})


class Lists(targets.Json):
    """The list of the files of a series, and the dataset.toml that says where they are."""

    def valid(self) -> list[bytes]:
        volume = np.zeros((8, 9, 3), np.uint16)
        files = dicoms.write_series(self.folder / "source", volume, AFFINE)
        self.data = self.folder / "data"
        (self.data / "series").mkdir(parents=True)
        (self.data / "dataset.toml").write_text('source = "../source"\n')
        (self.folder / "source" / "link").symlink_to("/etc")
        return [json.dumps([file.name for file in files]).encode(), b'["link/passwd"]', b'["../data/dataset.toml"]']

    def read(self, content: bytes) -> None:
        from perdure.data.images import read_image

        path = self.data / "series" / "a.files"
        path.write_bytes(content)
        read_image(path)


class Import(targets.Json):
    """dataset.json of nnU-Net and the Decathlon, as `perdure import` reads them; a line of dashes says which."""

    def valid(self) -> list[bytes]:
        self.places = (
            layouts.write_nnunet(self.folder / "nnunet", cases=2, test=0, labelled_test=0),
            layouts.write_decathlon(self.folder / "msd", cases=2),
        )
        return [b"%d" % number + (place / "dataset.json").read_bytes() for number, place in enumerate(self.places)]

    def changed(self, content: bytes, random: Random) -> bytes:
        return content[:1] + mutation.json_bytes_changed(content[1:], random)

    def read(self, content: bytes) -> None:
        from perdure.data.importing.decathlon import find_decathlon
        from perdure.data.importing.nnunet import find_nnunet

        is_first = content[:1] != b"1"
        place = self.places[0 if is_first else 1]
        (place / "dataset.json").write_bytes(content[1:])
        (find_nnunet if is_first else find_decathlon)(place)


class NnUNet(targets.Json):
    """plans.json of a trained nnU-Net, which says what network its weights are of."""

    def valid(self) -> list[bytes]:
        import nnunet_folder
        from perdure.data import Dataset

        self.model = nnunet_folder.write(self.folder / "model", nnunet_folder.network())
        self.dataset = Dataset.open(synthetic.write_volumes(self.folder / "data", domains=("a",), cases=(1, 0, 0)))
        return [(self.model / "plans.json").read_bytes()]

    def read(self, content: bytes) -> None:
        from perdure.evidence.exchange.nnunet import read_nnunet

        (self.model / "plans.json").write_bytes(content)
        read_nnunet(self.model, self.dataset, "a")


class Bundle(targets.Json):
    """The configuration of a MONAI bundle, which would be evaluated by MONAI itself."""

    def valid(self) -> list[bytes]:
        import torch
        from monai.networks.nets import UNet

        from perdure.data import Dataset

        network = {"_target_": "UNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 2, "channels": [2, 4],
                   "strides": [2]}  # fmt: skip
        self.bundle = self.folder / "bundle"
        (self.bundle / "configs").mkdir(parents=True)
        (self.bundle / "models").mkdir()
        torch.save(UNet(2, 3, 2, (2, 4), (2,)).state_dict(), self.bundle / "models" / "model.pt")
        outputs = {"pred": {"channel_def": {"0": "background", "1": "disc"}}}
        metadata = {"network_data_format": {"inputs": {}, "outputs": outputs}}
        (self.bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
        scaling = {"_target_": "ScaleIntensityd", "keys": "image"}
        config = {"network_def": network, "preprocessing": {"_target_": "Compose", "transforms": [scaling]}}
        self.dataset = Dataset.open(synthetic.write_images(self.folder / "data", domains=("a",), size=(16, 16)))
        code = {**config, "network_def": "$__import__('os').system('true')"}
        again = {**config, "a": ["x"] * 9}
        laughs = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(9))
        return [
            *(json.dumps(one).encode() for one in (config, code, again)),
            (laughs + "\nnetwork_def: *a8\n").encode(),
        ]

    def read(self, content: bytes) -> None:
        from perdure.evidence.exchange.bundle_reading import read_bundle

        (self.bundle / "configs" / "inference.json").unlink(missing_ok=True)
        suffix = "json" if content.lstrip()[:1] in b"{[" else "yaml"
        (self.bundle / "configs" / f"inference.{suffix}").write_bytes(content)
        read_bundle(self.bundle, self.dataset, "a", cache=self.folder / "cache")


TARGETS = {
    "dicom": Dicom,
    "dicom-labels": DicomLabels,
    "dicom-lists": Lists,
    "imports": Import,
    "nnunet-plans": NnUNet,
    "monai-bundle": Bundle,
}
