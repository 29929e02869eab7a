"""A release against the list of what may be in one: whatever is not on it is an objection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.errors import NetworkError, ReleaseError
from perdure.evidence.audit.container import container_objections
from perdure.evidence.audit.objection import IDENTITY, MEMORY, WEIGHTS, Kind, Objection
from perdure.evidence.audit.record import record_objections
from perdure.evidence.audit.subjects import subject_objections
from perdure.evidence.audit.tensors import memory_objections, weight_objections
from perdure.models import build
from perdure.models.bounded import bytes_for
from perdure.release.folder import sha256
from perdure.release.release import LARGEST_RECORD, read_tensors, with_id
from perdure.types import Value
from perdure.update.intensities import FEWEST_SUBJECTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perdure.release import Identity


class Audit(Value):
    """What an audit found.

    Args:
        release: the folder's name.
        id: of the release; empty where it says none.
        fewest_subjects: that a statistic had to stand on.
        files: the files that were read, each with its SHA-256.
        tensors: how many were compared with the network.
        objections: what does not pass, in the order of files and fields; accepted ones too.
    """

    release: str
    id: str
    fewest_subjects: int
    files: dict[str, str]
    tensors: int
    objections: tuple[Objection, ...]

    @property
    def is_passed(self) -> bool:
        """Whether nothing stands against the release but what a person accepted."""
        return all(one.is_accepted for one in self.objections)


def audit(
    path: Path | str,
    *,
    fewest_subjects: int = FEWEST_SUBJECTS,
    trusted: Sequence[str] = (),
    network: nn.Module | None = None,
    accepted: Sequence[str] = (),
) -> Audit:
    """Holds every file, byte range, key, text, number and tensor of a release against what may be there.

    Nothing in the release is run. What a pass says and what it does not is in docs/audit.md.

    Args:
        path: the folder.
        fewest_subjects: a statistic over fewer is an objection; at least 1.
        trusted: modules whose code may be imported to build the network.
        network: the network, built anew by the caller; left out, it is built as the release says.
        accepted: places (`FILE:FIELD`) that a person has looked at and lets pass; they stay on the list.

    Raises:
        ReleaseError: if there is no folder, or no `release.json` in it that is JSON; or an accepted place has no
            objection, which is a slip of the pen.
        ValueError: if `fewest_subjects` is below 1.
    """
    if fewest_subjects < 1:
        raise ValueError(f"`fewest_subjects` must be at least 1; got {fewest_subjects}.")
    path = Path(path)
    identity, objections = _record(path)
    files = {entry.name: sha256(entry) for entry in _entries(path) if entry.is_file() and not entry.is_symlink()}
    objections += _folder(path, identity, files)
    for name in (WEIGHTS, MEMORY):
        if name in files:
            objections += container_objections(path / name)
    compared = 0
    if identity is not None:
        objections += subject_objections(identity, fewest_subjects)
        compared, more = _compared(path, identity, files, trusted, network)
        objections += more
    if unknown := sorted(set(accepted) - {one.place for one in objections}):
        raise ReleaseError(f"{path}: nothing to accept at {', '.join(unknown)}; leave it out, or mend its spelling.")
    return Audit(
        release=path.name,
        id=identity.id if identity is not None else "",
        fewest_subjects=fewest_subjects,
        files=files,
        tensors=compared,
        objections=tuple(
            one.model_copy(update={"is_accepted": one.place in accepted}) for one in dict.fromkeys(objections)
        ),
    )


def _entries(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def _record(path: Path) -> tuple[Identity | None, list[Objection]]:
    file = path / IDENTITY
    if not path.is_dir():
        raise ReleaseError(f"{path}: there is no release folder of this name.")
    if not file.is_file():
        raise ReleaseError(f"{file}: missing; this is no release, or an unfinished one.")
    if file.stat().st_size > LARGEST_RECORD:
        raise ReleaseError(f"{file}: larger than {LARGEST_RECORD:,} bytes; no release says so much of itself.")
    try:
        return record_objections(file.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"{file}: damaged: {error}") from error


def _folder(path: Path, identity: Identity | None, files: dict[str, str]) -> Iterator[Objection]:
    for entry in _entries(path):
        if entry.name not in (WEIGHTS, MEMORY, IDENTITY) or entry.name not in files:
            what = "a link" if entry.is_symlink() else "a folder" if entry.is_dir() else "a file"
            yield _objection(
                "file", entry.name, "name", f"{what} that a release does not have",
                "Whatever is in it would leave the building unseen.", "Remove it.",
            )  # fmt: skip
    wanted = {} if identity is None else identity.files
    for name in (WEIGHTS, MEMORY):
        if name not in files:
            yield _objection(
                "integrity", name, "name", "nothing", "A release has this file.", "Fetch the release again."
            )
        elif wanted.get(name) != files[name]:
            yield _objection(
                "integrity", name, "SHA-256", f"{files[name][:12]}; {IDENTITY} says {str(wanted.get(name))[:12]}",
                "The file is not the one that was written.", "Fetch the release again from where it was made.",
            )  # fmt: skip
    if identity is not None and with_id(identity).id != identity.id:
        yield _objection(
            "integrity", IDENTITY, "id", f"{identity.id[:12]}; its content gives {with_id(identity).id[:12]}",
            "The file is not the one that was written.", "Fetch the release again from where it was made.",
        )  # fmt: skip


def _compared(
    path: Path, identity: Identity, files: dict[str, str], trusted: Sequence[str], network: nn.Module | None
) -> tuple[int, list[Objection]]:
    """How many tensors were compared with the network, and the objections to them."""
    contract = identity.contract
    tensors: dict[str, dict[str, Tensor]] = {}
    objections: list[Objection] = []
    for name in (WEIGHTS, MEMORY):
        if name not in files:
            continue
        try:
            tensors[name] = read_tensors(path / name)
        except ReleaseError as error:
            objections.append(
                _objection(
                    "integrity",
                    name,
                    "header",
                    f"unreadable: {error}",
                    "Nothing in it can be compared.",
                    "Fetch it again.",
                )
            )
    try:
        built = network or build(
            identity.network,
            channels=contract.channels,
            classes=contract.classes,
            spatial_dims=contract.spatial_dims,
            trusted=trusted,
            most=bytes_for(tensors.get(WEIGHTS, {})),
        )
    except NetworkError as error:
        found = f"network {identity.network.factory!r} cannot be built: {error}"
        return 0, [
            *objections,
            _objection(
                "network", IDENTITY, "network.factory", found,
                "Without the network nobody can say which tensors belong to it.",
                "Name its package with --trust, if you trust that code.",
            ),
        ]  # fmt: skip
    for name, objected in ((WEIGHTS, weight_objections), (MEMORY, memory_objections)):
        if name in tensors:
            objections += objected(tensors[name], built, identity)
    return sum(map(len, tensors.values())), objections


def _objection(kind: Kind, file: str, field: str, found: str, why: str, what_to_do: str) -> Objection:
    return Objection(kind=kind, file=file, field=field, found=found, why=why, what_to_do=what_to_do)
