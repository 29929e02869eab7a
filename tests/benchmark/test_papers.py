"""Both papers' experiments start from the layouts in which their data are published."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch

import synthetic
from command import Command, Ended
from dicoms import write_picture
from perdure.benchmark import estimate
from perdure.benchmark.plan import Plan
from perdure.benchmark.published import TABLE_1
from perdure.data import Dataset
from perdure.data.images import read_image, read_labels
from perdure.models.resnet import resnet50

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "benchmarks" / "configs"
SHAPE = (16, 16, 16)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Script = Callable[..., Ended]


@pytest.fixture
def script_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script of `benchmarks/` in this process."""

    def run(name: str, *words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        capsys.readouterr()
        try:
            script(name).run()
            code = 0
        except SystemExit as ended:
            code = int(str(ended.code))
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def save(path: Path, volume: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = nib.MGHImage if path.name.endswith(".mgz") else nib.Nifti1Image
    nib.save(kind(volume, np.eye(4)), path)


def scan(image: Path, label: Path, numbers: tuple[int, ...]) -> None:
    """A small head: noise, and the numbers of some structures in blocks."""
    rng = np.random.default_rng(len(image.name))
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:12, 4:12, 4:12] = np.resize(np.array(numbers, np.uint8), 8)
    save(image, rng.integers(1, 200, SHAPE).astype(np.uint8) + labels // 8)
    save(label, labels)


def published_scans(folder: Path) -> Path:
    """The four domains of paper A in the layouts in which they come, with the fewest scans that will do."""
    groups = ("HC", "BPDwoPsy", "BPDwPsy", "SS")
    for number in range(1, 17):
        subject = f"{groups[number % 4]}_{number:03}"
        place = folder / "candi" / "SchizBull_2008" / groups[number % 4] / subject
        joint = "." if number == 7 else "_"
        # 85 and 77 are structures of FreeSurfer that QuickNAT has not
        scan(place / f"{subject}_procimg.nii.gz", place / f"{subject}{joint}seg.nii.gz", (2, 3, 85, 41, 42, 77, 17, 16))
    for part, numbers in (("training", (1000, 1001)), ("testing", (1003, 1004, 1023))):
        for number in numbers:
            place = folder / "malc"
            image = place / f"{part}-images" / f"{number}_3.nii.gz"
            # 4 is the third ventricle here, and the left lateral ventricle in FreeSurfer's numbers
            scan(image, place / f"{part}-labels" / f"{number}_3_glm.nii.gz", (4, 45, 44, 101, 100, 207, 63, 48))
    for domain, first in (("adni_15t", 100), ("adni_3t", 200)):
        for number in range(first, first + 4):
            place = folder / domain / f"{number}_S_{number:04}"
            scan(place / "orig.mgz", place / "Lab_con.mgz", (4, 45, 44, 101, 100, 207, 63, 48))
    return folder


def rows(ended: Ended) -> list[tuple[str, str, int]]:
    return [(cell["kind"], cell["label"], cell["seed"]) for cell in ended.json["cells"]]


def test_paper_a_lists_every_cell_on_data_in_their_published_layouts(
    tmp_path: Path, script_run: Script, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = script_run("paper_a_folder", published_scans(tmp_path))
    assert ended.code == 0, ended.err
    assert "candi: 13 train, 2 val, 1 test" in ended.out
    assert all(f"{name}: 1 train, 2 val, 1 test" in ended.out for name in ("adni_15t", "malc", "adni_3t"))
    # one step of the full network takes minutes on one core
    monkeypatch.setattr(estimate, "seconds_a_sample", lambda plan, base: 7.0)
    config = CONFIGS / "paper_a.toml"
    dry = command.succeeds(
        "benchmark", config, "--out", tmp_path / "run", "--data", tmp_path, "--dry-run", "--json", "--workers", 1
    )
    found = rows(dry)
    assert [label for kind, label, seed in found if (kind, seed) == ("final", 0)][:8] == [
        "finetune", "joint", "mas", "mas-fix", "mas-lr", "l2", "dropout", "mas-lr-dropout",
    ]  # fmt: skip
    assert {label for kind, label, _ in found if kind == "final"} > TABLE_1.keys()
    kinds = [kind for kind, _, _ in found]
    # three bases; 3 strengths, 3 granularities, and 3 x 3 of granularity and share; 13 rows; three seeds of each
    assert [kinds.count(kind) for kind in ("base", "trial", "final")] == [9, 45, 39]
    assert dry.json["seconds"] > 0
    assert not (tmp_path / "run").exists()


def test_labels_of_all_data_sets_come_to_mean_the_same(tmp_path: Path, script_run: Script) -> None:
    assert script_run("paper_a_folder", published_scans(tmp_path)).code == 0
    dataset = Dataset.open(tmp_path)
    contract = dataset.default_contract(size=16, merge_sides=True)
    assert contract.classes == 19
    names = [structure.name for structure in contract.structures]
    for domain, present in (
        ("candi", {"cerebral_white_matter", "cerebral_cortex", "hippocampus", "brain_stem"}),
        ("malc", {"third_ventricle", "cerebral_white_matter", "cerebral_cortex", "hippocampus"}),
        ("adni_3t", {"third_ventricle", "cerebral_white_matter", "cerebral_cortex", "hippocampus"}),
    ):
        case = dataset.domain(domain, contract).cases("train")[0]
        assert {names[index] for index in np.unique(case.target)} == {"background", *present}
    # 4, 45, 44, 101, 100, 207, 63, 48 of Neuromorphometrics, in the order of the voxels
    converted = read_labels(tmp_path / "freesurfer_labels" / "malc" / "1000_3.nii.gz").pixels
    np.testing.assert_array_equal(converted[5, 5, 4:12], [14, 2, 41, 3, 42, 3, 0, 17])
    assert "1023" not in (tmp_path / "manifest.csv").read_text()


def test_images_stay_where_they_are(tmp_path: Path, script_run: Script) -> None:
    before = {path: path.read_bytes() for path in published_scans(tmp_path).rglob("*.*") if path.is_file()}
    assert script_run("paper_a_folder", tmp_path).code == 0
    after = {path for path in tmp_path.rglob("*.*") if path.is_file()}
    assert all(path.read_bytes() == content for path, content in before.items())
    own = {path.relative_to(tmp_path).parts[0] for path in after - before.keys()}
    assert own == {"manifest.csv", "dataset.toml", "freesurfer_labels"}


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (lambda folder: (folder / "malc").rename(folder / "oasis"), "malc: found no such folder"),
        (
            lambda folder: next(folder.glob("candi/*/HC/HC_004/*_seg.nii.gz")).unlink(),
            "HC_004_procimg.nii.gz: files: found no HC_004_seg.nii.gz beside it",
        ),
        (
            lambda folder: (folder / "malc/testing-labels/1003_3_glm.nii.gz").unlink(),
            "1003_3.nii.gz: files: found no testing-labels/1003_3_glm.nii.gz",
        ),
        (lambda folder: (folder / "adni_3t/200_S_0200/orig.mgz").unlink(), "200_S_0200: files: found no orig.mgz"),
        (
            lambda folder: [path.unlink() for path in folder.glob("candi/*/SS/*/*_procimg.nii.gz")],
            "candi: scans: found 12; 16 or more: 13 for training, 2 for validation",
        ),
        (
            lambda folder: (folder / "adni_3t/200_S_0200").rename(folder / "adni_3t/100_S_0100"),
            "100_S_0100: found a scan in adni_15t and adni_3t; one scan a subject",
        ),
        (
            lambda folder: save(folder / "malc/training-labels/1000_3_glm.nii.gz", np.full(SHAPE, 1003, np.int16)),
            "1000_3_glm.nii.gz: values: found 1003 to 1003; the numbers of Neuromorphometrics: 0 to 207",
        ),
        (
            lambda folder: save(folder / "adni_3t/201_S_0201/Lab_con.mgz", np.full(SHAPE, 42, np.uint8)),
            "Lab_con.mgz: values: found 42 to 42; the numbers of Neuromorphometrics",
        ),
    ],
)
def test_a_malformed_layout_is_named(
    tmp_path: Path, script_run: Script, spoiled: Callable[[Path], object], said: str
) -> None:
    spoiled(published_scans(tmp_path))
    ended = script_run("paper_a_folder", tmp_path)
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "manifest.csv").exists()


def listing(folder: Path, **changes: str) -> Path:
    """Three sites, six patients each with two grey images of 12 bits; the last row may be changed."""
    lines = ["image,patient,density,site,bits"]
    rng = np.random.default_rng(0)
    for site in ("hologic", "fuji", "university"):
        for patient in range(6):
            for view in ("cc", "mlo"):
                path = f"{site}/{patient}-{view}.png"
                synthetic.save_image(folder / path, rng.integers(0, 4096, (20, 16)).astype(np.uint16))
                lines.append(f"{path},{site}{patient},{'ABCD'[patient % 4]},{site},12")
    row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    lines[-1] = ",".join({**row, **changes}.values())
    (folder / "listing.csv").write_text("\n".join(lines) + "\n")
    return folder / "listing.csv"


def sites(folder: Path) -> tuple[object, ...]:
    return ("--original", "hologic", "--original", "fuji", "--target", "university", "--out", folder)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the names and in the shapes of ImageNet's."""
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(resnet50(1000).state_dict(), path)
    return path


def test_paper_b_lists_every_cell_and_takes_imagenet_weights(
    tmp_path: Path, script_run: Script, command: Command, imagenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    ended = script_run("paper_b_folder", listing(tmp_path), *sites(data))
    assert ended.code == 0, ended.err
    assert "dataset_o: " in ended.out
    measured = estimate.seconds_a_sample

    def of_one_image(plan: Plan, base: str) -> float:
        """The whole network with the weights, but on a batch of one, which is quick."""
        train = {**plan.config.train, "batch_size": 1}
        return measured(replace(plan, config=plan.config.model_copy(update={"train": train})), base)

    monkeypatch.setattr(estimate, "seconds_a_sample", of_one_image)
    words = ("benchmark", CONFIGS / "paper_b.toml", "--out", tmp_path / "run", "--data", data, "--weights", imagenet)
    dry = command.succeeds(*words, "--dry-run", "--json", "--workers", 1)
    found = rows(dry)
    labels = [label for kind, label, seed in found if (kind, seed) == ("final", 0)]
    assert labels[:3] == ["no-update", "finetune", "joint"]
    assert labels[3:] == [
        f"{layers}, statistics of {statistics}, {strength}"
        for layers in ("all layers", "batch norm only")
        for statistics in "OT"
        for strength in ("0", "0.05", "1", "1e5")
    ]
    assert len(found) == 3 + 3 * 19
    assert dry.json["seconds"] > 0


def test_grey_mammograms_come_in_three_channels_scaled_by_the_bits_of_their_detector(
    tmp_path: Path, script_run: Script
) -> None:
    bright = np.array([[4095, 0], [2048, 1023]], np.uint16).repeat(8, 0).repeat(8, 1)
    path = listing(tmp_path)
    synthetic.save_image(tmp_path / "hologic/0-cc.png", bright)
    write_picture(tmp_path / "hologic/0-mlo.dcm", 4095 - bright, more={"PhotometricInterpretation": "MONOCHROME1"})
    path.write_text(
        path.read_text().replace("hologic/0-mlo.png,hologic0,A,hologic,12", "hologic/0-mlo.dcm,hologic0,A,hologic,")
    )
    assert script_run("paper_b_folder", path, *sites(tmp_path / "data"), "--size", 16).code == 0
    dataset = Dataset.open(tmp_path / "data")
    contract = dataset.default_contract("dataset_o")
    assert (contract.channels, contract.size, contract.ordinal, contract.classes) == (3, (16, 16), True, 4)
    for number in (1, 2):
        pixels = read_image(tmp_path / f"data/images/dataset_o/hologic0-{number}.png").pixels / 65535
        np.testing.assert_allclose(pixels, np.stack([bright / 4095] * 3), atol=1e-5)
    grades = {case.subject: case.grade for case in dataset.cases}
    assert [grades[f"fuji{number}"] for number in range(4)] == ["0", "1", "2", "3"]
    splits: dict[str, set[str]] = {}
    for case in dataset.cases:
        splits.setdefault(case.subject, set()).add(case.split)
    assert all(len(of_patient) == 1 for of_patient in splits.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "a.dcm", "bits": "12"}, "line 37, bits: found '12'; nothing: DICOM says it itself"),
        ({"density": "E"}, "line 37, density: found 'E'; one of A to D, or 1 to 4"),
        ({"site": "elsewhere"}, "line 37, site: found 'elsewhere'; one of --original and --target"),
        ({"patient": ""}, "line 37, patient: found nothing"),
        ({"image": "no.png"}, "no.png: content: found no such file"),
        ({"image": "listing.csv"}, "found a file named 'listing.csv'"),
        ({"bits": "many"}, "line 37, bits: found 'many'"),
        ({"bits": "10"}, "line 37, bits: found 10, but the image goes"),
    ],
)
def test_a_listing_that_is_wrong_is_told_by_its_line(
    tmp_path: Path, script_run: Script, changes: dict[str, str], said: str
) -> None:
    write_picture(tmp_path / "a.dcm", np.zeros((16, 16), np.uint16))
    ended = script_run("paper_b_folder", listing(tmp_path, **changes), *sites(tmp_path / "data"), "--size", 16)
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "data" / "manifest.csv").exists()


def test_a_listing_without_a_site_that_was_named_is_told(tmp_path: Path, script_run: Script) -> None:
    words = ("--original", "hologic", "--original", "fuji", "--target", "college", "--out", tmp_path / "data")
    ended = script_run("paper_b_folder", listing(tmp_path), *words)
    assert ended.code == 2
    assert "no row of 'college'; it has fuji, hologic, university" in ended.err
