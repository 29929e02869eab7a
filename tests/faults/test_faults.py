"""After any fault nothing is lost and nothing half-written is taken for whole, and the same command goes on.

`make reliability` lets faults happen at every moment and writes docs/reliability.md; here are a few of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import pacs
from faults.damage import damaged, kinds
from faults.lab import Lab
from faults.sweep import World, at_once, on_a_read_only_disk, on_a_small_disk


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(folder))
        address = stack.enter_context(pacs.orthanc(folder / "pacs")) if pacs.is_here() else ""
        yield World(folder, lab, pacs=address)


@pytest.mark.parametrize(
    ("name", "kind", "places"),
    [
        ("train", "full", (0.6,)),
        ("declare", "error", (0.9,)),
        ("update", "error", (0.93,)),
        ("evaluate", "kill", (0.9,)),
        ("gate", "kill", (0.6,)),
        ("approve", "kill", (0.7,)),
        ("predict", "kill", (0.6,)),
        ("report", "full", (0.5,)),
        ("rollback", "kill", (0.5,)),
        ("key", "kill", (0.5, 0.7)),
        ("evaluate signed", "full", (0.9,)),
        ("evaluate remote", "kill", (0.9,)),
        ("benchmark", "kill", (0.8,)),
        ("import", "error", (0.2,)),
        ("import msd", "kill", (0.7,)),
        ("import bids", "full", (0.5,)),
        ("import dicom", "kill", (0.8,)),
        ("export", "full", (0.5,)),
        ("adopt", "kill", (0.7,)),
        ("adopt nnunet", "full", (0.9,)),
        ("export onnx", "kill", (0.6,)),
        ("predict volumes", "kill", (0.6,)),
        ("predict dicom-seg", "error", (0.6,)),
        ("predict mgz", "full", (0.6,)),
        ("predict bids", "kill", (0.5,)),
        ("predict dicomweb", "kill", (0.7,)),
    ],
)
def test_a_command_that_failed_leaves_nothing_half_written_and_goes_on(
    world: World, name: str, kind: str, places: tuple[float, ...]
) -> None:
    if name not in world.scenarios:
        pytest.skip("no Orthanc: apt-get install orthanc orthanc-dicomweb")
    moments = [max(1, round(place * world.operations[name])) for place in places]
    found = world.faults(name, kind, moments)
    assert found.wrong == []
    assert found.stopped == len(moments)


def test_a_fault_is_seen_where_it_is_not_borne(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab itself: a result that differs, and a file that is half there, are found."""
    monkeypatch.setitem(world.digests, "key", ["another"])
    (found,) = world.faults("key", "kill", [3]).wrong
    assert found == "kill at 3: run again: another result"
    (world.work / "half.parquet").write_bytes(b"PAR1")
    assert any("half.parquet" in what for what in world.half_written())


@pytest.mark.parametrize("name", ["gate", "import dicom", "predict mgz", "evaluate signed"])
def test_a_disk_that_is_full_or_read_only_is_named_and_the_command_goes_on(world: World, name: str) -> None:
    try:
        outcomes = [on_a_small_disk(world, name, step=2**16), on_a_read_only_disk(world, name)]
    except OSError as error:
        pytest.skip(str(error))
    assert [one.wrong for one in outcomes] == [[], []]
    assert [one.stopped > 0 for one in outcomes] == [True, True]


@pytest.mark.parametrize("name", ["export", "adopt", "predict mgz", "evaluate"])
def test_of_two_at_once_one_makes_it_and_the_other_is_told_why_not(
    world: World, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Lab(tmp_path_factory.mktemp("second")) as other:
        assert at_once(world, other, name, times=1).wrong == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


def test_what_is_read_of_a_damaged_file_is_what_was_written_or_it_is_refused(whole: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of damage too
        found = [damaged(kind, times=8) for kind in kinds(whole)]
    assert [(one.kind, one.wrong) for one in found if one.wrong] == []
    assert len(found) > 15
    assert sum(one.refused for one in found) > len(found) * 5
