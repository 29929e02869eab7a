"""One immutable, versioned folder: weights, memory, contract, lineage, hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import save_file

from perdure.errors import ReleaseError
from perdure.importance import filter_axes
from perdure.models import build
from perdure.models.bounded import bytes_for
from perdure.models.weights import DAMAGED, safetensors
from perdure.release.folder import Folder, sha256
from perdure.release.identity import Ancestor, Identity, Measure
from perdure.release.memory import Accumulated, Memory
from perdure.types import unprintable_in

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure.types import Contract

FORMAT = 1
WEIGHTS, MEMORY, IDENTITY = "weights.safetensors", "memory.safetensors", "release.json"
LARGEST_RECORD = 64 * 2**20
"""Bytes of `release.json`; no release says so much of itself."""


@dataclass(frozen=True)
class Release:
    """A model that is ready for use and for the next update.

    Args:
        model: the network with its weights, in evaluation mode.
        memory: what it carries instead of old data.
        identity: all that is not a tensor.
        name: what people call it; the name of its folder.
    """

    model: nn.Module
    memory: Memory
    identity: Identity
    name: str

    @property
    def contract(self) -> Contract:
        """What it expects of an image, and what its outputs mean."""
        return self.identity.contract

    @property
    def lineage(self) -> tuple[Ancestor, ...]:
        """The releases it comes from, the first one first."""
        return self.identity.lineage

    @property
    def id(self) -> str:
        """Its name in the lineage of others: a SHA-256 in hexadecimal, empty until it is saved."""
        return self.identity.id

    def save(self, path: Path | str) -> Release:
        """Writes the folder, whole or not at all, and returns the release as it was written (with its id).

        Raises:
            FileExistsError: if there is something at `path`; a release is never overwritten.
            ReleaseError: if the memory holds a tensor that is not one of the network's, as an image would be, or the
                tensors cannot be written.
        """
        path = Path(path)
        _check_memory(self.memory, self.model, path / MEMORY)
        with Folder.being_written(path) as folder:
            try:
                save_file(_plain(self.model.state_dict()), folder / WEIGHTS)
                save_file(_plain(_flat(self.memory)), folder / MEMORY)
            except SafetensorError as error:  # what it says where the disk is full
                raise ReleaseError(f"{path}: cannot be written: {error}. Nothing was.") from error
            files = {name: sha256(folder / name) for name in (WEIGHTS, MEMORY)}
            identity = with_id(self.identity.model_copy(update={"files": files}))
            (folder / IDENTITY).write_text(identity.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return Release(self.model, self.memory, identity, path.name)

    @classmethod
    def open(cls, path: Path | str, trusted: Sequence[str] = (), *, network: nn.Module | None = None) -> Release:
        """Reads a release after checking every file against its hash.

        Args:
            path: the folder.
            trusted: modules whose code may be imported to build the network, where it is not one of ours or MONAI's.
            network: a network to load the weights into; left out, it is built as the release says.

        Raises:
            ReleaseError: naming the file that is missing, damaged, unknown or of another format.
            NetworkError: if the network cannot be built, or its module is not trusted.
        """
        path = Path(path)
        identity = read_identity(path)
        contract = identity.contract
        state = read_tensors(path / WEIGHTS)
        model = network or build(
            identity.network,
            channels=contract.channels,
            classes=contract.classes,
            spatial_dims=contract.spatial_dims,
            trusted=trusted,
            most=bytes_for(state),
        )
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if expected != found:
            wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
            raise ReleaseError(
                f"{path / WEIGHTS}: does not fit the network {identity.network.factory}: {wrong[:5]} differ."
            )
        model.load_state_dict(state)
        # as read and not as copied: a large file is mapped and takes no memory
        anchor = {name: state[name].to(parameter) for name, parameter in model.named_parameters()}
        memory = _memory(read_tensors(path / MEMORY), anchor, model, identity, path / MEMORY)
        return cls(model.eval(), memory, identity, path.name)


def read_identity(path: Path) -> Identity:
    """What a release folder says about itself, once every file in it was found to be what was written.

    Raises:
        ReleaseError: naming the file that is missing, damaged, unknown or of another format.
    """
    if not path.is_dir():
        raise ReleaseError(f"{path}: there is no release folder of this name.")
    try:
        content = json.loads(_record_in(path))
        if isinstance(content, dict) and content.get("format") != FORMAT:
            raise ReleaseError(
                f"{path / IDENTITY}: format {content.get('format')!r}; this version reads format {FORMAT}."
            )
        identity = Identity.model_validate(content)
        if unprintable := next(unprintable_in(content), None):
            raise ReleaseError(f"{path / IDENTITY}: damaged: control characters in {unprintable[:80]!r}.")
        own = with_id(identity).id
    except FileNotFoundError as error:
        raise ReleaseError(f"{path / IDENTITY}: missing; this is no release, or an unfinished one.") from error
    except (OSError, ValueError, RecursionError) as error:  # JSON, UTF-8 and pydantic all raise ValueErrors
        raise ReleaseError(f"{path / IDENTITY}: damaged: {error}") from error
    if own != identity.id:
        raise ReleaseError(f"{path / IDENTITY}: its content does not match its id {identity.id[:12]}; it was changed.")
    present = {entry.name for entry in path.iterdir()} - {IDENTITY}
    for name in sorted(present ^ identity.files.keys()):
        raise ReleaseError(
            f"{path / name}: {'unknown file' if name in present else 'missing'}; the release is not whole."
        )
    for name, digest in identity.files.items():
        if not _is_own(path / name):
            raise ReleaseError(f"{path / name}: is no file of this folder; a release is whole without any other.")
        if sha256(path / name) != digest:
            raise ReleaseError(f"{path / name}: damaged: its SHA-256 is not the one in {IDENTITY}.")
    return identity


def _record_in(path: Path) -> str:
    file = path / IDENTITY
    if not _is_own(file) and file.exists():
        raise ReleaseError(f"{file}: is no file of this folder; a release is whole without any other.")
    if (size := file.stat().st_size) > LARGEST_RECORD:
        raise ReleaseError(f"{file}: damaged: {size:,} bytes; at most {LARGEST_RECORD:,} are read.")
    return file.read_text(encoding="utf-8")


def _is_own(file: Path) -> bool:
    """Whether it is a file, and its folder holds it: no pipe, which would never end, and no link to somewhere else."""
    return file.is_file() and file.resolve().parent == file.parent.resolve()


def with_id(identity: Identity) -> Identity:
    """The same identity with the id that its content gives.

    Raises:
        ValueError: if something in it is nested too deep to be written.
    """
    content = identity.model_copy(update={"id": ""}).model_dump(mode="json")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return identity.model_copy(update={"id": hashlib.sha256(canonical.encode()).hexdigest()})


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain, storages = {}, set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage().data_ptr()
        # safetensors refuses tensors that share storage; all others are written from where they lie
        plain[name] = own.clone() if storage in storages else own
        storages.add(storage)
    return plain


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file of a release, by name.

    Raises:
        ReleaseError: if they cannot be read.
    """
    try:
        return safetensors(path)
    except (*DAMAGED, SafetensorError) as error:
        raise ReleaseError(f"{path}: damaged: {error}") from error


def _flat(memory: Memory) -> dict[str, Tensor]:
    """The tensors of a memory by `<kind>/<name>`; the anchor is left out, because it is the release's own weights."""
    flat = {f"statistics/{name}": tensor for name, tensor in memory.statistics.items()}
    flat |= {f"frozen/{name}": mask for name, mask in memory.frozen.items()}
    for domain, norm in memory.norms.items():
        flat |= {f"norm/{domain}/{name}": tensor for name, tensor in norm.items()}
    for key, measure in memory.measures.items():
        flat |= {f"importance/{key}/{name}": tensor for name, tensor in measure.weights.items()}
        flat |= {f"latest/{key}/{name}": tensor for name, tensor in measure.latest.items()}
        flat |= {f"centre/{key}/{name}": tensor for name, tensor in measure.centre.items()}
    return flat


def measures_of(memory: Memory) -> dict[str, Measure]:
    """What a memory's measures are, without their tensors."""
    return {
        key: Measure(
            domains=one.domains,
            samples=one.samples,
            subjects=one.subjects,
            offset=one.offset,
            settings=dict(one.settings),
        )
        for key, one in memory.measures.items()
    }


def norms_in(flat: Mapping[str, Tensor], identity: Identity, path: Path) -> dict[str, dict[str, Tensor]]:
    """By domain its own batch norm, of the tensors of a memory as they lie in its file.

    Raises:
        ReleaseError: if there is one of a domain that the release does not know.
    """
    norms: dict[str, dict[str, Tensor]] = {seen.domain: {} for seen in identity.domains}
    # the longest first: `site` and `site/3T` may both be domains. By length, not one domain after the other: there may
    # be hundreds, with a hundred tensors each
    lengths = sorted({len(domain) for domain in norms}, reverse=True)
    for name in (name for name in flat if name.startswith("norm/")):
        own = name.removeprefix("norm/")
        domain = next((own[:n] for n in lengths if own[:n] in norms and own[n : n + 1] == "/"), None)
        if domain is None:
            raise ReleaseError(f"{path}: {name}: a batch norm of a domain that the release has not learnt.")
        norms[domain][own[len(domain) + 1 :]] = flat[name]
    return norms


def _memory(
    flat: dict[str, Tensor], anchor: dict[str, Tensor], model: nn.Module, identity: Identity, path: Path
) -> Memory:
    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): flat.pop(name) for name in list(flat) if name.startswith(prefix)}

    measures = {
        key: Accumulated(
            weights=under(f"importance/{key}/"),
            latest=under(f"latest/{key}/"),
            domains=one.domains,
            settings=one.settings,
            samples=one.samples,
            subjects=one.subjects,
            centre=under(f"centre/{key}/"),
            offset=one.offset,
        )
        for key, one in identity.measures.items()
    }
    statistics, frozen = under("statistics/"), under("frozen/")
    norms = norms_in(flat, identity, path)
    flat = {name: tensor for name, tensor in flat.items() if not name.startswith("norm/")}
    if flat:
        raise ReleaseError(f"{path}: holds tensors that a memory cannot have: {sorted(flat)[:5]}.")
    memory = Memory(
        anchor, measures, statistics, frozen, {d: norm for d, norm in norms.items() if norm}, axes=filter_axes(model)
    )
    _check_memory(memory, model, path)
    return memory


def _check_memory(memory: Memory, model: nn.Module, path: Path) -> None:
    """Passes if every tensor is one number a value of the network, or an average over some of its axes."""
    parameters, state = dict(model.named_parameters()), model.state_dict()
    for measure in memory.measures.values():
        _check_shapes(measure.weights, parameters, path)
        _check_shapes(measure.latest, parameters, path)
        _check_shapes(measure.centre, parameters, path)
    _check_shapes(memory.frozen, parameters, path)
    for norm in memory.norms.values():
        _check_shapes(norm, state, path)
    _check_shapes(memory.statistics, dict(model.named_buffers()), path)


def _check_shapes(kept: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in kept.items():
        if name not in own:
            raise ReleaseError(f"{path}: {name}: the network has no such name, and a memory holds nothing else.")
        shape = tuple(own[name].shape)
        if len(shape) != tensor.ndim or any(a not in (1, b) for a, b in zip(tensor.shape, shape, strict=True)):
            raise ReleaseError(
                f"{path}: {name}: found shape {tuple(tensor.shape)}; the network has {shape}, and a memory holds one "
                "number a value, or averages over some of its axes."
            )
