"""A clean release passes, and whatever is planted in one is found at its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import perdure
import synthetic
from audited import Sealed, domain_in
from perdure.errors import ReleaseError
from perdure.evidence.audit import Kind, Objection, audit
from perdure.importance import MAS, SI, Fisher, Uniform
from perdure.methods import measure_named
from perdure.models import NetworkSpec
from perdure.update import Recipe

WEIGHTS, MEMORY, RECORD = "weights.safetensors", "memory.safetensors", "release.json"
IMAGE = torch.rand(3, 32, 32)


def kinds(objections: tuple[Objection, ...]) -> set[tuple[str, str, str]]:
    return {(one.kind, one.file, one.field) for one in objections}


@pytest.mark.parametrize("name", ["base", "b"])
def test_a_release_as_it_is_written_passes(line: Path, name: str) -> None:
    found = audit(line / name)
    assert found.objections == ()
    assert found.is_passed
    assert found.tensors > 200
    assert set(found.files) == {WEIGHTS, MEMORY, RECORD}


NETWORKS: dict[str, tuple[str, dict[str, Any], Callable[..., Path]]] = {
    "resnet50": ("resnet50", {}, synthetic.write_classes),
    "unet": ("monai:UNet", {"channels": [4, 8], "strides": [2]}, synthetic.write_images),
    "unet, batch norm": ("monai:UNet", {"channels": [4, 8], "strides": [2], "norm": "batch"}, synthetic.write_images),
    "densenet": ("monai:DenseNet121", {"block_config": [2, 2], "init_features": 8}, synthetic.write_classes),
    # `relative_position_index`, 49 rows of 49 positions, looks like data and is not
    "swin unetr": ("monai:SwinUNETR", {"feature_size": 12}, synthetic.write_images),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_of_other_kinds_pass(name: str, tmp_path: Path) -> None:
    factory, arguments, write = NETWORKS[name]
    write(tmp_path / "data", domains=("a",), cases=(6, 1, 1), size=(32, 32))
    network = NetworkSpec(factory=factory, arguments=arguments)
    perdure.adopt(network, domain_in(tmp_path / "data", "a"), measures=(Uniform(),), out=tmp_path / "r")
    found = audit(tmp_path / "r")
    assert found.objections == ()
    assert found.tensors > 0


def test_every_measure_passes(line: Path, tmp_path: Path) -> None:
    network = perdure.QuickNAT(in_channels=3, classes=2, filters=2, kernel_size=3)
    measures = (MAS(), Fisher(), SI(), Uniform(), measure_named("mas-authors"))
    recipe = Recipe(epochs=1)
    perdure.train(network, domain_in(line / "data", "site-a"), recipe=recipe, measures=measures, out=tmp_path / "r")
    assert audit(tmp_path / "r").objections == ()


def key(content: dict[str, Any], name: str, value: Any) -> None:
    content[name] = value


def entry(*way: str | int, **values: Any) -> Callable[[Sealed], None]:
    """Plants values under a place of `release.json`."""

    def plant(release: Sealed) -> None:
        def change(content: dict[str, Any]) -> None:
            holder: Any = content
            for step in way:
                holder = holder[step]
            holder.update(values)

        release.record(change)

    return plant


def tensor(file: str, name: str, value: Tensor) -> Callable[[Sealed], None]:
    return lambda release: release.tensors(file, lambda content: key(content, name, value))


def changed(file: str, name: str, how: Callable[[Tensor], Tensor]) -> Callable[[Sealed], None]:
    return lambda release: release.tensors(file, lambda content: key(content, name, how(content[name])))


def text(before: str, after: str) -> Callable[[Sealed], None]:
    """Changes the characters of `release.json`, which are not written anew afterwards."""

    def plant(release: Sealed) -> None:
        file = release.path / RECORD
        assert before in file.read_text()
        file.write_text(file.read_text().replace(before, after, 1))

    return plant


def _with_gap(content: bytes) -> bytes:
    """256 bytes between the first tensor and the second."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    (_, first), *rest = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    end = first["data_offsets"][1]
    for _, one in rest:
        one["data_offsets"] = [offset + 256 for offset in one["data_offsets"]]
    plain = json.dumps(header, separators=(",", ":")).encode()
    plain += b" " * (-len(plain) % 8)
    data = content[8 + length :]
    return len(plain).to_bytes(8, "little") + plain + data[:end] + b"JANE DOE" * 32 + data[end:]


def _with_long_header(content: bytes) -> bytes:
    length = int.from_bytes(content[:8], "little")
    return (length + 64).to_bytes(8, "little") + content[8 : 8 + length] + b" \t" * 32 + content[8 + length :]


PLANTED: dict[str, tuple[Callable[[Sealed], None], str, str, str]] = {
    "a file": (lambda r: (r.path / "scan.nii.gz").write_bytes(b"x"), "file", "scan.nii.gz", "name"),
    "a hidden file": (lambda r: (r.path / ".DS_Store").write_bytes(b"x"), "file", ".DS_Store", "name"),
    "a folder": (lambda r: (r.path / "images").mkdir(), "file", "images", "name"),
    "another file under a name": (
        lambda r: (r.path / WEIGHTS).write_bytes((r.path / MEMORY).read_bytes()), "integrity", WEIGHTS, "SHA-256",
    ),
    "a file that is missing": (lambda r: (r.path / MEMORY).unlink(), "integrity", MEMORY, "name"),
    "another record": (text('"origin": "updated"', '"origin": "trained"'), "integrity", RECORD, "id"),
    "metadata of a tensor file": (
        lambda r: r.tensors(MEMORY, lambda t: None, metadata={"note": "Doe, Jane"}), "bytes", MEMORY, "__metadata__",
    ),
    "bytes after the last tensor": (lambda r: r.bytes(WEIGHTS, lambda b: b + b"Jane"), "bytes", WEIGHTS, "data bytes"),
    "bytes between tensors": (lambda r: r.bytes(WEIGHTS, _with_gap), "bytes", WEIGHTS, "data bytes"),
    "a header with more in it": (lambda r: r.bytes(WEIGHTS, _with_long_header), "bytes", WEIGHTS, "header"),
    "a tensor of another name": (tensor(MEMORY, "note", torch.arange(3.0)), "tensor", MEMORY, "note"),
    "an image in the memory": (tensor(MEMORY, "importance/mas/scan", IMAGE), "image", MEMORY, "importance/mas/scan"),
    "an image in the weights": (tensor(WEIGHTS, "template", IMAGE), "image", WEIGHTS, "template"),
    "statistics with a sample axis": (
        tensor(MEMORY, "statistics/encode1.batchnorms.0.running_mean", torch.rand(6, 3)),
        "sample axis", MEMORY, "statistics/encode1.batchnorms.0.running_mean",
    ),
    "importance of each sample": (
        lambda r: r.tensors(MEMORY, _per_sample), "sample axis", MEMORY, "importance/mas/",
    ),
    "norms of a domain that was never learnt": (
        tensor(MEMORY, "norm/site-c/encode1.batchnorms.0.running_mean", torch.rand(3)), "tensor", MEMORY, "norm/site-c",
    ),
    "bits in a NaN": (
        lambda r: r.tensors(WEIGHTS, _nan), "values", WEIGHTS, "",
    ),
    "importance below 0": (lambda r: r.tensors(MEMORY, _negative), "values", MEMORY, "importance/mas/"),
    "weights in another type": (lambda r: r.tensors(WEIGHTS, _double), "tensor", WEIGHTS, ""),
    "an extra key": (entry(patient="x"), "key", RECORD, "patient"),
    "an extra key below": (entry("domains", 0, subjects=["x"]), "key", RECORD, "domains.0.subjects"),
    "an extra key of the training": (entry("training", cases=3), "key", RECORD, "training.cases"),
    "an extra key of a recipe": (entry("recipe", comment="x"), "key", RECORD, "recipe.comment"),
    "an extra split": (entry("domains", 0, "counts", "subjects", dropped=1), "key", RECORD, "counts.subjects.dropped"),
    "the same key twice": (text('"format": 1,', '"format": 1, "format": 1,'), "key", RECORD, "format"),
    "spaces that a parser passes over": (text('"format": 1,', '"format":  1,'), "form", RECORD, "character"),
    "an escape": (text('"origin"', '"\\u006frigin"'), "form", RECORD, "character"),
    "digits beyond 64 bits": (text('"decay": 0.5', '"decay": 0.500000000000000019760731'), "form", RECORD, "numbers"),
    "a list as long as an image": (
        entry("network", "arguments", extra=list(range(100))), "form", RECORD, "network.arguments.extra",
    ),
    "text for a number": (entry("training", report={"x": "y"}), "form", RECORD, "training.report.x"),
    "text for a hash": (entry("domains", 0, data="site a, 2020"), "form", RECORD, "domains.0.data"),
    "text for a version": (entry("versions", torch="John"), "form", RECORD, "versions.torch"),
    "text for a time": (entry(created="yesterday"), "form", RECORD, "created"),
    "a name in a text": (entry("contract", modality="MR of Doe^Jane"), "text", RECORD, "contract.modality"),
    "a name in a key": (entry("network", "arguments", jane_doe=1), "text", RECORD, "network.arguments.jane_doe"),
    "a number in a setting": (entry("network", "arguments", extra=48151623), "text", RECORD, "network.arguments.extra"),
    "an invisible letter": (entry("contract", modality="M\u200bR"), "unicode", RECORD, "contract.modality"),
    "a domain of two subjects": (
        entry("domains", 1, "counts", subjects={"train": 2, "val": 9, "test": 9}),
        "few subjects", RECORD, "domains.1.counts.subjects.train",
    ),
    "a hash of two subjects": (
        entry("domains", 1, "counts", subjects={"train": 1, "val": 1, "test": 9}), "hash", RECORD, "domains.1.data",
    ),
    "importance on one sample": (
        entry("measures", "mas", samples=1), "few subjects", RECORD, "measures.mas.samples",
    ),
    "importance on one sample of the newest domain": (
        entry("recipe", importance_samples=1), "few subjects", RECORD, "recipe.importance_samples",
    ),
    "a network that nobody trusts": (entry("network", factory="their.nets:Net"), "network", RECORD, "network.factory"),
}  # fmt: skip


def _first(content: dict[str, Tensor], prefix: str = "") -> str:
    return next(name for name in sorted(content) if name.startswith(prefix) and content[name].ndim == 4)


def _per_sample(content: dict[str, Tensor]) -> None:
    name = _first(content, "importance/mas/")
    content[name] = content[name].expand(6, *content[name].shape).contiguous()


def _nan(content: dict[str, Tensor]) -> None:
    content[_first(content)].view(-1)[0] = float("nan")


def _negative(content: dict[str, Tensor]) -> None:
    content[_first(content, "importance/mas/")].view(-1)[0] = -1


def _double(content: dict[str, Tensor]) -> None:
    content[_first(content)] = content[_first(content)].double()


@pytest.mark.parametrize("what", list(PLANTED))
def test_what_is_planted_is_found_at_its_place(what: str, copied: Callable[[], Sealed]) -> None:
    plant, kind, file, field = PLANTED[what]
    release = copied()
    plant(release)
    found = audit(release.path)
    assert not found.is_passed
    assert [one for one in found.objections if (one.kind, one.file) == (kind, file) and field in one.field]
    for one in found.objections:
        assert one.found
        assert one.why.endswith(".")
        assert one.what_to_do.endswith(".")


def test_every_kind_is_planted_or_has_a_test_of_its_own() -> None:
    assert {kind for _, kind, _, _ in PLANTED.values()} | {"buffer"} == set(get_args(Kind))


class Templates(torch.nn.Module):
    """A network that keeps images, in a buffer or in a parameter, and a row for each of its patients."""

    def __init__(self, kept: str = "nothing") -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(3, 2, 1)
        shape = {"patients": (6, 5), "small": (3, 2)}.get(kept, (3, 32, 32))
        if kept in ("buffer", "small"):
            self.register_buffer("kept", torch.zeros(shape))
        elif kept != "nothing":
            self.kept = torch.nn.Parameter(torch.zeros(shape))
        self.register_buffer("index", torch.arange(49 * 49).reshape(49, 49))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) + (0 * self.kept.mean() if hasattr(self, "kept") else 0)


@pytest.mark.parametrize(
    ("kept", "kind"), [("buffer", "image"), ("small", "buffer"), ("parameter", "image"), ("patients", "sample axis")]
)
def test_what_a_network_keeps_of_its_own_is_found_though_its_names_and_shapes_fit(
    kept: str, kind: str, line: Path, tmp_path: Path
) -> None:
    network = Templates(kept)
    with torch.no_grad():
        network.kept.copy_(torch.rand(network.kept.shape))
    perdure.adopt(network, domain_in(line / "data", "site-a"), measures=(Uniform(),), out=tmp_path / "r")
    found = audit(tmp_path / "r", network=Templates(kept)).objections
    assert kinds(found) == {(kind, WEIGHTS, "kept")}


def test_an_index_of_positions_is_no_image(line: Path, tmp_path: Path) -> None:
    perdure.adopt(Templates(), domain_in(line / "data", "site-a"), measures=(Uniform(),), out=tmp_path / "r")
    assert audit(tmp_path / "r", network=Templates()).objections == ()


def test_a_true_or_false_tensor_holds_nothing_but_zeros_and_ones(line: Path, tmp_path: Path) -> None:
    release = perdure.update(
        perdure.Release.open(line / "base"), domain_in(line / "data", "site-b"), method=perdure.methods.mas_fix(),
        recipe=Recipe(epochs=1), out=tmp_path / "r",
    )  # fmt: skip
    assert release.memory.frozen
    assert audit(tmp_path / "r").objections == ()
    planted = Sealed(tmp_path / "r")
    planted.bytes(MEMORY, lambda content: _patched(content, b"\7"))
    assert [one.kind for one in audit(planted.path).objections] == ["bytes"]


def _patched(content: bytes, byte: bytes) -> bytes:
    """The first byte of the first boolean tensor replaced."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    at = 8 + length + next(one for one in header.values() if one["dtype"] == "BOOL")["data_offsets"][0]
    return content[:at] + byte + content[at + 1 :]


def test_fewer_subjects_may_be_asked_for(line: Path) -> None:
    assert audit(line / "b", fewest_subjects=6).is_passed
    found = audit(line / "b", fewest_subjects=7).objections
    assert {"domains.0.counts.subjects.train", "domains.1.counts.subjects.train"} <= {one.field for one in found}
    with pytest.raises(ValueError, match="at least 1"):
        audit(line / "b", fewest_subjects=0)


def test_what_a_person_accepts_stays_on_the_list(copied: Callable[[], Sealed]) -> None:
    release = copied()
    entry("contract", modality="seen at St. Mary")(release)
    (one,) = audit(release.path).objections
    found = audit(release.path, accepted=[one.place])
    assert found.is_passed
    assert [one.is_accepted for one in found.objections] == [True]
    with pytest.raises(ReleaseError, match="nothing to accept at release.json:modality"):
        audit(release.path, accepted=["release.json:modality"])


def test_a_name_is_masked_in_the_audit_itself(copied: Callable[[], Sealed]) -> None:
    release = copied()
    entry("contract", modality="MR of Doe^Jane, 48151623")(release)
    assert not {"Doe", "Jane", "48151623"} & set(audit(release.path).model_dump_json().replace("^", " ").split())


@pytest.mark.parametrize("content", ["", "{", "[1", "\x00"])
def test_a_record_that_is_no_json_is_a_failure(line: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(line / "b", tmp_path / "r")
    (tmp_path / "r" / RECORD).write_text(content)
    with pytest.raises(ReleaseError, match="release.json: damaged"):
        audit(tmp_path / "r")
