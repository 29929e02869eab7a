"""What a model folder of somebody else's gives: a network with its weights, and what it expects of an image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from perdure.errors import DataError, NetworkError, Problem
from perdure.types import Contract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from perdure.data import Dataset
    from perdure.data.manifest import Description
    from perdure.types import Structure

VIEWS: dict[str, Literal["coronal", "axial", "sagittal"]] = {
    **dict.fromkeys("AP", "coronal"), **dict.fromkeys("IS", "axial"), **dict.fromkeys("LR", "sagittal"),
}  # fmt: skip
"""The view of a network whose slices follow each other along an axis of this code."""
_LARGEST = 64 * 2**20
"""Bytes of a configuration that is read; theirs have some ten thousand."""

Kind = TypeVar("Kind", bound="Read")


class Read(BaseModel):
    """The part of a configuration that is looked at; what else stands there is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


@dataclass(frozen=True)
class Adoptable:
    """A network that can be adopted.

    Args:
        network: with its weights; knows how it can be built again.
        contract: the input contract that it was trained with, as far as a contract can say it.
        differences: what Perdure does otherwise than the tool that it comes from, a sentence each.
    """

    network: nn.Module
    contract: Contract
    differences: tuple[str, ...] = ()


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """A configuration in JSON, as data.

    Raises:
        NetworkError: if it is missing, too large, no JSON, or lacks a field or has another type in one: all at once.
    """
    content = read_object(path)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise refusal(str(path), error) from error


def refusal(place: str, error: ValidationError) -> NetworkError:
    """All that is wrong with the fields of a configuration, a line each, with where they stand before each."""
    return NetworkError(
        "\n".join(f"{place}: {'.'.join(map(str, e['loc']))}: {e['msg']}." for e in error.errors(include_url=False))
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        NetworkError: if the file is missing, too large, or holds none.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise NetworkError(f"{path}: found {path.stat().st_size} bytes; a configuration has at most {_LARGEST}.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NetworkError(f"{path}: missing; name the folder that holds it.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise NetworkError(f"{path}: no readable JSON ({error}); copy it again.") from error
    if not isinstance(content, dict):
        raise NetworkError(f"{path}: found {type(content).__name__}; it must hold an object.")
    return content


def contract_of(path: Path, fields: Mapping[str, Any]) -> Contract:
    """The contract with these fields, which a file says.

    Raises:
        NetworkError: if no contract can have them.
    """
    try:
        return Contract(**fields)
    except ValidationError as error:
        raise refusal(str(path), error) from error


def structures_in_order(
    names: Sequence[str], description: Description, folder: Path, source: Path
) -> tuple[Structure, ...]:
    """The structures of a data folder, in the order of a network's outputs; background first.

    Args:
        names: what the network's outputs are called, the first of them background.
        description: of the data folder.
        folder: the data folder.
        source: where the names stand.

    Raises:
        DataError: if the two do not name the same structures.
    """
    own = {_plain(structure.name): structure for structure in description.structures()}
    wanted = [_plain(name) for name in names]
    background = next(iter(own))  # a description has it first, whatever it is called
    wanted[0] = background
    if sorted(wanted) != sorted(own):
        allowed = f"names of labels must be those of {source}: {', '.join(names)}"
        raise DataError([Problem(str(folder / "dataset.toml"), "labels", ", ".join(own), allowed)])
    return tuple(own[name] for name in wanted)


def _plain(name: str) -> str:
    """A name without regard to case, spaces and dashes."""
    return name.casefold().replace(" ", "_").replace("-", "_")


def stored_orientation(dataset: Dataset, domain: str) -> str:
    """How the volumes of a domain lie in their files, as axis codes ("RAS").

    Raises:
        DataError: if one cannot be read, they are pictures, not all alike, or DICOM series: whoever makes a volume of
            a series chooses its axes, and the network was trained on files of another's choice.
    """
    from nibabel import orientations

    from perdure.data.images import is_dicom_path, read_header

    found: dict[str, str] = {}
    for case in dataset.cases:
        if case.domain == domain:
            path = dataset.path_of(case.image)
            header = read_header(path)
            if header.affine is None:
                wanted = "this network takes volumes (NIfTI, MGZ)"
                raise DataError([Problem(str(path), "content", "a picture", wanted)])
            if is_dicom_path(path):
                wanted = "the network takes volumes as they lay in the files it was trained on, which were others: "
                wanted += "name that way (--stored, for nnU-Net), or import those files"
                raise DataError([Problem(str(path), "content", "a DICOM series", wanted)])
            found.setdefault("".join(orientations.aff2axcodes(header.affine)), case.image)
    if len(found) != 1:
        shown = "; ".join(f"{codes} in {image}" for codes, image in sorted(found.items())) or "no volume"
        wanted = "the network takes volumes as they lie in their files, and all must lie alike: name the way (--stored)"
        raise DataError([Problem(str(dataset.folder / "manifest.csv"), "image", shown, wanted)])
    return next(iter(found))
