"""What a shift suggests, at each side of each limit."""

from __future__ import annotations

import pytest

from perdure.evaluation.shift import LayerShift
from perdure.evaluation.shift_of_scans import Shift, Shifts
from perdure.evidence.advice import ALIKE, CERTAIN, STRONG, advice, mild, other_intensities

MILD = mild(9)  # 0.15 + 0.4 / 3
OTHER = other_intensities(9)  # 0.06 + 0.4 / 3


def found(
    distance: float | None, p: float | None = 0.001, *, ks: float | None = None, refused: int = 0, scans: int = 9
) -> Shifts:
    layers = () if distance is None else (LayerShift(layer="norm", distance=distance, p=p),)
    intensities = None if ks is None else LayerShift(layer="intensities", distance=ks, p=p)
    shift = Shift(like="site-a", layers=layers, intensities=intensities, distance=distance, divergence=distance, p=p)
    files = {f"{number}.png": "too dark" for number in range(refused)}
    return Shifts(subjects=scans, scans=scans, refused=files, domains=(shift,) if scans else ())


@pytest.mark.parametrize(
    ("shifts", "state", "suggestion"),
    [
        (found(MILD - 0.01), "in contract", "nothing"),
        (found(MILD), "shifted", "recalibrate"),
        (found(MILD, p=0.06), "in contract", "nothing"),
        (found(MILD, p=None), "shifted", "recalibrate"),
        (found(STRONG), "shifted", "update"),
        (found(STRONG, p=0.06), "in contract", "nothing"),
        (found(CERTAIN, p=0.9), "shifted", "update"),
        (found(None, ks=OTHER - 0.01), "in contract", "nothing"),
        (found(None, ks=OTHER), "shifted", "update"),
        (found(MILD, ks=ALIKE - 0.01), "in contract", "nothing"),
        (found(MILD, ks=ALIKE), "shifted", "recalibrate"),
        (found(STRONG, ks=ALIKE - 0.01), "shifted", "update"),
        (found(None), "not comparable", "label and evaluate"),
        (found(0.0, refused=9), "in contract", "nothing"),
        (found(0.0, refused=10), "out of scope", "do not use"),
        (found(0.0, refused=1, scans=0), "out of scope", "do not use"),
    ],
)
def test_each_side_of_each_limit(shifts: Shifts, state: str, suggestion: str) -> None:
    said = advice(shifts, "segmentation")
    assert (said.state, said.suggestion) == (state, suggestion)
    assert said.reasons


def test_reasons_say_figures_and_what_they_rest_on() -> None:
    assert advice(found(0.44, p=None, scans=2), "segmentation").reasons == (
        "Layers are 0.44 old deviations from site-a, above 0.43; 2 subject(s) are too few for a test.",
    )
    assert advice(found(0.42, p=0.2), "segmentation").reasons == (
        "Layers are 0.42 old deviations from site-a, above 0.28; p 0.2.",
        "Chance is not ruled out.",
    )
    assert advice(found(None), "segmentation").reasons[0].startswith("Nothing can be compared")
    assert advice(found(None), "segmentation").like is None
    assert advice(found(0.1, refused=2), "segmentation").reasons[0] == "2 of 11 scans do not follow the contract."


def test_statistics_alone_are_not_suggested_for_a_classification() -> None:
    assert advice(found(MILD), "classification").suggestion == "update"


def test_fewer_subjects_may_be_further_off() -> None:
    assert mild(1) == pytest.approx(0.55)
    assert mild(100) == pytest.approx(0.19)


def test_few_subjects_that_are_in_contract_at_a_distance_are_told_to_be_few() -> None:
    said = advice(found(0.3, p=None, scans=2), "segmentation")
    assert said.state == "in contract"
    assert said.reasons[-2] == "Of 100 subjects this would count as shifted: 2 are few, check more scans."
    assert len(advice(found(0.18), "segmentation").reasons) == 1


@pytest.mark.parametrize("shifts", [found(0.05, p=None, scans=2), found(None, ks=0.01, scans=1)])
def test_of_one_or_two_subjects_in_contract_means_little_at_any_distance(shifts: Shifts) -> None:
    said = advice(shifts, "segmentation")
    assert said.state == "in contract"
    assert said.reasons[-1] == f"Of {shifts.subjects} subject(s) this means little: nothing could be tested."
    assert "means little" not in " ".join(advice(found(0.05, scans=3), "segmentation").reasons)


def test_files_that_nobody_gave_a_subject_are_told() -> None:
    said = advice(found(0.05).model_copy(update={"unnamed": 9}), "segmentation")
    assert said.reasons[0].startswith("Nobody says whose scans 9 of these files are: each counts as a subject")
