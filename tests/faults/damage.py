"""Files cut short and with bits that flipped: what is read of them is what was written, or it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import torch

import perdure
import synthetic
import workspaces
from audited import domain_in
from perdure.data import Cache
from perdure.data.images import read_image
from perdure.errors import PerdureError
from perdure.evaluation import Scores
from perdure.evidence.ledger.approval import approvable
from perdure.evidence.ledger.ledger import Ledger
from perdure.evidence.remote.sealing import sealed, unsealed
from perdure.evidence.remote.signing import fingerprint, new_key, private_key, public_key
from perdure.methods import dsbn
from perdure.release import Release
from perdure.release.folder import sha256
from perdure.update import Recipe
from perdure.update.run_folder import RunFolder, State


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Args:
        name: what people call it.
        file: a whole one.
        read: what Perdure takes from it, so that two readings can be compared.
    """

    name: str
    file: Path
    read: Callable[[], Any]


@dataclass
class Damaged:
    """What came of damage to one kind of file.

    Args:
        kind: which.
        times: how often it was damaged.
        refused: how often that was noticed; otherwise what was read was what had been written.
        wrong: what should not have happened, a line each.
    """

    kind: str
    times: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


def damaged(kind: Kind, times: int, seed: int = 0) -> Damaged:
    """Flips one bit of a file, or cuts it short, and reads it; so many times, each time another."""
    content, expected = kind.file.read_bytes(), kind.read()
    random, found = Random(f"{kind.name} {seed}"), Damaged(kind.name)
    for number in range(times):
        at = random.randrange(len(content))
        changed = bytearray(content)
        if number % 4:
            changed[at] ^= 1 << random.randrange(8)
        else:
            del changed[at:]
        what = f"bit of byte {at}" if number % 4 else f"cut at {at}"
        kind.file.write_bytes(changed)
        found.times += 1
        try:
            if kind.read() != expected:
                found.wrong.append(f"{what}: something else was read")
        except PerdureError:
            found.refused += 1
        except Exception as error:  # noqa: BLE001 - whatever else it is, it is told
            found.wrong.append(f"{what}: {type(error).__name__}: {error}")
    kind.file.write_bytes(content)
    return found


def kinds(folder: Path) -> Iterator[Kind]:
    """A whole file of every kind that Perdure writes and reads again, or reads and whose format has a checksum."""
    yield from _releases(folder / "releases")
    yield from _runs(folder / "run")
    yield from _cached(folder / "cached")
    yield from _evidence(folder / "evidence")
    yield from _images(folder / "images")


def _releases(folder: Path) -> Iterator[Kind]:
    data = synthetic.write_images(folder / "data", domains=("a", "b"), cases=(5, 1, 1), size=(32, 32))
    network = perdure.QuickNAT(in_channels=3, classes=2, filters=2, kernel_size=3)
    base = perdure.train(network, domain_in(data, "a"), recipe=Recipe(epochs=1))
    perdure.update(base, domain_in(data, "b"), method=dsbn(), recipe=Recipe(epochs=1), out=folder / "b")
    for file in sorted((folder / "b").iterdir()):
        yield Kind(file.name, file, lambda: _release(folder / "b"))


def _release(folder: Path) -> Any:
    release = Release.open(folder)
    memory = release.memory
    norms = {domain: _bits(tensors) for domain, tensors in memory.norms.items()}
    return (
        release.identity,
        _bits(release.model.state_dict()),
        {key: _bits(one.weights) for key, one in memory.measures.items()},
        norms,
    )


def _bits(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def _runs(folder: Path) -> Iterator[Kind]:
    identity = {"seed": 1, "method": {"name": "a"}, "recipe": {"epochs": 3}}
    run = RunFolder(folder, identity)
    run.save(State({"weight": torch.rand(500)}, {"state": {}, "param_groups": [{"lr": 0.1}]}))

    def loaded() -> Any:
        state = run.load()
        return None if state is None else (_bits(state.model), state.optimizer)

    yield Kind("checkpoint.pt", folder / "checkpoint.pt", loaded)
    yield Kind("run.json", folder / "run.json", lambda: bool(RunFolder(folder, identity)))


def _cached(folder: Path) -> Iterator[Kind]:
    rng = np.random.default_rng(0)
    image = rng.random((4, 30, 30)).astype(np.float32)
    cache = Cache(folder)
    entry = cache.entry("k", lambda: ({"image": image}, {"grid": [4, 30, 30]}))

    def opened() -> Any:
        again = cache.entry("k", lambda: ({"image": image}, {"grid": [4, 30, 30]}))
        return again.array("image").tobytes(), again.notes

    for name in ("image.npy", "entry.json"):
        yield Kind(f"cache: {name}", entry.folder / name, opened)


def _evidence(folder: Path) -> Iterator[Kind]:
    from gate_workspace import Gated, dice_scores, ordinary

    base, candidate = workspaces.workspace(folder)
    book = Ledger(folder / "ledger.jsonl")
    for file in (book.path, book.head_path):
        yield Kind(file.name, file, book.entries)
    scores = folder / "scores.parquet"
    workspaces.scores_of(base, candidate, domains=("a", "b")).write(scores)
    yield Kind("scores.parquet", scores, lambda: _scores(Scores.read(scores)))
    new_key(folder / "site.key")
    key = private_key(folder / "site.key")
    (folder / "site.signed").write_bytes(sealed(workspaces.scores_of(base, candidate), {"a": "0" * 64}, key, bytes(32)))
    yield Kind(
        "site.signed", folder / "site.signed", lambda: unsealed(folder / "site.signed", [key.public_key()]).digest
    )
    yield Kind("site.key", folder / "site.key", lambda: fingerprint(private_key(folder / "site.key").public_key()))
    yield Kind("site.key.pub", folder / "site.key.pub", lambda: fingerprint(_matching(folder / "site.key")))
    (folder / "gate").mkdir()
    verdict = Gated(folder / "gate", dice_scores(ordinary())).verdict()
    given = verdict.model_copy(update={"candidate": verdict.candidate.model_copy(update={"id": candidate.id})})
    path = folder / "verdict.json"
    given.write(path)
    recorded = {
        "plan": given.plan.sha256,
        "verdict": given.verdict,
        "scores": [],
        "sha256": sha256(path),
    }
    book.append("gated", candidate.id, **recorded)
    yield Kind("verdict.json", path, lambda: approvable(folder / "candidate", path)[1])


def _scores(scores: Scores) -> Any:
    return scores.header, scores.table.to_dict(as_series=False)


def _matching(key: Path) -> Any:
    private_key(key)
    return public_key(key.with_name(f"{key.name}.pub"))


def _images(folder: Path) -> Iterator[Kind]:
    rng = np.random.default_rng(0)
    folder.mkdir()
    voxels = rng.integers(0, 255, (12, 12, 12)).astype(np.uint8)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / "scan.nii.gz")
    nib.save(nib.MGHImage(voxels, np.eye(4)), folder / "scan.mgz")
    (folder / "picture.png").write_bytes(imagecodecs.png_encode(rng.integers(0, 255, (30, 30, 3), np.uint8)))
    for file in sorted(folder.iterdir()):
        yield Kind(file.name, file, lambda file=file: read_image(file).pixels.tobytes())
