from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perdure.errors import EvaluationError
from perdure.evaluation import TrainTestMatrix
from perdure.evidence.page import MethodEvidence, Provenance, SliceEvidence, write_page
from perdure.evidence.text import forgotten_sentences

MakeMatrix = Callable[..., TrainTestMatrix]

LOST = [[[0.9, 0.7], [0.3, 0.3]], [[0.5, 0.8], [0.6, 0.8]]]
KEPT = [[[0.9, 0.7], [0.3, 0.3]], [[0.9, 0.7], [0.6, 0.7]]]
PROVENANCE = Provenance(
    command="perdure demo --out demo",
    seeds=(3,),
    created="2026-01-01 12:00 UTC",
    versions={"torch": "2.13.0"},
    further={"Device": "two cores"},
)
CLASSES = ("background", "s1", "s2")


class Page(HTMLParser):
    """What stands in a page: text, tags, and everything that a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        addresses = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        self.fetched += [value or "" for name, value in attrs if name in addresses]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def write(tmp_path: Path, make_matrix: MakeMatrix) -> Callable[..., str]:
    def write_and_read(**changes: Any) -> str:
        picture = np.eye(4)
        labels = np.eye(4, dtype=int)
        slices = tuple(
            SliceEvidence(name, picture, labels, labels, 2 * labels, after_score=0.25, caption="subject 7")
            for name in ("site-1", "site-2")
        )
        arguments: dict[str, Any] = {
            "title": "Two sites",
            "introduction": "What was done.",
            "methods": [
                MethodEvidence("finetune", make_matrix(LOST), "Trains on.", slices),
                MethodEvidence("mas-lr", make_matrix(KEPT)),
            ],
            "provenance": PROVENANCE,
            "structures": CLASSES,
            **changes,
        }
        path = tmp_path / "report" / "page.html"
        write_page(path, **arguments)
        return path.read_text(encoding="utf-8")

    return write_and_read


def test_asks_nothing_of_the_network_and_runs_nothing(write: Callable[..., str]) -> None:
    html = write()
    page = Page(html)
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert len(page.fetched) == 8
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert "url(" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_says_what_each_method_forgot(write: Callable[..., str], make_matrix: MakeMatrix) -> None:
    text = Page(write()).text
    for R in (LOST, KEPT):
        for sentence in forgotten_sentences(make_matrix(R)):
            assert sentence in text
    assert "s1 on site-1 −0.400" in text
    assert "none lost" in text


def test_holds_methods_against_no_update(write: Callable[..., str]) -> None:
    html = write()
    header = html[html.index("Methods side by side") :]
    assert header.index("no update") < header.index("finetune") < header.index("mas-lr")


def test_explains_every_measure_and_labels_the_spread(write: Callable[..., str]) -> None:
    text = Page(write()).text
    for words in ("Remembering", "1 means that no domain ever lost", "Özgün et al. 2020, Eq. 4", "BWT (GEM)"):
        assert words in text
    assert "s.d. over structures" in text
    assert "It is no uncertainty of the method" in text
    assert "±" not in text


def test_has_two_heat_maps_and_a_row_of_slices_for_each_domain(write: Callable[..., str]) -> None:
    page = Page(write())
    assert page.tags.count("svg") == 4
    assert page.tags.count("img") == 8
    assert "after the last update 0.250" in page.text
    assert "subject 7" in page.text


def test_names_only_structures_that_are_seen(write: Callable[..., str]) -> None:
    html = write(structures=(*CLASSES, "never drawn"))
    assert "</i>s1<" in html
    assert "never drawn" not in html


def test_a_structure_that_only_a_prediction_shows_is_named_too(write: Callable[..., str]) -> None:
    """The fixture's truth holds class 1 alone, its `after` class 2."""
    assert "</i>s2<" in write()


def test_tells_how_it_was_made(write: Callable[..., str]) -> None:
    text = Page(write()).text
    for words in ("perdure demo --out demo", "2026-01-01 12:00 UTC", "torch 2.13.0", "two cores", "of one seed"):
        assert words in text


def test_the_notice_is_shown_where_there_is_one(write: Callable[..., str]) -> None:
    assert "Simulated data." in Page(write(notice="Simulated data.")).text
    assert 'class="notice"' not in write()


def test_text_from_files_cannot_become_markup(write: Callable[..., str], make_matrix: MakeMatrix) -> None:
    evil = "<script>alert(1)</script>"
    matrix = make_matrix(LOST, names=[evil, "b"])
    html = write(title=evil, introduction=evil, notice=evil, methods=[MethodEvidence(evil, matrix, evil)])
    assert "<script" not in html
    assert Page(html).text.count(evil) > 5


def test_one_domain_has_no_change_to_draw(write: Callable[..., str], make_matrix: MakeMatrix) -> None:
    page = Page(write(methods=[MethodEvidence("adopted", make_matrix([[0.7]]))], structures=()))
    assert page.tags.count("svg") == 1
    assert "site-1 is the only domain learnt and scores 0.700 kappa." in page.text
    assert "no earlier domain" in page.text


def test_scores_that_do_not_exist_are_dashes(write: Callable[..., str], make_matrix: MakeMatrix) -> None:
    text = Page(write(methods=[MethodEvidence("empty", make_matrix(np.full((2, 2, 1), np.nan)))])).text
    assert "nan" not in text.lower()
    assert "–" in text


def test_writes_the_same_page_twice(write: Callable[..., str]) -> None:
    assert write() == write()


class TestRefuses:
    def test_no_method(self, write: Callable[..., str]) -> None:
        with pytest.raises(EvaluationError, match="at least one method; got none"):
            write(methods=[])

    def test_two_methods_of_one_name(self, write: Callable[..., str], make_matrix: MakeMatrix) -> None:
        with pytest.raises(EvaluationError, match="different names; got a, a"):
            write(methods=[MethodEvidence("a", make_matrix(LOST)), MethodEvidence("a", make_matrix(KEPT))])

    @pytest.mark.parametrize(
        ("other", "what"),
        [
            ({"R": [[0.9, 0.1], [0.8, 0.9]]}, "metric 'kappa'"),
            ({"R": LOST, "names": ["site-2", "site-1"]}, r"domains \('site-2', 'site-1'\)"),
            ({"R": np.array(LOST)[..., :1]}, r"structures \('s1',\)"),
        ],
    )
    def test_methods_that_cannot_be_compared(
        self, write: Callable[..., str], make_matrix: MakeMatrix, other: dict[str, Any], what: str
    ) -> None:
        with pytest.raises(EvaluationError, match=f"Method 'b' has the {what}.*'a' has"):
            write(methods=[MethodEvidence("a", make_matrix(LOST)), MethodEvidence("b", make_matrix(**other))])

    def test_slices_without_the_names_of_their_structures(self, write: Callable[..., str]) -> None:
        with pytest.raises(EvaluationError, match="`labels` holds 1; there are colours for 0 classes"):
            write(structures=())
