"""`dataset.toml` and `manifest.csv`: what may stand there, and how a mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.data.manifest import Description, base_name, file_in, read_description, read_manifest
from perdure.errors import DataError

TOML = 'name = "n"\ntask = "segmentation"\n[labels]\nbackground = 0\nleft_x = 1\nright_x = [2, 3]\nleft_y = 4\nz = 5\n'
CSV = "id,subject,domain,split,image,label,age\n1,p,a,train,i.png,l.png,70\n"


def folder_with(folder: Path, toml: str = TOML, csv: str = CSV) -> Path:
    (folder / "dataset.toml").write_text(toml)
    (folder / "manifest.csv").write_text(csv)
    return folder


def description(toml: str, folder: Path) -> Description:
    return read_description(folder_with(folder, toml))


def test_all_that_is_wrong_with_dataset_toml_is_reported_together(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        description(
            'task = "regression"\ncolour = "red"\nspacing = [1, 2]\n[labels]\nbackground = 0\nx = -1\n', tmp_path
        )
    assert {problem.file for problem in caught.value.problems} == {str(tmp_path / "dataset.toml")}
    fields = {problem.field.split(".int")[0].split(".constrained")[0] for problem in caught.value.problems}
    assert {"name", "task", "colour"} <= fields
    assert any(field.startswith("labels.x") for field in fields)
    assert any(field.startswith("spacing") for field in fields)
    message = str(caught.value)
    assert "colour: found an unknown key; known are name, task, labels" in message
    assert "name: found nothing; this key must be there" in message
    assert "task: found 'regression'; Input should be 'segmentation' or 'classification'" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("z = 5", "z = 4"), r"\[4\] stand there twice"),
        (("background = 0", "background = 9"), "one label must have the value 0, the background"),
        (("[labels]", "ignore_values = [5]\n[labels]"), r"ignore_values: \[5\] are labels too"),
        (("[labels]", "spacing = 0\n[labels]"), "spacing must be one or three positive lengths in mm"),
        (("segmentation", "classification"), None),
        (("[labels]", "[splitting]\nfractions = [0.5, 0.2, 0.2]\n[labels]"), "add up to 1"),
        (("[labels]", "[splitting]\nseeds = 1\n[labels]"), "unknown key; known are fractions, seed, stratify"),
        (("z = 5", "z = true"), "labels.z"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, change: tuple[str, str], message: str | None) -> None:
    toml = TOML.replace(*change)
    if message is None:
        assert description(toml, tmp_path).task == "classification"
        toml = toml.replace("[labels]", 'ignore_outside = "fov"\n[labels]')
        message = "masks are for a segmentation"
    with pytest.raises(DataError, match=message):
        description(toml, tmp_path)


def test_one_spacing_stands_for_three(tmp_path: Path) -> None:
    assert description("spacing = 2\n" + TOML, tmp_path).spacing == (2, 2, 2)
    assert description("spacing = [1, 2, 3.5]\n" + TOML, tmp_path).spacing == (1, 2, 3.5)


def test_the_background_comes_first_and_the_others_as_they_were_written(tmp_path: Path) -> None:
    toml = TOML.replace("background = 0\n", "") + "background = 0\n"
    assert [s.name for s in description(toml, tmp_path).structures()] == [
        "background",
        "left_x",
        "right_x",
        "left_y",
        "z",
    ]


def test_sides_are_merged_only_where_there_are_both(tmp_path: Path) -> None:
    merged = description(TOML, tmp_path).structures(merge_sides=True)
    assert [(s.name, s.values) for s in merged] == [
        ("background", (0,)),
        ("x", (1, 2, 3)),
        ("left_y", (4,)),
        ("z", (5,)),
    ]
    assert (base_name("left_x"), base_name("x_left"), base_name("leftover")) == ("x", "x_left", "leftover")


@pytest.mark.parametrize(("name", "why"), [("dataset.toml", "name ="), ("manifest.csv", '1,"p\n')])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, name: str, why: str) -> None:
    folder = folder_with(tmp_path)
    path = folder / name
    for content in (None, why.encode(), b"\xff\xfe\x00"):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_manifest(folder, read_description(folder))
        assert [problem.file for problem in caught.value.problems] == [str(path)]


def test_rows_are_read_as_they_stand_with_their_line_and_metadata(tmp_path: Path) -> None:
    csv = '\ufeffid,subject,domain,split,image,label,age\n1 ,p,a,train,i.png,l.png,"70,\n5"\n\n2,q,b,val,j.png,,\n'
    folder = folder_with(tmp_path, csv=csv)
    first, second = read_manifest(folder, read_description(folder))
    assert (first.id, first.subject, first.split, first.image, first.metadata) == (
        "1",
        "p",
        "train",
        "i.png",
        {"age": "70,\n5"},
    )
    assert (second.line, second.label, second.mask) == (5, "", "")


@pytest.mark.parametrize(
    ("csv", "field", "message"),
    [
        (
            "id,subject,domain,split,image\n1,p,a,train,i\n",
            "column label",
            "the columns id, subject, domain, image, label",
        ),
        ("id,subject,domain,split,image,label\n1,p,a,train,i,l,x\n", "line 2", "more cells than columns"),
        ("id,subject,domain,split,image,label,id\n1,p,a,train,i,l,2\n", "column id", "found twice"),
        ("id,subject,domain,split,image,label\n", "rows", "found none; one row a case"),
    ],
)
def test_a_manifest_of_the_wrong_form_is_refused(tmp_path: Path, csv: str, field: str, message: str) -> None:
    folder = folder_with(tmp_path, csv=csv)
    with pytest.raises(DataError) as caught:
        read_manifest(folder, read_description(folder))
    assert [(problem.file, problem.field) for problem in caught.value.problems] == [
        (str(folder / "manifest.csv"), field)
    ]
    assert message in str(caught.value)


def test_the_column_of_masks_must_be_there(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 'ignore_outside = "fov"\n' + TOML)
    with pytest.raises(DataError, match="column fov: found nothing"):
        read_manifest(folder, read_description(folder))


@pytest.mark.parametrize("header", ["id,subject,domain,image,label", "id,subject,domain,image,label,split"])
def test_a_manifest_without_splits_is_split_by_subject(tmp_path: Path, header: str) -> None:
    rows = "".join(f"{i},p{i // 2},a,i.png,l.png{',' * (header.count(',') - 4)}\n" for i in range(20))
    folder = folder_with(tmp_path, TOML + "[splitting]\nfractions = [0.5, 0.3, 0.2]\nseed = 3\n", f"{header}\n{rows}")
    cases = read_manifest(folder, read_description(folder))
    by_subject = {case.subject: case.split for case in cases}
    assert all(by_subject[case.subject] == case.split for case in cases)
    assert sorted(by_subject.values()) == ["test"] * 2 + ["train"] * 5 + ["val"] * 3


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.png", "a/../../x.png", "a\\x.png", "a\0.png"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    assert "relative to the dataset folder" in str(file_in(tmp_path, name))


def test_a_link_may_lead_within_the_folder_and_not_out_of_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data", tmp_path / "secret.png"
    (inside / "images").mkdir(parents=True)
    outside.write_bytes(b"")
    (inside / "images" / "a.png").write_bytes(b"")
    (inside / "good.png").symlink_to(inside / "images" / "a.png")
    (inside / "bad.png").symlink_to(outside)
    (inside / "folder").symlink_to(tmp_path)
    assert file_in(inside, "good.png") == inside / "good.png"
    for name in ("bad.png", "folder/secret.png"):
        assert "this link leads out" in str(file_in(inside, name))
    # the folder itself may be a link
    (tmp_path / "link").symlink_to(inside)
    assert file_in(tmp_path / "link", "images/a.png") == tmp_path / "link" / "images" / "a.png"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert file_in(tmp_path, "none.png") == "there is no such file"
    assert "not a file" in str(file_in(tmp_path, "."))
    assert "cannot be opened" in str(file_in(tmp_path, "a" * 300))


def test_a_folder_with_a_series_may_be_named_but_not_with_a_link_out_of_the_dataset_in_it(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "series").mkdir(parents=True)
    (inside / "series" / "1.dcm").write_bytes(b"")
    (tmp_path / "secret.dcm").write_bytes(b"")
    assert file_in(inside, "series") == inside / "series"
    (inside / "series" / "2.dcm").symlink_to(tmp_path / "secret.dcm")
    assert "a link in this folder leads out" in str(file_in(inside, "series"))
