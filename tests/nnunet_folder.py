"""A model folder as nnU-Net v2 writes it, its network made by nnU-Net's own library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

LABELS = {"background": 0, "core": 1, "left_cortex": 2, "right_cortex": 3}


def architecture(dims: int = 3, residual: bool = False) -> dict[str, Any]:
    """As a plan of nnU-Net 2.5 has it, small."""
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * 2,
            "strides": [[1] * dims, [2] * dims],
            ("n_blocks_per_stage" if residual else "n_conv_per_stage"): [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(dims: int = 3, **changes: Any) -> dict[str, Any]:
    """The plans of one configuration; `changes` are of that configuration."""
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16] * dims,
        "spacing": [2.0] * dims,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "architecture": architecture(dims),
        **changes,
    }
    name = "3d_fullres" if dims == 3 else "2d"
    return {
        "dataset_name": "Dataset001_Heads",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 2.0, 2.0],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration},
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 100.0, "std": 20.0, "percentile_00_5": 30.0, "percentile_99_5": 190.0, "max": 255.0}
        },
    }


def network(dims: int = 3, residual: bool = False, classes: int = 4) -> nn.Module:
    """That of `architecture`, as nnU-Net makes it for training: with deep supervision."""
    kwargs = dict(architecture(dims, residual)["arch_kwargs"])
    kwargs["conv_op"] = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    kwargs["norm_op"] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    kwargs["nonlin"] = nn.LeakyReLU
    kind = ResidualEncoderUNet if residual else PlainConvUNet
    made: nn.Module = kind(input_channels=1, num_classes=classes, deep_supervision=True, **kwargs)
    return made


def write(
    folder: Path,
    model: nn.Module,
    planned: dict[str, Any] | None = None,
    *,
    labels: dict[str, Any] | None = None,
    folds: tuple[str, ...] = ("0",),
    **dataset: Any,
) -> Path:
    """plans.json, dataset.json, and a checkpoint a fold with all that nnU-Net's trainer saves."""
    planned = planned or plans()
    described = {
        "channel_names": {"0": "MRI"},
        "labels": labels or LABELS,
        "numTraining": 4,
        "file_ending": ".nii.gz",
        **dataset,
    }
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(planned, indent=4))
    (folder / "dataset.json").write_text(json.dumps(described, indent=4))
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.99, nesterov=True)
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": model.state_dict(),
            "optimizer_state": optimizer.state_dict(),
            "grad_scaler_state": torch.amp.GradScaler("cpu", enabled=False).state_dict(),
            "logging": {"mean_fg_dice": [np.float64(0.5)], "ema_fg_dice": [np.float32(0.4)], "train_losses": [-0.3]},
            "_best_ema": np.float64(0.4),
            "current_epoch": 1000,
            "init_args": {
                "plans": planned,
                "configuration": next(iter(planned["configurations"]), "3d_fullres"),
                "fold": fold,
                "dataset_json": described,
                "device": torch.device("cuda"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
