"""Training as one would first write it: a plain loop, and a restrained one that takes every step on a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reference.networks import samples, target_for

OPTIMIZERS: dict[str, Callable[[object], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd, momentum, decay": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5),
    "adamw, amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}


def train(
    model: nn.Module, optimizer: Optimizer, seed: int, steps: int = 4, before_step: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """A stranger's loop: two batches a step are accumulated, gradients clipped, the learning rate halved each step.

    Yields after every step. Says nothing about modes: that is up to whoever calls it.
    """
    torch.manual_seed(seed)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for step in range(steps):
        optimizer.zero_grad()
        for part in range(2):
            x = samples(4, seed + 10 * step + part)
            nn.functional.cross_entropy(model(x), target_for(model, x, seed + step)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        before_step()
        optimizer.step()
        schedule.step()
        yield


def scaled_step(model: nn.Module, optimizer: Optimizer, importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where the parameters ought to stand after the step that the optimizer would take now, in float64.

    θ_old + (1 - Ω) (θ_new - θ_old), with θ_new from a step on copies.
    """
    gradients = [p.grad for p in model.parameters()]
    # neither gradients nor hooks go with a copy
    model, optimizer = copy.deepcopy((model, optimizer))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    old = {name: p.detach().double() for name, p in model.named_parameters()}
    optimizer.step()
    new = {name: p.detach().double() for name, p in model.named_parameters()}
    return {name: old[name] + (1 - importance[name].double()) * (new[name] - old[name]) for name in old}
