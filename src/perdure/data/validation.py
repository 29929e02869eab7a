"""Everything that is wrong with a dataset, found before anything is trained on it, and reported at once."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from perdure.data.cache import Cache, sha256_text
from perdure.data.images import labels_key, read_header, read_image, read_labels
from perdure.data.manifest import Case, Description, base_name
from perdure.data.places import located
from perdure.data.preparation import contract_problems, values_present
from perdure.errors import DataError, Problem
from perdure.types import SPLITS, Contract, Split, unprintable_in

if TYPE_CHECKING:
    from perdure.data.content import Header

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how many are done, and of how many."""

SAME_PLACE = 0.1
"""How far apart a corner of an image and of its label may lie, in voxels (their shortest side): affines are rounded."""

_VERSION = 2  # of the checks that are remembered as passed


def manifest_problems(
    folder: Path, description: Description, cases: Sequence[Case], domains: Iterable[str], required: Sequence[Split]
) -> list[Problem]:
    """What can be seen without opening an image: cells, ids, subjects, splits, classes, paths."""
    file = str(folder / "manifest.csv")
    problems = [problem for case in cases for problem in _cell_problems(file, description, case)]
    problems += _leakage(file, cases)
    present = {(case.domain, case.split) for case in cases}
    problems += [
        Problem(file, f"domain {domain}", f"no {split} case", f"at least one row with this domain and split {split}")
        for domain in domains
        for split in required
        if (domain, split) not in present
    ]
    for case in cases:
        for column, name in _files(description, case):
            if name and isinstance(why := located(folder, description.source, name), str):
                problems.append(Problem(file, _place(case, column), repr(name), why))
    return problems


def file_problems(
    folder: Path,
    description: Description,
    cases: Sequence[Case],
    contract: Contract | None,
    cache: Cache,
    progress: Progress,
) -> list[Problem]:
    """What can only be seen in the files: every image, label and mask of these cases is read to the last voxel.

    A case that passes is remembered by the content of its files, and not read again.
    """
    problems: list[Problem] = []
    for done, case in enumerate(cases):
        progress(done, len(cases))
        files = [located(folder, description.source, name) for _, name in _files(description, case)]
        if any(isinstance(file, str) for file in files):
            continue  # among the problems of the manifest already
        paths = [file for file in files if isinstance(file, Path)]
        key = _check_key(description, cache, paths)
        if not cache.has_passed(key):
            found = list(_content_problems(description, paths))
            problems += found
            if found:
                continue
            cache.remember_passed(key)
        if contract is not None:
            problems += contract_problems(read_header(paths[0]), contract, paths[0])
    progress(len(cases), len(cases))
    return problems


def contract_mismatches(folder: Path, description: Description, contract: Contract) -> list[Problem]:
    """Where the classes of a contract and the label set of a dataset do not mean the same.

    Each label must be one class of the contract, of the same name (or of the same name without its side), and the other
    way round: a structure that is missing here would be learned as background.
    """
    file = str(folder / "dataset.toml")
    if contract.task != description.task:
        return [Problem(file, "task", description.task, f"the contract is for {contract.task}")]
    if contract.task == "classification" and contract.is_volumetric and contract.spatial_dims == 2:
        found = "2 for volumes"
        return [
            Problem("contract", "spatial_dims", found, "3: one class for a volume needs a network that takes volumes")
        ]
    problems = [
        Problem("contract", f"intensity.{name}", str(values), f"one number for each of {contract.channels} channel(s)")
        for name, values in (("mean", contract.intensity.mean), ("std", contract.intensity.std))
        if values is not None and len(values) != contract.channels
    ]
    class_of = {value: structure for structure in contract.structures for value in structure.values}
    for own in description.structures():
        classes = {class_of[value].name if value in class_of else "nothing" for value in own.values}
        if classes not in ({own.name}, {base_name(own.name)}):
            found = f"{own.name} = {list(own.values)}, which is {' and '.join(sorted(classes))} in the contract"
            wanted = "name and values must be those of the contract; values that do not count go into `ignore_values`"
            problems.append(Problem(file, "labels", found, wanted))
    known = {value for own in description.structures() for value in own.values}
    problems += [
        Problem(
            file, "labels", "nothing", f"{structure.name} = {list(structure.values)} is a class of the contract; add it"
        )
        for structure in contract.structures
        if not known.intersection(structure.values)
    ]
    return problems


def grade_of(description: Description, grade: str) -> int | None:
    """The value that a cell of the column `class` means, a number or the name of a class; None if it means nothing."""
    for structure in description.structures():
        if grade == structure.name or grade in map(str, structure.values):
            return structure.values[0] if grade == structure.name else int(grade)
    return None


def _cell_problems(file: str, description: Description, case: Case) -> Iterator[Problem]:
    cells = {"id": case.id, "subject": case.subject, "domain": case.domain, "split": case.split}
    cells |= dict(_files(description, case))
    if description.task == "classification":
        cells["class"] = case.grade
        if case.grade and grade_of(description, case.grade) is None:
            names = ", ".join(f"{structure.name} {list(structure.values)}" for structure in description.structures())
            yield Problem(file, _place(case, "class"), repr(case.grade), f"one of the labels of dataset.toml: {names}")
    for column, cell in cells.items():
        if next(unprintable_in(cell), None) is not None:
            yield Problem(file, _place(case, column), repr(cell[:80]), "a cell without control characters; mend it")
        if not cell:
            yield Problem(
                file, _place(case, column), "an empty cell", "every case needs one; fill it, or remove the row"
            )
    if case.split and case.split not in SPLITS:
        yield Problem(file, _place(case, "split"), repr(case.split), f"one of {', '.join(SPLITS)}")
    if case.domain and description.domains is not None and case.domain not in description.domains:
        allowed = f"one of `domains` in dataset.toml: {', '.join(description.domains)}"
        yield Problem(file, _place(case, "domain"), repr(case.domain), allowed)


def _leakage(file: str, cases: Sequence[Case]) -> Iterator[Problem]:
    by_id, by_subject = defaultdict(list), defaultdict(list)
    for case in cases:
        by_id[case.id].append(case)
        by_subject[case.subject].append(case)
    for name, same in by_id.items():
        if name and len(same) > 1:
            lines = ", ".join(str(case.line) for case in same)
            yield Problem(file, f"lines {lines}, column id", f"{name!r} {len(same)} times", "each id once; rename one")
    for subject, same in by_subject.items():
        splits = [split for split in SPLITS if any(case.split == split for case in same)]
        if subject and len(splits) > 1:
            where = "; ".join(
                f"{split}: line {next(case.line for case in same if case.split == split)}" for split in splits
            )
            found = f"subject {subject!r} in {' and '.join(splits)} ({where})"
            yield Problem(
                file, "columns subject and split", found, "all cases of a subject, in all domains, go in one split"
            )


def _files(description: Description, case: Case) -> list[tuple[str, str]]:
    """The columns with files, and what stands there: image, label, mask."""
    files = [("image", case.image)]
    if description.task == "segmentation":
        files.append(("label", case.label))
    if description.ignore_outside is not None:
        files.append((description.ignore_outside, case.mask))
    return files


def _content_problems(description: Description, paths: Sequence[Path]) -> Iterator[Problem]:
    headers: list[Header] = []
    names = description.structure_values()
    for number, path in enumerate(paths):
        try:
            content = read_image(path) if number == 0 else read_labels(path, paths[0], names)
        except DataError as error:
            yield from error.problems
            continue
        headers.append(content.header)
        if number == 1 and description.task == "segmentation":
            allowed = {value for structure in description.structures() for value in structure.values}
            allowed.update(description.ignore_values)
            if unknown := [value for value in values_present(content) if value not in allowed]:
                what = f"{', '.join(map(str, unknown))}, not in the label set"
                yield Problem(
                    str(path), "values", what, "add it to [labels] or `ignore_values` in dataset.toml, or mend it"
                )
        if number > 0 and len(headers) == number + 1:
            yield from _grid_problems(path, content.header, paths[0], headers[0])


def _grid_problems(path: Path, header: Header, image: Path, reference: Header) -> Iterator[Problem]:
    if header.shape != reference.shape:
        yield Problem(str(path), "shape", str(header.shape), f"the image {image.name} is of shape {reference.shape}")
    elif header.is_volume != reference.is_volume:
        yield Problem(str(path), "content", "another kind of file", f"both volumes, or both pictures, as {image.name}")
    elif header.affine is not None and reference.affine is not None:
        corners = np.stack(np.meshgrid(*((0, n - 1) for n in header.shape)), -1).reshape(-1, 3)
        apart = corners @ (header.affine - reference.affine)[:3, :3].T + (header.affine - reference.affine)[:3, 3]
        distance = float(np.linalg.norm(apart, axis=1).max())
        if distance > SAME_PLACE * np.linalg.norm(reference.affine[:3, :3], axis=0).min():
            found = f"a grid up to {distance:.3g} mm away from that of the image {image.name}"
            yield Problem(
                str(path), "affine", found, "image and label lie on one grid; resample the label to the image"
            )


def _check_key(description: Description, cache: Cache, paths: Sequence[Path]) -> str:
    values = sorted(value for structure in description.structures() for value in structure.values)
    suffixes = [path.suffix for path in paths]
    digests = [cache.sha256(path) for path in paths]
    said = [_VERSION, description.task, values, sorted(description.ignore_values), suffixes, digests]
    named = "".join(labels_key(path, description.structure_values()) for path in paths[1:])
    return sha256_text(json.dumps(said) + named)


def _place(case: Case, column: str) -> str:
    return f"line {case.line} (id {case.id!r}), column {column}"
