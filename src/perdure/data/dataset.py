"""A dataset folder: what it holds, whether it is sound, and its domains ready for use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from perdure.data.cache import Cache
from perdure.data.cases import CaseFiles
from perdure.data.content import Header
from perdure.data.domain import FolderDomain
from perdure.data.geometry import grid_for
from perdure.data.images import read_header
from perdure.data.manifest import Case, Description, read_description, read_manifest
from perdure.data.places import located
from perdure.data.preparation import contract_problems
from perdure.data.validation import Progress, contract_mismatches, file_problems, grade_of, manifest_problems
from perdure.errors import DataError, Problem
from perdure.types import SPLITS, Contract, Intensity, Split

ORIENTATION = "LIA"
"""The axes of FreeSurfer's conformed volumes, which QuickNAT was published for."""

_PATCH = 96  # pixels of a 3-D training sample, unless the volumes are smaller
_MULTIPLE = 16  # of pixels: four halvings


@dataclass(frozen=True)
class Dataset:
    """A folder with `dataset.toml` and `manifest.csv`.

    Args:
        folder: as the user wrote it.
        description: what `dataset.toml` says.
        cases: the rows of `manifest.csv`, with a split each.

    Example:
        >>> dataset = Dataset.open("scans")                                 # doctest: +SKIP
        >>> contract = dataset.default_contract("scanner-a", size=256)      # doctest: +SKIP
        >>> domain = dataset.domain("scanner-a", contract)                  # doctest: +SKIP
    """

    folder: Path
    description: Description
    cases: tuple[Case, ...]

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Reads both files; images are not opened yet, and rows are not judged yet (`check` does both).

        Raises:
            DataError: a file is missing or cannot be read, has an unknown key, or lacks a key or a column.
        """
        folder = Path(folder)
        description = read_description(folder)
        return cls(folder, description, read_manifest(folder, description))

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of the domains, in the order of `dataset.toml`, or else of the manifest."""
        return self.description.domains or tuple(dict.fromkeys(case.domain for case in self.cases))

    def check(
        self,
        domains: Sequence[str] | None = None,
        *,
        contract: Contract | None = None,
        required: Sequence[Split] = SPLITS,
        cache: Cache | Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Finds everything that is wrong: in all rows of the manifest, and in every voxel of these domains' files.

        Files that pass are remembered by their content, so that the next check is quick.

        Args:
            domains: whose files are read, and whose splits must not be empty; all without it.
            contract: under which they are to be prepared, if that is known.
            required: the splits that must hold at least one case of each of the domains.
            cache: where to remember; a folder, or the default one.
            progress: called with how many cases are done, and of how many.

        Raises:
            DataError: with all problems.
        """
        chosen = self.domains if domains is None else tuple(domains)
        _refuse(
            Problem(str(self.folder / "manifest.csv"), "domain", repr(name), f"it has {', '.join(self.domains)}")
            for name in chosen
            if name not in self.domains
        )
        problems = [] if contract is None else contract_mismatches(self.folder, self.description, contract)
        problems += manifest_problems(self.folder, self.description, self.cases, chosen, required)
        cases = [case for case in self.cases if case.domain in chosen]
        report = progress or _silent
        problems += file_problems(self.folder, self.description, cases, contract, _opened(cache), report)
        _refuse(problems)

    def default_contract(
        self,
        domain: str | None = None,
        *,
        size: int | tuple[int, ...] | None = None,
        spacing: tuple[float, float, float] | None = None,
        view: Literal["coronal", "axial", "sagittal"] = "coronal",
        spatial_dims: Literal[2, 3] = 2,
        merge_sides: bool = False,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        required: Sequence[Split] = SPLITS,
        cache: Cache | Path | None = None,
        progress: Progress | None = None,
    ) -> Contract:
        """The contract that a first release on this data has, after a look at the images (and a `check`).

        Volumes are turned to "LIA" and scaled robustly; pictures are divided by the maximum of their format, and
        resized: kept in shape for a segmentation, stretched for a classification.

        Args:
            domain: whose images decide; those of all domains without it.
            size: pixels of a training sample, one number for all axes or one each. By default the largest image, and
                for volumes the largest slice on the contract's grid, rounded up to multiples of 16; for a 3-D network
                at most 96 along each axis.
            spacing: mm; by default that of `dataset.toml`, or else 1 mm.
            view: the plane in which volumes are cut for a 2-D network.
            spatial_dims: 2, or 3 for a network that takes volumes.
            merge_sides: whether `left_X` and `right_X` become one structure `X`.
            channels: of the network's input; those of the images if left out. Grey images are repeated in each, for
                networks that were trained on colour.
            mean: taken off the scaled intensity, one a channel, for networks that were trained so.
            std: divides what is left, one a channel; each above 0.
            required: as in `check`.
            cache: as in `check`.
            progress: as in `check`.

        Raises:
            DataError: the data are not sound, the images differ in kind or number of channels, or colour images are
                asked for in another number of channels.
            ValueError: a deviation is not above 0.
        """
        if std and min(std) <= 0:
            raise ValueError(f"`std` must be above 0, because intensities are divided by it; got {tuple(std)}.")
        chosen = self.domains if domain is None else (domain,)
        self.check(chosen, required=required, cache=cache, progress=progress)
        headers = [read_header(self.path_of(case.image)) for case in self.cases if case.domain in chosen]
        own, volumetric = self._one_kind(headers)
        if channels not in (None, own) and own != 1:
            raise DataError(
                f"{self.folder}: its images have {own} channels; only grey ones can be repeated to {channels}."
            )
        if spatial_dims == 3 and not volumetric:
            raise DataError(f"{self.folder}: a 3-D network needs volumes; these images are pictures. Use 2 dimensions.")
        contract = self._contract(
            task=self.description.task,
            modality=self.description.modality,
            structures=self.description.structures(merge_sides=merge_sides),
            ordinal=self.description.ordinal,
            channels=channels or own,
            spatial_dims=spatial_dims,
            size=(1,) * spatial_dims,
            orientation=ORIENTATION if volumetric else None,
            spacing=(spacing or self.description.spacing or (1.0, 1.0, 1.0)) if volumetric else None,
            view=view if volumetric and spatial_dims == 2 else None,
            resize="fit" if self.description.task == "segmentation" else "stretch",
            intensity=Intensity(
                scaling="robust" if volumetric else "format",
                mean=tuple(mean) if mean else None,
                std=tuple(std) if std else None,
            ),
        )
        _refuse(
            problem
            for case, header in zip((case for case in self.cases if case.domain in chosen), headers, strict=True)
            for problem in contract_problems(header, contract, self.path_of(case.image))
        )
        sizes = (size,) * spatial_dims if isinstance(size, int) else size or _largest(headers, contract)
        return self._contract(**{**dict(contract), "size": sizes})

    def domain(
        self,
        name: str,
        contract: Contract,
        *,
        cache: Cache | Path | None = None,
        required: Sequence[Split] = SPLITS,
        progress: Progress | None = None,
    ) -> FolderDomain:
        """One domain under a contract, after a `check`.

        Args:
            name: of the domain.
            contract: what the tensors are to follow: `default_contract`, or that of a release.
            cache: where prepared arrays are kept; a folder, or the default one. **It will hold images of patients.**
            required: the splits that must not be empty.
            progress: called with how many cases are checked, and of how many.

        Raises:
            DataError: with all problems of the manifest and of this domain's files.
        """
        opened = _opened(cache)
        self.check([name], contract=contract, required=required, cache=opened, progress=progress)
        rows = {case.id: case for case in self.cases if case.domain == name}
        files = {case.id: self._files(case, contract) for case in rows.values()}
        return FolderDomain(name, contract, rows, files, opened, self.description.ignore_values)

    def path_of(self, cell: str) -> Path:
        """The file, the folder with a series, or the list of files that a cell of the manifest means.

        Raises:
            DataError: it is not there, or may not be read.
        """
        found = located(self.folder, self.description.source, cell)
        if isinstance(found, str):
            raise DataError([Problem(str(self.folder / "manifest.csv"), "image", repr(cell), found)])
        return found

    def _contract(self, **fields: Any) -> Contract:
        try:
            return Contract(**fields)
        except ValidationError as error:
            raise DataError(
                Problem(
                    str(self.folder), ".".join(map(str, one["loc"])) or "contract", repr(one["input"])[:80], one["msg"]
                )
                for one in error.errors()
            ) from error

    def _files(self, case: Case, contract: Contract) -> CaseFiles:
        image = self.path_of(case.image)
        if self.description.task == "segmentation":
            mask = self.path_of(case.mask) if case.mask else None
            return CaseFiles(image, self.path_of(case.label), mask, names=self.description.structure_values())
        value = grade_of(self.description, case.grade)
        grades = [i for i, structure in enumerate(contract.structures) if value in structure.values]
        return CaseFiles(image, grade=grades[0])

    def _one_kind(self, headers: Sequence[Header]) -> tuple[int, bool]:
        """Channels, and whether they are volumes, of images that are all alike."""
        kinds = sorted({(header.channels, header.is_volume) for header in headers})
        if len(kinds) != 1:
            names = [f"{'volumes' if volume else 'pictures'} of {channels} channel(s)" for channels, volume in kinds]
            file = str(self.folder / "manifest.csv")
            found = " and ".join(names) or "none"
            raise DataError([Problem(file, "column image", found, "images of one kind; convert them")])
        return kinds[0]


def _largest(headers: Sequence[Header], contract: Contract) -> tuple[int, ...]:
    if not contract.is_volumetric:
        return tuple(max(extents) for extents in zip(*(header.shape for header in headers), strict=True))
    shapes = [grid_for(contract, header.shape, header.affine).network_shape for header in headers]
    largest = [-(-max(extents) // _MULTIPLE) * _MULTIPLE for extents in zip(*shapes, strict=True)]
    return tuple(largest[1:]) if contract.spatial_dims == 2 else tuple(min(extent, _PATCH) for extent in largest)


def _opened(cache: Cache | Path | None) -> Cache:
    return cache if isinstance(cache, Cache) else Cache(cache)


def _silent(done: int, of: int) -> None:
    """Reports nothing."""


def _refuse(problems: Iterable[Problem]) -> None:
    if found := list(problems):
        raise DataError(found)
