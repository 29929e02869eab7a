"""A model folder of nnU-Net v2: `plans.json`, `dataset.json` and `fold_X/checkpoint_final.pth`.

nnU-Net takes a volume as it lies in its file, the last axis first, and exchanges axes as `transpose_forward` says. A
contract says the same by the axis codes of the network's grid, once it is known how the training images lie in theirs.

Source: nnU-Net v2 (Isensee et al. 2021; MIC-DKFZ/nnUNet: `plans_handler.py`, `default_preprocessor.py`,
`default_normalization_schemes.py`, `cropping.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from perdure.errors import NetworkError
from perdure.evidence.exchange.adoptable import (
    VIEWS,
    Adoptable,
    Read,
    contract_of,
    read_json,
    refusal,
    stored_orientation,
    structures_in_order,
)
from perdure.models import NetworkSpec, build
from perdure.models.bounded import bytes_for
from perdure.models.nnunet import CLASSES, PACKAGE, PREFIX, network_arguments, read_checkpoint
from perdure.types import Intensity

if TYPE_CHECKING:
    from perdure.data import Dataset

PLANS, DATASET, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"
_IGNORE = "ignore"
_AXES = {**dict.fromkeys("AP", "A"), **dict.fromkeys("LR", "R"), **dict.fromkeys("IS", "S")}
_READERS = {"SimpleITKIO": None, "NibabelIO": None, "NibabelIOWithReorient": "RAS"}
"""What reads images, and how it turns them; None as they lie in their files."""


class _Architecture(Read):
    network_class_name: str
    arch_kwargs: dict[str, Any]


class _Configuration(Read):
    patch_size: tuple[int, ...] = Field(min_length=2, max_length=3)
    spacing: tuple[float, ...] = Field(min_length=2, max_length=3)
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    architecture: _Architecture
    previous_stage: str | None = None


class _Plans(Read):
    configurations: dict[str, dict[str, Any]]
    transpose_forward: tuple[int, int, int]
    original_median_spacing_after_transp: tuple[float, float, float]
    image_reader_writer: str
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]] = Field(default_factory=dict)


class _Dataset(Read):
    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]


def read_nnunet(
    folder: Path, dataset: Dataset, domain: str, *, fold: str | None = None, stored: str | None = None
) -> Adoptable:
    """The network of one fold, with its weights and input contract.

    Args:
        folder: the trained model, as nnU-Net wrote it (`nnUNetTrainer__nnUNetPlans__3d_fullres`).
        dataset: the data that it was trained on.
        domain: which domain of them.
        fold: `0` to `4`, or `all`; the only one there is, or 0, if left out.
        stored: how the training images lie in their files ("RAS"); as the domain's do, if left out.

    Raises:
        NetworkError: if the folder is not whole, names a class that is not allowed, or the network takes or gives what
            a contract cannot say.
        DataError: if data and network do not name the same structures, or images do not lie alike.
    """
    plans, described = read_json(folder / PLANS, _Plans), read_json(folder / DATASET, _Dataset)
    checkpoint = _fold(folder, fold) / CHECKPOINT
    weights, beside = read_checkpoint(checkpoint)
    name = _configuration_name(checkpoint, beside, plans)
    configuration = _configuration(folder / PLANS, plans, name)
    _check_channels(folder, described)
    names = _outputs(folder / DATASET, described)
    structures = structures_in_order(names, dataset.description, dataset.folder, folder / DATASET)
    fields = {
        "task": "segmentation",
        "modality": dataset.description.modality,
        "structures": structures,
        "channels": 1,
        "spatial_dims": _dims(configuration),
        "size": configuration.patch_size,
        "intensity": _intensity(folder / PLANS, plans, configuration),
        **_grid(folder / PLANS, plans, configuration, stored or _stored(plans, folder, dataset, domain)),
    }
    contract = contract_of(folder / PLANS, fields)
    spec = _spec(folder / PLANS, configuration.architecture)
    network = build(spec, channels=1, classes=len(names), spatial_dims=contract.spatial_dims, most=bytes_for(weights))
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if own != found:
        wrong = sorted(key for key in own.keys() | found.keys() if own.get(key) != found.get(key))
        raise NetworkError(f"{checkpoint}: does not fit the network of {folder / PLANS}: {wrong[:5]} differ.")
    network.load_state_dict(weights)
    return Adoptable(network.eval(), contract, _differences(checkpoint, beside, configuration))


def _fold(folder: Path, fold: str | None) -> Path:
    there = sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*") if path.is_dir())
    if not there:
        raise NetworkError(f"{folder}: found no fold_0 in it; name the folder that has plans.json and the folds.")
    chosen = fold or (there[0] if len(there) == 1 else "0")
    if chosen not in there:
        raise NetworkError(f"{folder}: has no fold {chosen!r}; it has {', '.join(there)} (--fold).")
    return folder / f"fold_{chosen}"


def _configuration_name(checkpoint: Path, beside: Mapping[str, Any], plans: _Plans) -> str:
    arguments = beside.get("init_args")
    name = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    if not isinstance(name, str) or name not in plans.configurations:
        raise NetworkError(
            f"{checkpoint}: init_args: configuration: found {name!r}; plans.json has {', '.join(plans.configurations)}."
        )
    return name


def _configuration(path: Path, plans: _Plans, name: str) -> _Configuration:
    """One configuration with all that it takes over from others."""
    fields: dict[str, Any] = {}
    visited: list[str] = []
    parent: Any = name
    while parent is not None:
        if not isinstance(parent, str) or parent not in plans.configurations or parent in visited:
            raise NetworkError(f"{path}: configurations: {(visited or [name])[-1]}: inherits_from: found {parent!r}.")
        visited.append(parent)
        fields = {**plans.configurations[parent], **fields}
        parent = plans.configurations[parent].get("inherits_from")
    if "architecture" not in fields:
        fields["architecture"] = _old_architecture(path, fields)
    try:
        found = _Configuration.model_validate(fields)
    except ValidationError as error:
        raise refusal(f"{path}: configurations: {name}", error) from error
    if found.previous_stage is not None:
        raise NetworkError(
            f"{path}: {name} is the second stage of a cascade: it also takes what {found.previous_stage} has "
            "segmented, which no release does. Adopt 3d_fullres or 2d."
        )
    return found


def _old_architecture(path: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture of a plan from before nnU-Net 2.5, which has its numbers beside each other."""
    try:
        blocks = "n_conv_per_stage" if fields["UNet_class_name"] == "PlainConvUNet" else "n_blocks_per_stage"
        stages, dims = len(fields["n_conv_per_stage_encoder"]), len(fields["patch_size"])
        base, most = int(fields["UNet_base_num_features"]), int(fields["unet_max_num_features"])
        return {
            "network_class_name": f"{PACKAGE}.architectures.unet.{fields['UNet_class_name']}",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": [min(base * 2**stage, most) for stage in range(stages)],
                "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
                "kernel_sizes": fields["conv_kernel_sizes"],
                "strides": fields["pool_op_kernel_sizes"],
                blocks: fields["n_conv_per_stage_encoder"],
                "n_conv_per_stage_decoder": fields["n_conv_per_stage_decoder"],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        }
    except (KeyError, TypeError, ValueError) as error:
        raise NetworkError(f"{path}: has neither `architecture` nor the fields of an older plan ({error}).") from error


def _check_channels(folder: Path, described: _Dataset) -> None:
    if len(described.channel_names) != 1:
        names = ", ".join(described.channel_names.values())
        raise NetworkError(
            f"{folder / DATASET}: channel_names: found {len(described.channel_names)} ({names}); a case here is one "
            "image with one channel."
        )


def _outputs(path: Path, described: _Dataset) -> list[str]:
    """The names of the network's outputs in order."""
    labels = {name: value for name, value in described.labels.items() if name != _IGNORE}
    values = {value: name for name, value in labels.items() if isinstance(value, int)}
    if len(values) != len(labels) or sorted(values) != list(range(len(values))):
        raise NetworkError(
            f"{path}: labels: found {described.labels}; regions, or numbers that do not run from 0 without a gap, have "
            "outputs that are no classes."
        )
    return [values[number] for number in range(len(values))]


def _dims(configuration: _Configuration) -> Literal[2, 3]:
    return 2 if len(configuration.patch_size) == 2 else 3


def _stored(plans: _Plans, folder: Path, dataset: Dataset, domain: str) -> str:
    if plans.image_reader_writer not in _READERS:
        raise NetworkError(
            f"{folder / PLANS}: image_reader_writer: found {plans.image_reader_writer!r}; allowed are "
            f"{', '.join(_READERS)}, which read volumes."
        )
    return _READERS[plans.image_reader_writer] or stored_orientation(dataset, domain)


def _grid(path: Path, plans: _Plans, configuration: _Configuration, stored: str) -> dict[str, Any]:
    """Orientation, spacing and view of the network's grid."""
    if sorted(plans.transpose_forward) != [0, 1, 2]:
        raise NetworkError(f"{path}: transpose_forward: found {plans.transpose_forward}; it must name each axis once.")
    if sorted(_AXES.get(code, "") for code in stored) != ["A", "R", "S"]:
        raise NetworkError(f"--stored {stored}: must name each body axis once, as RAS or LPS.")
    reversed_codes = stored[::-1]  # nnU-Net's arrays have the last axis of a file first
    orientation = "".join(reversed_codes[axis] for axis in plans.transpose_forward)
    dims = len(configuration.patch_size)
    if len(configuration.spacing) != dims:
        raise NetworkError(f"{path}: spacing: found {configuration.spacing} for a patch of {dims} axes.")
    between = plans.original_median_spacing_after_transp[0]
    spacing = configuration.spacing if dims == 3 else (between, *configuration.spacing)
    view = VIEWS[orientation[0]] if dims == 2 else None
    return {"orientation": orientation, "spacing": spacing, "view": view}


def _intensity(path: Path, plans: _Plans, configuration: _Configuration) -> Intensity:
    scheme, masked = configuration.normalization_schemes[0], configuration.use_mask_for_norm[0]
    if scheme == "ZScoreNormalization":
        return Intensity(scaling="zscore-nonzero" if masked else "zscore")
    if scheme != "CTNormalization":
        raise NetworkError(
            f"{path}: normalization_schemes: found {scheme!r}; a contract can say ZScoreNormalization and "
            "CTNormalization."
        )
    numbers = plans.foreground_intensity_properties_per_channel.get("0", {})
    try:
        low, high, mean, std = (numbers[key] for key in ("percentile_00_5", "percentile_99_5", "mean", "std"))
        return Intensity(scaling="window", window=(low, high), mean=(mean,), std=(max(std, 1e-8),))
    except (KeyError, ValidationError) as error:
        raise NetworkError(
            f"{path}: foreground_intensity_properties_per_channel: 0: found {numbers}; CTNormalization needs mean, "
            "std, percentile_00_5 and a larger percentile_99_5."
        ) from error


def _spec(path: Path, architecture: _Architecture) -> NetworkSpec:
    package, _, name = architecture.network_class_name.rpartition(".")
    if name not in CLASSES or not package.startswith(f"{PACKAGE}.architectures"):
        raise NetworkError(
            f"{path}: network_class_name: found {architecture.network_class_name!r}; allowed are "
            f"{', '.join(CLASSES)} of {PACKAGE}. No other class is imported."
        )
    return NetworkSpec(factory=PREFIX + name, arguments=network_arguments(architecture.arch_kwargs))


def _differences(checkpoint: Path, beside: Mapping[str, Any], configuration: _Configuration) -> tuple[str, ...]:
    said = [
        f"One network is adopted, that of {checkpoint.parent.name}; nnU-Net may average those of several folds.",
        "nnU-Net may keep only the largest part of a structure afterwards; here all parts stay.",
        "Where spacing differs, nnU-Net resamples by cubic splines; here images are resampled linearly.",
        "nnU-Net cuts a volume to what is not zero before it looks; here the network sees all of it.",
    ]
    mirrored = beside.get("inference_allowed_mirroring_axes")
    if isinstance(mirrored, list | tuple) and mirrored:
        said.append(f"nnU-Net averages over images mirrored along the axes {mirrored}; here none is mirrored.")
    if _dims(configuration) == 2:
        said.append("nnU-Net leaves the distance between slices as it is; here it becomes that of most training data.")
    else:
        said.append("Windows overlap by a quarter of their size; nnU-Net's overlap by half.")
    return tuple(said)
