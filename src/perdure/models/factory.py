"""Builds a network from its spec."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue
from torch import nn

from perdure.errors import NetworkError
from perdure.models.bounded import bounded
from perdure.models.nnunet import PREFIX, nnunet_factory
from perdure.models.quicknat import QuickNAT
from perdure.models.resnet import resnet50
from perdure.models.spec import NetworkSpec

Factory: TypeAlias = "Callable[..., object]"

OWN: dict[str, Factory] = {"quicknat": QuickNAT, "resnet50": resnet50}

NAMES = {
    "channels": ("n_input_channels", "in_channels", "channels_in", "input_channels", "n_channels", "in_chans"),
    "classes": ("num_classes", "n_classes", "classes", "out_channels", "channels_out", "output_channels"),
    "spatial_dims": ("spatial_dims", "dimensions"),
}
"""What factories call the three numbers that the data decide; the first name that a factory has is filled in."""

# our choice: small enough for a CPU; three halvings, so sizes must be multiples of 8
UNET: dict[str, JsonValue] = {"channels": [16, 32, 64, 128], "strides": [2, 2, 2]}
DEFAULTS: dict[str, dict[str, JsonValue]] = {"UNet": UNET, "AttentionUnet": UNET}
"""Arguments of MONAI's networks that have no default there."""

_REFUSALS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What factories raise at arguments that they cannot take; most do not look at them first."""

_EXTERNAL = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)")


def networks() -> dict[str, str]:
    """What may stand for a network, with one line each."""
    return {
        "quicknat": "QuickNAT (Roy et al. 2019), 2-D segmentation; arguments filters, kernel_size, dropout",
        "resnet50": "ResNet-50 (He et al. 2016), 2-D classification; takes the usual ImageNet weights",
        "monai:NAME": "a network of monai.networks.nets, 2-D or 3-D, for example monai:UNet or monai:DenseNet121",
        "nnunet:NAME": "a network of nnU-Net v2, PlainConvUNet or ResidualEncoderUNet (`perdure adopt --nnunet`)",
        "package.module:factory": "your own network: a torch module class or a function that returns one",
    }


def build(
    spec: NetworkSpec,
    *,
    channels: int,
    classes: int,
    spatial_dims: int,
    trusted: Collection[str] = (),
    most: float = math.inf,
) -> nn.Module:
    """Builds a network. Nothing is downloaded, and no code outside `trusted` is imported.

    Args:
        spec: which network, with which arguments.
        channels: input channels of the data.
        classes: output channels.
        spatial_dims: 2 or 3.
        trusted: packages or modules whose code may run, for `package.module:factory`. They may also lie in the current
            directory.
        most: bytes of all tensors that building may make; a release that somebody sends must not fill the memory.

    Returns:
        The network, with `network_spec`, from which it can be built again.

    Raises:
        NetworkError: for an unknown or untrusted name, or arguments that do not fit.
    """
    factory = _find(spec.factory, trusted)
    spec = _completed(spec, factory, {"channels": channels, "classes": classes, "spatial_dims": spatial_dims})
    with _current_directory(), bounded(most):
        try:
            model = factory(**spec.arguments)
        except _REFUSALS as error:
            raise NetworkError(f"Network '{spec.factory}' refuses its arguments {spec.arguments}: {error}") from error
    if not isinstance(model, nn.Module):
        found = type(model).__name__
        raise NetworkError(f"Network '{spec.factory}': the factory returned {found}; it must return a torch module.")
    if not isinstance(getattr(model, "network_spec", None), NetworkSpec):
        model.network_spec = spec  # type: ignore[assignment]
    return model


def _find(name: str, trusted: Collection[str]) -> Factory:
    if name in OWN:
        return OWN[name]
    if name.startswith("monai:"):
        return _monai(name.removeprefix("monai:"))
    if name.startswith(PREFIX):
        return nnunet_factory(name.removeprefix(PREFIX))
    if found := _EXTERNAL.fullmatch(name):
        return _external(found["module"], found["name"], trusted)
    known = "\n".join(f"  {form}: {line}" for form, line in networks().items())
    raise NetworkError(f"There is no network '{name}'. Allowed are:\n{known}")


def _monai(name: str) -> Factory:
    from monai.networks import nets

    found = {key: value for key, value in vars(nets).items() if _made_class(value) is not None}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "See the documentation of monai.networks.nets."
        raise NetworkError(f"MONAI has no network '{name}'. {hint}")
    factory: Factory = found[name]
    return factory


def _made_class(value: object) -> type[nn.Module] | None:
    """The class of what a class or an annotated function makes; None if that is no network, or not said."""
    if inspect.isfunction(value):
        returned = value.__annotations__.get("return")
        value = getattr(inspect.getmodule(value), returned, None) if isinstance(returned, str) else returned
    return value if inspect.isclass(value) and issubclass(value, nn.Module) else None


def _external(module: str, name: str, trusted: Collection[str]) -> Factory:
    package = module.partition(".")[0]
    if not _is_trusted(module, trusted):
        raise NetworkError(
            f"Network '{module}:{name}' is code of the package '{package}', which runs only if you allow it: add "
            f'`--trust {package}`, or trusted=("{package}",) in Python. Do so only if you trust its authors.'
        )
    with _current_directory():
        try:
            found: object = importlib.import_module(module)
        except ImportError as error:
            raise NetworkError(
                f"Network '{module}:{name}': cannot import '{module}' ({error}). Install the package, or start "
                f"from the directory that holds it (now {Path.cwd()})."
            ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise NetworkError(f"Network '{module}:{name}': the module '{module}' has no '{name}'.")
        found = getattr(found, part)
    # a release names the factory and its arguments: it must not reach os.system through a trusted module's imports
    home = getattr(found, "__module__", None)
    if not callable(found) or not isinstance(home, str) or not _is_trusted(home, trusted):
        raise NetworkError(
            f"Network '{module}:{name}' must be a class or function defined in a trusted package; it is "
            f"{type(found).__name__} from '{home}'."
        )
    return found


def _is_trusted(module: str, trusted: Collection[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in trusted)


@contextmanager
def _current_directory() -> Iterator[None]:
    """Lets modules of the current directory be imported, behind all installed ones."""
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _completed(spec: NetworkSpec, factory: Factory, numbers: dict[str, int]) -> NetworkSpec:
    """The spec with the numbers that the data decide filled in."""
    parameters = _parameters(factory, spec.factory)
    is_flexible = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    is_monai = spec.factory.startswith("monai:")
    if spec.factory in OWN and numbers["spatial_dims"] != 2:
        raise NetworkError(f"Network '{spec.factory}' is 2-D; the data have {numbers['spatial_dims']} dimensions.")
    arguments = {**(DEFAULTS.get(getattr(factory, "__name__", ""), {}) if is_monai else {}), **spec.arguments}
    for what, value in numbers.items():
        name = next((name for name in NAMES[what] if name in parameters), None)
        if name is None:
            continue
        given = arguments.setdefault(name, value)
        if isinstance(given, int) and given != value:
            raise NetworkError(
                f"Network '{spec.factory}': `{name}` is {given}, but the data need {value}. Leave it out."
            )
    if is_monai:
        _refuse_downloads(spec.factory, arguments, parameters)
    if (unknown := sorted(arguments.keys() - parameters.keys())) and not is_flexible:
        raise NetworkError(f"Network '{spec.factory}' has no argument {unknown}; allowed are {_names(parameters)}.")
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in arguments
    ]
    if missing:
        raise NetworkError(f"Network '{spec.factory}' needs a value for {missing}; give it among the arguments.")
    return NetworkSpec(factory=spec.factory, arguments=arguments)


def _parameters(factory: Factory, name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a factory and, behind its `**kwargs`, of the class that it derives from or returns."""
    try:
        parameters = dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"Network '{name}': the factory does not say which arguments it takes ({error}).") from error
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return parameters
    behind = factory.__base__ if inspect.isclass(factory) else _made_class(factory)
    if behind in (None, object, nn.Module):
        return parameters
    # only what the data decide: the function in front may give the rest itself
    deeper = _parameters(behind, name)
    wanted = {alias for aliases in NAMES.values() for alias in aliases}
    return {key: p for key, p in deeper.items() if key in wanted} | parameters


def _refuse_downloads(name: str, arguments: dict[str, JsonValue], parameters: dict[str, inspect.Parameter]) -> None:
    for argument in [key for key in {**parameters, **arguments} if key.startswith("pretrained")]:
        if arguments.get(argument):
            raise NetworkError(
                f"Network '{name}': `{argument}` would fetch weights, and Perdure downloads nothing. "
                "Leave it out and load a file of weights."
            )
        if argument == "pretrained":
            arguments[argument] = False


def _names(parameters: dict[str, inspect.Parameter]) -> list[str]:
    return [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
