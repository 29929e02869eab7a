"""Quadratic penalties: the surrogate loss of MAS, EWC's term, L2-SP."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from perdure.errors import MethodError, check_choice
from perdure.regularization.base import Past, Regularizer
from perdure.regularization.quadratic import Quadratic, cost
from perdure.regularization.steps import bounded_steps, check_rate, pulled_steps, split_by_training

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

Strength: TypeAlias = float | str
Norm: TypeAlias = Literal["parameters", "half", "none"]
Anchors: TypeAlias = Literal["latest", "each"]
Step: TypeAlias = Literal["proximal", "explicit"]

AS_MEASURED = {"outliers": "keep", "range": "raw", "logarithmic": False, "averaged_first": "parameter"}
"""The scaling under which a Fisher information is still one."""


@dataclass(frozen=True)
class SurrogateLoss(Regularizer):
    r"""Pulls each parameter back to where it was, the harder the more important it is.

    .. math:: L(\theta) = L_d(\theta) + s \sum_i \Omega_i\,(\theta_i - \theta_i^*)^2, \qquad
              s = \frac{\lambda}{P} \text{ (MAS)} \quad\text{or}\quad \frac{\lambda}{2} \text{ (EWC)}

    P is the number of parameters that carry importance.

    With `strength="auto"` λ is found instead of set. To second order, with Ω the diagonal of the Fisher information,
    the loss on the earlier domains rises by

    .. math:: V(\theta) = \tfrac{1}{2} \sum_i \Omega_i\,(\theta_i - \theta_i^*)^2

    and after each step the parameters go to the nearest point where V is at most `allowed`; where it is so already,
    nothing is done. That is a prediction, not a bound on the true loss: terms off the diagonal, those of higher order
    and batch-norm statistics are not in it.

    Source: Özgün et al. 2020, Eq. 2 and section 2.1; Kirkpatrick et al. 2017; Gupta et al. 2020, section 2.3.

    Open in the papers, decided here: where several domains each have an anchor of their own, their quadratics are
    merged into the one that equals their sum, so that any number of domains costs the time and memory of one.

    Args:
        strength: λ, at least 0, or `auto`.
        norm: `parameters` divides by P, `half` by 2, `none` by nothing; `auto` always has the half.
        anchors: `latest` keeps the mean importance around the newest anchor; `each` keeps every domain's quadratic
            around its own.
        step: `proximal` applies the penalty after each step of the optimizer by its implicit (backward Euler) solution
            θ ← (θ + aθ*) / (1 + a) with a = 2 s Ω r, which no strength can make diverge. r is the rate that the
            optimizer gives the parameter: lr / (1 - momentum) under SGD, lr / (√v + ε) under Adam and AdamW, see
            `steps.rate_of`, so that training comes to rest where the gradient of L above is 0 under each of them; an
            optimizer whose rate is not known is refused. `explicit` adds the penalty's gradient to the loss's, as the
            papers do; Adam then normalises both together.
        allowed: with `auto`, by how much the loss on the earlier domains may rise: in nats a sample of their
            log-likelihood (a segmentation's is the sum over its pixels). With `latest` it is their mean since the
            newest anchor; with `each` the sum over them since each was learnt.
    """

    name = "surrogate-loss"

    strength: Strength
    norm: Norm = "parameters"
    anchors: Anchors = "latest"
    step: Step = "proximal"
    allowed: float | Literal["inf"] | None = None

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, Norm)
        check_choice("anchors", self.anchors, Anchors)
        check_choice("step", self.step, Step)
        if self.strength == "auto":
            # settings write infinity as a word, because JSON has no such number
            object.__setattr__(self, "allowed", math.inf if self.allowed == "inf" else self.allowed)
            if self.allowed is None or isinstance(self.allowed, str) or not self.allowed >= 0:
                raise MethodError(
                    'strength="auto" needs `allowed`, by how much the loss on the earlier domains may rise: a number '
                    f"of at least 0, in nats a sample; got {self.allowed!r}."
                )
            if self.step == "explicit":
                raise MethodError('strength="auto" acts after the optimizer\'s step, which step="explicit" does not.')
            return
        # a file may hold any word
        if isinstance(self.strength, str) or not 0 <= self.strength < math.inf:
            raise MethodError(f'`strength` must be a number of at least 0, or "auto"; got {self.strength!r}.')
        if self.allowed is not None:
            raise MethodError(f'`allowed` is for strength="auto"; leave it out with strength {self.strength:g}.')

    @property
    def _allowed(self) -> float:
        return math.nan if self.allowed is None else float(self.allowed)

    def settings(self) -> dict[str, Any]:  # noqa: D102
        plain = super().settings()
        return {**plain, "allowed": "inf"} if self.allowed == math.inf else plain

    def penalty(  # noqa: D102
        self, model: nn.Module, past: Past, inputs: Tensor | None = None, output: Tensor | None = None
    ) -> Tensor:
        nothing = super().penalty(model, past)
        if self.step == "proximal":
            return nothing
        quadratic = self._quadratic(past)
        terms = [(quadratic.bend[name] * d.square()).sum() for name, d in quadratic.distances(model).items()]
        return self.scale(past) * (sum(terms, nothing) + self._offset(past))

    @torch.no_grad()
    def value(self, model: nn.Module, past: Past) -> float:
        """S of the equation times the sum, whatever the step; with `auto` the predicted rise V of the old loss."""
        quadratic = self._quadratic(past)
        return self.scale(past) * (
            2 * cost(quadratic.distances(model, torch.float64), quadratic.bend) + self._offset(past)
        )

    def scale(self, past: Past) -> float:
        """S of the equation."""
        if isinstance(self.strength, str):
            return 0.5
        if self.norm != "parameters":
            return self.strength / (2 if self.norm == "half" else 1)
        return self.strength / max(1, sum(past.anchor[name].numel() for name in self._quadratic(past).bend))

    def check(self, model: nn.Module, optimizer: Optimizer, past: Past) -> None:
        r"""Passes if the form can be applied, and an explicit step can be stable.

        Under SGD with momentum m the penalty alone diverges unless :math:`lr\,h < 2 (1 + m)`; with Nesterov's unless
        :math:`lr\,h < 2 (1 + m) / (1 + 2 m)`. h is 2 s times the largest importance. Adam divides by the size of the
        gradient, and cannot diverge in this way.

        Raises:
            MethodError: if not, with the numbers and what helps.
        """
        if self.anchors == "each" and past.weights and not past.curvature:
            raise MethodError(
                'anchors="each" adds up what the domains measured, and this importance is no sum over them '
                f'({past.measured.get("accumulation")}). Use accumulation "mean" or "sum", or anchors="latest".'
            )
        if self.strength == "auto":
            _check_is_a_loss(past, self._quadratic(past))
            self._check_budget(model, past)
        elif self.step == "proximal":
            check_rate(optimizer)
        else:
            self._check_rates(optimizer, self._largest_rates(model, optimizer, past))

    @contextmanager
    def constrain(self, model: nn.Module, optimizer: Optimizer, past: Past) -> Iterator[None]:  # noqa: D102
        self.check(model, optimizer, past)
        quadratic = self._quadratic(past)
        if self.strength == "auto":
            held = bounded_steps(model, optimizer, quadratic, self._allowed - 0.5 * self._offset(past), past.report)
        elif self.step == "proximal":
            held = pulled_steps(model, optimizer, quadratic, 2 * self.scale(past))
        else:
            held = self._stable_steps(model, optimizer, past)
        with held:
            yield

    @contextmanager
    def _stable_steps(self, model: nn.Module, optimizer: Optimizer, past: Past) -> Iterator[None]:
        """Looks at the rates before each step: a schedule may raise them."""
        largest = self._largest_rates(model, optimizer, past)
        handle = optimizer.register_step_pre_hook(lambda *_: self._check_rates(optimizer, largest))
        try:
            yield
        finally:
            handle.remove()

    def _largest_rates(self, model: nn.Module, optimizer: Optimizer, past: Past) -> list[float]:
        """The learning rate of each group at which an explicit step is no longer stable."""
        if not isinstance(optimizer, torch.optim.SGD):
            return [math.inf] * len(optimizer.param_groups)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        bend, largest = self._quadratic(past).bend, []
        for group in optimizer.param_groups:
            held = [bend[names[id(p)]] for p in group["params"] if p.requires_grad and names.get(id(p)) in bend]
            h = 2 * self.scale(past) * max((float(omega.max()) for omega in held), default=0.0)
            momentum = group["momentum"]
            limit = 2 * (1 + momentum) / ((1 + 2 * momentum) if group["nesterov"] else (1 - group["dampening"]))
            largest.append(limit / h if h else math.inf)
        return largest

    def _check_rates(self, optimizer: Optimizer, largest: list[float]) -> None:
        for group, limit in zip(optimizer.param_groups, largest, strict=False):
            if group["lr"] >= limit:
                raise MethodError(
                    f"An explicit penalty of strength {self.strength:g} cannot be stable at a learning rate of "
                    f'{group["lr"]:g}: it has to be under {limit:.3g}. Use step="proximal", a strength under '
                    f"{float(self.strength) * limit / group['lr']:.3g}, or a lower learning rate."
                )

    def _check_budget(self, model: nn.Module, past: Past) -> None:
        quadratic = self._quadratic(past)
        _, held = split_by_training(model, quadratic.distances(model, torch.float64))
        spent = 0.5 * self._offset(past) + cost(held, quadratic.bend)
        if spent > self._allowed:
            raise MethodError(
                f"Of the loss on the earlier domains, earlier updates spent {spent:.4g} nats a sample already, and "
                f'`allowed` is {self._allowed:g}. Allow more, or count from the newest release: anchors="latest".'
            )

    def _quadratic(self, past: Past) -> Quadratic:
        if self.anchors == "each":
            return Quadratic(past.curvature, past.anchor, past.centre)
        return Quadratic(past.weights, past.anchor, {})

    def _offset(self, past: Past) -> float:
        return past.offset if self.anchors == "each" else 0.0


def strength_said(report: Mapping[str, float | None]) -> str:
    """What `strength="auto"` found, in words.

    Args:
        report: see `Past.report`; None where a number is not finite.
    """
    steps, shortened, found = report["steps"], report["shortened_steps"], report["strength"]
    if not shortened:
        return f"auto: the loss that is allowed was not reached in {steps:.0f} steps, so nothing was held back"
    strength = "without bound" if found is None else f"{found:.4g}"
    return f"auto: λ {strength} in the last of {shortened:.0f} steps that were shortened, of {steps:.0f}"


def _check_is_a_loss(past: Past, quadratic: Quadratic) -> None:
    scaling = past.measured.get("scaling", {})
    changed = [key for key, value in AS_MEASURED.items() if scaling.get(key, value) != value]
    if any(omega.shape != past.anchor[name].shape for name, omega in quadratic.bend.items()):
        changed.append("granularity")
    measure = past.measured.get("measure")
    if measure != "fisher" or changed:
        raise MethodError(
            'strength="auto" predicts a loss, which only Fisher information just as it was measured can do; this is '
            f"{measure}{', with other ' if changed else ''}{' and '.join(changed)}. Use ewc, ewc-online or ewc-bn, or "
            "set a strength."
        )
