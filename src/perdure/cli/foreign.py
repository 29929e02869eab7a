"""Where the network of `perdure adopt` comes from: a factory and a file of weights, or another tool's model folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perdure.cli.requests import check_answer, named_values
from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import nn

    from perdure.data import Dataset
    from perdure.evidence.exchange.adoptable import Adoptable
    from perdure.models import NetworkSpec
    from perdure.types import Contract

CONTRACT = ("size", "spacing", "view", "dims", "merge_sides", "mean", "std")
NETWORK = ("weights", "network_arg", "filters", "kernel_size")
"""Options of a network that is named; a model folder says them itself."""


@dataclass(frozen=True)
class Chosen:
    """What is adopted, and on which data.

    Args:
        dataset: checked from end to end under the contract.
        contract: of the release.
        network: how to build it, or the network itself.
        weights: the file of its weights; None where the network has them.
        differences: what is done otherwise than by the tool that it comes from.
    """

    dataset: Dataset
    contract: Contract
    network: NetworkSpec | nn.Module
    weights: Path | None = None
    differences: tuple[str, ...] = ()


def check_source(context: typer.Context, sources: Mapping[str, object]) -> None:
    """Whether one source is named, and no option that belongs to another.

    Args:
        context: of the command.
        sources: `network`, `nnunet` and `bundle`, as they were given.

    Raises:
        ConfigurationError: if not.
    """
    named = [name for name, value in sources.items() if value is not None]
    if len(named) != 1:
        found = " and ".join(f"--{name}" for name in named) or "none"
        raise ConfigurationError(
            f"{found}: name one of --network (with --weights), --nnunet and --bundle to say what is adopted."
        )
    foreign = {"nnunet": ("fold", "stored"), "bundle": ("network_arg",)}
    own = foreign.get(named[0], NETWORK)
    others = {*NETWORK, *foreign["nnunet"], *(CONTRACT if named[0] == "nnunet" else ())} - set(own)
    if wrong := sorted(others & given(context, others).keys()):
        raise ConfigurationError(f"{_options(wrong)}: not with --{named[0]}, which says it, or has no such thing.")
    if named[0] == "network" and "weights" not in given(context, NETWORK):
        raise ConfigurationError("--weights: missing; --network says how the network is built, and needs them.")


def given(context: typer.Context, names: Sequence[str] | set[str]) -> dict[str, Any]:
    """The values of those options that were said, on the command line or in a configuration file."""
    return {name: context.params[name] for name in names if _is_said(context, name)}


def _is_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _options(names: Sequence[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)


def from_nnunet(
    folder: Path,
    data: Path,
    domain: str,
    cache: Path | None,
    progress: Callable[[int, int], None],
    *,
    fold: str | None,
    stored: str | None,
) -> Chosen:
    """What a trained model of nnU-Net gives.

    Raises:
        NetworkError: if it cannot be adopted.
        DataError: if the data do not fit to it.
    """
    from perdure.data import Dataset
    from perdure.evidence.exchange.nnunet import read_nnunet

    dataset = Dataset.open(data)
    found = read_nnunet(folder, dataset, domain, fold=fold, stored=stored)
    return _checked(found, dataset, domain, cache, progress)


def from_bundle(
    context: typer.Context,
    folder: Path,
    data: Path,
    domain: str,
    cache: Path | None,
    progress: Callable[[int, int], None],
) -> Chosen:
    """What a MONAI bundle gives; options of network and contract that were said take the place of what it says.

    Raises:
        NetworkError: if it cannot be adopted.
        DataError: if the data do not fit to it.
    """
    from perdure.data import Dataset
    from perdure.evidence.exchange.bundle_reading import read_bundle

    said = given(context, CONTRACT)
    if "dims" in said:
        said["spatial_dims"] = said.pop("dims")
    if "spacing" in said:
        said["spacing"] = (said["spacing"],) * 3
    dataset = Dataset.open(data)
    found = read_bundle(
        folder,
        dataset,
        domain,
        arguments=named_values("--network-arg", context.params["network_arg"], "channels=[8,16]", {}),
        options=said,
        trusted=context.params["trust"] or (),
        progress=progress,
        cache=cache,
    )
    return _checked(found, dataset, domain, cache, progress)


def _checked(
    found: Adoptable, dataset: Dataset, domain: str, cache: Path | None, progress: Callable[[int, int], None]
) -> Chosen:
    check_answer(found.network, found.contract)
    dataset.check([domain], contract=found.contract, required=("train",), cache=cache, progress=progress)
    return Chosen(dataset, found.contract, found.network, differences=found.differences)
