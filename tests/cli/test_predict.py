"""`perdure predict` hands its options on, one release or several."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import fakes
import synthetic
from command import Command
from perdure.models import NetworkSpec, build
from perdure.release import Memory

UNET = NetworkSpec(factory="monai:UNet", arguments={"channels": [2, 4], "strides": [2], "norm": "batch"})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scan and a release for each view, in which the command is started."""
    for view in ("coronal", "axial", "sagittal"):
        contract = fakes.volume_contract(view=view, size=(16, 16))
        model = build(UNET, channels=1, classes=4, spatial_dims=2)
        made = fakes.release(model, contract, name=view)
        identity = made.identity.model_copy(update={"network": model.network_spec})
        replace(made, identity=identity, memory=Memory({}, {})).save(tmp_path / view)
    volume = np.random.default_rng(0).integers(0, 200, (12, 10, 11)).astype(np.uint8)
    synthetic.save_volume(tmp_path / "scans" / "sub-1_T1w.nii.gz", volume, (2, 2, 2))
    synthetic.save_volume(tmp_path / "scans" / "sub-1_T2w.nii.gz", volume, (2, 2, 2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


THREE = ("--release", "coronal", "--release", "axial", "--release", "sagittal")
WISHES = ("--format", "bids", "--match", "*_T1w.nii.gz", "--probabilities", "--volumes")


def test_three_views_with_all_that_can_be_asked_for(place: Path, command: Command) -> None:
    predict = ("predict", *THREE, "--input", "scans", *WISHES)
    record = command.succeeds(*predict, "--view-weight", "axial=2", "--out", "out", "--json").json
    stem = "out/sub-1/anat/sub-1_desc-perdure"
    assert record["written"] == [f"{stem}_dseg.nii.gz"]
    assert nib.load(f"{stem}_probseg.nii.gz").shape == (12, 10, 11, 4)
    with Path("out/volumes.csv").open(newline="") as file:
        assert [row["structure"] for row in csv.DictReader(file)] == ["core", "left_cortex", "right_cortex"]
    assert "holds results with the views" in command(*predict, "--out", "out").err
    assert command.succeeds(*predict, "--view-weight", "axial=2", "--out", "out", "--json").json["skipped"] == 1


def test_a_configuration_file_can_say_all_of_it(place: Path, command: Command) -> None:
    Path("predict.toml").write_text(
        'release = ["axial", "coronal"]\ninput = "scans"\nformat = "mgz"\nprobabilities = true\n'
        'view-weight = ["axial=1", "coronal=1"]\n'
    )
    command.succeeds("predict", "--config", "predict.toml", "--out", "out")
    assert sorted(path.name for path in Path("out").glob("*.mgz")) == [
        "sub-1_T1w.mgz", "sub-1_T1w_probabilities.mgz", "sub-1_T2w.mgz", "sub-1_T2w_probabilities.mgz",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ((*THREE, "--view-weight", "oblique=1"), 2, "--view-weight oblique=1: must be coronal, axial or sagittal"),
        ((*THREE, "--view-weight", "axial=-1"), 1, "Weight -1 of view 'axial': must be above 0"),
        (("--release", "axial", "--view-weight", "axial=1"), 1, "one a view"),
        (("--release", "axial", "--release", "axial"), 1, "name one release a view"),
        (("--release", "axial", "--format", "bids"), 1, "would both give"),
    ],
)
def test_what_does_not_belong_together_is_refused_before_any_work(
    place: Path, command: Command, words: tuple[str, ...], code: int, why: str
) -> None:
    ended = command("predict", *words, "--input", "scans", "--out", "out")
    assert ended.code == code
    assert why in ended.err
    assert not Path("out").exists()


def test_an_image_that_was_replaced_and_what_was_passed_over_are_told(place: Path, command: Command) -> None:
    Path("elsewhere").mkdir()
    Path("scans/patient-2").symlink_to(Path("elsewhere").absolute())
    predict = ("predict", "--release", "axial", "--input", "scans", "--out", "out")
    assert "note: passed over: 1 folder(s) that are links." in command.succeeds(*predict).err
    Path("scans/sub-1_T1w.nii.gz").unlink()
    synthetic.save_volume(Path("scans/sub-1_T1w.nii.gz"), np.eye(12, dtype=np.uint8)[None].repeat(9, 0), (2, 2, 2))
    ended = command(*predict)
    assert ended.code == 6
    assert "0 predicted, 1 done before" in ended.out
    assert "sub-1_T1w.nii.gz: content: found another image than out/sub-1_T1w.nii.gz is of" in ended.err
