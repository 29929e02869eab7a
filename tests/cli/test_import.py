"""`perdure import` says what came of it, and what it may not be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from command import Command
from dicoms import write_segmentation, write_series
from layouts import AFFINE, head, save, write_bids, write_decathlon, write_export, write_nnunet
from perdure.cli.console import FAILED, SOME_FAILED, USAGE
from perdure.data import Dataset
from perdure.errors import DataError


@pytest.mark.parametrize(
    ("layout", "write"),
    [("nnunet", write_nnunet), ("msd", write_decathlon), ("bids", write_bids), ("dicom", write_export)],
)
def test_one_command_makes_a_data_folder_of_each_layout(
    command: Command, tmp_path: Path, layout: str, write: object
) -> None:
    write(tmp_path / "source")
    out, salt = tmp_path / "data", tmp_path / "private" / "salt"
    ended = command.succeeds("import", layout, tmp_path / "source", "--out", out, "--salt", salt)
    dataset = Dataset.open(out)
    dataset.check(required=("train",), cache=tmp_path / "cache")
    assert f"{out}: {len(dataset.cases)} cases of " in ended.out
    for name in dataset.domains:
        assert f"  {name}: " in ended.out
    assert f"note: pseudonyms depend on {salt}: keep it, and keep it apart from {out}." in ended.err
    assert salt.stat().st_mode & 0o777 == 0o600
    images = {path.suffix for path in out.rglob("*") if path.is_file()}
    assert images <= {".csv", ".toml", ".files"}


def test_json_holds_domains_and_what_is_left_out(command: Command, tmp_path: Path) -> None:
    write_nnunet(tmp_path / "source")
    words = ("import", "nnunet", tmp_path / "source", "--out", tmp_path / "data", "--salt", tmp_path / "salt")
    assert command.succeeds(*words, "--subject", "([^_]+)_", "--json").json == {
        "out": str(tmp_path / "data"),
        "salt": str(tmp_path / "salt"),
        "new_salt": True,
        "subjects": 4,
        "cases": 6,
        "domains": {"heads": {"subjects": 4, "cases": 6}},
        "left_out": ["1 image(s) of imagesTs without a label"],
        "structures": {},
        "notes": [],
        "failed": {},
    }


def test_which_structures_are_in_how_many_labels_is_said_and_what_is_missing_in_some(
    command: Command, tmp_path: Path
) -> None:
    for number in range(6):
        image, labels = head(number)
        files = write_series(tmp_path / "source" / f"{number}", image, AFFINE, more={"PatientID": f"MRN-{number}"})
        names = {0: {1: "Liver"}, 1: {1: "Leber", 2: "Spleen"}}.get(number, {1: "Liver", 2: "SPLEEN"})
        write_segmentation(tmp_path / "source" / f"{number}.dcm", files, labels, names)
    words = ("import", "dicom", tmp_path / "source", "--salt", tmp_path / "salt", "--out")
    ended = command.succeeds(*words, tmp_path / "data")
    assert "structures: leber 1 of 6 labels, liver 5, spleen 5\n" in ended.out
    assert "note: leber, liver, spleen: not in every label. Where one is missing, it may be there under" in ended.err
    chosen = command.succeeds(*words, tmp_path / "chosen", "--structure", "spleen=1", "--json")
    assert chosen.json["structures"] == {
        name: {"labels": times, "of": 6} for name, times in (("leber", 1), ("liver", 5), ("spleen", 5))
    }
    # what is background anyway is missing nowhere
    assert [one.partition(":")[0] for one in chosen.json["notes"]] == ["spleen"]


def test_nothing_is_said_of_structures_that_every_label_has(command: Command, tmp_path: Path) -> None:
    write_export(tmp_path / "source")
    words = ("import", "dicom", tmp_path / "source", "--salt", tmp_path / "salt", "--out", tmp_path / "data")
    ended = command.succeeds(*words)
    assert "structures: ball 4 of 4 labels, core 4\n" in ended.out
    assert "not in every label" not in ended.err


def test_a_series_that_cannot_be_read_stops_no_other_and_its_list_is_named(command: Command, tmp_path: Path) -> None:
    write_export(tmp_path / "source")
    min((tmp_path / "source").rglob("IM3")).unlink()
    words = ("import", "dicom", tmp_path / "source", "--out", tmp_path / "data", "--salt", tmp_path / "salt")
    ended = command(*words)
    assert ended.code == SOME_FAILED
    assert "data: 3 cases of 3 subjects" in ended.out
    assert "1 not imported" in ended.err
    line = next(line for line in ended.err.splitlines() if line.startswith("series/r"))
    assert "is one missing?" in line
    assert (tmp_path / "data" / line.partition(":")[0]).is_file()
    assert not [word for word in ("MRN", "DOE", "Doe") if word in ended.out + ended.err]


def test_paths_may_be_relative_and_lead_through_links(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = head(0)
    files = write_series(tmp_path / "export", image, AFFINE)
    save(tmp_path / "kept" / "maps" / f"{dcmread(files[0]).SeriesInstanceUID}.nii.gz", labels)
    (tmp_path / "maps").symlink_to("kept/maps")
    monkeypatch.chdir(tmp_path)
    words = ("--structure", "ball=1", "--structure", "core=2", "--salt", "private/salt")
    for maps in ("kept/maps", "./export/../kept/maps", "maps"):
        out = f"data-{maps.replace('/', '-')}"
        command.succeeds("import", "dicom", "export", "--out", out, "--labels", maps, *words)
        Dataset.open(out).check(required=(), cache=tmp_path / "cache")


def test_which_labels_are_the_truth_may_be_chosen(command: Command, tmp_path: Path) -> None:
    write_export(tmp_path / "source")
    words = ("import", "dicom", tmp_path / "source", "--out", tmp_path / "data", "--salt", tmp_path / "salt")
    ended = command(*words, "--label-description", "^reviewed", "--own-labels")
    assert ended.code == FAILED
    assert "4 label(s) with another description" in ended.err


@pytest.mark.parametrize("where", ["source", "maps", "data"])
def test_a_salt_beside_images_labels_or_the_manifest_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_export(tmp_path / "source")
    (tmp_path / "maps").mkdir()
    words = ("dicom", "source", "--labels", "maps", "--structure", "ball=1", "--out", "data")
    ended = command("import", *words, "--salt", tmp_path / where / "salt")
    assert ended.code == FAILED
    assert "--salt: found a salt within" in ended.err
    assert not (tmp_path / where / "salt").exists()
    assert not (tmp_path / "data").exists()


def test_nothing_is_written_into_a_folder_that_is_read(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_nnunet(tmp_path / "source")
    (tmp_path / "maps").mkdir()
    (tmp_path / "link").symlink_to("source")
    before = sorted((tmp_path / "source").rglob("*"))
    for out in ("source/data", "source", "link/deeper/data", "maps/data"):
        words = ("dicom", "source", "--labels", "maps", "--structure", "ball=1")
        ended = command("import", *words, "--out", out, "--salt", "salt")
        assert (ended.code, "--out: found a data folder within" in ended.err) == (FAILED, True), ended.err
    assert sorted((tmp_path / "source").rglob("*")) == before
    assert not any((tmp_path / "maps").iterdir())


@pytest.mark.parametrize("layout", ["nnunet", "msd", "bids", "dicom"])
def test_a_source_that_is_not_there_is_named_and_leaves_no_salt(command: Command, tmp_path: Path, layout: str) -> None:
    ended = command("import", layout, tmp_path / "sorce", "--out", tmp_path / "data", "--salt", tmp_path / "salt")
    assert ended.code == FAILED
    assert f"{tmp_path / 'sorce'}: folder: found no such folder" in ended.err
    assert not any(tmp_path.iterdir())


def test_a_new_salt_is_told_and_what_follows(command: Command, tmp_path: Path) -> None:
    write_nnunet(tmp_path / "source")
    salt = tmp_path / "salt"
    told = f"note: made a new salt, {salt}: no pseudonym is that of an import with another salt"
    words = ("import", "nnunet", tmp_path / "source", "--json", "--salt", salt, "--out")
    first = command.succeeds(*words, tmp_path / "a")
    assert first.json["new_salt"]
    assert told in first.err
    second = command.succeeds(*words, tmp_path / "b")
    assert not second.json["new_salt"]
    assert "made a new salt" not in second.err
    salt.unlink()
    assert told in command.succeeds(*words, tmp_path / "c").err


def test_structures_that_nobody_named_are_background_in_a_seg_and_an_error_in_a_label_map(
    command: Command, tmp_path: Path
) -> None:
    write_export(tmp_path / "source", patients=("MRN-1", "MRN-2", "MRN-3"))
    words = ("import", "dicom", tmp_path / "source", "--salt", tmp_path / "salt", "--structure", "ball=1", "--out")
    command.succeeds(*words, tmp_path / "segs")
    Dataset.open(tmp_path / "segs").check(required=("train",), cache=tmp_path / "cache")
    for number, segmentation in enumerate(sorted((tmp_path / "source").rglob("IM900"))):
        uid = str(dcmread(segmentation.with_name("IM0")).SeriesInstanceUID)
        segmentation.unlink()
        save(tmp_path / "maps" / f"{uid}.nii.gz", head(number)[1])
    command.succeeds(*words, tmp_path / "data", "--labels", tmp_path / "maps")
    with pytest.raises(DataError, match="values: found 2, not in the label set"):
        Dataset.open(tmp_path / "data").check(required=("train",), cache=tmp_path / "cache")
    text = " ".join(command.succeeds("import", "--help").out.replace("│", " ").split())
    assert "Of SEG and RTSTRUCT all others are background" in text
    assert "label maps need every value" in text


def test_without_a_salt_one_is_kept_with_the_user_s_settings_and_used_again(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    write_nnunet(tmp_path / "source")
    for name in "ab":
        command.succeeds("import", "nnunet", tmp_path / "source", "--out", tmp_path / name)
    first, second = (Dataset.open(tmp_path / name).cases for name in "ab")
    assert first == second
    assert (tmp_path / "config" / "perdure" / "salt").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("msd", "--fold", 1), USAGE, "--fold: not for msd, which takes --subject."),
        (("dicom", "--subject", "x"), USAGE, "--subject: not for dicom, which takes --modality, --description,"),
        (("nnunet", "--subject", "("), USAGE, "--subject (: is no regular expression"),
        (("nnunet", "--domain", "a", "--domain-from", "station"), USAGE, "say one of them"),
        (("dicom", "--structure", "core"), USAGE, "--structure core: must be NAME=VALUE, for example left_kidney=1."),
        (("dicom", "--structure", "core=x"), USAGE, "--structure core: its value must be a whole number"),
        (("dicom", "--classes", "a.csv", "--labels", "b"), USAGE, "--classes: is for a classification"),
        (("xnat",), USAGE, "'xnat' is not one of 'nnunet', 'msd', 'bids', 'dicom'"),
        (("nnunet",), FAILED, "a raw folder of nnU-Net has one"),
        (("dicom",), FAILED, "no series that can be imported"),
        (("nnunet", "--out", "kept"), FAILED, "kept exists; nothing is overwritten"),
    ],
)
def test_what_cannot_be_is_one_message(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_series(tmp_path / "source", head(0)[0], AFFINE)
    (tmp_path / "kept").mkdir()
    given = ("--out", "data") if "--out" not in words else ()
    ended = command("import", words[0], "source", *words[1:], *given, "--salt", "salt")
    assert (ended.code, message in ended.err) == (code, True), ended.err
    assert not (tmp_path / "data").exists()
