r"""One segmentation of a volume by several networks, each of which sees it cut in another plane.

.. math:: P_k = \sum_v \lambda_v \, p_v(m_v(k)), \qquad \hat k = \arg\max_k P_k

p_v(j) is the probability that the network of view v gives to its class j, m_v(k) the class of that network which
structure k is part of, and λ_v the weight of the view. From a sagittal slice left cannot be told from right, so the
network of that view has both sides of a structure as one class. Each side takes the whole probability of that class;
the other views decide which side it is.

Source: Roy et al. 2019 (QuickNAT). The weights, 0.4 axial, 0.4 coronal and 0.2 sagittal, and that a merged class counts
in full for each side, are those of the authors' code (ai-med/QuickNATv2: `SegmentVol.m`, `ReMapSagProbMap.m`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from perdure.data import VolumeGrid, prepare_image
from perdure.data.geometry import grid_for
from perdure.data.images import read_header
from perdure.data.preparation import contract_problems
from perdure.errors import DataError, EvaluationError
from perdure.evaluation.prediction import Predictor
from perdure.evaluation.segmented import Segmented
from perdure.types import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from perdure.data import Prepared
    from perdure.models import Engine
    from perdure.release import Release
    from perdure.types import Contract

View: TypeAlias = Literal["coronal", "axial", "sagittal"]

WEIGHTS: dict[View, float] = {"axial": 0.4, "coronal": 0.4, "sagittal": 0.2}


class ViewAggregation:
    """Releases that are ready to look at volumes together, one for each view.

    Args:
        releases: two or three, each for slices of another view. Their label sets are the same, but for structures that
            some of them have merged; the result has those of the release with the most.
        device: where they run.
        domain: where the images are from; for releases that keep one batch norm a domain.
        weights: of the views, above 0; those of the authors where left out. Their sum does not matter.
        precision: see `Predictor`.
        engine: see `Predictor`.

    Raises:
        EvaluationError: if the releases cannot look at one volume together, or a weight is of a view that none has.
    """

    def __init__(
        self,
        releases: Sequence[Release],
        device: str = "cpu",
        domain: str | None = None,
        weights: Mapping[View, float] | None = None,
        precision: Precision = "32-true",
        engine: Engine = "torch",
    ) -> None:
        self.weights = view_weights(releases, weights)
        finest = max(releases, key=lambda release: release.contract.classes)
        self.contract: Contract = finest.contract
        self._views = [
            (
                Predictor(release, device, domain, precision, engine),
                _classes_within(release, finest),
                self.weights[_view(release)],
            )
            # sums of float32 depend on their order, and views may be named in any
            for release in sorted(releases, key=_view)
        ]

    def segmented(self, file: Path, *, probabilities: bool = False) -> Segmented:
        """One volume, segmented; see `Segmenter`. Four bytes a class and voxel are held either way."""
        header = read_header(file)
        if problems := contract_problems(header, self.contract, file):
            raise DataError(problems)
        whole = grid_for(self.contract.model_copy(update={"view": None}), header.shape, header.affine)
        total = np.zeros((self.contract.classes, *whole.network_shape), np.float32)
        for predictor, classes, weight in self._views:
            image = prepare_image(file, predictor.contract)
            assert isinstance(image.grid, VolumeGrid)
            _add(image.grid.as_slices(total), predictor, image, classes, weight)
        # slab by slab: all at once would take another copy
        labels = np.stack([slab.argmax(axis=0).astype(np.uint8) for slab in np.moveaxis(total, 1, 0)])
        classes_found = whole.labels_to_original(labels)
        if not probabilities:
            return Segmented(classes_found, header)
        for slab in np.moveaxis(total, 1, 0):
            slab /= slab.sum(axis=0)
        return Segmented(classes_found, header, lambda index: whole.labels_to_original(total[index]))


def _add(
    slices: NDArray[np.float32], predictor: Predictor, image: Prepared, classes: Sequence[int], weight: float
) -> None:
    """Adds what one view says to the total `(classes, slices, H, W)`."""

    def take(where: slice, logits: Tensor) -> None:
        probability = logits.softmax(dim=1).mul_(weight).cpu().numpy()
        for index, own in enumerate(classes):
            slices[index, where] += probability[:, own]

    predictor.look(image.pixels, take)


def view_weights(releases: Sequence[Release], weights: Mapping[View, float] | None = None) -> dict[View, float]:
    """The weight of each release's view, after a look at whether the releases belong together.

    Raises:
        EvaluationError: if not, or if a weight is not above 0 or of a view that none of them has.
    """
    first = releases[0]
    found: list[View] = []
    for release in releases:
        contract = release.contract
        if contract.task != "segmentation" or contract.view is None:
            raise EvaluationError(
                f"Release {release.name!r} does not segment slices of volumes; several releases predict together only "
                "where each is for another view (--view) of the same volumes."
            )
        for what in ("orientation", "spacing"):
            if getattr(contract, what) != getattr(first.contract, what):
                raise EvaluationError(
                    f"Release {release.name!r} has the {what} {getattr(contract, what)}, {first.name!r} "
                    f"{getattr(first.contract, what)}; releases that predict together need one grid."
                )
        if contract.view in found:
            raise EvaluationError(
                f"Release {release.name!r} is for {contract.view} slices, and so is another; name one release a view."
            )
        found.append(contract.view)
    finest = max(releases, key=lambda release: release.contract.classes)
    for release in releases:
        _classes_within(release, finest)
    chosen = {**WEIGHTS, **(weights or {})}
    for view, weight in (weights or {}).items():
        if view not in found or not (np.isfinite(weight) and weight > 0):
            raise EvaluationError(
                f"Weight {weight:g} of view {view!r}: must be above 0, for one of {', '.join(found)}."
            )
    return {view: chosen[view] for view in found}


def _view(release: Release) -> View:
    assert release.contract.view is not None
    return release.contract.view


def _classes_within(release: Release, finest: Release) -> list[int]:
    """For each class of the finest label set, the class of a release that it is part of.

    Raises:
        EvaluationError: if the release's label set is not the finest one with some structures merged.
    """
    own = release.contract.structures
    fine = finest.contract.structures
    within: list[int] = []
    for structure in fine:
        index = next((i for i, one in enumerate(own) if set(structure.values) <= set(one.values)), None)
        if index is None:
            raise EvaluationError(
                f"Release {release.name!r} has no structure with the values {structure.values} of {structure.name!r} "
                f"in release {finest.name!r}; the label sets must be the same, but for merged structures."
            )
        within.append(index)
    for index, one in enumerate(own):
        values = {value for k, structure in enumerate(fine) if within[k] == index for value in structure.values}
        if values != set(one.values):
            raise EvaluationError(
                f"Structure {one.name!r} of release {release.name!r} has the values {one.values}; those of "
                f"{finest.name!r} make up only {tuple(sorted(values))} of it. The label sets must be the same, but for "
                "merged structures."
            )
    if within[0] != 0 or within.count(0) != 1:
        raise EvaluationError(
            f"Background is merged with a structure in release {release.name!r}; such label sets cannot be brought "
            "together."
        )
    return within
