"""A MONAI bundle as a network with its weights, and the input contract that its configuration describes.

A bundle that Perdure exported says its contract in `docs/release.json`. Of any other the transforms before the network
are read, as far as a contract can say the same; what it cannot say is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from perdure.errors import NetworkError
from perdure.evidence.exchange.adoptable import (
    VIEWS,
    Adoptable,
    contract_of,
    read_object,
    refusal,
    stored_orientation,
    structures_in_order,
)
from perdure.evidence.exchange.bundle import RELEASE
from perdure.evidence.exchange.bundle_config import BundleConfig, Unknown, read_config, transforms
from perdure.evidence.exchange.bundle_preparation import Preparation, preparation
from perdure.models import NetworkSpec, build, load_weights
from perdure.models.bounded import bytes_for
from perdure.models.weights import read_weights
from perdure.types import Contract

if TYPE_CHECKING:
    from torch import nn

    from perdure.data import Dataset

WEIGHTS = "models/model.pt"
_NETS = "monai.networks.nets"
Kind = TypeVar("Kind", bound=BaseModel)


def read_bundle(
    folder: Path,
    dataset: Dataset,
    domain: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    trusted: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
) -> Adoptable:
    """The network of a bundle, with its weights and input contract.

    Args:
        folder: the bundle.
        dataset: the data that it was trained on.
        domain: which domain of them.
        arguments: of the network, in place of those that the bundle says.
        options: of `Dataset.default_contract`, in place of what the bundle says.
        trusted: modules that may be imported to build the network; only for a bundle that Perdure exported.
        progress: told how many cases are checked.
        cache: where prepared images are kept.

    Raises:
        NetworkError: if the folder is not whole, its network is none of MONAI's, or an argument would have to be
            evaluated.
        DataError: if the data are not sound, or data and network do not name the same structures.
    """
    if (folder / RELEASE).is_file():
        return _own(folder, arguments or {}, options or {}, trusted)
    config = read_config(folder)
    metadata = BundleConfig(folder / "configs/metadata.json", read_object(folder / "configs/metadata.json"))
    _refuse_regions(config)
    spec = _spec(config, arguments or {})
    found = preparation(config)
    chosen = dict(options or {})
    dims = chosen.setdefault("spatial_dims", _number(spec, ("spatial_dims", "dimensions")) or 2)
    if dims not in (2, 3):
        raise NetworkError(f"{config.path}: spatial_dims: found {dims}; networks of 2 or 3 dimensions are taken.")
    chosen.setdefault("size", _size(config, metadata, dims))
    chosen.setdefault("spacing", found.spacing)
    contract = dataset.default_contract(
        domain, **chosen, channels=_number(spec, ("in_channels", "n_input_channels")), required=("train",),
        cache=cache, progress=progress,
    )  # fmt: skip
    fields = {
        **dict(contract),
        **_structures(metadata, dataset, found),
        **_grid(contract, config, dataset, domain, found, options or {}),
        **_intensity_of(contract, found, options or {}),
    }
    contract = contract_of(config.path, fields)
    return Adoptable(_network(folder, spec, contract), contract, tuple(found.differences))


def _own(folder: Path, arguments: Mapping[str, Any], options: Mapping[str, Any], trusted: Sequence[str]) -> Adoptable:
    """A bundle that Perdure exported."""
    path = folder / RELEASE
    if said := sorted({*arguments, *options}):
        raise NetworkError(f"{path}: says the network and its input contract; leave out {', '.join(said)}.")
    content = read_object(path)
    spec = _validated(path, "network", content, NetworkSpec)
    contract = _validated(path, "contract", content, Contract)
    return Adoptable(_network(folder, spec, contract, trusted), contract)


def _network(folder: Path, spec: NetworkSpec, contract: Contract, trusted: Sequence[str] = ()) -> nn.Module:
    """The network with the weights of the bundle; no larger than they are."""
    weights = read_weights(folder / WEIGHTS)
    network = build(
        spec,
        channels=contract.channels,
        classes=contract.classes,
        spatial_dims=contract.spatial_dims,
        trusted=trusted,
        most=bytes_for(weights),
    )
    load_weights(network, folder / WEIGHTS)
    return network.eval()


def _validated(path: Path, name: str, content: Mapping[str, Any], kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate(content.get(name))
    except ValidationError as error:
        raise refusal(f"{path}: {name}", error) from error


def _spec(config: BundleConfig, replaced: Mapping[str, Any]) -> NetworkSpec:
    """The network by its name in MONAI, with arguments that need no evaluation."""
    found = next((value for name in ("network_def", "network", "net") if (value := config.get(name)) is not None), None)
    target = found.get("_target_") if isinstance(found, Mapping) else None
    if not isinstance(target, str):
        shown = found.text if isinstance(found, Unknown) else found
        raise NetworkError(
            f"{config.path}: network_def: found {shown!r}; it must name a network of MONAI under `_target_`. For "
            "another one use --network and --weights."
        )
    package, _, name = target.rpartition(".")
    if package and package != _NETS and not package.startswith(f"{_NETS}."):
        raise NetworkError(
            f"{config.path}: network_def: _target_: found {target!r}; allowed are networks of {_NETS}. Code of a "
            "bundle is not run; if you trust it, use --network with --trust, and --weights."
        )
    assert isinstance(found, Mapping)
    own = {key: value for key, value in found.items() if not key.startswith("_")}
    arguments = {**own, **replaced}
    for key, value in arguments.items():
        if unknown := _unknown(value):
            raise NetworkError(
                f"{config.path}: network_def: {key}: found {unknown.text!r}, which is not evaluated; say its value by "
                f"--network-arg {key}=VALUE."
            )
    return NetworkSpec(factory=f"monai:{name}", arguments=arguments)


def _unknown(value: Any) -> Unknown | None:
    if isinstance(value, Unknown):
        return value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((found for one in inner if (found := _unknown(one))), None)


def _number(spec: NetworkSpec, names: Sequence[str]) -> int | None:
    return next((value for name in names if isinstance(value := spec.arguments.get(name), int)), None)


def _refuse_regions(config: BundleConfig) -> None:
    for name, settings in transforms(config.get("postprocessing")):
        if name == "Activationsd" and settings.get("sigmoid"):
            raise NetworkError(
                f"{config.path}: postprocessing: found Activationsd with sigmoid; outputs that are regions of their "
                "own are no classes, which a release needs."
            )


def _size(config: BundleConfig, metadata: BundleConfig, dims: int) -> tuple[int, ...] | None:
    """What the network sees at once: the window that slides over a volume, or the shape that the metadata say."""
    inferer = config.get("inferer")
    window = inferer.get("roi_size") if isinstance(inferer, Mapping) else None
    shape = None
    described = metadata.get("network_data_format")
    if isinstance(described, Mapping):
        inputs = described.get("inputs")
        image = next(iter(inputs.values()), None) if isinstance(inputs, Mapping) else None
        shape = image.get("spatial_shape") if isinstance(image, Mapping) else None
    for size in (window, shape):
        if isinstance(size, list) and len(size) == dims and all(isinstance(n, int) and n > 0 for n in size):
            return tuple(size)
    return None


def _structures(metadata: BundleConfig, dataset: Dataset, found: Preparation) -> dict[str, Any]:
    """Structures in the order of the network's outputs, by the names that the metadata give them."""
    described: Any = metadata.get("network_data_format")
    for step in ("outputs", "pred", "channel_def"):
        described = described.get(step) if isinstance(described, Mapping) else None
    if not isinstance(described, Mapping) or not all(str(key).isdecimal() for key in described):
        found.differences.append(
            "The bundle does not name its outputs; they are taken to be the labels of dataset.toml, in that order."
        )
        return {}
    names = [str(described[key]) for key in sorted(described, key=lambda key: int(str(key)))]
    return {"structures": structures_in_order(names, dataset.description, dataset.folder, metadata.path)}


def _grid(
    contract: Contract,
    config: BundleConfig,
    dataset: Dataset,
    domain: str,
    found: Preparation,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Orientation, and for a network of slices the view."""
    if not contract.is_volumetric:
        return {}
    codes = found.orientation or stored_orientation(dataset, domain)
    if found.spacing is None and "spacing" not in options:
        found.differences.append(
            f"The bundle resamples nothing, or does not say to what; here volumes come to {contract.spacing} mm."
        )
    if contract.spatial_dims == 3:
        return {"orientation": codes}
    inferer = config.get("inferer")
    axis = inferer.get("spatial_dim", 0) if isinstance(inferer, Mapping) else 0
    if len(codes) != 3 or not set(codes) <= set(VIEWS):
        raise NetworkError(f"{config.path}: preprocessing: Orientationd: axcodes: found {codes!r}; as RAS.")
    if not isinstance(axis, int) or not 0 <= axis < 3:
        raise NetworkError(f"{config.path}: inferer: spatial_dim: found {axis!r}; it must be 0, 1 or 2.")
    order = (axis, *(other for other in range(3) if other != axis))
    turned = "".join(codes[one] for one in order)
    spacing = contract.spacing if "spacing" in options or contract.spacing is None else _turned(contract.spacing, order)
    return {"orientation": turned, "view": VIEWS[turned[0]], "spacing": spacing}


def _turned(spacing: tuple[float, float, float], order: Sequence[int]) -> tuple[float, float, float]:
    first, second, third = (spacing[axis] for axis in order)
    return first, second, third


def _intensity_of(contract: Contract, found: Preparation, options: Mapping[str, Any]) -> dict[str, Any]:
    if found.intensity is None or options.get("mean") or options.get("std"):
        scaling = contract.intensity.scaling
        found.differences.append(f"Intensities are scaled as {scaling!r}, a choice of Perdure's and not the bundle's.")
        return {}
    intensity = found.intensity
    if intensity.mean and contract.channels > 1:
        assert intensity.std
        intensity = intensity.model_copy(
            update={"mean": intensity.mean * contract.channels, "std": intensity.std * contract.channels}
        )
    return {"intensity": intensity}
