"""Which image each result is of, so that no result is taken for that of another image."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from perdure.errors import DataError, Problem
from perdure.evaluation.table import Table
from perdure.release.folder import sha256

SOURCES = "sources.csv"
_CHANGED = "it changed while it was being read: run the command again when all of it is there"


class Sources:
    """What the results in a folder are of, in `sources.csv`.

    The line of a result is added when all of it is there. A result without one was not finished, or a version made it
    that wrote none: nobody knows what it is of.

    Args:
        out: the folder of results.
        gone: results that are not there, of which the lines are dropped: what comes in their place has none yet.
        passed_over: files that are no part of the image that they lie beside.
    """

    def __init__(self, out: Path, gone: Iterable[str] = (), passed_over: Collection[Path] = ()) -> None:
        self._table = Table(out / SOURCES, ["result", "sha256"])
        self._table.drop(gone)
        self._passed_over = passed_over

    def __contains__(self, result: str) -> bool:
        """Whether it is known what a result is of."""
        return result in self._table.cases

    def digest(self, image: Path, result: str, called: str) -> str:
        """The digest of an image that a result is of, or will be.

        Args:
            image: the image.
            result: its result.
            called: how an error names the result.

        Raises:
            DataError: if the result is of another image, or the image cannot be read.
        """
        digest = content_digest(image, self._passed_over)
        if result in self and self._table.cases[result][0][1] != digest:
            wanted = "the image was changed, or another folder has one of that name; remove that result to have it "
            wanted += "predicted again, or name another --out"
            raise DataError([Problem(str(image), "content", f"another image than {called} is of", wanted)])
        return digest

    def check_unchanged(self, image: Path, digest: str) -> None:
        """Passes if an image still is what it was.

        Raises:
            DataError: if not.
        """
        if content_digest(image, self._passed_over) != digest:
            raise DataError([Problem(str(image), "content", "other bytes than a moment ago", _CHANGED)])

    def add(self, result: str, digest: str) -> None:
        """Says what a result is of, unless that is known."""
        if result not in self:
            self._table.add([[result, digest]])


def content_digest(image: Path, passed_over: Collection[Path] = ()) -> str:
    """SHA-256 of what an image consists of, in hexadecimal; neither names nor places of files count.

    Of several files, as a series has them: of the SHA-256 in hexadecimal of each, in order and joined by spaces.

    Args:
        image: a file, a folder with a series, or a list of its files.
        passed_over: files in the folder that are no part of it.

    Raises:
        DataError: if it cannot be read.
    """
    from perdure.data.cache import sha256_text
    from perdure.data.dicom.series import series_files

    try:
        digests = sorted(sha256(file) for file in series_files(image) if file not in passed_over)
    except OSError as error:
        # without the name of the file: that of a listed one may be that of a patient
        wanted = "mend its permissions, or put the file there"
        found = f"what cannot be read ({error.strerror})"
        raise DataError([Problem(str(image), "content", found, wanted)]) from error
    return digests[0] if len(digests) == 1 else sha256_text(" ".join(digests))
