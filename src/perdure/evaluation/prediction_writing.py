"""What is written of one image, so that it is either whole or not there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from perdure.errors import DataError, EvaluationError
from perdure.evaluation.prediction_layout import Output, Place, place_of
from perdure.evaluation.prediction_sources import SOURCES, Sources
from perdure.evaluation.segmented import Segmented, Segmenter, label_values
from perdure.evaluation.table import Table, in_table
from perdure.release.folder import being_replaced, replace_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perdure.data.dicom.writing import Origin
    from perdure.evaluation.prediction import Predictor
    from perdure.types import Contract

TABLE, VOLUMES = "predictions.csv", "volumes.csv"
Outcome: TypeAlias = Path | DataError | None
"""What became of an image: where its result is, why there is none, or that it was there before."""


class Segmentations:
    """Label maps, and what is asked for beside them.

    Args:
        segmenter: what segments.
        out: the folder of results.
        output: what is written.
        names: of all images, relative to the folder of images.
        origin: what a DICOM SEG says of its making.
        passed_over: files that are no part of the image that they lie beside.

    Raises:
        EvaluationError: if two images would have one result.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        out: Path,
        output: Output,
        names: Sequence[Path],
        origin: Origin,
        passed_over: Collection[Path] = (),
    ) -> None:
        self._segmenter, self._out, self._output, self._origin = segmenter, out, output, origin
        self._contract = segmenter.contract
        self._values = label_values(self._contract)
        self._labels = self._checked(names)
        self._passed_over = passed_over

    # tables are made when they are first needed: in a folder that does not say yet whose results it holds, they would
    # be strangers

    @cached_property
    def _sources(self) -> Sources:
        gone = [in_table(labels) for labels in self._labels.values() if not (self._out / labels).exists()]
        return Sources(self._out, gone, self._passed_over)

    @cached_property
    def _table(self) -> Table | None:
        """Volumes, without those of labels that are made anew, also where no others are asked for."""
        if not self._output.volumes and not (self._out / VOLUMES).exists():
            return None
        table = _volumes(self._out, self._contract)
        table.drop(in_table(name) for name, labels in self._labels.items() if in_table(labels) not in self._sources)
        return table

    def each(self, files: Sequence[Path], names: Sequence[Path]) -> Iterator[Outcome]:
        """Segments one image after the other; what cannot be read, or has no name that the format takes, has failed."""
        for file, name in zip(files, names, strict=True):
            try:
                yield self._segment(file, name)
            except DataError as error:
                yield error

    def _segment(self, file: Path, name: Path) -> Path | None:
        place = place_of(name, self._output, self._contract)
        labels, result = self._out / place.labels, in_table(place.labels)
        digest = self._sources.digest(file, result, str(labels))
        table = self._table
        is_measured = table is None or not self._output.volumes or in_table(name) in table.cases
        is_known = result in self._sources
        if is_known and is_measured and _is_there(self._out, place):
            return None
        found = self._segmenter.segmented(file, probabilities=place.probabilities is not None)
        if not is_known:
            self._remove_what_is_not_asked_for(name, place)
        self._write(file, found, place)
        try:
            self._sources.check_unchanged(file, digest)
        except DataError:
            labels.unlink()
            raise
        if table is not None and not is_measured:
            table.add(self._sizes(found, name))
        self._sources.add(result, digest)
        return labels

    def _remove_what_is_not_asked_for(self, name: Path, place: Place) -> None:
        """Of a result that is made anew: it would lie beside labels of another image, and count as made."""
        whole = place_of(name, replace(self._output, probabilities=True), self._contract)
        for path in set(whole.files) - set(place.files):
            if in_table(path) not in self._sources:  # or it is the label map of an image of such a name
                (self._out / path).unlink(missing_ok=True)

    def _checked(self, names: Sequence[Path]) -> dict[Path, Path]:
        """The label map of each image that has a name for one."""
        taken: dict[Path, Path] = {}
        labels: dict[Path, Path] = {}
        for name in names:
            try:
                place = place_of(name, self._output, self._contract)
            except DataError:
                continue  # said when it is that image's turn
            for path in place.files:
                if path in taken:
                    raise EvaluationError(
                        f"{taken[path]} and {name} would both give {path}; predict them into two folders, or name "
                        "those that you want by --match."
                    )
                taken[path] = name
            labels[name] = place.labels
        return labels

    def _write(self, file: Path, found: Segmented, place: Place) -> None:
        from perdure.data.dicom.writing import segmentation_file
        from perdure.data.writing import label_file, write_probabilities

        for path, content in place.beside.items():
            replace_file(self._out / path, content)
        if place.probabilities is not None:
            assert found.probability is not None
            maps = map(found.probability, range(self._contract.classes))
            with being_replaced(self._out / place.probabilities) as opened:
                write_probabilities(opened, file, maps, self._contract.classes, place.probabilities)
        if self._output.form == "dicom-seg":
            content = segmentation_file(file, found.classes, self._contract.structures, self._origin)
        else:
            content = label_file(file, self._values[found.classes], int(self._values.max()), place.labels)
        replace_file(self._out / place.labels, content)

    def _sizes(self, found: Segmented, name: Path) -> list[list[str]]:
        """How large each structure but background is."""
        counts = np.bincount(found.classes.ravel(), minlength=self._contract.classes)
        affine = found.header.affine
        volume = None if affine is None else abs(float(np.linalg.det(affine[:3, :3])))
        rows = []
        for structure, count in list(zip(self._contract.structures, counts.tolist(), strict=True))[1:]:
            size = [] if volume is None else [f"{count * volume:.3f}"]
            rows.append([in_table(name), structure.name, str(structure.values[0]), str(count), *size])
        return rows


def are_segmented(names: Sequence[Path], out: Path, output: Output, contract: Contract) -> bool:
    """Whether all that is asked for of these images is in the folder of results, and was finished.

    Raises:
        EvaluationError: if a table is no CSV.
    """
    places = [place_of(name, output, contract) for name in names]
    if not (out / SOURCES).exists() or not all(_is_there(out, place) for place in places):
        return False
    sources = Sources(out)
    if not all(in_table(place.labels) in sources for place in places):
        return False
    if not output.volumes:
        return True
    return (out / VOLUMES).exists() and {in_table(name) for name in names} <= _volumes(out, contract).cases.keys()


def _is_there(out: Path, place: Place) -> bool:
    return all((out / path).exists() for path in place.files)


def _volumes(out: Path, contract: Contract) -> Table:
    """The table of how large each structure but background is."""
    sizes = ("voxels", "mm3") if contract.is_volumetric else ("pixels",)
    return Table(out / VOLUMES, ["case", "structure", "value", *sizes], contract.classes - 1)


class Classifications:
    """One table for all images, to which a few rows are added at a time.

    Args:
        predictor: what classifies.
        out: the folder of results.
        names: of all images, relative to the folder of images.
        passed_over: files that are no part of the image that they lie beside.
    """

    def __init__(
        self, predictor: Predictor, out: Path, names: Sequence[Path], passed_over: Collection[Path] = ()
    ) -> None:
        self._predictor, self._out, self._passed_over = predictor, out, passed_over
        self._cases = [in_table(name) for name in names]
        self._classes = [structure.name for structure in predictor.contract.structures]

    @cached_property
    def _tables(self) -> tuple[Table, Sources]:
        """Rows, and what they are of: either both or none."""
        table = Table(self._out / TABLE, ["image", "class", *(f"probability_{name}" for name in self._classes)])
        gone = [case for case in self._cases if case not in table.cases]
        sources = Sources(self._out, gone, self._passed_over)
        table.drop(case for case in self._cases if case not in sources)
        return table, sources

    def each(self, files: Sequence[Path], names: Sequence[Path]) -> Iterator[Outcome]:
        """Classifies images, a few at once; what cannot be read or prepared has failed.

        Which go together is a matter of their places alone, so that a run that was stopped ends with the same numbers.
        """
        together = self._predictor.together
        for start in range(0, len(files), together):
            part = slice(start, start + together)
            yield from self._classify(files[part], [in_table(name) for name in names[part]])

    def _classify(self, files: Sequence[Path], cases: Sequence[str]) -> Iterator[Outcome]:
        table, sources = self._tables
        digests = [self._digest(file, case) for file, case in zip(files, cases, strict=True)]
        if all(isinstance(digest, DataError) or case in sources for digest, case in zip(digests, cases, strict=True)):
            yield from (digest if isinstance(digest, DataError) else None for digest in digests)
            return
        prepared = [self._prepared(file, digest) for file, digest in zip(files, digests, strict=True)]
        readable = [one for one in prepared if not isinstance(one, DataError)]
        found: Iterator[NDArray[np.float64]] = iter(self._predictor.probabilities(*readable) if readable else ())
        for case, digest, one in zip(cases, digests, prepared, strict=True):
            if isinstance(digest, DataError):
                yield digest
                continue
            if isinstance(one, DataError):
                yield one
                continue
            probability = next(found)
            if case in sources:
                yield None
                continue
            best = self._classes[int(probability.argmax())]
            table.add([[case, best, *(f"{value:.6f}" for value in probability)]])
            sources.add(case, digest)
            yield table.path

    def _digest(self, file: Path, case: str) -> str | DataError:
        table, sources = self._tables
        try:
            return sources.digest(file, case, f"its row in {table.path}")
        except DataError as error:
            return error

    def _prepared(self, file: Path, digest: str | DataError) -> NDArray[np.float32] | DataError:
        from perdure.data import prepare_image

        if isinstance(digest, DataError):
            return digest
        try:
            pixels = prepare_image(file, self._predictor.contract).pixels
            self._tables[1].check_unchanged(file, digest)
        except DataError as error:
            return error
        return pixels
