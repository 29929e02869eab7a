"""From raw importance to weights in [0, 1]: clip, range, granularity. Each step a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from perdure.errors import MethodError, check_choice
from perdure.types import Granularity

if TYPE_CHECKING:
    from torch import Tensor

    from perdure.types import ParamDict

Outliers: TypeAlias = Literal["clip", "keep"]
Range: TypeAlias = Literal["unit", "raw"]
Scope: TypeAlias = Literal["network", "layer"]

QUARTILES = (0.25, 0.75)
SMALLEST_LAYER = 4
"""A layer of fewer values has no quartiles of its own: it follows the whole network."""


def clip_outliers(omega: Mapping[str, Tensor], quantiles: tuple[float, float] = QUARTILES) -> ParamDict:
    r"""Sets outliers to the boundary of the interquartile range criterion.

    .. math:: \Omega \leftarrow \min(\max(\Omega, Q_1 - 1.5\,\mathrm{IQR}, 0), Q_3 + 1.5\,\mathrm{IQR})

    Source: Özgün et al. 2020, section 2.1. Quantiles interpolate linearly, and are exact for any number of values.

    Args:
        omega: raw importance, at least 0; the quartiles are those of all its values together.
        quantiles: what takes the place of the quartiles; the authors' code has (0.05, 0.95).
    """
    # numpy, because torch.quantile refuses more than 2**24 values and ResNet-50 has 25 million
    values = np.concatenate([value.detach().cpu().double().numpy().ravel() for value in omega.values()])
    first, third = np.quantile(values, quantiles)
    reach = 1.5 * (third - first)
    lower, upper = max(float(first - reach), 0.0), float(third + reach)
    return {name: value.clamp(lower, upper) for name, value in omega.items()}


def logarithm(omega: Mapping[str, Tensor]) -> ParamDict:
    """The natural logarithm of importance, as the authors' code takes it before it maps to [0, 1].

    Decided here: 0 (a weight that no sample reaches) becomes the logarithm of the smallest importance above 0, and so
    the least important; in the authors' code one such value turns every other into NaN.

    Source: the code published with Özgün et al. 2020; their paper has no logarithm.

    Args:
        omega: importance, at least 0.
    """
    least = min((float(value[value > 0].min()) for value in omega.values() if (value > 0).any()), default=1.0)
    return {name: value.clamp_min(least).log() for name, value in omega.items()}


def unit_range(omega: Mapping[str, Tensor]) -> ParamDict:
    r"""Maps importance to [0, 1].

    .. math:: \Omega \leftarrow \frac{\Omega - \min \Omega}{\max \Omega - \min \Omega}

    Source: Özgün et al. 2020, section 2.1.

    Open in the paper, decided here: where every value is the same nothing stands out, so all become 0 (nothing is
    protected).

    Args:
        omega: importance; the extremes are those of all its values together.
    """
    low = min(float(value.min()) for value in omega.values())
    high = max(float(value.max()) for value in omega.values())
    if high <= low:
        return {name: torch.zeros_like(value) for name, value in omega.items()}
    # float64, so that the largest becomes 1 on a GPU too, which multiplies by the reciprocal
    return {name: ((value.double() - low) / (high - low)).clamp(0, 1).to(value) for name, value in omega.items()}


def filter_axes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Where the output channel of each weight stands: parameter name to (axis, groups).

    Convolutions and linear layers have it on axis 0; transposed convolutions on axis 1, once for each group of their
    input channels. A parameter of another kind of layer has no entry and is never aggregated.
    """
    axes: dict[str, tuple[int, int]] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            place = (1, module.groups)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            place = (0, 1)
        else:
            continue
        # a weight that is computed from others (weight norm) is no parameter
        if (name := names.get(id(module.weight))) is not None:
            axes[name] = place
    return axes


def aggregate(omega: Mapping[str, Tensor], granularity: Granularity, axes: Mapping[str, tuple[int, int]]) -> ParamDict:
    """Averages importance over each kernel or filter.

    A kernel is the window of one (output, input) pair of channels; a filter is all weights of one output channel (of a
    linear layer: its row). Biases and affine parameters stay one value each.

    Source: Özgün et al. 2020, section 2.2.

    Open in the paper, decided here: averages are taken after clipping and scaling, so that they stay in [0, 1] and
    reach 1 only where every weight does.

    Args:
        omega: parameter name to importance.
        granularity: `parameter` (nothing is averaged), `kernel` or `filter`.
        axes: what `filter_axes` says of the model.

    Returns:
        Parameter name to a tensor that broadcasts to the parameter: averaged axes have length 1.
    """
    check_choice("granularity", granularity, Granularity)
    if granularity == "parameter":
        return dict(omega)
    return {n: _average(v, granularity, *axes[n]) if n in axes else v for n, v in omega.items()}


def _average(value: Tensor, granularity: Granularity, axis: int, groups: int) -> Tensor:
    window = list(range(2, value.ndim))
    if granularity == "kernel":
        return _mean(value, window) if window else value
    if axis == 0:
        return _mean(value, [1, *window])
    # transposed, (input, output / groups, *window): an output channel sees the inputs of its own group only
    grouped = _mean(value.unflatten(0, (groups, -1)), [1, *(d + 1 for d in window)])
    if groups == 1:
        return grouped.squeeze(0)
    return grouped.expand(-1, value.shape[0] // groups, *grouped.shape[2:]).flatten(0, 1)


def _mean(value: Tensor, axes: list[int]) -> Tensor:
    if all(value.shape[axis] == 1 for axis in axes):
        return value
    # float64, so that the mean of ones is 1
    return value.mean(dim=axes, keepdim=True, dtype=torch.float64).to(value)


@dataclass(frozen=True)
class Scaling:
    """How raw importance becomes weights.

    Args:
        outliers: `clip` sets outliers to the boundary of the interquartile range criterion; `keep` leaves them.
        range: `unit` maps to [0, 1]; `raw` leaves the scale (a Fisher information means something as it is).
        scope: whose quartiles and extremes: those of all parameters together (the paper is silent; our choice), or of
            each tensor. A tensor of fewer than 4 values, or of one constant, follows the network in either case.
        quantiles: in place of the quartiles, see `clip_outliers`.
        logarithmic: whether the logarithm is taken after clipping, see `logarithm`.
        averaged_first: raw importance is averaged to this level before anything else; the default averages last.
    """

    outliers: Outliers = "clip"
    range: Range = "unit"
    scope: Scope = "network"
    quantiles: tuple[float, float] = QUARTILES
    logarithmic: bool = False
    averaged_first: Granularity = "parameter"

    def __post_init__(self) -> None:
        check_choice("outliers", self.outliers, Outliers)
        check_choice("range", self.range, Range)
        check_choice("scope", self.scope, Scope)
        check_choice("averaged_first", self.averaged_first, Granularity)
        if not isinstance(self.logarithmic, bool):
            raise MethodError(f"`logarithmic` must be true or false; got {self.logarithmic!r}.")
        shares = [float(share) for share in self.quantiles]
        if len(shares) != 2 or not 0 <= shares[0] < shares[1] <= 1:
            raise MethodError(f"`quantiles` must be two rising shares in [0, 1]; got {self.quantiles}.")
        # 1 and 1.0 are one setting, and have one key
        object.__setattr__(self, "quantiles", (shares[0], shares[1]))

    def __call__(self, omega: Mapping[str, Tensor], axes: Mapping[str, tuple[int, int]] | None = None) -> ParamDict:
        """The scaled importance of each parameter.

        Args:
            omega: raw importance.
            axes: what `filter_axes` says of the model; needed where raw importance is averaged first.
        """
        omega = aggregate(omega, self.averaged_first, axes or {})
        scaled = self._together(omega)
        if self.scope == "layer":
            for name, value in omega.items():
                own = self._together({name: value})[name]
                if value.numel() >= SMALLEST_LAYER and own.max() > own.min():
                    scaled[name] = own
        return scaled

    def _together(self, omega: Mapping[str, Tensor]) -> ParamDict:
        scaled = clip_outliers(omega, self.quantiles) if self.outliers == "clip" else dict(omega)
        scaled = logarithm(scaled) if self.logarithmic else scaled
        return unit_range(scaled) if self.range == "unit" else scaled


AUTHORS = Scaling(quantiles=(0.05, 0.95), logarithmic=True)
"""What the code published with Özgün et al. 2020 does, where the paper has quartiles and no logarithm."""
