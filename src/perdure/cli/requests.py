"""From options to the values that rooms take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perdure.errors import ConfigurationError, NetworkError, UpdateError

if TYPE_CHECKING:
    from torch import nn

    from perdure.data import Dataset, FolderDomain, JointDomain
    from perdure.methods import Method
    from perdure.models import NetworkSpec
    from perdure.release import Release
    from perdure.types import Contract, Domain, Split
    from perdure.update import Recipe

REPLAY_CASES = 4
"""Train cases of each earlier domain that replay uses; our choice."""


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
    return NetworkSpec(factory=name, arguments=named_values("--network-arg", arguments, "channels=[8,16]", given))


def named_values(
    option: str, arguments: Sequence[str] | None, example: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The values that NAME=VALUE arguments add to those given otherwise; VALUE is JSON, else text.

    Raises:
        ConfigurationError: if an argument is not NAME=VALUE, or is said twice.
    """
    values = dict(given)
    for argument in arguments or ():
        key, separator, value = argument.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigurationError(f"{option} {argument}: must be NAME=VALUE, for example {example}.")
        if key in values:
            raise ConfigurationError(f"{option} {argument}: {key} is {values[key]!r} already; say it once.")
        try:
            values[key] = json.loads(value)
        except (ValueError, RecursionError):
            values[key] = value
    return values


def view_weights_said(words: Sequence[str] | None) -> dict[Any, float]:
    """The weights of views that `--view-weight` says.

    Raises:
        ConfigurationError: if one is not VIEW=WEIGHT, or is said twice.
    """
    weights = named_values("--view-weight", words, "sagittal=0.2", {})
    for view, weight in weights.items():
        if view not in ("coronal", "axial", "sagittal") or not isinstance(weight, int | float):
            raise ConfigurationError(
                f"--view-weight {view}={weight}: must be coronal, axial or sagittal, and a number, as in sagittal=0.2."
            )
    return weights


def recipe_settings(**settings: Any) -> dict[str, Any]:
    """Those training settings that were given on the command line, checked.

    Raises:
        ConfigurationError: if a value is not allowed.
    """
    from pydantic import ValidationError

    from perdure.update import Recipe

    given = {key: value for key, value in settings.items() if value is not None}
    try:
        recipe = Recipe.model_validate(given)
    except ValidationError as error:
        problems = [f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}, got {e['input']}." for e in error.errors()]
        raise ConfigurationError("\n".join(problems)) from error
    return {key: getattr(recipe, key) for key in given}


def splits_for(recipe: Recipe) -> tuple[Split, ...]:
    """The splits that training needs: without a validation loss nothing could stop it early."""
    return ("train",) if recipe.patience is None else ("train", "val")


def method_settings(arguments: Sequence[str] | None = None, **settings: Any) -> dict[str, Any]:
    """Those settings of a method that were given on the command line.

    Raises:
        ConfigurationError: if an argument of `--set` is not NAME=VALUE, or is said twice.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    return named_values("--set", arguments, "strength=1e4", given)


def measures_said(words: Sequence[str] | None) -> dict[str, Any]:
    """The measures that `--measure` says, as an argument of `train` and `adopt`; empty for their default.

    Raises:
        ConfigurationError: if one is said twice.
        MethodError: if there is no such measure or setting.
    """
    if not words:
        return {}
    from perdure.methods import measure_named

    measures = tuple(measure_named(one) for one in words)
    for place, measure in enumerate(measures):
        if measure.key in [other.key for other in measures[:place]]:
            raise ConfigurationError(f"--measure {words[place]}: this importance is measured already; say it once.")
    return {"measures": measures}


def trained_at(out: Path, retain: float | None, candidate: Path | None) -> Path:
    """Where an update itself is written: at `--out`, or with `--retain` at `--candidate`.

    Raises:
        ConfigurationError: if there is a candidate and no `--retain`.
        UpdateError: if there is something at `--out` already, which `--retain` writes at once.
    """
    if retain is None:
        if candidate is not None:
            raise ConfigurationError(f"--candidate {candidate}: only with --retain.")
        return out
    check_free(out)
    return candidate or out.with_name(f"{out.name}.candidate")


def interpolated(parent: Release, candidate: Release, retain: float, domain: Domain, out: Path) -> Release:
    """The release between a candidate and its parent, measured anew where all its measures can be."""
    from perdure.importance import MEASURES, measure_from
    from perdure.update import interpolated_release

    settings = [one.settings for one in candidate.memory.measures.values()]
    anew = all(one.get("measure") in MEASURES and not measure_from(one).is_gathered for one in settings)
    return interpolated_release(parent, candidate, retain, domain=domain if anew else None, out=out)


def old_data(
    domains: Sequence[FolderDomain], method: Method, replay_cases: int | None, seed: int
) -> JointDomain | None:
    """What a method trains on that uses data of earlier domains: the new domain, which stands first, with them.

    Args:
        domains: the new one, and those of `--joint-with`.
        method: replay takes a few train cases of each earlier domain, all others everything.
        replay_cases: so many; the default if None.
        seed: draws them.

    Raises:
        DataError: if an earlier domain has no such cases.
    """
    from perdure.data import join

    new, *earlier = domains
    if not earlier:
        return None
    if method.data == "replay":
        earlier = [domain.limited(replay_cases or REPLAY_CASES, seed) for domain in earlier]
    return join([new, *earlier], new.name)


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
        mean=mean,
        std=std,
        required=("train",),
        cache=cache,
        progress=progress,
    )
    return dataset, contract


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


def check_network(
    spec: NetworkSpec, contract: Contract, weights: Path | None, trusted: Sequence[str], *, is_trained: bool
) -> None:
    """Whether a network takes a training sample and answers in the classes of the contract; a quick try, nothing kept.

    Args:
        spec: which network.
        contract: of a first release.
        weights: the file of weights that it will start from.
        trusted: modules that may be imported to build it.
        is_trained: whether the weights must fit to the last layer.

    Raises:
        NetworkError: if it cannot be built, the weights do not fit, or input or output do not.
    """
    from perdure.models import build, load_weights

    model = build(
        spec, channels=contract.channels, classes=contract.classes, spatial_dims=contract.spatial_dims, trusted=trusted
    )
    if weights is not None:
        load_weights(model, weights, replace_head=not is_trained)
    check_answer(model, contract)


def check_answer(model: nn.Module, contract: Contract) -> None:
    """Whether a network takes a training sample and answers in the classes of the contract.

    Raises:
        NetworkError: if not.
    """
    import torch

    from perdure.models import describe, evaluation_mode
    from perdure.update.shortage import is_shortage

    spec = describe(model)
    name = type(model).__name__ if spec is None else spec.factory
    size, classes = contract.size, contract.classes
    try:
        with evaluation_mode(model), torch.no_grad():
            output = model(torch.zeros(1, contract.channels, *size))
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        if is_shortage(error):
            raise
        found = f"{contract.channels} channel(s) of {' x '.join(map(str, size))} pixels"
        raise NetworkError(
            f"Network '{name}' does not take a training sample, {found}: {error}. "
            "Networks that halve their input n times need a --size that 2 to the n divides."
        ) from error
    expected = (1, classes, *size) if contract.task == "segmentation" else (1, classes)
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != expected:
        raise NetworkError(
            f"Network '{name}' answers a training sample with {shape}; for {contract.task} it must be "
            f"{expected}: one image, the classes, and for a segmentation the size of the input."
        )


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
