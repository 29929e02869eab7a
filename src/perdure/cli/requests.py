"""From options to the values that rooms take."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perdure.errors import ConfigurationError, UpdateError

if TYPE_CHECKING:
    from perdure.data import Dataset
    from perdure.models import NetworkSpec
    from perdure.types import Contract, Split
    from perdure.update import Recipe


def network_spec(name: str, arguments: Sequence[str] | None, **quicknat: Any) -> NetworkSpec:
    """The network that `--network`, `--network-arg` and QuickNAT's own options say.

    Raises:
        ConfigurationError: if an argument is not NAME=VALUE, or is said twice.
    """
    from perdure.models import NetworkSpec

    given = {key: value for key, value in quicknat.items() if value is not None}
    if given and name != "quicknat":
        options = ", ".join("--" + key.replace("_", "-") for key in given)
        raise ConfigurationError(f"{options}: only for --network quicknat; for {name} use --network-arg NAME=VALUE.")
    for argument in arguments or ():
        key, separator, value = argument.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigurationError(f"--network-arg {argument}: must be NAME=VALUE, for example channels=[8,16].")
        if key in given:
            raise ConfigurationError(f"--network-arg {argument}: {key} is {given[key]!r} already; say it once.")
        try:
            given[key] = json.loads(value)
        except json.JSONDecodeError:
            given[key] = value
    return NetworkSpec(factory=name, arguments=given)


def recipe_settings(**settings: Any) -> dict[str, Any]:
    """Those training settings that were given on the command line, checked.

    Raises:
        ConfigurationError: if a value is not allowed.
    """
    from pydantic import ValidationError

    from perdure.update import Recipe

    given = {key: value for key, value in settings.items() if value is not None}
    try:
        Recipe.model_validate(given)
    except ValidationError as error:
        problems = [f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}, got {e['input']}." for e in error.errors()]
        raise ConfigurationError("\n".join(problems)) from error
    return given


def splits_for(recipe: Recipe) -> tuple[Split, ...]:
    """The splits that training needs: without a validation loss nothing could stop it early."""
    return ("train",) if recipe.patience is None else ("train", "val")


def method_settings(**settings: Any) -> dict[str, Any]:
    """Those settings of a method that were given on the command line."""
    return {key: value for key, value in settings.items() if value is not None}


def first_contract(
    folder: Path,
    domain: str,
    cache: Path | None,
    progress: Callable[[int, int], None],
    *,
    size: int | None,
    spacing: float | None,
    view: Literal["coronal", "axial", "sagittal"],
    dims: Literal[2, 3],
    merge_sides: bool,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[Dataset, Contract]:
    """A data folder whose domain has been checked from end to end, and the contract of a first release on it.

    Raises:
        ConfigurationError: if a deviation is not positive.
        DataError: with everything that is wrong, before any training starts.
    """
    from perdure.data import Dataset

    if std and min(std) <= 0:
        raise ConfigurationError(f"--std {min(std):g}: must be above 0; intensities are divided by it.")
    dataset = Dataset.open(folder)
    contract = dataset.default_contract(
        domain,
        size=size,
        spacing=None if spacing is None else (spacing, spacing, spacing),
        view=view,
        spatial_dims=dims,
        merge_sides=merge_sides,
        required=("train",),
        cache=cache,
        progress=progress,
    )
    of_channels = {"mean": tuple(mean) if mean else None, "std": tuple(std) if std else None}
    intensity = contract.intensity.model_copy(update=of_channels)
    return dataset, contract.model_copy(update={"intensity": intensity})


def checked_dataset(
    folder: Path,
    domains: Sequence[str],
    contract: Contract,
    required: tuple[Split, ...],
    cache: Path | None,
    progress: Callable[[int, int], None],
) -> Dataset:
    """A data folder whose domains have been checked from end to end under a release's contract.

    Raises:
        DataError: with everything that is wrong, before any training starts.
    """
    from perdure.data import Dataset

    dataset = Dataset.open(folder)
    dataset.check(domains, contract=contract, required=required, cache=cache, progress=progress)
    return dataset


def check_device(device: str, devices: int = 1) -> None:
    """Whether this machine has what `--device` and `--devices` ask for.

    Raises:
        ConfigurationError: if not.
    """
    import torch

    if device == "cuda" and (found := torch.cuda.device_count()) < devices:
        raise ConfigurationError(
            f"--device cuda: {devices} card(s) asked for, found {found} (torch {torch.__version__}); use --device cpu."
        )


def check_free(out: Path) -> None:
    """Whether there is nothing yet where something is to be written once.

    Raises:
        UpdateError: if there is.
    """
    if out.exists():
        raise UpdateError(f"{out} exists, and nothing is overwritten. Choose another --out, or move it away.")
