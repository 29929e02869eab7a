"""What a report says is what the rest of Perdure says, and what it lacks it names."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from perdure.errors import EvaluationError
from perdure.evaluation import Scores, mean_scores, train_test_matrix
from perdure.evaluation.noninferiority import compare_means
from perdure.evaluation.pairs import paired_changes
from perdure.evidence.gate.verdict import Criterion, Outcome
from perdure.evidence.report import Collected, Report, Workspace, as_json, collect, html
from perdure.evidence.report.card import card_markdown
from perdure.evidence.report.collect import VOLUMES
from perdure.evidence.report.page import viewer_script
from perdure.evidence.report.record import not_accessed, record_of
from perdure.evidence.report.sections import sections
from report_world import EVIL, NEW, World


class Page(HTMLParser):
    """What stands in a page: text, tags, handlers, and everything that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.fetched += [value or "" for name, value in attrs if name in ("src", "srcset", "action", "data", "poster")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="session")
def scores(world: World) -> Scores:
    return Scores.read(world.workspace / "scores.parquet")


def test_changes_are_the_gates_own(collected: Collected, scores: Scores) -> None:
    report = collected.report
    means = mean_scores(scores, "dice")
    assert report.parent is not None
    assert [(one.domain, one.role) for one in report.changes] == [(EVIL, "earlier"), (NEW, "new")]
    for one in report.changes:
        pairs = paired_changes(scores, report.parent.id, report.candidate.id, one.domain, scores.header.structures[1:])
        assert one.interval == compare_means(pairs.change, threshold=0.0)
        assert one.before == means[report.parent.id, one.domain]
        assert one.after == means[report.candidate.id, one.domain]


def test_the_matrix_is_that_of_the_candidates_own_line(collected: Collected, scores: Scores) -> None:
    matrix = train_test_matrix(scores, "dice", last=collected.report.candidate.id)
    assert collected.report.matrix is not None
    assert np.array_equal(np.array(collected.report.matrix.values, float), matrix.mean, equal_nan=True)
    assert collected.report.worst_domain == matrix.worst_domain()


def test_structures_average_to_their_domain(collected: Collected) -> None:
    """No structure is absent here, so that the mean over structures is the domain's score."""
    for one in collected.report.changes:
        own = [other for other in collected.report.structures if other.domain == one.domain]
        assert np.isclose(np.mean([other.after for other in own if other.after is not None]), one.after)
        assert np.isclose(np.mean([other.change for other in own if other.change is not None]), one.change)


def test_distances_of_structures_stand_beside_their_changes_where_they_were_scored(
    collected: Collected, graded: Collected, scores: Scores
) -> None:
    """By structure they average to what `perdure evaluate` shows of the domain."""
    report = collected.report
    assert report.parent is not None
    for metric in ("hd95", "assd"):
        means = mean_scores(scores, metric)
        for domain in (EVIL, NEW):
            own = [one for one in report.distances if (one.domain, one.metric) == (domain, metric)]
            assert {one.unit for one in own} == {"mm"}
            for release, values in (
                (report.parent.id, [one.before for one in own if one.before is not None]),
                (report.candidate.id, [one.after for one in own if one.after is not None]),
            ):
                assert np.isclose(np.mean(values), means[release, domain])
    text = Page(html(collected, for_print=True)).text
    assert "How far apart surfaces lie, in mm; smaller is better." in text
    assert f"{report.distances[0].after:.3f}" in text
    assert graded.report.distances == ()
    assert "How far apart surfaces lie" not in html(graded)


def test_what_got_worse_most_comes_first_and_cases_average_to_their_domain(collected: Collected) -> None:
    cases = collected.report.cases
    assert len(cases) == 6
    assert [one.change for one in cases] == sorted(one.change for one in cases)
    for domain in collected.report.changes:
        assert np.isclose(np.mean([one.change for one in cases if one.domain == domain.domain]), domain.change)


def test_the_pictures_are_of_predictions_that_score_what_the_scores_say(collected: Collected, scores: Scores) -> None:
    by_number = {one.number: one for one in collected.report.cases}
    assert len(collected.report.shown) == 4
    for shown in collected.report.shown:
        case = by_number[shown.number]
        assert np.isclose(np.mean([sides[0] for sides in shown.dice.values() if sides[0] is not None]), case.before)
        assert np.isclose(np.mean([sides[1] for sides in shown.dice.values() if sides[1] is not None]), case.after)


def test_curves_are_those_that_the_releases_recorded(collected: Collected, world: World) -> None:
    curves = {one.release: one for one in collected.report.curves}
    assert list(curves) == ["base", "fine"]
    recorded = json.loads((world.workspace / "fine" / "release.json").read_text())["training"]["epochs"]
    assert list(curves["fine"].loss) == [epoch["loss"] for epoch in recorded]


def test_candidates_are_the_updates_of_the_same_parent_to_the_same_domain(collected: Collected) -> None:
    found = {one.release: one for one in collected.report.candidates}
    assert set(found) == {"fixed", "fine"}
    assert [one.release for one in found.values() if one.is_chosen] == ["fine"]
    assert found["fixed"].strength == "frozen 25% an update"
    assert found["fine"].gain == next(one.change for one in collected.report.changes if one.role == "new")


def test_the_frozen_budget_is_that_of_the_release(world: World) -> None:
    report = collect(Workspace.open(world.workspace), release="fixed").report
    assert report.layers is not None
    assert "25% of the parameters are frozen for good" in report.layers.budget
    weights = np.array([[one.frozen, one.parameters] for one in report.layers.layers if one.frozen is not None])
    assert np.isclose(np.average(weights[:, 0], weights=weights[:, 1]), 0.25, atol=0.01)


def test_nothing_is_left_out_in_silence(world: World, tmp_path: Path) -> None:
    """A workspace with one release and nothing else has every section, and each empty one says why."""
    shutil.copytree(world.workspace / "base", tmp_path / "w" / "base")
    bare = collect(Workspace.open(tmp_path / "w"))
    assert set(bare.report.missing) == {
        "verdict", "ledger", "matrix", "domains", "pictures", "features", "candidates",
    }  # fmt: skip
    text = Page(html(bare)).text
    for section in sections(bare.report):
        assert section.title in text
    for why in bare.report.missing.values():
        assert why in text
    assert "Nothing on this page says that the update may be used." in text


def test_a_page_says_so_where_no_earlier_domain_can_be_compared(collected: Collected) -> None:
    """And nothing is missing for that: both releases were scored, on cases that do not pair."""
    changes = tuple(one.model_copy(update={"interval": None}) for one in collected.report.changes)
    assert "domains" not in collected.report.missing
    report = collected.report.model_copy(update={"changes": changes})
    text = Page(html(replace(collected, report=report))).text
    assert "No earlier domain could be compared before and after; see each domain below." in text


def test_a_page_without_a_single_case_is_made_all_the_same(collected: Collected) -> None:
    report = collected.report.model_copy(update={"cases": ()})
    assert "Worst loss" in Page(html(replace(collected, report=report, pictures=()))).text


def test_a_damaged_release_is_left_out_and_named(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    shutil.copytree(world.workspace, folder)
    weights = folder / "fixed" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    report = collect(Workspace.open(folder), release="fine").report
    assert list(report.refused) == ["fixed"]
    assert any("fixed" in one and "SHA-256" in one for one in report.limits)
    assert any("fixed" in one for one in report.ledger_problems)


def test_a_folder_without_any_release_is_an_error_that_says_what_to_name(world: World, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="holds no whole release"):
        Workspace.open(tmp_path)
    with pytest.raises(EvaluationError, match="is one release; name the folder that holds it"):
        Workspace.open(world.workspace / "base")
    with pytest.raises(EvaluationError, match="must be one of: base, fi"):
        Workspace.open(world.workspace).candidate("other")


def test_a_verdict_on_other_scores_or_another_release_is_marked(collected: Collected, world: World) -> None:
    assert collected.report.verdict is not None
    path = world.workspace.parent / "old.json"
    collected.report.verdict.model_copy(update={"scores": ("0" * 64,)}).write(path)
    report = collect(Workspace.open(world.workspace, verdict=path), release="fixed").report
    said = " ".join(report.verdict_notes)
    assert "about another release, fine" in said
    assert "not those of this report, or that were changed since" in said
    assert "The ledger of this workspace has no entry of a gate that gave this verdict" in said
    assert all(note in report.limits for note in report.verdict_notes)


def recorded(judged: Workspace, release: str, digest: str | None, plan: str) -> Workspace:
    """The workspace with one more entry of a gate."""
    details = {"plan": plan, "verdict": "REJECT", "sha256": digest}
    entry = judged.entries[-1].model_copy(update={"action": "gated", "release": release, "details": details})
    return replace(judged, entries=(*judged.entries, entry))


def test_a_verdict_that_no_gate_wrote_is_marked_on_the_first_screen(collected: Collected, world: World) -> None:
    """An entry by the same plan is not enough: it must be of these bytes and this release."""
    path = world.workspace.parent / "judged.json"
    judged, own = Workspace.open(world.workspace, verdict=path), collected.report.candidate.id
    real = recorded(judged, own, judged.verdict_sha256, "1" * 64)
    assert collect(real).report.verdict_notes == ()
    for forged in (recorded(judged, own, "2" * 64, "1" * 64),
                   recorded(judged, "3" * 64, judged.verdict_sha256, "1" * 64)):  # fmt: skip
        said = collect(forged)
        assert "has no entry of a gate that gave this verdict" in " ".join(said.report.verdict_notes)
        assert said.report.verdict_notes[0] in html(said).split('id="card-change"')[0]
        assert said.report.verdict_notes[0] in card_markdown(said.report)
    bare = collect(replace(judged, entries=(), ledger_problems=()))
    assert "There is no ledger here that can be read" in " ".join(bare.report.verdict_notes)


def test_a_verdict_chooses_the_release(collected: Collected, world: World) -> None:
    judged = Workspace.open(world.workspace, verdict=world.workspace.parent / "judged.json")
    assert judged.candidate().id == collected.report.candidate.id


def test_names_from_data_cannot_become_markup(collected: Collected) -> None:
    """Title, plan, reason and domain hold a piece of HTML; a structure's name and a release's in the next test."""
    for text, scripts in ((html(collected), 3), (html(collected, for_print=True), 0)):
        page = Page(text)
        assert EVIL not in text
        assert page.text.count(EVIL) > 10
        assert sum(tag == "script" for tag, _ in page.tags) == (scripts if viewer_script() else min(scripts, 1))
    for card in (card_markdown(collected.report),):
        assert "<script" not in card
        assert "&lt;script" in card


def test_names_of_releases_subjects_and_structures_cannot_become_markup(collected: Collected) -> None:
    evil = '"><img src=x onerror=alert(2)>'
    report = collected.report
    named = report.model_copy(
        update={
            "candidate": report.candidate.model_copy(update={"name": evil, "method": evil}),
            "cases": tuple(one.model_copy(update={"subject": evil, "case": evil, "structure": evil})
                           for one in report.cases),
            "structures": tuple(one.model_copy(update={"structure": evil}) for one in report.structures),
            "lineage": tuple(one.model_copy(update={"name": evil}) for one in report.lineage),
            "curves": tuple(one.model_copy(update={"release": evil}) for one in report.curves),
            "candidates": tuple(one.model_copy(update={"release": evil, "strength": evil})
                                for one in report.candidates),
            "layers": report.layers and report.layers.model_copy(update={
                "layers": tuple(one.model_copy(update={"name": evil}) for one in report.layers.layers)}),
            "refused": {evil: evil},
            "missing": {**report.missing, "ledger": evil},
        }
    )  # fmt: skip
    page = Page(html(replace(collected, report=named)))
    assert not [one for tag, one in page.tags if tag == "img" and one.get("src") == "x"]
    assert not [one for _, one in page.tags if any(name.startswith("on") for name in one)]


def test_the_page_may_fetch_nothing_and_runs_only_its_own_scripts(collected: Collected) -> None:
    page = Page(html(collected))
    policies = [dict(attributes)["content"] or "" for tag, attributes in page.tags
                if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "unsafe-inline" not in policies[0].split("style-src")[0]
    assert page.fetched
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}


def test_subjects_and_cases_are_left_out_on_request(world: World) -> None:
    workspace = Workspace.open(world.workspace)
    hidden = collect(workspace, release="fine", domains=world.domains(), cases=1, with_subjects=False)
    named = {one.subject for one in collect(workspace, release="fine").report.cases}
    assert len(named) == 6
    for text in (html(hidden), as_json(hidden.report)):
        assert not [subject for subject in named if f"{subject}" in text]
    assert len(hidden.report.shown) == 2


def test_words_of_errors_that_name_a_subject_are_left_out_too(world: World, scores: Scores, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    shutil.copytree(world.workspace, folder)
    shutil.copy(folder / "scores.parquet", folder / "twice.parquet")
    twice = folder / "twice.parquet"
    known = {key: value for key, value in pl.read_parquet_metadata(twice).items() if key == "perdure.scores"}
    table = pl.read_parquet(twice)
    pl.concat([table, table.head(1)]).write_parquet(twice, metadata=known)
    subject = str(scores.table["subject"][0])
    shown = collect(Workspace.open(folder), release="fine").report
    assert any(subject in (file.reason or "") for file in shown.score_files)
    broken = replace(
        Workspace.open(folder), refused={"left": f"{subject} is wrong"}, entries=(), ledger_problems=(f"{subject}?",)
    )
    hidden = collect(broken, release="fine", with_subjects=False)
    assert subject not in Page(html(hidden)).text + as_json(hidden.report)
    assert "left" in hidden.report.refused
    assert len(hidden.report.ledger_problems) == 1
    assert any(file.name == "twice.parquet" and not file.used for file in hidden.report.score_files)


def test_the_worst_subject_of_a_criterion_is_left_out_too(collected: Collected, world: World) -> None:
    verdict = collected.report.verdict
    assert verdict is not None
    worst = verdict.criteria[0].model_copy(update={"subject": "who-lost-most"})
    judged = replace(
        Workspace.open(world.workspace), verdict=verdict.model_copy(update={"criteria": (worst, *verdict.criteria[1:])})
    )
    assert "It is who-lost-most." in html(collect(judged, release=collected.report.candidate.id))
    hidden = collect(judged, release=collected.report.candidate.id, with_subjects=False)
    assert "who-lost-most" not in html(hidden) + as_json(hidden.report)


def test_json_holds_the_whole_report(collected: Collected) -> None:
    text = as_json(collected.report)
    assert Report.model_validate_json(text) == collected.report
    assert "NaN" not in text


def test_numbers_of_the_page_stand_in_the_json(collected: Collected) -> None:
    """Each change of a domain, as the page writes it, is one of the JSON's."""
    changes = [f"{one.change:+.3f}".replace("-", "−") for one in collected.report.changes if one.change is not None]
    text = Page(html(collected, for_print=True)).text
    assert all(change in text for change in changes)


def test_the_change_control_record_says_of_each_field_what_is_there_or_what_to_add(collected: Collected) -> None:
    record = collected.report.record
    assert all(one.found or one.missing for one in record)
    by_name = {one.name: one for one in record}
    assert f"Training data of {EVIL}" in (by_name["Not accessed"].found or "")
    assert by_name["Sign-offs"].missing is not None
    assert "base stands in the workspace" in (by_name["Rollback"].found or "")


def test_only_an_approval_of_this_release_signs_it_off(collected: Collected, world: World) -> None:
    last, own = Workspace.open(world.workspace).entries[-1], collected.report.candidate.id
    for release, is_signed in ((own, True), (None, False), ("3" * 64, False)):
        entry = last.model_copy(update={"action": "approved", "release": release, "details": {"name": "A. Name"}})
        record = record_of(collected.report.model_copy(update={"ledger": (entry,)}))
        assert ["A. Name" in (one.found or "") for one in record if one.name == "Sign-offs"] == [is_signed]


@pytest.mark.parametrize(("outcome", "is_lacking"), [("met", False), ("outside plan", True), (None, True)])
def test_declared_before_is_what_the_verdict_says(
    collected: Collected, world: World, outcome: Outcome | None, is_lacking: bool
) -> None:
    """An entry that declares the plan is not enough: it may stand after the first look."""
    verdict, last = collected.report.verdict, Workspace.open(world.workspace).entries[-1]
    assert verdict is not None
    late = last.model_copy(update={"action": "declared", "details": {"plan": verdict.plan.sha256}})
    said = () if outcome is None else (Criterion(name="plan declared", kind="plan", outcome=outcome, reason="Late."),)
    judged = verdict.model_copy(update={"criteria": (*verdict.criteria, *said)})
    record = record_of(collected.report.model_copy(update={"verdict": judged, "ledger": (late,)}))
    assert [one.missing is not None for one in record if one.name == "Acceptance criteria"] == [is_lacking]


@pytest.mark.parametrize(("data", "said"), [("cumulative", "read all training data"), ("replay", "read some training"),
                                            ("other", "Not known")])  # fmt: skip
def test_an_update_that_read_old_data_is_never_said_not_to(collected: Collected, data: str, said: str) -> None:
    one = collected.report.candidate
    assert one.identity is not None
    method = {**one.identity["method"], "data": data}
    changed = one.model_copy(update={"identity": {**one.identity, "method": method}})
    assert said in not_accessed(changed)


def test_the_page_stays_under_15_megabytes_whatever_the_volumes(collected: Collected) -> None:
    script = viewer_script()
    assert VOLUMES + len(script or "") < 12_000_000
    assert len(html(collected)) < 15_000_000


def test_every_figure_has_words(collected: Collected) -> None:
    figures = re.findall(r"<svg[^>]*>", html(collected))
    assert len(figures) > 5
    assert all('aria-label="' in one or 'aria-hidden="true"' in one for one in figures)
    assert 'aria-label=""' not in "".join(figures)
