"""Which file a cell of a manifest means, and whether it may be read.

A data folder that was made by `perdure import` holds no images: `source` in its dataset.toml names the folder that
they are in, and cells are relative to that. Where the names of files could name a patient, a cell names a list instead,
`series/ID.files` in the data folder itself, which is JSON: an array of paths, relative to the source as well. Nothing
else leads out of a data folder, and nothing leads out of the source.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

from perdure.data.content import refusal
from perdure.data.manifest import file_in
from perdure.errors import DataError

LISTS, LIST_SUFFIX = "series", ".files"

_MOST_FILES = 100_000
_NEXT = "import the source again, or mend `source` in dataset.toml if it was moved"


def located(folder: Path, source: str | None, cell: str) -> Path | str:
    """The file, folder or list that a cell means, or why it may not be read.

    Args:
        folder: the data folder.
        source: what its dataset.toml says.
        cell: of the manifest.
    """
    if not cell.endswith(LIST_SUFFIX):
        return file_in(folder / (source or ""), cell)
    found = file_in(folder, cell)
    if isinstance(found, str):
        return found
    if found.parent != folder / LISTS:
        return f"lists of files lie in {LISTS}/"
    try:
        listed_files(found)
    except DataError as error:
        return "; ".join(f"{problem.found}; {problem.allowed}" for problem in error.problems)
    return found


def declared_source(folder: Path) -> str | None:
    """What dataset.toml says of the source; None where it says nothing or is not there.

    Raises:
        DataError: the file is no TOML, or says something else than a text.
    """
    path = folder / "dataset.toml"
    try:
        source = tomllib.loads(path.read_text(encoding="utf-8")).get("source")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise refusal(path, f"no readable TOML ({error})", "mend that line", "file") from error
    if source is not None and not isinstance(source, str):
        raise refusal(path, repr(source), "the folder that the images are in, as a text", "source")
    return source


def listed_files(path: Path) -> list[Path]:
    """The files that a list names, in its order.

    No error names one of them: their names may be those of patients.

    Raises:
        DataError: it is no list, its data folder names no source, or a file is not there or not in the source.
    """
    source = declared_source(path.parent.parent)
    if source is None:
        raise refusal(path, "a list without a source", f"it lies in {LISTS}/ of a data folder with `source`")
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise refusal(path, f"no readable list ({type(error).__name__})", _NEXT) from error
    if not isinstance(names, list) or not 1 <= len(names) <= _MOST_FILES:
        raise refusal(path, "no list", f"a JSON array of 1 to {_MOST_FILES:,} paths")
    files = []
    for number, name in enumerate(names, 1):
        file = file_in(path.parent.parent / source, name) if isinstance(name, str) else "a path is a text"
        if isinstance(file, str) or not file.is_file():
            reason = file if isinstance(file, str) else "a list names files"
            raise refusal(path, f"file {number} of {len(names)} that may not be read", f"{reason}; {_NEXT}")
        files.append(file)
    return files


def list_content(names: Sequence[str]) -> bytes:
    """What a list of these files holds; paths are relative to the source."""
    # a name that is no UTF-8 has surrogates in Python, and a backslash makes of one what JSON calls it
    return (json.dumps(list(names), ensure_ascii=False, indent=0) + "\n").encode(errors="backslashreplace")
