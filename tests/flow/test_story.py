"""The whole story through the command line, for every kind of data: train, update, evaluate, predict, inspect."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import synthetic
from command import Command, quietly
from perdure.evaluation import Scores
from perdure.release import Release

NETWORK = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, in_channels: int, num_classes: int, features: int = 4) -> None:
        super().__init__(
            nn.Conv2d(in_channels, features, 3, padding=1), nn.BatchNorm2d(features), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * features, num_classes),
        )
"""


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Args:
        write: makes the data folder.
        train: what `train` needs besides the data.
        metric: what is scored.
    """

    write: Callable[[Path], Path]
    train: tuple[object, ...]
    metric: str
    trust: tuple[str, ...] = ()


def volumes(folder: Path) -> Path:
    return synthetic.write_volumes(folder, shape=(11, 14, 10), orientation="PIR")


KINDS = {
    "volumes, 2-D": Kind(volumes, ("--spacing", 2, "--filters", 4, "--kernel-size", 3, "--size", 16), "dice"),
    "volumes, 3-D": Kind(
        volumes,
        ("--spacing", 2, "--dims", 3, "--network", "monai:UNet", "--size", 8,
         "--network-arg", "channels=[4,8]", "--network-arg", "strides=[2]"),
        "dice",
    ),
    "pictures": Kind(synthetic.write_images, ("--filters", 4, "--kernel-size", 3, "--size", 32), "dice"),
    "classes": Kind(
        lambda folder: synthetic.write_classes(folder, cases=(6, 2, 4), size=(20, 24)),
        ("--network", "net_of_the_story:Net", "--network-arg", "features=3", "--size", 16, "--augment"),
        "kappa",
        ("--trust", "net_of_the_story"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Story:
    """Where everything is."""

    kind: Kind
    folder: Path
    domains: tuple[str, str]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def candidate(self) -> Path:
        return self.folder / "candidate"

    @property
    def both(self) -> tuple[object, ...]:
        return "--release", self.base, "--release", self.candidate, "--data", self.data, *self.kind.trust


@pytest.fixture(scope="module", params=KINDS, ids=lambda name: name.replace(", ", " "))
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    kind = KINDS[request.param]
    kind.write(folder / "data")
    (folder / "net_of_the_story.py").write_text(NETWORK)
    first, second = sorted(path.name for path in (folder / "data" / "images").iterdir())
    made = Story(kind, folder, (first, second))
    shared = ("--data", made.data, "--epochs", 1, "--batch-size", 4, *kind.trust)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        quietly("train", "--domain", first, *shared, *kind.train, "--out", made.base)
        quietly(
            "update", "--release", made.base, "--domain", second, "--method", "mas-lr", *shared, "--out", made.candidate
        )
        yield made


def test_evaluate_prints_matrix_and_measures_and_writes_every_score(story: Story, command: Command) -> None:
    out = story.folder / "scores.parquet"
    text = command.succeeds("evaluate", *story.both, "--out", out).out
    first, second = story.domains
    assert f"on {first}" in text
    assert "REM" in text
    assert "no update" in text
    assert f"{second} was learnt last" in text
    assert f"Scores written to {out}" in text
    scores = Scores.read(out)
    assert [release.name for release in scores.header.releases] == ["base", "candidate"]
    assert scores.header.domains == (first, second)


def test_json_is_all_of_it_and_nothing_else(story: Story, command: Command) -> None:
    ended = command.succeeds("evaluate", *story.both, "--out", story.folder / "again.parquet", "--json")
    matrix = ended.json["matrices"]["candidate"]
    assert (matrix["metric"], matrix["domains"]) == (story.kind.metric, list(story.domains))
    assert np.shape(matrix["R"]) == (2, 2)
    assert {(row["name"], row["domain"]) for row in ended.json["scores"]} == {
        (name, domain) for name in ("base", "candidate") for domain in story.domains
    }
    # progress went elsewhere
    assert "scoring cases" in ended.err


def test_evaluate_takes_single_domains_and_other_splits(story: Story, command: Command) -> None:
    first = story.domains[0]
    words = ("--domain", first, "--domain", first, "--split", "val", "--out", story.folder / "val.parquet", "--json")
    record = command.succeeds("evaluate", *story.both, *words).json
    assert record["split"] == "val"
    assert {row["domain"] for row in record["scores"]} == {first}
    assert "not scored" in record["no_matrix"]["candidate"]


def test_distances_of_surfaces_are_scored_where_they_are_asked_for(story: Story, command: Command) -> None:
    out = story.folder / "far.parquet"
    words = ("evaluate", *story.both, "--surface-distance", "--out", out, "--json")
    if story.kind.metric == "kappa":
        ended = command(*words)
        assert ended.code == 1
        assert "Surface distances are of the structures of a segmentation" in ended.err
        assert not out.exists()
        return
    record, plain = command.succeeds(*words).json, story.folder / "plain.parquet"
    unit = "pixels" if story.domains[0].startswith("camera") else "mm"
    assert {row["unit"] for row in record["scores"] if row["metric"] in ("hd95", "assd")} == {unit}
    command.succeeds("evaluate", *story.both, "--out", plain)
    with_distances, without = Scores.read(out), Scores.read(plain)
    assert with_distances.header.unit == unit
    assert_frame_equal(with_distances.table.filter(pl.col("metric") == "dice"), without.table)
    # whatever there is of Dice, there is of both distances, but for what only one side has
    counts = with_distances.table.group_by("metric").len()
    assert set(counts["len"]) == {len(without.table)}


def test_predictions_overlay_their_inputs(story: Story, command: Command) -> None:
    source, out = story.data / "images", story.folder / "predicted"
    words = ("predict", "--release", story.candidate, "--input", source, "--out", out, *story.kind.trust, "--json")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    record = command.succeeds(*words).json
    assert (len(record["written"]), record["skipped"], record["failed"]) == (len(files), 0, {})
    if story.kind.metric == "kappa":
        with (out / "predictions.csv").open(newline="") as table:
            rows = list(csv.DictReader(table))
        assert [row["image"] for row in rows] == [path.relative_to(source).as_posix() for path in files]
        found = [float(row["probability_normal"]) + float(row["probability_abnormal"]) for row in rows]
        np.testing.assert_allclose(found, 1, atol=2e-6)
    for path in [] if story.kind.metric == "kappa" else files:
        if path.suffix == ".png":
            mask, image = (
                imagecodecs.png_decode((root / path.relative_to(source)).read_bytes()) for root in (out, source)
            )
            assert mask.shape == image.shape[:2]
            assert set(np.unique(mask)) <= {0, 1}
        else:
            mask, image = nib.load(out / path.relative_to(source)), nib.load(path)
            assert (mask.shape, mask.get_data_dtype()) == (image.shape, image.get_data_dtype())
            assert mask.affine.tobytes() == image.affine.tobytes()
            assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 3, 16, 42}
    again = command.succeeds(*words).json
    assert (again["written"], again["skipped"]) == ([], len(files))


def test_inspect_shows_where_a_release_comes_from(story: Story, command: Command) -> None:
    text = command.succeeds("inspect", story.candidate).out
    assert "Release candidate" in text
    assert "mas-lr (granularity filter, batch norm target)" in text
    assert f"base ({Release.open(story.base, ('net_of_the_story',)).id[:8]}) -> this one" in text
    for domain in story.domains:
        assert domain in text
    assert command.succeeds("inspect", story.candidate, "--json").json == json.loads(
        (story.candidate / "release.json").read_text()
    )


def test_a_finished_command_says_so_and_changes_nothing(story: Story, command: Command) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        files = [path for path in story.folder.rglob("*") if path.is_file() and "pycache" not in str(path)]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = state()
    shared = ("--data", story.data, "--epochs", 1, "--batch-size", 4, *story.kind.trust)
    train = ("train", "--domain", story.domains[0], *shared, *story.kind.train, "--out", story.base)
    update = (
        "update",
        "--release",
        story.base,
        "--domain",
        story.domains[1],
        "--method",
        "mas-lr",
        *shared,
        "--out",
        story.candidate,
    )
    for words, out in ((train, story.base), (update, story.candidate)):
        ended = command.succeeds(*words)
        assert f"{out} was finished before; nothing was done." in ended.out
        assert "epoch" not in ended.err
    assert state() == before
