"""The configuration by which MONAI runs a release from files to files: `configs/inference.json` of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perdure.errors import NetworkError
from perdure.evaluation.segmented import label_values
from perdure.models.nnunet import LAYERS, PACKAGE, PREFIX

if TYPE_CHECKING:
    from perdure.models import NetworkSpec
    from perdure.release import Release
    from perdure.types import Contract

EVALUATED = ("$", "@", "%")
"""What MONAI evaluates or looks up where a text begins with it."""
_FIELDS = ("task", "channels", "spatial_dims", "size", "orientation", "spacing", "view", "resize", "intensity")
"""What of a contract the transforms need; no text that somebody chose."""


def inference_config(release: Release, multiple: Sequence[int], module: str) -> dict[str, Any]:
    """From files to files, as MONAI's configuration has it.

    Args:
        release: what it is of.
        multiple: what divides the extents of larger slices.
        module: where `Prepared` and `Restored` are imported from.
    """
    contract = release.contract
    volumetric, segments = contract.is_volumetric, contract.task == "segmentation"
    fields = contract.model_dump(mode="json", include=set(_FIELDS))
    following = {"contract": fields, "multiple": list(multiple)}
    pattern = "*.nii*" if volumetric else "*.png"
    load: dict[str, Any] = {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True, "dtype": None}
    if volumetric:
        load["reader"] = "NibabelReader"
    else:
        palette = "$lambda picture: picture.convert('RGB') if picture.mode == 'P' else picture"
        load |= {"reader": "PILReader", "reverse_indexing": False, "converter": palette}
    return {
        "imports": ["$import glob", "$import torch", *_imports(release.identity.network)],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": f"$sorted(glob.glob(@dataset_dir + '/{pattern}'))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_def(release.identity.network),
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [load, {"_target_": f"{module}.Prepared", "keys": ["image"], **following}],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False, "num_workers": 0,
        },
        "inferer": _inferer(contract),
        "restored": {
            "_target_": f"{module}.Restored",
            "keys": ["pred"],
            "image_key": "image",
            "values": label_values(contract).tolist(),
            **following,
        }
        if segments
        else {"_target_": "Activationsd", "keys": ["pred"], "softmax": True},
        "postprocessing": {"_target_": "Compose", "transforms": ["@restored", *_saving(contract)]},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            *_tables(contract),
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": False,
        },
        "initialize": ["$True"],
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _inferer(contract: Contract) -> dict[str, Any]:
    if contract.task == "classification" or not contract.is_volumetric:
        return {"_target_": "SimpleInferer"}
    if contract.spatial_dims == 2:
        return {"_target_": "SliceInferer", "roi_size": [-1, -1], "spatial_dim": 0, "sw_batch_size": 8}
    return {
        "_target_": "SlidingWindowInferer", "roi_size": list(contract.size), "sw_batch_size": 1, "overlap": 0.25,
        "mode": "gaussian",
    }  # fmt: skip


def _saving(contract: Contract) -> list[dict[str, Any]]:
    if contract.task == "classification":
        return []
    largest = int(label_values(contract).max())
    # MONAI's writer of pictures wants the width first
    turn = [] if contract.is_volumetric else [{"_target_": "Transposed", "keys": "pred", "indices": [0, 2, 1]}]
    return [
        *turn,
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_ext": ".nii.gz" if contract.is_volumetric else ".png",
            "output_dtype": "uint8" if largest <= 255 else "uint16" if largest <= 65535 else "int32",
            "resample": False,
            "separate_folder": False,
            **({} if contract.is_volumetric else {"writer": "PILWriter"}),
        },
    ]


def _tables(contract: Contract) -> list[dict[str, Any]]:
    if contract.task == "segmentation":
        return []
    return [
        {
            "_target_": "ClassificationSaver",
            "output_dir": "@output_dir",
            "filename": "predictions.csv",
            "batch_transform": "$lambda batch: [item['image'].meta for item in batch]",
            "output_transform": "$lambda output: [item['pred'] for item in output]",
        }
    ]


def network_def(spec: NetworkSpec) -> dict[str, Any]:
    """How MONAI builds the network.

    Raises:
        NetworkError: if an argument is a text that MONAI would evaluate.
    """
    _refuse_expressions(spec.factory, spec.arguments)
    arguments: dict[str, Any] = dict(spec.arguments)
    if spec.factory == "quicknat":
        return {"_target_": "perdure.models.QuickNAT", **arguments}
    if spec.factory == "resnet50":
        # what perdure.models.resnet50 calls
        return {
            "_target_": "monai.networks.nets.resnet50",
            "spatial_dims": 2,
            "n_input_channels": arguments.get("in_channels", 3),
            "num_classes": arguments["classes"],
            "conv1_t_stride": 2,
            "bias_downsample": False,
        }
    if spec.factory.startswith("monai:"):
        return {"_target_": f"monai.networks.nets.{spec.factory.removeprefix('monai:')}", **arguments}
    if spec.factory.startswith(PREFIX):
        for key in (*LAYERS, "block"):
            if arguments.get(key) is not None:
                arguments[key] = f"${arguments[key]}"
        return {"_target_": f"{PACKAGE}.architectures.unet.{spec.factory.removeprefix(PREFIX)}", **arguments}
    return {"_target_": spec.factory.replace(":", "."), **arguments}


def _imports(spec: NetworkSpec) -> list[str]:
    is_residual = spec.factory.startswith(PREFIX) and spec.arguments.get("block") is not None
    return [f"$import {PACKAGE}.building_blocks.residual"] if is_residual else []


def _refuse_expressions(name: str, value: object) -> None:
    if isinstance(value, str) and value.startswith(EVALUATED):
        raise NetworkError(f"Network {name!r} has the argument {value!r}, which MONAI would evaluate; leave it out.")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if str(key).startswith("_"):
                raise NetworkError(
                    f"Network {name!r} has the argument {key!r}, which MONAI would follow; leave it out."
                )
            _refuse_expressions(name, inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_expressions(name, inner)
