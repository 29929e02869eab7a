from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from perdure.errors import NetworkError, ReleaseError
from perdure.release import Accumulated, Memory, Release, read_identity
from perdure.release.release import measures_of, with_id
from perdure.update import consolidate
from reference.domains import segmenter, state, tensors_of
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
