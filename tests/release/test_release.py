from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import fakes
from counted import calls
from perdure.errors import NetworkError, ReleaseError
from perdure.models import NetworkSpec, QuickNAT
from perdure.release import Accumulated, Memory, Release, read_identity
from perdure.release.release import measures_of, norms_in, with_id
from perdure.release.sameness import predicts_alike
from perdure.update import consolidate
from reference.domains import contract, segmenter, state, tensors_of
from reference.networks import Tied, bits

FILES = ("weights.safetensors", "memory.safetensors", "release.json")


def opened(path: Path) -> Release:
    return Release.open(path, trusted=("reference",))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(bits(one[name]) == bits(other[name]) for name in one)


def test_it_comes_back_bit_for_bit(saved: Release, tmp_path: Path) -> None:
    back = opened(tmp_path / "release")
    assert state(back.model) == state(saved.model)
    assert back.identity == saved.identity
    assert (back.name, back.id, back.contract, back.lineage) == (
        "release",
        saved.id,
        saved.identity.contract,
        saved.identity.lineage,
    )
    assert same(back.memory.anchor, saved.memory.anchor)
    assert same(back.memory.statistics, saved.memory.statistics)
    assert back.memory.axes == saved.memory.axes
    mine, theirs = back.memory.measures["mas"], saved.memory.measures["mas"]
    assert same(mine.weights, theirs.weights)
    assert same(mine.latest, theirs.latest)
    assert (mine.domains, mine.settings) == (2, theirs.settings)
    assert same(back.memory.weights, saved.memory.weights)


def test_the_model_is_ready_for_use(saved: Release, tmp_path: Path) -> None:
    model = opened(tmp_path / "release").model
    assert not any(module.training for module in model.modules())
    x = torch.rand(2, 1, 6, 6)
    assert torch.equal(model(x), saved.model(x))


def test_the_statistics_are_those_of_the_original_domain(saved: Release, tmp_path: Path) -> None:
    """Not those that the model has now, after the second one."""
    back = opened(tmp_path / "release")
    buffers = dict(back.model.named_buffers())
    assert not torch.equal(back.memory.statistics["0.running_mean"], buffers["0.running_mean"])


def test_the_id_is_stable(saved: Release, tmp_path: Path) -> None:
    """Another folder, or a round through a file, changes nothing; another weight does."""
    again = opened(tmp_path / "release").save(tmp_path / "elsewhere")
    assert again.id == saved.id
    with torch.no_grad():
        next(again.model.parameters()).add_(1e-3)
    assert again.save(tmp_path / "changed").id != saved.id


def test_nothing_in_it_is_a_pickle(saved: Release, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    for name in FILES[:2]:
        content = (folder / name).read_bytes()
        header = int.from_bytes(content[:8], "little")
        assert json.loads(content[8 : 8 + header])
    assert json.loads((folder / "release.json").read_text())["id"] == saved.id


def test_no_tensor_in_it_has_a_sample_axis(saved: Release, tmp_path: Path) -> None:
    """Every tensor has the name and shape of a parameter or buffer: 11 and 13 samples were measured."""
    own = {name: tensor.shape for name, tensor in tensors_of(saved.model).items()}
    for file in FILES[:2]:
        for name, tensor in load_file(tmp_path / "release" / file).items():
            parameter = name if file == FILES[0] else name.split("/")[-1]
            assert tensor.shape == own[parameter], name


def test_no_case_subject_or_path_is_in_it(saved: Release, tmp_path: Path) -> None:
    text = (tmp_path / "release" / "release.json").read_text()
    assert "site-a-train" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("where", ["weights", "latest", "statistics"])
@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [
        ("image", (1, 6, 6), "image: the network has no such name"),
        ("1.weight", (13, 1, 3, 3), r"1.weight: found shape"),
    ],
)
def test_a_memory_with_anything_else_is_not_written(
    release: Release, tmp_path: Path, where, name, shape, found
) -> None:
    if where == "statistics" and name != "image":
        found = "1.weight: the network has no such name"
    image = {name: torch.zeros(shape)}
    measure = release.memory.measures["mas"]
    memory = (
        replace(release.memory, statistics=image)
        if where == "statistics"
        else replace(release.memory, measures={"mas": replace(measure, **{where: image})})
    )
    with pytest.raises(ReleaseError, match=f"memory.safetensors: {found}"):
        replace(release, memory=memory).save(tmp_path / "release")
    assert list(tmp_path.iterdir()) == []


def test_a_memory_with_anything_else_is_not_read(release: Release, tmp_path: Path, monkeypatch) -> None:
    """Written by another program, with hashes that are right."""
    monkeypatch.setattr("perdure.release.release._check_memory", lambda *_: None)
    measure = replace(release.memory.measures["mas"], latest={"1.weight": torch.zeros(13, 1, 6, 6)})
    replace(release, memory=replace(release.memory, measures={"mas": measure})).save(tmp_path / "image")
    unsaid = release.identity.model_copy(update={"measures": {}})
    replace(release, identity=unsaid).save(tmp_path / "unsaid")
    monkeypatch.undo()
    with pytest.raises(ReleaseError, match=r"1.weight: found shape \(13, 1, 6, 6\); the network has \(4, 1, 3, 3\)"):
        opened(tmp_path / "image")
    with pytest.raises(ReleaseError, match=r"tensors that a memory cannot have: \['.*/mas/0.bias'"):
        opened(tmp_path / "unsaid")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_byte_is_found_and_its_file_named(saved: Release, tmp_path: Path, name: str, data) -> None:
    file = tmp_path / "release" / name
    content = file.read_bytes()
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    damaged = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
    file.write_bytes(damaged)
    try:
        if name == "release.json" and _means_the_same(damaged, content):
            read_identity(tmp_path / "release")
        else:
            with pytest.raises(ReleaseError, match=f"{name}: "):
                read_identity(tmp_path / "release")
    finally:
        file.write_bytes(content)


def _means_the_same(one: bytes, other: bytes) -> bool:
    """A tab for a space, say."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_named(saved: Release, tmp_path: Path, name: str) -> None:
    file = tmp_path / "release" / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ReleaseError, match=f"{name}: damaged"):
        opened(tmp_path / "release")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved: Release, tmp_path: Path, name: str) -> None:
    (tmp_path / "release" / name).unlink()
    with pytest.raises(ReleaseError, match=f"{name}: missing"):
        opened(tmp_path / "release")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "images"])
def test_an_unknown_file_is_named(saved: Release, tmp_path: Path, name: str) -> None:
    (tmp_path / "release" / name).mkdir() if name == "images" else (tmp_path / "release" / name).write_text("x")
    with pytest.raises(ReleaseError, match=f"{name}: unknown file; the release is not whole"):
        opened(tmp_path / "release")


def test_no_folder_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="nowhere: there is no release folder of this name"):
        opened(tmp_path / "nowhere")


def test_a_changed_json_is_noticed_by_its_id(saved: Release, tmp_path: Path) -> None:
    file = tmp_path / "release" / "release.json"
    content = json.loads(file.read_text())
    content["training"]["epochs"][0]["loss"] = 0.01
    file.write_text(json.dumps(content))
    with pytest.raises(ReleaseError, match=f"its content does not match its id {saved.id[:12]}; it was changed"):
        opened(tmp_path / "release")


def test_another_layout_of_the_json_is_no_change(saved: Release, tmp_path: Path) -> None:
    file = tmp_path / "release" / "release.json"
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert opened(tmp_path / "release").id == saved.id


@pytest.mark.parametrize("version", [2, "1", None])
def test_another_format_is_refused_before_anything_else(saved: Release, tmp_path: Path, version: object) -> None:
    file = tmp_path / "release" / "release.json"
    file.write_text(json.dumps({"format": version, "a field of the future": 1}))
    with pytest.raises(ReleaseError, match=f"release.json: format {version!r}; this version reads format 1"):
        opened(tmp_path / "release")


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format": 1}', "not json", "[" * 100_000])
def test_a_json_of_something_else_is_refused(saved: Release, tmp_path: Path, content: str) -> None:
    (tmp_path / "release" / "release.json").write_text(content)
    with pytest.raises(ReleaseError, match=r"release.json: (damaged|format None)"):
        opened(tmp_path / "release")


def test_code_of_another_package_does_not_run_unless_it_is_trusted(saved: Release, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="'reference', which runs only if you allow it"):
        Release.open(tmp_path / "release")


def test_a_network_of_ones_own_needs_no_trust(saved: Release, tmp_path: Path) -> None:
    network = segmenter()
    back = Release.open(tmp_path / "release", network=network)
    assert back.model is network
    assert state(network) == state(saved.model)


def test_a_network_that_does_not_fit_is_refused_by_the_names_that_differ(saved: Release, tmp_path: Path) -> None:
    network = segmenter(classes=5)
    before = state(network)
    with pytest.raises(ReleaseError, match=r"weights.safetensors: .*segmenter: \['5.bias', '5.weight'\] differ"):
        Release.open(tmp_path / "release", network=network)
    assert state(network) == before


def test_an_existing_folder_is_never_overwritten(saved: Release, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in (tmp_path / "release").iterdir()}
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        saved.save(tmp_path / "release")
    assert {file.name: file.read_bytes() for file in (tmp_path / "release").iterdir()} == before


def test_an_unfinished_folder_is_ignored_and_cleaned_away(release: Release, tmp_path: Path) -> None:
    unfinished = tmp_path / ".release.0123456789ab.unfinished"
    unfinished.mkdir()
    (unfinished / "weights.safetensors").write_bytes(b"half")
    with pytest.raises(ReleaseError, match="release.json: missing; this is no release, or an unfinished one"):
        opened(unfinished)
    release.save(tmp_path / "release")
    assert [entry.name for entry in tmp_path.iterdir()] == ["release"]


def test_a_release_without_a_measure_comes_back(release: Release, tmp_path: Path) -> None:
    memory = Memory(release.memory.anchor, {}, release.memory.statistics)
    identity = release.identity.model_copy(update={"measures": {}})
    replace(release, memory=memory, identity=identity).save(tmp_path / "release")
    assert opened(tmp_path / "release").memory.measures == {}


def test_importance_that_is_kept_for_filters_comes_back(release: Release, tmp_path: Path) -> None:
    memory = consolidate(release.model, [torch.rand(2, 1, 6, 6)], granularity="filter")
    identity = release.identity.model_copy(update={"measures": measures_of(memory)})
    replace(release, memory=memory, identity=identity).save(tmp_path / "release")
    back = opened(tmp_path / "release").memory
    assert back.weights["1.weight"].shape == (4, 1, 1, 1)
    assert same(back.weights, memory.weights)


def test_several_measures_keep_apart(release: Release, tmp_path: Path) -> None:
    """Also where one key is the beginning of another."""
    measure = release.memory.measures["mas"]
    other = Accumulated({"1.bias": torch.ones(4)}, {"1.bias": torch.full((4,), 2.0)}, 1, {"measure": "Other"})
    memory = replace(release.memory, measures={"mas": measure, "mas-other": other})
    identity = release.identity.model_copy(update={"measures": measures_of(memory)})
    replace(release, memory=memory, identity=identity).save(tmp_path / "release")
    back = opened(tmp_path / "release").memory
    assert same(back.importance("mas"), measure.weights)
    assert list(back.importance("mas-other")) == ["1.bias"]
    assert back.measures["mas-other"].settings == {"measure": "Other"}


def test_weights_that_lie_alone_are_written_from_where_they_lie(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of all would take as much memory again as the release has."""
    written: dict[Path, dict[str, Tensor]] = {}

    def watched(tensors: dict[str, Tensor], path: Path) -> None:
        written[path] = tensors
        save_file(tensors, path)

    monkeypatch.setattr("perdure.release.release.save_file", watched)
    release.save(tmp_path / "release")
    weights, memory = written.values()
    own = release.model.state_dict()
    assert all(weights[name].data_ptr() == own[name].data_ptr() for name in own)
    importance = release.memory.measures["mas"].weights
    assert all(memory[f"importance/mas/{name}"].data_ptr() == importance[name].data_ptr() for name in importance)


def test_shared_and_transposed_weights_are_saved(release: Release, tmp_path: Path) -> None:
    """Tensors that share storage, or lie otherwise in memory, have to be copied first."""
    model = Tied()
    with torch.no_grad():
        model.head.weight = nn.Parameter(torch.rand(4, 3).T)
    memory = consolidate(model, [torch.rand(2, 2, 6, 6)])
    identity = with_id(release.identity.model_copy(update={"measures": measures_of(memory)}))
    Release(model, memory, identity, "").save(tmp_path / "release")
    back = Release.open(tmp_path / "release", network=Tied())
    assert state(back.model) == state(model)
    assert back.model.same is back.model.twice


def test_integers_and_half_precision_come_back(release: Release, tmp_path: Path) -> None:
    model = release.model.bfloat16()
    replace(release, model=model).save(tmp_path / "release")
    back = Release.open(tmp_path / "release", network=segmenter().bfloat16())
    assert state(back.model) == state(model)
    assert back.model[0].num_batches_tracked.dtype == torch.int64


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what `release.json` says, and gives it the id of what it says now, as somebody who means harm would."""
    content = json.loads((folder / "release.json").read_text())
    change(content)
    identity = {**content, "id": ""}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    content["id"] = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "release.json").write_text(json.dumps(content))


def test_a_number_that_python_does_not_read_is_damage(saved: Release, tmp_path: Path) -> None:
    file = tmp_path / "release" / "release.json"
    file.write_text(file.read_text().replace('"format": 1', f'"format": 1, "huge": {"9" * 5000}'))
    with pytest.raises(ReleaseError, match=r"release.json: damaged: Exceeds the limit"):
        opened(tmp_path / "release")


@pytest.mark.parametrize("where", ["modality", "domain"])
@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "\x9b31m", "\x00"])
def test_a_text_that_could_steer_a_terminal_is_refused(saved: Release, tmp_path: Path, where: str, text: str) -> None:
    def change(content: dict[str, Any]) -> None:
        place = content["contract"] if where == "modality" else content["domains"][0]
        place[where] = text

    rewritten(tmp_path / "release", change)
    with pytest.raises(ReleaseError, match="release.json: damaged: control characters in"):
        opened(tmp_path / "release")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("contract", "size"), [10**6, 10**6]),
        (("contract", "channels"), 10**9),
        (("contract", "intensity"), {"scaling": "format", "mean": [float("nan")]}),
        (("contract", "intensity"), {"scaling": "format", "std": [0.0]}),
        (("contract", "structures"), [{"name": "a", "values": [-1]}, {"name": "b", "values": [2**70]}]),
        (("domains",), []),
        (("training",), {"epochs": [{"epoch": 1, "loss": "low", "validation_loss": None}]}),
        (("training",), {"epochs": 7}),
        (("training",), {"rates": ["x"]}),
        (("method",), {"name": ["a"]}),
        (("method",), {"name": "a", "regularizer": {"form": "freezing", "fraction": "half"}}),
        (("recipe",), {"learning_rate": "fast"}),
    ],
)
def test_a_record_that_readers_could_not_use_is_refused(
    saved: Release, tmp_path: Path, place: tuple[str, ...], value: object
) -> None:
    """When it is read, and not wherever a number of it is needed."""

    def change(content: dict[str, Any]) -> None:
        *way, last = place
        for step in way:
            content = content[step]
        content[last] = value

    rewritten(tmp_path / "release", change)
    with pytest.raises(ReleaseError, match=r"release.json: damaged: \d+ validation error"):
        read_identity(tmp_path / "release")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["a link out of it", "a pipe"])
def test_a_file_of_a_release_is_a_file_in_its_folder(saved: Release, tmp_path: Path, name: str, what: str) -> None:
    """A pipe would be read for ever, and a link could lead to any file."""
    file = tmp_path / "release" / name
    content = file.read_bytes()
    file.unlink()
    if what == "a pipe":
        os.mkfifo(file)
    else:
        (tmp_path / "elsewhere").write_bytes(content)
        file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match=f"{name}: is no file of this folder"):
        opened(tmp_path / "release")


def test_a_release_that_asks_for_a_network_far_larger_than_its_weights_is_refused(tmp_path: Path) -> None:
    """A hundred bytes of JSON could fill the memory otherwise."""
    network = QuickNAT(in_channels=1, classes=3, filters=2, kernel_size=3)
    made = fakes.release(network, contract())
    network_spec = NetworkSpec(factory="quicknat", arguments={"filters": 10**6, "kernel_size": 3})
    replace(made, identity=made.identity.model_copy(update={"network": network_spec})).save(tmp_path / "release")
    with pytest.raises(NetworkError, match="it would take far more memory than its weights"):
        Release.open(tmp_path / "release")


def test_a_domain_may_be_called_as_another_with_something_behind_a_slash(release: Release, tmp_path: Path) -> None:
    """The batch norm of `site-a/3T` is not one of `site-a`."""
    own = {name: value for name, value in release.model.state_dict().items() if name.startswith("0.")}
    norms = {"site-a": own, "site-a/3T": {name: value + 1 for name, value in own.items()}}
    seen = release.identity.domains[0]
    identity = release.identity.model_copy(update={"domains": (seen, seen.model_copy(update={"domain": "site-a/3T"}))})
    replace(release, memory=replace(release.memory, norms=norms), identity=identity).save(tmp_path / "release")
    back = opened(tmp_path / "release").memory.norms
    assert back.keys() == norms.keys()
    assert all(same(back[domain], norms[domain]) for domain in norms)
    assert predicts_alike(tmp_path / "release", tmp_path / "release", "site-a")


def test_twice_as_many_domains_take_twice_as_long_to_sort_their_batch_norms() -> None:
    def steps(number: int) -> int:
        domains = [f"site-{n}" for n in range(number)]
        flat = {f"norm/{domain}/{name}": torch.zeros(1) for domain in domains for name in ("0.weight", "0.bias")}
        identity = fakes.release(nn.Identity(), contract(), learnt=domains).identity
        return calls(lambda: norms_in(flat, identity, Path("memory.safetensors")))

    assert steps(80) < 2.2 * steps(40)


def test_a_batch_norm_of_a_domain_that_was_not_learnt_is_refused(release: Release, tmp_path: Path) -> None:
    norms = {"elsewhere": {"0.weight": release.model.state_dict()["0.weight"]}}
    replace(release, memory=replace(release.memory, norms=norms)).save(tmp_path / "release")
    with pytest.raises(
        ReleaseError, match=r"release/memory.safetensors: norm/elsewhere/0.weight: a batch norm of a domain that"
    ):
        opened(tmp_path / "release")


def test_a_full_disk_is_told_and_leaves_nothing(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("perdure.release.release.save_file", full)
    with pytest.raises(ReleaseError, match=rf"{tmp_path / 'release'}: cannot be written: .*No space left on device"):
        release.save(tmp_path / "release")
    assert list(tmp_path.iterdir()) == []
