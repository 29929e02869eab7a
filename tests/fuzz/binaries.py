"""Targets that are no text: releases, weights, volumes, pictures and scores."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import pickle
import struct
import sys
import zlib
from pathlib import Path
from random import Random
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import polars as pl
import torch

import fakes
import synthetic
import workspaces
from fuzz import mutation, targets
from perdure.errors import PerdureError
from perdure.evaluation.parquet import parquet_of, read_parquet

WEIGHTS, MEMORY, IDENTITY = "weights.safetensors", "memory.safetensors", "release.json"


class _Release(targets.Target):
    """A release, sealed again after every change: only a check of the content can refuse it."""

    def valid(self) -> list[bytes]:
        import perdure
        from audited import domain_in
        from perdure.methods import dsbn
        from perdure.update import Recipe

        data = synthetic.write_images(self.folder / "data", domains=("a", "b"), cases=(5, 1, 1), size=(32, 32))
        network = perdure.QuickNAT(in_channels=3, classes=2, filters=2, kernel_size=3)
        recipe = Recipe(epochs=1)
        base = perdure.train(network, domain_in(data, "a"), recipe=recipe)
        perdure.update(base, domain_in(data, "b"), method=dsbn(), recipe=recipe, out=self.folder / "release")
        (self.folder / "planted.py").write_text("raise SystemExit('code of a release was run')\n")
        self.release = self.folder / "release"
        self.image = next((data / "images").rglob("*.png"))
        self.whole = {path.name: path.read_bytes() for path in self.release.iterdir()}
        return [self.whole[self.file]]

    file = IDENTITY

    def read(self, content: bytes) -> None:
        from perdure.evidence.audit.audit import audit
        from perdure.evidence.audit.text import audit_renderables
        from perdure.evidence.release_text import identity_panel
        from perdure.release import Release, read_identity
        from perdure.release.sameness import predicts_alike

        for name, whole in {**self.whole, self.file: content}.items():
            (self.release / name).write_bytes(whole)
        self._seal()
        acts = (
            lambda: targets._shown(identity_panel(read_identity(self.release), "release")),
            lambda: targets._shown(*audit_renderables(audit(self.release))),
            lambda: predicts_alike(self.release, self.release, "a"),
            lambda: _predicts(Release.open(self.release), self.image),
        )
        # one of them an input, because each reads all of the release
        acts[zlib.crc32(content) % len(acts)]()
        assert "planted" not in sys.modules

    def _seal(self) -> None:
        from perdure.release import Identity
        from perdure.release.release import with_id

        file = self.release / IDENTITY
        try:
            content = json.loads(file.read_bytes())
            for name in (WEIGHTS, MEMORY):
                content["files"][name] = hashlib.sha256((self.release / name).read_bytes()).hexdigest()
            content["id"] = with_id(Identity.model_validate(content)).id
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            return
        file.write_bytes(mutation.dumped(content))


def _predicts(release: Any, image: Path) -> None:
    from perdure.data import prepare_image
    from perdure.evaluation.prediction import Predictor

    predictor = Predictor(release, domain="b")
    prepared = prepare_image(image, release.contract)
    predictor.values(prepared.pixels, prepared.grid)


class ReleaseJson(_Release):
    """release.json."""

    def changed(self, content: bytes, random: Random) -> bytes:
        return mutation.json_bytes_changed(content, random)


class Safetensors(_Release):
    """memory.safetensors of a release: its header, and its numbers."""

    file = MEMORY

    def changed(self, content: bytes, random: Random) -> bytes:
        length = int.from_bytes(content[:8], "little")
        kind = random.randrange(4)
        if kind == 0:
            return mutation.bytes_changed(content, random)
        if kind == 1:
            return mutation.header_changed(content, random, min(length + 8, len(content)))
        header = mutation.json_bytes_changed(content[8 : 8 + length], random)
        stated = len(header) if kind == 2 else random.choice(mutation.NUMBERS) & (2**64 - 1)
        return stated.to_bytes(8, "little") + header + content[8 + length :]


class Weights(targets.Target):
    """A file of pretrained weights: safetensors, torch's zip, torch's old format, and pickles that want to run code."""

    def valid(self) -> list[bytes]:
        from safetensors.torch import save

        network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Linear(4, 2))
        self.network, state = network, network.state_dict()
        found = [save(state)]
        for new, content in ((True, state), (False, {"state_dict": state}), (True, network), (True, {"a": [1, "b"]})):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            found.append(buffer.getvalue())
        return [*found, pickle.dumps(_Runs()), pickle.dumps({"a": _Runs()}, protocol=2)]

    def changed(self, content: bytes, random: Random) -> bytes:
        runs = (b"cos\nsystem\n(S'true'\ntR.", b"\x80\x02cbuiltins\neval\n", b"\x93", b"R.", b"i", b"\x81", b"\x82")
        return mutation.bytes_changed(content, random, runs)

    def read(self, content: bytes) -> None:
        from perdure.models import load_weights

        suffix = "pt" if content.startswith((b"PK", b"\x80", b"c")) else "safetensors"
        refusals = []
        for name in (f"file.{suffix}", "file.pth"):
            (self.folder / name).write_bytes(content)
            try:
                load_weights(self.network, self.folder / name, replace_head=True)
            except PerdureError as error:
                refusals.append(error)
        if len(refusals) == 2:
            raise refusals[0]


class _Runs:
    """What a pickle would run, if it were loaded without care."""

    def __reduce__(self) -> Any:
        return sys.exit, ("a pickle was run",)


class Volume(targets.Target):
    """NIfTI, as it is or compressed."""

    name, header = "volume.nii", 352

    def valid(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        images = []
        for kind in (np.uint8, np.int16, np.float32, np.float64):
            image = nib.Nifti1Image((rng.random((5, 6, 7)) * 99).astype(kind), np.diag([2.0, 2.0, 2.0, 1.0]))
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello"))
            images.append(image.to_bytes())
        images.append(nib.Nifti2Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes())
        return [*images, *(gzip.compress(image, mtime=0) for image in images)]

    def changed(self, content: bytes, random: Random) -> bytes:
        if content.startswith(b"\x1f\x8b"):
            return mutation.gzip_changed(content, random, self.header)
        if random.random() < 0.5:
            return mutation.header_changed(content, random, self.header)
        return mutation.bytes_changed(content, random)

    def read(self, content: bytes) -> None:
        from perdure.data import prepare_image
        from perdure.data.images import read_header, read_image, read_labels
        from perdure.data.preparation import prepare_labels
        from perdure.data.writing import label_file

        path = self.folder / (self.name + self.packed * content.startswith(b"\x1f\x8b"))
        path.write_bytes(content)
        contract = fakes.volume_contract()
        for act in (read_header, read_image, read_labels):
            with contextlib.suppress(PerdureError):
                act(path)
        prepared = prepare_image(path, contract)
        labels = prepared.grid.labels_to_original(np.zeros(prepared.grid.network_shape, np.uint8))
        label_file(path, labels, 43)
        prepare_labels(path, None, prepared.grid, contract.structures, tuple(range(255)))

    packed = ".gz"


class Mgz(Volume):
    """FreeSurfer's MGH, as it is or compressed."""

    name, header, packed = "volume.mgh", 284, ""

    def valid(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        images = [
            nib.MGHImage((rng.random((5, 6, 7)) * 99).astype(kind), np.diag([2.0, 2.0, 2.0, 1.0])).to_bytes()
            for kind in (np.uint8, np.int16, np.float32)
        ]
        return [*images, *(gzip.compress(image, mtime=0) for image in images)]

    def read(self, content: bytes) -> None:
        self.name = "volume.mgz" if content.startswith(b"\x1f\x8b") else "volume.mgh"
        super().read(content)


class Picture(targets.Target):
    """PNG of every colour type, its checksums made good again."""

    def valid(self) -> list[bytes]:
        import PIL.Image

        rng = np.random.default_rng(0)
        found = [
            bytes(imagecodecs.png_encode((rng.random(shape) * 250).astype(kind)))
            for shape in ((9, 8), (9, 8, 2), (9, 8, 3), (9, 8, 4))
            for kind in (np.uint8, np.uint16)
        ]
        palette = PIL.Image.fromarray((rng.random((9, 8)) * 9).astype(np.uint8)).convert("P")
        for picture in (palette, palette.convert("1")):
            buffer = io.BytesIO()
            picture.save(buffer, "PNG", compress_level=1)
            found.append(buffer.getvalue())
        return found

    def changed(self, content: bytes, random: Random) -> bytes:
        kind = random.randrange(4)
        if kind == 0:
            return mutation.bytes_changed(content, random)
        chunks = _chunks(content)
        if not chunks:
            return mutation.bytes_changed(content, random)
        at = random.randrange(len(chunks))
        name, body = chunks[at]
        if kind == 1:
            chunks.insert(random.randrange(len(chunks) + 1), _strange_chunk(random))
        elif kind == 2 and name == b"IHDR":
            chunks[at] = name, mutation.header_changed(body, random, 13)
        elif kind == 2 and name == b"IDAT":
            body = zlib.compress(mutation.bytes_changed(_inflated(body), random) + bytes(random.choice((0, 10**7))))
            chunks[at] = name, body
        else:
            chunks[at] = random.choice((name, b"tEXt", b"PLTE", b"tRNS")), mutation.bytes_changed(body, random)
        return _png(chunks)

    def read(self, content: bytes) -> None:
        from perdure.data import prepare_image
        from perdure.data.images import read_header, read_image, read_labels

        path = self.folder / "picture.png"
        path.write_bytes(content)
        for act in (read_header, read_image, read_labels):
            with contextlib.suppress(PerdureError):
                act(path)
        header, image = read_header(path), read_image(path)
        assert image.pixels.shape[1:] == header.shape, "header and pixels differ"
        prepare_image(path, fakes.picture_contract())


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + min(length, 10**7)]))
        at += 12 + length
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    made = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        made.append(len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big"))
    return b"".join(made)


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error:
        return body


def _strange_chunk(random: Random) -> tuple[bytes, bytes]:
    bomb = zlib.compress(bytes(10**7), 9)
    return random.choice((
        (b"IHDR", struct.pack(">IIBBBBB", random.choice((1, 9, 5000)), random.choice((1, 8, 5000)), 8, 2, 0, 0, 0)),
        (b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"iTXt", b"a\0\1\0\0\0" + bomb),
        (b"acTL", b"\0\0\0\2\0\0\0\0"), (b"PLTE", b"abc" * 300), (b"tRNS", b"\0" * 300), (b"IEND", b""),
        (b"fcTL", b"\0" * 26), (b"eXIf", b"MM\0*" + b"\xff" * 40), (b"gAMA", b"\0\0"), (b"IDAT", b""),
    ))  # fmt: skip


class ScoresFile(targets.Target):
    """A score file: Parquet, and the header in its metadata."""

    def valid(self) -> list[bytes]:
        base, candidate = workspaces.workspace(self.folder / "work")
        scores = workspaces.scores_of(base, candidate, domains=("a", "b"))
        metadata, table = read_parquet(scores.content())
        plain = parquet_of(table, metadata, compression="uncompressed")  # of what is packed, hardly a change unpacks
        return [scores.content(), workspaces.scores_of(base).content(), plain]

    def changed(self, content: bytes, random: Random) -> bytes:
        return _parquet_changed(content, random)

    def read(self, content: bytes) -> None:
        from perdure.benchmark.record import Record
        from perdure.evaluation import Scores, summary, train_test_matrix, union

        path = self.folder / "scores.parquet"
        path.write_bytes(content)
        with contextlib.suppress(PerdureError):
            Record.read(path)
        scores = Scores.read(path)
        union([scores, scores])
        summary(train_test_matrix(scores, "dice"))


def _parquet_changed(content: bytes, random: Random) -> bytes:
    kind = random.randrange(4)
    if kind < 2:
        end = len(content)
        if kind == 0 or end < 300:
            return mutation.bytes_changed(content, random)
        # the footer says what all the rest means
        return content[: end - 1500] + mutation.header_changed(content[end - 1500 :], random, 1490)
    try:
        metadata = dict(pl.read_parquet_metadata(io.BytesIO(content)))
        table = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return mutation.bytes_changed(content, random)
    for own in ("ARROW:schema", "perdure.sha256"):  # who forges a file leaves the digest out
        metadata.pop(own, None)
    # an earlier change may have taken the header away
    if kind == 2 and "perdure.scores" in metadata:
        changed = mutation.json_bytes_changed(metadata["perdure.scores"].encode(), random)
        metadata["perdure.scores"] = changed.decode("utf-8", "replace")
    else:
        table = _table_changed(table, random)
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata=metadata)
    return buffer.getvalue()


def _table_changed(table: pl.DataFrame, random: Random) -> pl.DataFrame:
    if not table.columns:
        return table
    column = random.choice(table.columns)
    value = random.choice((None, 0.5, 7.0, -1.0, float("nan"), float("inf"), "x", "a" * 5000, True, [1, 2], {"a": 1}))
    return random.choice((
        lambda: table.with_columns(pl.lit(value).alias(column)),
        lambda: table.drop(column),
        lambda: table.head(random.choice((0, 1, 7))),
        lambda: pl.concat([table] * random.choice((2, 100))),
        lambda: table.rename({column: f"other-{random.random()}"}),
        lambda: table.with_columns(pl.lit(value).alias(f"other-{random.random()}")),
        lambda: table.with_columns(pl.col(column).shift(1)),
        lambda: table.with_columns(pl.col(column).cast(pl.String, strict=False)),
    ))()  # fmt: skip


class SealedScores(ScoresFile):
    """Scores that another site signed; it signs the changed ones too."""

    def valid(self) -> list[bytes]:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from perdure.evidence.remote.sealing import sealed

        base, candidate = workspaces.workspace(self.folder / "work")
        scores = workspaces.scores_of(base, candidate)
        self.key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        return [sealed(scores, {"a": "0" * 64}, self.key, bytes(32))]

    def changed(self, content: bytes, random: Random) -> bytes:
        line, _, table = content.partition(b"\n")
        kind = random.randrange(4)
        if kind == 0:
            return mutation.bytes_changed(content, random)
        if kind == 1:
            return mutation.json_bytes_changed(line, random) + b"\n" + table
        if kind == 2:
            return self._signed(mutation.json_bytes_changed(line, random), table)
        return self._signed(line, _parquet_changed(table, random))

    def _signed(self, line: bytes, table: bytes) -> bytes:
        from perdure.evidence.canonical import canonical
        from perdure.evidence.remote.sealing import _MAGIC

        try:
            statement = {**json.loads(line)["statement"], "scores": hashlib.sha256(table).hexdigest()}
            signature = self.key.sign(_MAGIC + canonical(statement)).hex()
            return canonical({"signature": signature, "statement": statement}) + b"\n" + table
        except (ValueError, TypeError, KeyError, RecursionError):
            return line + b"\n" + table

    def read(self, content: bytes) -> None:
        from perdure.evidence.remote.joining import joined
        from perdure.evidence.remote.sealing import unsealed

        path = self.folder / "site.signed"
        path.write_bytes(content)
        found = unsealed(path, [self.key.public_key()])
        joined(None, [found], found.scores.header.releases, found.scores.header.split)


TARGETS = {
    "release-json": ReleaseJson,
    "safetensors": Safetensors,
    "weights": Weights,
    "nifti": Volume,
    "mgz": Mgz,
    "png": Picture,
    "scores": ScoresFile,
    "sealed-scores": SealedScores,
}
