"""A clean release passes, and whatever is planted in one is found at its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import fakes
import perdure
import synthetic
from audited import Sealed, domain_in
from counted import calls
from perdure.errors import ReleaseError
from perdure.evidence.audit import Kind, Objection, audit
from perdure.evidence.audit.tensors import memory_objections
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
    "an image in the intensities": (
        entry("domains", 0, intensities=torch.rand(32, 32).round(decimals=6).tolist()),
        "form", RECORD, "domains.0.intensities",
    ),
    "a row for each patient in the intensities": (
        entry("domains", 0, intensities=[[(i + j) / 64 for i in range(32)] for j in range(6)]),
        "form", RECORD, "domains.0.intensities",
    ),
    "intensities that fall": (
        entry("domains", 1, intensities=[[1 - i / 32 for i in range(32)]] * 3), "form", RECORD, "domains.1.intensities",
    ),
    "intensities above 1": (
        entry("domains", 1, intensities=[[float(i) for i in range(32)]] * 3), "form", RECORD, "domains.1.intensities",
    ),
    "digits behind those of intensities": (
        entry("domains", 1, intensities=[[(i + 1e-9) / 32 for i in range(32)]] * 3),
        "form", RECORD, "domains.1.intensities",
    ),
    "an image in a recipe": (
        entry("recipe", milestones=torch.rand(8, 8).tolist()), "form", RECORD, "recipe.milestones.0",
    ),
    "as many milestones as an image has pixels": (
        entry("recipe", milestones=torch.rand(49).tolist()), "form", RECORD, "recipe",
    ),
    "a row for each patient in a method": (
        entry("method", rate=[[48.1, 1.0], [51.6, 0.0]]), "form", RECORD, "method",
    ),
    "a row for each patient in the settings of a measure": (
        entry("measures", "mas", "settings", rows=[[48.1, 1.0], [51.6, 0.0]]),
        "form", RECORD, "measures.mas.settings",
    ),
    "another setting of a form": (
        entry("method", "regularizer", age=61), "form", RECORD, "method",
    ),
    "a measure under another name": (
        lambda r: r.record(lambda c: c["measures"].update(ward=c["measures"].pop("mas"))),
        "form", RECORD, "measures.ward",
    ),
    "an image in a report": (
        entry("training", report={"x": torch.rand(8, 8).tolist()}), "form", RECORD, "training.report.x",
    ),
    "a row for each patient in the epochs": (
        lambda r: r.record(lambda c: c["training"].update(epochs=c["training"]["epochs"] * 6)),
        "form", RECORD, "training.epochs",
    ),
    "an image in the arguments of a network": (
        entry("network", "arguments", extra=[[i, j, i * j] for i in range(8) for j in range(8)]),
        "form", RECORD, "network.arguments",
    ),
    "a row for each patient in the mean of a channel": (
        entry("contract", "intensity", mean=[0.1] * 6, std=[0.1] * 6), "form", RECORD, "contract.intensity.mean",
    ),
    "values of structures twice": (
        entry("contract", "structures", 1, values=[1, 1, 1]), "form", RECORD, "contract.structures",
    ),
    "a number as of a person among epochs": (entry("recipe", epochs=48151623), "text", RECORD, "recipe.epochs"),
    "a number as of a person in a report": (
        entry("training", report={"x": 48151623.0}), "text", RECORD, "training.report.x",
    ),
    "a number as of a person among counts": (
        entry("domains", 0, "counts", cases={"train": 48151623, "val": 5, "test": 5}),
        "text", RECORD, "domains.0.counts.cases.train",
    ),
    "a number as of a person among samples": (
        entry("domains", 0, "counts", samples={"train": 48151623, "val": 5, "test": 5}),
        "form", RECORD, "domains.0.counts",
    ),
    "more subjects than cases": (
        entry("domains", 0, "counts", subjects={"train": 61, "val": 5, "test": 5}), "form", RECORD, "domains.0.counts",
    ),
    "a domain more than releases": (
        lambda r: r.record(lambda c: c["domains"].append(c["domains"][0] | {"domain": "site-z"})),
        "form", RECORD, "domains",
    ),
    "text that a parser takes for a number": (entry("contract", channels="3"), "form", RECORD, "contract.channels"),
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
    "importance on many slices of one subject": (
        entry("measures", "mas", subjects=1), "few subjects", RECORD, "measures.mas.samples",
    ),
    "importance on some slices of nobody knows whom": (
        lambda r: r.record(lambda c: c["measures"]["mas"].update(samples=11) or c["measures"]["mas"].pop("subjects")),
        "few subjects", RECORD, "measures.mas.samples",
    ),
    "a validation loss of one subject": (
        lambda r: r.record(lambda c: c["training"]["epochs"][0].update(validation_loss=0.7)),
        "few subjects", RECORD, "training.epochs",
    ),
    "a validation loss of one subject among those of rates": (
        entry("training", rates=[{"rate": 1.0, "validation_loss": 0.7}]), "few subjects", RECORD, "training.rates",
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


def test_importance_on_slices_of_one_subject_does_not_pass_and_on_those_of_many_does(tmp_path: Path) -> None:
    """Of six volumes with some twenty slices each a few slices may be of one, however many they are."""
    synthetic.write_volumes(tmp_path / "data", domains=("site-a",), cases=(6, 1, 1))
    domain = domain_in(tmp_path / "data", "site-a")
    network = perdure.QuickNAT(in_channels=1, classes=domain.contract.classes, filters=2, kernel_size=3)
    seed = next(seed for seed in range(40) if domain.subjects_drawn(6, seed) < 5)
    for samples, is_passed in ((6, False), (30, True)):
        out = tmp_path / f"r{samples}"
        release = perdure.adopt(network, domain, measures=(MAS(),), samples=samples, seed=seed, out=out)
        assert release.identity.measures["mas"].samples == samples
        assert release.identity.measures["mas"].subjects == domain.subjects_drawn(samples, seed)
        assert audit(out).is_passed == is_passed


def test_a_validation_loss_of_few_subjects_never_comes_into_a_release(line: Path, tmp_path: Path) -> None:
    network = perdure.QuickNAT(in_channels=3, classes=2, filters=2, kernel_size=3)
    for val, is_kept in ((4, False), (5, True)):
        synthetic.write_images(tmp_path / f"d{val}", domains=("site-a",), cases=(6, val, 1), size=(32, 32))
        domain = domain_in(tmp_path / f"d{val}", "site-a")
        out = tmp_path / f"r{val}"
        release = perdure.train(network, domain, recipe=Recipe(epochs=2, patience=1), measures=(Uniform(),), out=out)
        losses = [epoch["validation_loss"] for epoch in release.identity.training["epochs"]]
        assert [loss is not None for loss in losses] == [is_kept] * len(losses)
        assert 1 <= release.identity.training["kept_epoch"] <= len(losses)
        assert audit(out).objections == ()


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


def test_twice_as_many_domains_take_twice_as_long_to_look_at() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1))

    def steps(number: int) -> int:
        domains = [f"site-{n}" for n in range(number)]
        memory = {f"norm/{one}/{name}": value for one in domains for name, value in network.state_dict().items()}
        identity = fakes.release(network, fakes.picture_contract(), learnt=domains).identity
        return calls(lambda: list(memory_objections(memory, network, identity)))

    assert steps(80) < 2.2 * steps(40)
