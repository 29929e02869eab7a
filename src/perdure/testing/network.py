"""What a network must do to be updated."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from perdure.importance import MAS
from perdure.models import check, evaluation_mode, training_mode
from perdure.testing.claims import Claims, differing, require
from perdure.types import Statistics

NETWORK: Claims[NetworkCase] = Claims("Network")
"""The claims that `check_network` checks."""

TOLERANCE = 1e-4


@dataclass(frozen=True)
class NetworkCase:
    """A network, and samples for it.

    Args:
        model: the network; never changed.
        inputs: `(samples, channels, *spatial)`, at least 2.
    """

    model: nn.Module
    inputs: Tensor

    def answers(self, model: nn.Module, inputs: Tensor | None = None) -> Tensor:
        """Its output in evaluation mode."""
        with evaluation_mode(model), torch.no_grad():
            output: Tensor = model(self.inputs if inputs is None else inputs)
        return output


def check_network(model: nn.Module, inputs: Tensor, without: Collection[str] = ()) -> None:
    """Checks all of `NETWORK` for a network.

    Args:
        model: any network; it is not changed.
        inputs: samples for it, at least 2.
        without: claims that do not hold of it by intent.

    Raises:
        AssertionError: naming the claim that does not hold, and what was seen.
    """
    NETWORK.check(NetworkCase(copy.deepcopy(model), inputs), type(model).__name__, without)


@NETWORK("it gives one tensor (batch, classes, *spatial), in training too")
def _output(case: NetworkCase) -> None:
    for mode in ("evaluation", "training"):
        model = copy.deepcopy(case.model)
        with training_mode(model, "target"), torch.no_grad():
            output = model.train(mode == "training")(case.inputs)
        require(isinstance(output, Tensor), f"in {mode} mode it gives a {type(output).__name__}")
        fits = output.ndim in (2, case.inputs.ndim) and len(output) == len(case.inputs)
        require(fits, f"in {mode} mode it gives {tuple(output.shape)} for {tuple(case.inputs.shape)}")


@NETWORK("in evaluation it changes no buffer and gives the same bits again")
def _evaluation(case: NetworkCase) -> None:
    model = copy.deepcopy(case.model)
    first = case.answers(model)
    require(torch.equal(first, case.answers(model)), "a second pass gives another output")


@NETWORK("in evaluation a sample's output does not depend on the others of its batch")
def _alone(case: NetworkCase) -> None:
    together = case.answers(copy.deepcopy(case.model))
    alone = torch.cat([case.answers(copy.deepcopy(case.model), x) for x in case.inputs.split(1)])
    deviation = float((alone - together).abs().max() / together.abs().max().clamp_min(1e-12))
    require(deviation <= TOLERANCE, f"alone it differs by {deviation:.2g} of the largest output")


@NETWORK("its importance can be measured, and is not 0 throughout")
def _measured(case: NetworkCase) -> None:
    omega = MAS("logits").estimate(copy.deepcopy(case.model), case.inputs.split(1))
    require(any(bool(value.any()) for value in omega.values()), "no parameter has any influence on the output")


@NETWORK("it can be copied, also after it was used")
def _copies(case: NetworkCase) -> None:
    model = copy.deepcopy(case.model)
    with evaluation_mode(model):
        model(case.inputs)
    try:
        twin = copy.deepcopy(model)
    except RuntimeError as error:
        raise AssertionError(f"copy.deepcopy says: {error}") from error
    require(torch.equal(case.answers(twin), case.answers(model)), "a copy gives another output")


@NETWORK("parameters and buffers are all there is to it: with those of another it answers as the other")
def _state(case: NetworkCase) -> None:
    other = copy.deepcopy(case.model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    expected = case.answers(other)
    model = copy.deepcopy(case.model)
    # used once, so that what it keeps from a first pass shows
    case.answers(model)
    model.load_state_dict(other.state_dict())
    require(not differing(model.state_dict(), other.state_dict()), "its state did not come back as it was given")
    require(torch.equal(case.answers(model), expected), "its output is another")


@NETWORK("its batch norm can follow every policy")
def _policies(case: NetworkCase) -> None:
    for policy in get_args(Statistics):
        check(case.model, policy)
