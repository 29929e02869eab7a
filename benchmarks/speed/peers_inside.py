"""One peer at one piece of work, inside the peers' environment. Started by `peers.py`, which reads the last line."""

from __future__ import annotations

import copy
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from steps import plainly
from timing import clock, over, side_by_side
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from workloads import Workload, workload

from perdure.importance import MAS, Fisher

BATCHES = 3
"""Of every call that measures importance."""

Answer = tuple[Sequence[float], str]


class Request:
    """What is asked for.

    Args:
        form: of the suite.
        device: `cpu` or `cuda`.
    """

    def __init__(self, form: str, device: str) -> None:
        self.form, self.device = form, device

    @property
    def tiny(self) -> bool:
        """Whether sizes of nothing will do."""
        return self.form == "tiny"

    def ratios(self, works: Mapping[str, Callable[[], object]], repeats: int = 5) -> list[float]:
        """The first work over the second, in turns."""
        taken = side_by_side(works, 1 if self.tiny else repeats, clock(self.device))
        return over(*taken.values())

    def workload(self, network: str) -> Workload:
        """A network in evaluation mode, as importance is measured."""
        found = workload(network, self.device, tiny=self.tiny)
        found.model.eval()
        return found


def nngeometry(network: str, asked: Request) -> Answer:
    """Its diagonal Fisher with one label drawn for each sample, over ours of drawn labels."""
    from nngeometry.metrics import FIM_MonteCarlo
    from nngeometry.object import PMatDiag

    own = asked.workload(network)
    loader = DataLoader(_repeated(own), batch_size=len(own.inputs))
    variant = "segmentation_logits" if own.target.ndim > 1 else "classif_logits"

    def theirs() -> object:
        return FIM_MonteCarlo(own.model, loader, PMatDiag, variant=variant, device=asked.device)

    return asked.ratios({"theirs": theirs, "ours": _fisher(own, "sampled")}), ""


def backpack(network: str, asked: Request) -> Answer:
    """Its sum over samples of squared gradients, over ours with the labels of the data set."""
    from backpack import backpack as extended
    from backpack import extend
    from backpack.extensions import SumGradSquared

    own = asked.workload(network)
    ours = Fisher("dataset").estimate(own.model, [own.batch])
    # the converter replaces what writes in place; it fails on padding by a remainder, which QuickNAT does
    model = extend(copy.deepcopy(own.model), use_converter=network == "resnet50").eval()

    def theirs() -> None:
        for _ in range(BATCHES):
            model.zero_grad()
            with extended(SumGradSquared()):
                functional.cross_entropy(model(own.inputs), own.target, reduction="sum").backward()

    theirs()
    found = [getattr(p, "sum_grad_squared", torch.zeros_like(p)) / len(own.inputs) for p in model.parameters()]
    note = _deviation(found, list(ours.values()), list(ours))
    return asked.ratios({"theirs": theirs, "ours": _fisher(own, "dataset")}, 3), note


def _deviation(found: Sequence[Tensor], ours: Sequence[Tensor], names: Sequence[str]) -> str:
    """What is missing in the first of two measures, or how far they lie apart."""
    lost = [name for one, other, name in zip(found, ours, names, strict=True) if not one.any() and other.any()]
    if lost:
        return f"says nothing of {len(lost)} of {len(names)} tensors, without a word: {lost[0]} is the first"
    # the median, because a max pool that stands within rounding of a tie may fall either way
    apart = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, ours, strict=True)]
    return f"deviates from ours by {statistics.median(apart):.0e} of a tensor's largest value"


def curvlinops(network: str, asked: Request) -> Answer:
    """One random product with the empirical Fisher, of which its estimate of the diagonal takes many."""
    from curvlinops import EFLinearOperator, hutchinson_diag

    own = asked.workload(network)
    parameters = list(own.model.parameters())
    criterion = nn.CrossEntropyLoss(reduction="mean")
    operator = EFLinearOperator(
        own.model, criterion, parameters, [own.batch] * BATCHES, check_deterministic=False,
        num_data=BATCHES * len(own.inputs),
    )  # fmt: skip

    def theirs() -> object:
        return hutchinson_diag(operator, num_matvecs=1)

    note = "an estimate of the diagonal, unbiased, from one product; it needs many"
    return asked.ratios({"theirs": theirs, "ours": _fisher(own, "dataset")}, 3), note


def avalanche_importance(measure: str, network: str, asked: Request) -> Answer:
    """Its plugin with one sample a batch, over ours: with more, it squares the gradient of a mean."""
    note = _import_avalanche()
    own = asked.workload(network)
    plugin, strategy = _avalanche(measure, own)
    strategy.experience = SimpleNamespace(dataset=_repeated(own, tasks=True))

    def theirs() -> None:
        plugin.after_training_exp(strategy)

    ours = _fisher(own, "dataset") if measure == "ewc" else partial(MAS().estimate, own.model, [own.batch] * BATCHES)
    return asked.ratios({"theirs": theirs, "ours": ours}, 3), note


def avalanche_step(measure: str, domains: int, asked: Request) -> Answer:
    """A training step with its penalty over a plain one."""
    note = _import_avalanche()
    own = asked.workload("resnet50")
    own.model.train()
    other = Workload(copy.deepcopy(own.model), own.inputs, own.target)
    plugin, strategy = _avalanche(measure, own)
    strategy.clock.train_exp_counter = domains
    _remember(plugin, measure, own.model, domains)

    def theirs() -> None:
        strategy.optimizer.zero_grad()
        strategy.loss = functional.cross_entropy(own.model(own.inputs), own.target)
        plugin.before_backward(strategy)
        strategy.loss.backward()
        strategy.optimizer.step()

    with plainly(other) as plain:
        return asked.ratios({"theirs": theirs, "plain": plain.step}), note


def _import_avalanche() -> str:
    """Imports it, and says what that took."""
    try:
        import avalanche.training.plugins
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.startswith(("avalanche", "torchvision"))]:
            del sys.modules[name]
        # PyPI's torchvision for Linux is built for cards; beside a torch for processors its operators are missing
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float limit) -> Tensor")
        import avalanche.training.plugins  # noqa: F401

        return f"imports only once what PyPI's torchvision lacks here is declared ({error})"
    return ""


def _avalanche(measure: str, own: Workload) -> tuple[Any, SimpleNamespace]:
    from avalanche.training.plugins import EWCPlugin, MASPlugin

    plugin = EWCPlugin(ewc_lambda=1.0) if measure == "ewc" else MASPlugin()
    strategy = SimpleNamespace(
        model=own.model,
        optimizer=torch.optim.SGD(own.model.parameters(), lr=1e-7, momentum=0.95),
        device=own.inputs.device,
        train_mb_size=1,
        _criterion=functional.cross_entropy,
        clock=SimpleNamespace(train_exp_counter=0),
        loss=None,
    )
    return plugin, strategy


def _remember(plugin: Any, measure: str, model: nn.Module, domains: int) -> None:
    from avalanche.training.utils import copy_params_dict

    if measure == "mas":
        plugin.params, plugin.importance = copy_params_dict(model), copy_params_dict(model)
        return
    for domain in range(domains):
        plugin.saved_params[domain], plugin.importances[domain] = copy_params_dict(model), copy_params_dict(model)


def _repeated(own: Workload, *, tasks: bool = False) -> TensorDataset:
    inputs, target = own.inputs.repeat(BATCHES, 1, 1, 1), own.target.repeat(BATCHES, *[1] * (own.target.ndim - 1))
    more = [torch.zeros(len(inputs), dtype=torch.long)] if tasks else []
    return TensorDataset(inputs, target, *more)


def _fisher(own: Workload, labels: Any) -> Callable[[], object]:
    return lambda: Fisher(labels).estimate(own.model, [own.batch] * BATCHES)


def answer(key: str, asked: Request) -> Answer:
    """The figures of a key of `goals`."""
    part, name, *more = key.split("/")
    if part == "restraint":
        return avalanche_step(name.removeprefix("avalanche-"), int(more[0]), asked)
    if name.startswith("avalanche-"):
        return avalanche_importance(name.removeprefix("avalanche-"), more[0], asked)
    return {"nngeometry": nngeometry, "backpack": backpack, "curvlinops": curvlinops}[name](more[0], asked)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    found, said = answer(sys.argv[1], Request(sys.argv[2], sys.argv[3]))
    sys.stdout.write("\n" + json.dumps({"values": list(found), "note": said}) + "\n")
