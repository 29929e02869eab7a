"""What does a classification network see in each case, right before it decides?"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import nn

from perdure.errors import EvaluationError
from perdure.evaluation.prediction import Predictor
from perdure.models import evaluation_mode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from perdure.data import FolderDomain
    from perdure.release import Release
    from perdure.types import Split

    Points: TypeAlias = NDArray[np.float64]

AT_ONCE = 32
"""Cases in one pass through the network."""


@dataclass(frozen=True, eq=False)
class Features:
    """What a release sees in the cases of some domains.

    Args:
        values: `(cases, features)`, the input of the last linear layer.
        domains: of each case.
        ids: of each case.
        classes: of each case its class index.
    """

    values: Points
    domains: tuple[str, ...]
    ids: tuple[str, ...]
    classes: tuple[int, ...]


def features(
    release: Release, domains: Sequence[FolderDomain], split: Split, *, device: str = "cpu", at_once: int = AT_ONCE
) -> Features:
    """The penultimate features of every case, in evaluation mode.

    Args:
        release: of a classification; where it keeps one batch norm a domain, each domain is seen with its own.
        domains: under its contract.
        split: whose cases.
        device: where the network runs.
        at_once: cases in one pass, at least 1.

    Raises:
        DataError: if a domain has no case in the split.
        EvaluationError: if the release is of a segmentation, or its network ends in no linear layer.
    """
    if release.contract.task != "classification":
        raise EvaluationError(
            f"Features are those of a classification; this release is of a {release.contract.task}, which has no layer "
            "with one row of features a case."
        )
    cases = [case for domain in domains for case in domain.cases(split)]
    parts: list[Points] = []
    for domain in domains:
        model = Predictor(release, device, domain.name).model
        with evaluation_mode(model), torch.inference_mode(), _input_of_head(model) as seen:
            for images, _ in domain.batches(split, at_once):
                model(images.to(device))
        parts += seen
    return Features(
        values=np.concatenate(parts),
        domains=tuple(case.domain for case in cases),
        ids=tuple(case.id for case in cases),
        classes=tuple(int(case.reference()) for case in cases),
    )


def principal_components(values: Points, count: int = 2) -> tuple[Points, Points]:
    r"""The first principal components of each case, and the share of the variance that each explains.

    .. math:: X - \bar X = U S V^\top, \qquad Z = (X - \bar X)\,V_{1 \dots k}, \qquad
              \text{share}_j = s_j^2 / \textstyle\sum_i s_i^2

    The sign of each column of V is such that its entry of largest magnitude is positive, so that a figure never turns
    over.

    Args:
        values: `(cases, features)`.
        count: how many components.

    Returns:
        `(cases, count)` and `(count,)`; both 0 beyond the rank.

    Raises:
        EvaluationError: if there are fewer cases or features than components.
    """
    if min(values.shape) < count:
        raise EvaluationError(f"{count} components need as many cases and features; found {values.shape}.")
    centred = values - values.mean(axis=0)
    _, scale, axes = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[range(len(axes)), largest])[:, None]
    variance = scale**2
    total = variance.sum()
    return centred @ axes[:count].T, variance[:count] / (total if total > 0 else 1.0)


def umap_coordinates(values: Points, seed: int = 0) -> Points:
    """UMAP of each case, `(cases, 2)`, with the settings of the package umap-learn; distances in it mean little.

    Raises:
        EvaluationError: if the package is not installed.
    """
    try:
        umap = importlib.import_module("umap")
    except ModuleNotFoundError as error:
        raise EvaluationError(
            "UMAP needs a package that is not installed: run `pip install umap-learn`, or take principal components."
        ) from error
    return np.asarray(umap.UMAP(n_components=2, random_state=seed).fit_transform(values), np.float64)


@contextmanager
def _input_of_head(model: nn.Module) -> Iterator[list[Points]]:
    """A list that what goes into the last linear layer is added to, `(cases, features)` a pass."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise EvaluationError(f"{type(model).__name__} has no linear layer, so there are no features before it.")
    seen: list[Points] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].ndim != 2:
            shape = tuple(inputs[0].shape)
            raise EvaluationError(f"The last linear layer takes inputs of shape {shape}; it must be (cases, features).")
        seen.append(inputs[0].double().cpu().numpy())

    hook = layers[-1].register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
