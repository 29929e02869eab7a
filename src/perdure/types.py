"""What the values are called that travel between rooms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

if TYPE_CHECKING:
    from torch import Tensor

ParamDict: TypeAlias = "dict[str, Tensor]"
"""Tensors keyed by the names of `torch.nn.Module.named_parameters()`."""

Batch: TypeAlias = "tuple[Tensor, Tensor]"
"""Input `(batch, channels, *spatial)`, float32; target `(batch, *spatial)` or `(batch,)`, int64."""

SumOverProcesses: TypeAlias = "Callable[[Tensor], Tensor]"

Split: TypeAlias = Literal["train", "val", "test"]
Task: TypeAlias = Literal["segmentation", "classification"]
Granularity: TypeAlias = Literal["parameter", "kernel", "filter"]
Statistics: TypeAlias = Literal["target", "original", "frozen", "per-domain", "recalibrated"]
"""What batch norm does in an update, and whose statistics it uses afterwards; `models.training_mode` says each."""

Precision: TypeAlias = Literal["32-true", "bf16-mixed"]
"""Single precision, or convolutions and products in half precision."""

SPLITS: tuple[Split, ...] = ("train", "val", "test")
MAX_VOXELS = 1024**3
"""The most voxels of a volume in a file and on a network's grid, and the most numbers of a training sample."""
IGNORED = 255
"""The target value of a pixel that counts neither in a loss nor in a score (outside the field of view)."""


def one_process(value: Tensor) -> Tensor:
    """The sum over all processes where there is only this one."""
    return value


Length: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


_UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


def unprintable_in(value: object) -> Iterator[str]:
    """The texts in a JSON value that have control characters other than tab and line break.

    Printed, they could make a terminal show, or do, something else.
    """
    left = [value]  # and no recursion: it may be as deep as somebody wants
    while left:
        one = left.pop()
        if isinstance(one, str) and _UNPRINTABLE.search(one):
            yield one
        elif isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            left += one


def printable(text: str) -> str:
    """A text with a space in place of each character that `unprintable_in` finds."""
    return _UNPRINTABLE.sub(" ", text)


def _axis_codes(codes: str) -> str:
    if sorted({"L": "R", "P": "A", "I": "S"}.get(c, c) for c in codes) != ["A", "R", "S"]:
        raise ValueError(f"orientation must name each body axis once, as in 'RAS' or 'LIA'; got {codes!r}")
    return codes


class Value(BaseModel):
    """An immutable value that is stored as JSON; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Structure(Value):
    """One class that a network tells apart.

    Args:
        name: what people call it, for example `left_hippocampus`.
        values: the values in label files (or the class column) that mean it. Several where structures
            were merged; a prediction writes the first.
    """

    name: str
    values: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = Field(min_length=1)


class Intensity(Value):
    """How raw intensities become network input, per image.

    Args:
        scaling: `robust`: per volume, the 99.9th percentile of the non-zero voxels becomes 1, the minimum 0, clipped to
            [0, 1]; `format`: divided by the maximum of the image format (255 or 65535), as in Gupta et al. 2020;
            `zscore`: per image, mean 0 and deviation 1 in the smallest box that holds all that is not zero;
            `zscore-nonzero`: the same of the non-zero voxels alone, holes filled, with zero around them; `window`:
            clipped to `window`, and otherwise as it is (HU of a CT). The last three are those of nnU-Net.
        mean: subtracted afterwards, one a channel (for networks that were trained so).
        std: divided by afterwards, one a channel.
        window: the smallest and the largest intensity, for `window`.
    """

    scaling: Literal["robust", "format", "zscore", "zscore-nonzero", "window"]
    mean: tuple[Finite, ...] | None = None
    std: tuple[Length, ...] | None = None
    window: tuple[Finite, Finite] | None = None

    @model_validator(mode="after")
    def _has_its_window(self) -> Intensity:
        if (self.window is None) == (self.scaling == "window"):
            raise ValueError("`window` is given exactly where intensities are clipped to it (scaling `window`)")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"`window` must be two numbers, the smaller one first; got {self.window}")
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # left out, not null: ids of releases and keys of prepared images cover what stands here
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if name != "window" or value is not None}


class Contract(Value):
    """What a release expects of an image, and what its outputs mean (the input contract).

    Args:
        task: `segmentation` or `classification`.
        modality: free text from `dataset.toml`.
        structures: the classes, in the order of the network's output channels; for segmentation index 0 is background.
        ordinal: whether the classes of a classification are grades in order.
        channels: input channels of the network.
        spatial_dims: 2 for images and slices, 3 for volumes.
        size: what one training sample measures in pixels, one number a spatial dimension. Smaller images are padded,
            slices and volumes that are larger are cropped, 2-D images are resized to it. Prediction is not limited to
            it.
        orientation: axis codes of the network's grid ("LIA"); None for 2-D images.
        spacing: voxel size of the network's grid in mm; None for 2-D images.
        view: the plane in which volumes are cut for a 2-D network; None where nothing is cut.
        resize: how a 2-D image comes to `size`: `fit` keeps the aspect ratio and pads, `stretch` does not.
        intensity: how intensities are scaled.
    """

    task: Task
    modality: str = ""
    structures: tuple[Structure, ...] = Field(min_length=2)
    ordinal: bool = False
    channels: int = Field(ge=1)
    spatial_dims: Literal[2, 3] = 2
    size: tuple[int, ...]
    orientation: Annotated[str, AfterValidator(_axis_codes)] | None = None
    spacing: tuple[Length, Length, Length] | None = None
    view: Literal["coronal", "axial", "sagittal"] | None = None
    resize: Literal["fit", "stretch"] = "fit"
    intensity: Intensity

    @model_validator(mode="after")
    def _is_consistent(self) -> Contract:
        if len(self.size) != self.spatial_dims or min(self.size) < 1:
            raise ValueError(f"size must be {self.spatial_dims} positive numbers of pixels; got {self.size}")
        if math.prod(self.size) * self.channels > MAX_VOXELS:
            raise ValueError(f"size: at most {MAX_VOXELS:,} numbers a sample; got {self.channels} x {self.size}")
        if self.is_volumetric and self.spacing is None:
            raise ValueError("spacing must be three positive lengths in mm; got none")
        if self.is_volumetric and (self.view is None) == (self.spatial_dims == 2):
            raise ValueError("view is given exactly where volumes are cut into slices for a 2-D network")
        if len(self.structures) > IGNORED:
            raise ValueError(f"at most {IGNORED} structures; got {len(self.structures)}")
        return self

    @property
    def is_volumetric(self) -> bool:
        """Whether images are volumes with an affine (NIfTI), not 2-D files."""
        return self.orientation is not None

    @property
    def classes(self) -> int:
        """How many output channels the network has."""
        return len(self.structures)


class Counts(Value):
    """How much of a domain was used: subjects, cases and training samples (slices, patches or images) per split."""

    subjects: dict[str, int]
    cases: dict[str, int]
    samples: dict[str, int]


@runtime_checkable
class Domain(Protocol):
    """What rooms up to `update` see of a domain: its name, its contract, and batches.

    `perdure.data.Dataset.domain` makes one from a folder; anything with these members will do.
    """

    @property
    def name(self) -> str:
        """What the site, scanner or population is called."""
        ...

    @property
    def contract(self) -> Contract:
        """What the tensors in the batches follow."""
        ...

    @property
    def counts(self) -> Counts:
        """How much there is of it."""
        ...

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of the image and its truth, of each case that the train and val splits hold, by case id."""
        ...

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augmentation: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[Batch]:
        """The samples of one split, once each.

        Args:
            split: which split.
            batch_size: samples a batch, over all ranks together. A last batch of fewer than half as many joins the
                one before it, so that batch norm never sees a handful.
            seed: shuffles, and draws augmentations, by this and `epoch`; None keeps the order of the manifest.
            epoch: counted from 0.
            augmentation: whether samples are augmented.
            rank: this process among `ranks`; it gets samples `rank::ranks` of every batch.
            ranks: how many processes share each batch.
        """
        ...

    def steps(self, split: Split, batch_size: int) -> int:
        """How many batches `batches` yields."""
        ...


@runtime_checkable
class CountsSubjects(Protocol):
    """What a `Domain` may do as well: say of how many subjects a few of its samples are.

    A release whose importance was measured on a few samples of a domain that cannot say it does not pass an audit.
    """

    def subjects_drawn(self, samples: int, seed: int) -> int:
        """Of how many subjects the first so many samples are that `batches("train", 1, seed=seed)` yields."""
        ...


Batches: TypeAlias = "Iterable[Batch] | Iterable[Tensor]"
"""Any iterable of (input, target) or of inputs."""
