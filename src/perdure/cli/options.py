"""The options that commands share, each with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from perdure.cli.config import read_config

_NETWORK, _CONTRACT, _METHOD = "Network", "Input contract", "Memory and method"
_TRAINING, _MACHINE, _OTHER = "Training", "Machine", "Command"

Data: TypeAlias = Annotated[Path, typer.Option("--data", help="Folder with dataset.toml and manifest.csv.")]
DomainName: TypeAlias = Annotated[str, typer.Option("--domain", help="Which domain of the data folder.")]
Out: TypeAlias = Annotated[Path, typer.Option("--out", help="Where the release is written; never overwritten.")]
ReleaseFolder: TypeAlias = Annotated[Path, typer.Option("--release", help="The release folder to start from.")]
Network: TypeAlias = Annotated[
    str, typer.Option("--network", help="One of `perdure inspect networks`.", rich_help_panel=_NETWORK)
]
NetworkArgument: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--network-arg",
        help="NAME=VALUE for the network's factory, VALUE as in JSON. Repeat for several.",
        rich_help_panel=_NETWORK,
    ),
]
Filters: TypeAlias = Annotated[
    int | None, typer.Option("--filters", min=1, help="Filters of a QuickNAT.", rich_help_panel=_NETWORK)
]
KernelSize: TypeAlias = Annotated[
    int | None, typer.Option("--kernel-size", min=1, help="Kernel size of a QuickNAT.", rich_help_panel=_NETWORK)
]
Dropout: TypeAlias = Annotated[
    float | None,
    typer.Option("--dropout", min=0.0, max=1.0, help="Dropout of a QuickNAT, below 1.", rich_help_panel=_NETWORK),
]
Weights: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="File of weights to start from (.safetensors, .pt), for example ImageNet's.",
        rich_help_panel=_NETWORK,
    ),
]
TrainedWeights: TypeAlias = Annotated[
    Path, typer.Option("--weights", help="File of the trained weights (.safetensors, .pt).", rich_help_panel=_NETWORK)
]
Trust: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        help="Package whose code may be imported to build the network. Repeat for several.",
        rich_help_panel=_NETWORK,
    ),
]
Size: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--size",
        min=1,
        help="In-plane pixels of a training sample (edge of the patch in 3-D).",
        rich_help_panel=_CONTRACT,
    ),
]
Spacing: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--spacing",
        min=0.01,
        help="Voxel size in mm, the same along all axes; default: that of dataset.toml, or 1.",
        rich_help_panel=_CONTRACT,
    ),
]
View: TypeAlias = Annotated[
    Literal["coronal", "axial", "sagittal"],
    typer.Option("--view", help="How volumes are cut for a 2-D network.", rich_help_panel=_CONTRACT),
]
Dims: TypeAlias = Annotated[
    Literal[2, 3],
    typer.Option("--dims", help="2 for slices and pictures, 3 for whole volumes.", rich_help_panel=_CONTRACT),
]
MergeSides: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--merge-sides",
        help="One structure for left and right, where names begin with left_ and right_.",
        rich_help_panel=_CONTRACT,
    ),
]
Mean: TypeAlias = Annotated[
    list[float] | None,
    typer.Option(
        "--mean",
        help="Taken off the scaled intensity, where the network was trained so. Repeat for each channel.",
        rich_help_panel=_CONTRACT,
    ),
]
Std: TypeAlias = Annotated[
    list[float] | None,
    typer.Option("--std", help="Divides what is left. Repeat for each channel.", rich_help_panel=_CONTRACT),
]
MethodName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="How earlier domains are protected: one of `perdure inspect methods`, or a FILE.toml that composes one; "
        "default: dsbn, or mas-lr for a network without batch norm.",
        rich_help_panel=_METHOD,
    ),
]
BatchNorm: TypeAlias = Annotated[
    Literal["target", "original", "frozen", "per-domain", "recalibrated"] | None,
    typer.Option(
        "--batch-norm", help="Whose statistics batch norm uses; default: the method's.", rich_help_panel=_METHOD
    ),
]
TrainableName: TypeAlias = Annotated[
    Literal["all", "batch-norm", "head"] | None,
    typer.Option(
        "--trainable",
        help="Which parameters train; default: the method's. Not for methods that fix it.",
        rich_help_panel=_METHOD,
    ),
]
GranularityName: TypeAlias = Annotated[
    Literal["parameter", "kernel", "filter"] | None,
    typer.Option("--granularity", help="Level of importance; default: the method's.", rich_help_panel=_METHOD),
]
JointWith: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--joint-with",
        help="Earlier domain whose data are used too (methods joint, replay). Repeat for several.",
        rich_help_panel=_METHOD,
    ),
]
MethodSettings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="NAME=VALUE of the method's own settings (strength=1e4), VALUE as in JSON. Repeat for several.",
        rich_help_panel=_METHOD,
    ),
]
RecipeName: TypeAlias = Annotated[
    Literal["paper", "authors"] | None,
    typer.Option(
        "--recipe",
        help="The publication, or the code published with it, where the two differ; as --set recipe=NAME.",
        rich_help_panel=_METHOD,
    ),
]
AllowPatientData: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-patient-data",
        help="Says that data of earlier domains' patients may be kept and used (method replay).",
        rich_help_panel=_METHOD,
    ),
]
ReplayCases: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--replay-cases",
        min=1,
        help="Train cases of each earlier domain that replay uses, whole subjects drawn by the seed; 4 if left out.",
        rich_help_panel=_METHOD,
    ),
]
Retain: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--retain",
        min=0.0,
        max=1.0,
        help="How far to go back to --release along the line between the two, after training: 0 is the update, 1 is "
        "--release.",
        rich_help_panel=_METHOD,
    ),
]
Candidate: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--candidate",
        help="With --retain, where the update itself is written, or stands finished; <out>.candidate if left out.",
        rich_help_panel=_METHOD,
    ),
]
Measures: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--measure",
        help="Importance to measure for later methods: mas, fisher, si, uniform, mas-authors; NAME:setting=value,...; "
        "or a method's FILE.toml. Repeat for several; mas and fisher if left out.",
        rich_help_panel=_METHOD,
    ),
]
Preset: TypeAlias = Annotated[
    Literal["default", "paper-a", "paper-b"],
    typer.Option("--preset", help="The training numbers to start from.", rich_help_panel=_TRAINING),
]
Epochs: TypeAlias = Annotated[int | None, typer.Option("--epochs", help="Epochs, at most.", rich_help_panel=_TRAINING)]
BatchSize: TypeAlias = Annotated[
    int | None, typer.Option("--batch-size", help="Samples a step.", rich_help_panel=_TRAINING)
]
RetrySmaller: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--retry-smaller",
        help="Where a step does not fit into memory, begin once more with half the batch size.",
        rich_help_panel=_MACHINE,
    ),
]
LearningRate: TypeAlias = Annotated[
    float | None, typer.Option("--learning-rate", help="Learning rate at the start.", rich_help_panel=_TRAINING)
]
Optimizer: TypeAlias = Annotated[
    Literal["sgd", "adam", "adamw"] | None,
    typer.Option("--optimizer", help="Which optimizer.", rich_help_panel=_TRAINING),
]
WeightDecay: TypeAlias = Annotated[
    float | None, typer.Option("--weight-decay", help="Weight decay.", rich_help_panel=_TRAINING)
]
Patience: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--patience",
        help="Stop after so many epochs without a lower validation loss; 0 trains to the end.",
        rich_help_panel=_TRAINING,
    ),
]
Augmentation: TypeAlias = Annotated[
    bool | None,
    typer.Option("--augment/--no-augment", help="Augment training samples.", rich_help_panel=_TRAINING),
]
ClipNorm: TypeAlias = Annotated[
    float | None, typer.Option("--clip-norm", help="Largest norm of the gradient.", rich_help_panel=_TRAINING)
]
ImportanceSamples: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--importance-samples",
        help="Measure importance on at most so many samples.",
        rich_help_panel=_METHOD,
    ),
]
Seed: TypeAlias = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of everything that is random.", rich_help_panel=_TRAINING)
]
Device: TypeAlias = Annotated[
    Literal["cpu", "cuda"], typer.Option("--device", help="Where networks run.", rich_help_panel=_MACHINE)
]
Devices: TypeAlias = Annotated[
    int,
    typer.Option("--devices", min=1, help="Processes (cards) that share each batch.", rich_help_panel=_MACHINE),
]
Precision: TypeAlias = Annotated[
    Literal["auto", "32-true", "bf16-mixed"],
    typer.Option(
        "--precision", help="bf16-mixed trains in half precision; auto where it is fast.", rich_help_panel=_MACHINE
    ),
]
CacheFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--cache", help="Where prepared images are kept (they are patient data).", rich_help_panel=_MACHINE),
]
Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=read_config,
        is_eager=True,
        help="TOML file with any of these options; the command line wins.",
        rich_help_panel=_OTHER,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_OTHER)]
