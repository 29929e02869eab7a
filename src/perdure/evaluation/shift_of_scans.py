"""New scans against what a release keeps of each domain that it has learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from perdure.errors import DataError, EvaluationError
from perdure.evaluation.prediction import Predictor
from perdure.evaluation.shift import LayerShift, dempster_p, distance, divergence, ks_distance, ks_p
from perdure.evaluation.shift_activations import standardised_activations
from perdure.evaluation.significance import holm
from perdure.models import evaluation_mode
from perdure.types import Value
from perdure.update.intensities import distribution

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from perdure.data.unlabelled import Scan
    from perdure.release import Release
    from perdure.release.identity import Seen
    from perdure.types import Contract

INTENSITIES = "intensities"
FOREGROUND = 0.001
"""Share of a slice that must be predicted to be a structure, or the slice is left out, as training does by labels."""


class Shift(Value):
    """How far new scans are from one domain that a release has learnt.

    Args:
        like: the domain.
        layers: each batch norm, in the order of the network; empty for a network without.
        intensities: of the input itself; None where the release keeps none of this domain.
        distance: the root of the mean square over layers; None without a layer.
        divergence: the mean over layers of `shift.divergence`; None without a layer.
        p: the smallest p of all layers and of the intensities after Holm's correction; None where layers are too few
            subjects' to be tested, because the test of intensities alone could not decide then.
    """

    like: str
    layers: tuple[LayerShift, ...]
    intensities: LayerShift | None
    distance: float | None
    divergence: float | None
    p: float | None


class Shifts(Value):
    """New scans against a release.

    Args:
        subjects: how many the scans are of.
        scans: how many scans could be read.
        unnamed: how many of the scans are of nobody knows whom, each counted as a subject of its own.
        refused: by file why it does not follow the contract.
        domains: of the release, the one that the scans are nearest to first; empty if no scan could be read.
    """

    subjects: int
    scans: int
    unnamed: int = 0
    refused: dict[str, str]
    domains: tuple[Shift, ...]


def shifts(
    release: Release,
    scans: Sequence[Scan],
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Shifts:
    """How far scans are from each domain of a release; their labels are not needed.

    A release with one batch norm for all domains is compared with the newest of them, whose statistics they are. One
    with a batch norm a domain, or with none at all, is compared with each.

    Args:
        release: with its contract, statistics and intensities.
        scans: without labels.
        device: where the network runs.
        progress: told how many of how many scans are read.

    Raises:
        EvaluationError: if there is no scan, or activations are not finite.
    """
    if not scans:
        raise EvaluationError("There is no scan to compare with; name a folder with images (--data).")
    subjects, refused = _read(release.contract, scans, progress)
    if not subjects:
        return Shifts(subjects=0, scans=0, refused=refused, domains=())
    found = []
    for seen in _compared(release):
        model = Predictor(release, device, seen.domain).model
        kept = _with_foreground(model, subjects, release.contract, device)
        found.append(_shift(model, kept, seen, release.contract, device))
    return Shifts(
        subjects=len(subjects),
        scans=len(scans) - len(refused),
        unnamed=sum(not scan.is_subject_known and str(scan.image) not in refused for scan in scans),
        refused=refused,
        domains=tuple(sorted(found, key=_nearness)),
    )


def _nearness(shift: Shift) -> tuple[float, float]:
    far = float("inf")
    return (
        far if shift.divergence is None else shift.divergence,
        far if shift.intensities is None else shift.intensities.distance,
    )


def _compared(release: Release) -> list[Seen]:
    domains, memory = release.identity.domains, release.memory
    return list(domains) if memory.norms or not memory.statistics else [domains[-1]]


def _read(
    contract: Contract, scans: Sequence[Scan], progress: Callable[[int, int], None]
) -> tuple[dict[str, list[Tensor]], dict[str, str]]:
    """By subject the samples of its scans, and by file why it does not follow the contract."""
    from perdure.data import prepare_image
    from perdure.data.unlabelled import network_samples

    subjects: dict[str, list[Tensor]] = {}
    refused = {}
    for done, scan in enumerate(scans, 1):
        try:
            prepared = prepare_image(scan.image, contract)
        except DataError as error:
            refused[str(scan.image)] = str(error)
        else:
            subjects.setdefault(scan.subject, []).extend(network_samples(prepared, contract))
        progress(done, len(scans))
    return subjects, refused


def _with_foreground(
    model: nn.Module, subjects: Mapping[str, list[Tensor]], contract: Contract, device: str
) -> dict[str, list[Tensor]]:
    """Without slices of volumes in which the network finds next to nothing; all of a subject where none is left."""
    if not contract.is_volumetric or contract.task != "segmentation" or contract.spatial_dims == 3:
        return dict(subjects)
    kept: dict[str, list[Tensor]] = {}
    with evaluation_mode(model), torch.inference_mode():
        for name, batches in subjects.items():
            parts = []
            for batch in batches:
                share = (model(batch.to(device)).argmax(dim=1) != 0).flatten(1).double().mean(dim=1)
                parts.append(batch[(share > FOREGROUND).cpu()])
            kept[name] = [part for part in parts if len(part)] or batches
    return kept


def _shift(
    model: nn.Module, subjects: Mapping[str, list[Tensor]], seen: Seen, contract: Contract, device: str
) -> Shift:
    before = max(1, seen.counts.subjects.get("train", 1))
    z = standardised_activations(model, subjects, device)
    layers = [LayerShift(layer=name, distance=distance(one), p=dempster_p(one, before)) for name, one in z.items()]
    intensities = None
    if seen.intensities is not None:
        d = ks_distance(np.asarray(seen.intensities), _distribution(subjects, contract))
        intensities = LayerShift(layer=INTENSITIES, distance=d, p=ks_p(d, len(subjects), before))
    family = {one.layer: one.p for one in (*layers, *([intensities] if intensities else []))}
    corrected = [p for p in holm(family).values() if p is not None]
    return Shift(
        like=seen.domain,
        layers=tuple(layers),
        intensities=intensities,
        distance=float(np.sqrt(np.mean([one.distance**2 for one in layers]))) if layers else None,
        divergence=float(np.mean([divergence(one) for one in z.values()])) if z else None,
        p=None if any(one.p is None for one in layers) else min(corrected, default=None),
    )


def _distribution(subjects: Mapping[str, list[Tensor]], contract: Contract) -> NDArray[np.float64]:
    """The mean over subjects of their intensities, each subject the mean of its samples."""
    rows = [torch.cat([distribution(part, contract) for part in parts]).mean(dim=0) for parts in subjects.values()]
    result: NDArray[np.float64] = torch.stack(rows).mean(dim=0).numpy()
    return result
