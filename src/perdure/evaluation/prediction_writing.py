"""What is written of one image, so that it is either whole or not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from perdure.errors import DataError, EvaluationError
from perdure.evaluation.prediction_layout import Output, Place, place_of
from perdure.evaluation.segmented import Segmented, Segmenter, label_values
from perdure.evaluation.table import Table
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

    Raises:
        EvaluationError: if two images would have one result.
    """

    def __init__(self, segmenter: Segmenter, out: Path, output: Output, names: Sequence[Path], origin: Origin) -> None:
        self._segmenter, self._out, self._output, self._origin = segmenter, out, output, origin
        self._contract = segmenter.contract
        self._values = label_values(self._contract)
        self._check_names(names)

    @cached_property
    def _table(self) -> Table | None:
        # made when it is first needed: in a folder that does not say yet whose results it holds, it would be a stranger
        return _volumes(self._out, self._contract) if self._output.volumes else None

    def each(self, files: Sequence[Path], names: Sequence[Path]) -> Iterator[Outcome]:
        """Segments one image after the other; what cannot be read, or has no name that the format takes, has failed."""
        for file, name in zip(files, names, strict=True):
            try:
                yield self._segment(file, name)
            except DataError as error:
                yield error

    def _segment(self, file: Path, name: Path) -> Path | None:
        place = place_of(name, self._output, self._contract)
        is_measured = self._table is None or name.as_posix() in self._table.done
        if is_measured and _is_there(self._out, place):
            return None
        found = self._segmenter.segmented(file, probabilities=place.probabilities is not None)
        self._write(file, found, place)
        if self._table is not None and not is_measured:
            self._table.add(self._sizes(found, name))
        return self._out / place.labels

    def _check_names(self, names: Sequence[Path]) -> None:
        taken: dict[Path, Path] = {}
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
            rows.append([name.as_posix(), structure.name, str(structure.values[0]), str(count), *size])
        return rows


def are_segmented(names: Sequence[Path], out: Path, output: Output, contract: Contract) -> bool:
    """Whether all that is asked for of these images is in the folder of results.

    Raises:
        EvaluationError: if the table of volumes is no CSV.
    """
    if not all(_is_there(out, place_of(name, output, contract)) for name in names):
        return False
    if not output.volumes:
        return True
    return (out / VOLUMES).exists() and {name.as_posix() for name in names} <= _volumes(out, contract).done


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
    """

    def __init__(self, predictor: Predictor, out: Path) -> None:
        self._predictor, self._out = predictor, out
        self._names = [structure.name for structure in predictor.contract.structures]

    @cached_property
    def _table(self) -> Table:
        return Table(self._out / TABLE, ["image", "class", *(f"probability_{name}" for name in self._names)])

    def each(self, files: Sequence[Path], names: Sequence[Path]) -> Iterator[Outcome]:
        """Classifies images, a few at once; what cannot be read or prepared has failed.

        Which go together is a matter of their places alone, so that a run that was stopped ends with the same numbers.
        """
        together = self._predictor.together
        for start in range(0, len(files), together):
            part = slice(start, start + together)
            yield from self._classify(files[part], [name.as_posix() for name in names[part]])

    def _classify(self, files: Sequence[Path], names: Sequence[str]) -> Iterator[Outcome]:
        before = [name in self._table.done for name in names]
        if all(before):
            yield from [None] * len(files)
            return
        prepared = [self._prepared(file) for file in files]
        readable = [one for one in prepared if not isinstance(one, DataError)]
        found: Iterator[NDArray[np.float64]] = iter(self._predictor.probabilities(*readable) if readable else ())
        for name, was_there, one in zip(names, before, prepared, strict=True):
            if isinstance(one, DataError):
                yield None if was_there else one
                continue
            probability = next(found)
            if was_there:
                yield None
                continue
            best = self._names[int(probability.argmax())]
            self._table.add([[name, best, *(f"{value:.6f}" for value in probability)]])
            yield self._table.path

    def _prepared(self, file: Path) -> NDArray[np.float32] | DataError:
        from perdure.data import prepare_image

        try:
            return prepare_image(file, self._predictor.contract).pixels
        except DataError as error:
            return error
