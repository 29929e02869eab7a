"""The bill of materials is what is installed, in a form that CycloneDX's own library reads."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.output.json import JsonV1Dot6
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import ConfigurationError
from perdure.evidence.bill import Difference, bill_of_materials, differences, installed, normalised, pinned

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def test_every_distribution_is_on_it_with_its_version() -> None:
    components = {one["name"]: one for one in json.loads(bill_of_materials(CREATED))["components"]}
    for name in ("torch", "numpy", "pydantic", "perdure"):
        assert components[name]["version"] == version(name)
    assert components["cpython"]["version"] == platform.python_version()
    assert len(components) == len(installed()) + 1


def test_the_library_of_the_format_reads_it_and_writes_the_same() -> None:
    """Round trip through cyclonedx-python-lib: nothing of a component is lost, and nothing is read otherwise."""
    ours = json.loads(bill_of_materials(CREATED))
    bom = Bom.from_json(data=json.loads(json.dumps(ours)))
    theirs = json.loads(JsonV1Dot6(bom).output_as_string())
    by_reference = [{one["bom-ref"]: one for one in bill["components"]} for bill in (ours, theirs)]
    assert by_reference[0] == by_reference[1]
    for key in ("bomFormat", "specVersion", "serialNumber", "version"):
        assert ours[key] == theirs[key]
    assert bom.metadata.timestamp == CREATED


def test_it_is_the_same_for_the_same_installation() -> None:
    assert bill_of_materials(CREATED) == bill_of_materials(CREATED)


def test_versions_that_differ_are_told_and_builds_of_one_version_do_not() -> None:
    torch = version("torch").partition("+")[0]
    expected = {"torch": f"{torch}+cu130", "NumPy": version("numpy"), "scipy": "0.1", "gone": "1", "python": "2.7"}
    assert differences(expected) == (
        Difference(name="scipy", expected="0.1", installed=version("scipy")),
        Difference(name="gone", expected="1", installed=None),
        Difference(name="python", expected="2.7", installed=platform.python_version()),
    )


def test_the_pins_of_this_project_are_read() -> None:
    pins = pinned(CONSTRAINTS)
    assert pins["torch"] == version("torch").partition("+")[0]
    assert len(pins) > 100


@pytest.mark.parametrize("text", ["", "numpy>=2", "-e .", "\xff"])
def test_a_file_without_pins_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.txt").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match=r"c\.txt: (lines|file): found none"):
        pinned(tmp_path / "c.txt")


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", fullmatch=True))
def test_names_are_compared_as_indexes_compare_them(name: str) -> None:
    assert normalised(name.upper().replace("-", "_")) == normalised(name)
