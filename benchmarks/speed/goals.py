"""Which figures are wanted? One row each, in the order of the table; what measures them is `MEASURES` of its script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

STEP = "one plain float32 training step of the same samples"
LOOP = "a plain float32 loop over slices, file to file"
NETWORKS = {
    "quicknat-128": "QuickNAT, 4 x 128²",
    "quicknat-256": "QuickNAT, 4 x 256²",
    "resnet50": "ResNet-50, 8 x 224²",
}
METHODS = {"mas-lr": "MAS-LR", "mas-fix": "MAS-Fix", "mas": "MAS", "ewc": "EWC"}
PARTS = {
    "importance": "1. Importance",
    "restraint": "2. A protected update",
    "training": "3. Training",
    "prediction": "4. Prediction",
    "evaluation": "5. Evaluation",
    "startup": "6. Start-up",
    "growth": "Growth: the exponent of time and of memory, over the larger half of the points",
    "roofline": "What the machine allows",
}


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Args:
        key: its name; what stands before the first `/` is the part of the table.
        what: is measured.
        over: what else; empty where the figure is no ratio.
        wanted: the bound; None where there is none.
        sense: on which side of the bound the figure shall lie.
        unit: of the figure; empty for a ratio or an exponent.
        form: the smallest form in which it is measured.
    """

    key: str
    what: str
    over: str = ""
    wanted: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    unit: str = ""
    form: Literal["short", "full"] = "full"

    @property
    def part(self) -> str:
        """The name of its part, and of the script that measures it."""
        return self.key.partition("/")[0]

    def is_met(self, reached: float) -> bool | None:
        """Whether a figure is on the right side; None where there is no bound."""
        if self.wanted is None:
            return None
        return reached <= self.wanted if self.sense == "at most" else reached >= self.wanted


def _importance() -> Iterator[Goal]:
    for network, size in NETWORKS.items():
        bound = 1.08 if network == "resnet50" else 0.80
        for measure in ("mas", "fisher"):
            form = "full" if measure == "fisher" or network == "quicknat-256" else "short"
            what = {"mas": "MAS", "fisher": 'Fisher(labels="dataset")'}[measure]
            yield Goal(f"importance/{measure}/{network}", f"{what}, exact per sample: {size}", STEP, bound, form=form)
        yield Goal(f"importance/call/{network}", f"MAS, a whole call on 16 batches: {size}", "16 such steps")
        if network != "quicknat-256":
            what = f"MAS, in a command's process: {size}"
            yield Goal(f"importance/command/{network}", what, f"{STEP}, in a process of its own", bound)
            yield Goal(f"importance/half/{network}", f"MAS in half precision, as it is asked for: {size}", STEP)
        yield Goal(f"importance/loop/{network}", f"MAS, sample by sample: {size}", STEP)
    for name, what in (
        ("conv", "2 convolutions of 8 filters, 64 x 16²"),
        ("quicknat", "QuickNAT of 4 filters, 32 x 16²"),
        ("mlp", "3 linear layers, 64 samples"),
    ):
        key = f"importance/small-{name}"
        yield Goal(key, f"MAS, sample by sample: {what}", "MAS as chosen by itself", 4, "at least", form="short")
    yield Goal(
        "importance/error", "float32 against a float64 loop, networks without kinks",
        "the largest value of the tensor", 1e-5, form="short",
    )  # fmt: skip
    for network in ("quicknat-128", "resnet50"):
        what = f"MAS, peak memory: {NETWORKS[network]}"
        yield Goal(f"importance/memory/{network}", what, "that of one training step", 1.1)
    for number in (16, 32):
        of = f"{number} of 64 samples"
        yield Goal(f"importance/subset-{number}/rank", f"MAS of {of}, rank correlation with all", "")
        yield Goal(f"importance/subset-{number}/overlap", f"MAS of {of}, share of the top 25 % kept", "")
    yield Goal("importance/subset-floor/rank", "the same, of two different sets of 64: what noise leaves", "")
    yield Goal("importance/subset-floor/overlap", "the same, share of the top 25 %", "")
    yield from _peers_of_importance()


def _peers_of_importance() -> Iterator[Goal]:
    ours = "Perdure's Fisher of the same labels"
    for peer, what in (
        ("nngeometry", "nngeometry's diagonal Fisher"),
        ("backpack", "BackPACK's sum of squared gradients"),
        ("curvlinops", "curvlinops: one random product with the empirical Fisher"),
        ("avalanche-ewc", "avalanche's EWC, a sample a batch"),
    ):
        for network in ("resnet50", "quicknat-128"):
            bound = 1.6 if (peer, network) == ("nngeometry", "resnet50") else None
            key = f"importance/{peer}/{network}"
            yield Goal(key, f"{what}: {NETWORKS[network]}", ours, bound, "at least")
    for network in ("resnet50", "quicknat-128"):
        what = f"avalanche's MAS, a sample a batch: {NETWORKS[network]}"
        yield Goal(f"importance/avalanche-mas/{network}", what, "Perdure's MAS")


def _restraint() -> Iterator[Goal]:
    bounds = {"quicknat-128": 1.005, "resnet50": 1.02}
    for network, bound in bounds.items():
        for method, name in METHODS.items():
            for domains in (1, 64):
                form = "short" if (network, domains) == ("quicknat-128", 64) else "full"
                what = (
                    f"{name}, {domains} earlier domain{'s' * (domains > 1)}, step + what it adds: {NETWORKS[network]}"
                )
                yield Goal(f"restraint/parts/{method}/{domains}/{network}", what, "the step", bound, form=form)
            what = f"{name}, 64, whole steps in turns: {NETWORKS[network]}"
            yield Goal(f"restraint/whole/{method}/{network}", what, "a plain step", bound)
            what = f"{name}, 64, step + what it adds, as `train` runs it: {NETWORKS[network]}"
            yield Goal(f"restraint/fast/{method}/{network}", what, "the step", bound)
    yield Goal(
        "restraint/merged", "4 earlier domains as one quadratic (EWC)", "4 penalties, each a loop over parameters in "
        "the loss", 0.10, form="short",
    )  # fmt: skip
    for method, name in METHODS.items():
        what = f"{name}, 2 earlier domains: memory beyond a plain update's, ResNet-50"
        yield Goal(f"restraint/memory/{method}", what, "the parameters", 1.0)
    for method, name in (("ewc", "EWC"), ("mas", "MAS")):
        for domains in (1, 4):
            if method == "ewc" or domains == 1:
                what = f"avalanche's {name}, {domains} earlier, whole steps in turns: {NETWORKS['resnet50']}"
                yield Goal(f"restraint/avalanche-{method}/{domains}", what, "a plain step")


def _training() -> Iterator[Goal]:
    for network, bound in (("quicknat-128", 0.50), ("resnet50", 0.45)):
        at, over = NETWORKS[network], "a plain float32 step: forward, loss, backward, SGD"
        yield Goal(f"training/default/{network}", f"a step as `train` runs it: {at}", over, bound, form="short")
        yield Goal(f"training/command/{network}", f"the same in a command's process: {at}", over, bound)
        yield Goal(f"training/32-true/{network}", f"the same in float32: {at}", over)
        yield Goal(f"training/bf16-mixed/{network}", f"the same in bf16: {at}", over)
    what = "an epoch of `perdure.train` with its loss and its guards: QuickNAT, 16 slices of 128²"
    yield Goal("training/epoch", what, "a plain float32 loop with the same loss", 0.50)
    for metric, name in (("dice", "Dice, photographs of vessels"), ("kappa", "kappa, radiographs of the chest")):
        what = f"{name}: how far bf16 and float32 lie apart, means of 3 seeds"
        yield Goal(f"training/{metric}", what, "the standard error of that", 2.0)


def _prediction() -> Iterator[Goal]:
    volume = "256³ volume, 33 classes, QuickNAT"
    yield Goal("prediction/volume", f"`perdure predict`, bf16: {volume}", LOOP, 0.35, form="short")
    yield Goal("prediction/volume-32-true", f"`predict_files`, float32: {volume}", LOOP)
    yield Goal("prediction/memory", f"`perdure predict`, peak memory: {volume}", "", 2.0, unit="GiB")
    what = "voxels that bf16 and float32 call differently, trained QuickNAT"
    yield Goal("prediction/voxels", what, "all voxels", 0.001)
    yield Goal("prediction/monai", f"MONAI's SliceInferer, 8 slices a time: {volume}", LOOP)
    yield Goal("prediction/volume-openvino", f"`predict_files`, OpenVINO, bf16: {volume}", LOOP)
    pictures, over = "pictures of 224², ResNet-50", "a plain float32 loop over files"
    yield Goal("prediction/resnet50", f"`predict_files`, bf16: {pictures}", over, 0.17, form="short")
    yield Goal("prediction/resnet50-openvino", f"`predict_files`, OpenVINO, bf16: {pictures}", over, 0.17)
    yield Goal("prediction/resnet50-32-true", f"`predict_files`, float32: {pictures}", over)
    yield Goal("prediction/resnet50-openvino-32-true", f"`predict_files`, OpenVINO, float32: {pictures}", over)
    yield Goal("prediction/loader", f"reading and preparing: {volume}", "`predict_files`", 0.02, form="short")


def _evaluation() -> Iterator[Goal]:
    dice = "Dice of 33 classes, 256³ voxels"
    yield Goal("evaluation/dice", f"{dice}", "a loop over classes", 0.10, form="short")
    yield Goal("evaluation/monai", f"MONAI's DiceMetric: {dice}", "Perdure's", 40, "at least")
    what, theirs = "hd95 and assd of 32 structures, 128³ voxels", "MONAI's compute_hausdorff_distance, one-hot maps"
    yield Goal("evaluation/surface", what, theirs)
    yield Goal("evaluation/kappa", "linear kappa of 10,000 cases, 4 classes", "scikit-learn's", form="short")
    what = "its bootstrap, 9999 draws of 600 subjects"
    yield Goal("evaluation/bootstrap", what, "scikit-learn's kappa of as many draws", form="short")


def _startup() -> Iterator[Goal]:
    yield Goal("startup/import", "`import perdure`, beyond `import torch`", "", 0.3, unit="s", form="short")
    yield Goal("startup/names", "all public names of `perdure`, beyond `import torch`", "", unit="s")
    yield Goal("startup/help", "`perdure --help`", "", 0.5, unit="s", form="short")
    yield Goal("startup/open", "`Release.open` of a QuickNAT, MAS and Fisher", "", 0.3, unit="s", form="short")


def _growth() -> Iterator[Goal]:
    flat, linear = 0.05, 1.05
    yield Goal("growth/domains", "a protected step (EWC): 1 to 64 earlier domains", "", flat, form="short")
    yield Goal("growth/domains-memory", "bytes of the memory: 1 to 64 earlier domains", "", flat, form="short")
    yield Goal("growth/volume", "`predict_files`: 32³ to 256³ voxels", "", linear)
    yield Goal("growth/volume-memory", "its peak memory", "", linear)
    yield Goal("growth/classes", "Dice of 128³ voxels: 2 to 250 classes", "", linear)
    yield Goal("growth/classes-memory", "its peak memory", "", linear)
    yield Goal("growth/classes-training", "a training step of a QuickNAT: 2 to 250 classes", "", linear)
    yield Goal("growth/parameters", "MAS: 1e5 to 1e8 parameters", "", linear)
    yield Goal("growth/parameters-step", "a protected step of SGD (MAS-LR): 1e5 to 1e8 parameters", "", linear)
    yield Goal("growth/parameters-memory", "peak memory of MAS", "", linear)
    yield Goal("growth/cases", "`Dataset.open` and `domain`: 10 to 10,000 cases", "", linear)
    yield Goal("growth/cases-memory", "its peak memory", "", linear)


def _roofline() -> Iterator[Goal]:
    convolution = "convolution 5x5, 64 to 64 channels, 4 x 128²"
    yield Goal("roofline/conv-float32", f"{convolution}, float32", "", unit="GFLOP/s", form="short")
    yield Goal("roofline/conv-bf16", f"{convolution}, bf16", "", unit="GFLOP/s", form="short")
    yield Goal("roofline/matmul-float32", "matrix product 2048³, float32", "", unit="GFLOP/s", form="short")
    yield Goal("roofline/copy", "copy of 256 MiB, read and written", "", unit="GB/s", form="short")
    for network in ("quicknat-128", "resnet50"):
        at = NETWORKS[network]
        yield Goal(f"roofline/plain/{network}", f"a plain float32 step: {at}", "conv-float32", unit="")
        yield Goal(f"roofline/train/{network}", f"a step as `train` runs it: {at}", "conv of its precision", unit="")
    yield Goal("roofline/predict", "QuickNAT alone, 8 slices of 256² at once", "conv of its precision", unit="")


GOALS: tuple[Goal, ...] = (
    *_importance(),
    *_restraint(),
    *_training(),
    *_prediction(),
    *_evaluation(),
    *_startup(),
    *_growth(),
    *_roofline(),
)

BY_KEY = {goal.key: goal for goal in GOALS}
