"""Names of domains are plain, and tell scanners apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from layouts import write_decathlon
from perdure.data import Dataset
from perdure.data.importing import find_decathlon
from perdure.data.importing.domains import domain_of, slug


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Acme_MR  West/2 (old)", "acme-mr-west-2-old"),
        ("../..", ""),
        ("1.5", "1.5"),
        ("Süd", "süd"),
        ("Söd", "söd"),
        ("Köpfe", "köpfe"),
        ("ΑΘΗΝΑ", "αθηνα"),
        ("東", "東"),
        ("कि", "कि"),
    ],
)
def test_a_name_keeps_letters_of_any_script_and_nothing_that_a_path_could_stumble_over(text: str, name: str) -> None:
    assert slug(text) == name


def test_one_word_in_two_encodings_is_one_domain() -> None:
    assert slug(unicodedata.normalize("NFD", "Süd")) == slug("Süd")


def test_stations_that_differ_in_a_letter_beyond_ascii_are_two_domains(
    tmp_path: Path, written: Callable[..., Dataset]
) -> None:
    found = find_decathlon(write_decathlon(tmp_path / "source"))
    stations = ("Süd", "Söd", "Ä", "東")
    cases = [replace(case, tags={"station": name}) for case, name in zip(found.cases, stations, strict=True)]
    dataset = written(replace(found, cases=cases), domain_from=("station",))
    assert set(dataset.domains) == {"süd", "söd", "ä", "東"}
    assert {case.domain for case in dataset.cases} == set(dataset.domains)


def test_a_case_without_tags_has_the_name_of_its_data_set() -> None:
    assert domain_of({}, ("station",), "Köpfe 1") == "köpfe-1"
    assert domain_of({"station": "#"}, ("station",), "?") == "unknown"
