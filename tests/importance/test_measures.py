from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import MethodError
from perdure.importance import AUTHORS, MAS, MEASURES, RAW, SI, Fisher, Importance, Scaling, Uniform, measure_from
from perdure.methods import built_in

shares = st.tuples(st.floats(0, 0.5), st.floats(0.51, 1))
scalings = st.just(AUTHORS) | st.just(RAW) | st.builds(
    Scaling,
    outliers=st.sampled_from(["clip", "keep"]),
    range=st.sampled_from(["unit", "raw"]),
    scope=st.sampled_from(["network", "layer"]),
    quantiles=st.sampled_from([(0.25, 0.75), (0.05, 0.95), (0, 1)]) | shares,
    logarithmic=st.booleans(),
    averaged_first=st.sampled_from(["parameter", "kernel", "filter"]),
)  # fmt: skip
common = {"scaling": scalings, "accumulation": st.sampled_from(["mean", "samples", "ema", "max", "sum"])}
# those that read no samples cannot weigh domains by them
sampleless = {**common, "accumulation": st.sampled_from(["mean", "ema", "max", "sum"])}
measures = (
    st.builds(MAS, st.sampled_from(["softmax", "logits", "sigmoid"]), **common)
    | st.builds(
        Fisher,
        st.sampled_from(["sampled", "dataset", "expected"]),
        st.sampled_from([0, 1, 11, 12345678]) | st.integers(0, 2**32 - 1),
        **common,
    )
    | st.builds(SI, st.sampled_from([0.1, 0.100000001, 1, 1.0, 1e-10, 1e22]) | st.floats(1e-300, 1e300), **sampleless)
    | st.builds(Uniform, **sampleless)
)


def test_every_measure_stands_under_its_name() -> None:
    assert {"mas": MAS, "fisher": Fisher, "si": SI, "uniform": Uniform} == MEASURES


@given(one=measures, other=measures)
def test_measures_of_equal_keys_are_equal_and_the_other_way_round(one: Importance, other: Importance) -> None:
    assert (one.key == other.key) == (one == other)


@given(scaling=scalings, other=scalings, how=common["accumulation"])
def test_scaling_and_accumulation_are_in_the_key(scaling: Scaling, other: Scaling, how) -> None:
    one, two = MAS(scaling=scaling, accumulation=how), MAS(scaling=other, accumulation=how)
    assert (one.key == two.key) == (scaling == other)
    assert MAS(accumulation=how, scaling=scaling).key.endswith(how if how != "mean" else one.key)


@given(measure=measures)
def test_settings_are_plain_json_from_which_the_measure_is_made_again(measure: Importance) -> None:
    settings = measure.settings()
    assert json.loads(json.dumps(settings)) == settings
    again = measure_from(settings)
    assert again == measure
    assert again.key == measure.key
    assert again.settings() == settings


@given(measure=measures)
def test_a_key_can_be_part_of_a_file_s_name(measure: Importance) -> None:
    assert set(measure.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-+._")


def test_the_usual_measures_have_the_shortest_keys() -> None:
    assert [measure().key for measure in MEASURES.values()] == list(MEASURES)
    assert MAS("logits").key == "mas-logits"
    assert Fisher("dataset", seed=3).key == "fisher-dataset-seed3"
    assert MAS(scaling=AUTHORS, accumulation="samples").key == "mas-authors-samples"
    assert SI(1).key == SI(1.0).key == "si-damping1"


def test_the_measure_of_every_built_in_method_can_be_made_again() -> None:
    used = [method().importance for method in built_in().values()]
    assert all(measure is None or measure_from(measure.settings()) == measure for measure in used)


def test_what_is_left_out_has_its_default() -> None:
    assert measure_from({"measure": "fisher", "scaling": {"range": "unit"}}) == Fisher(scaling=Scaling(range="unit"))
    assert measure_from({"measure": "mas"}) == MAS()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "There is no importance measure None. Measures: mas, fisher, si, uniform"),
        ({"measure": "ewc"}, "There is no importance measure 'ewc'"),
        ({"measure": ["mas"]}, r"There is no importance measure \['mas'\]"),
        ({"measure": "mas", "lables": "sampled"}, "'mas': .*unexpected keyword argument 'lables'"),
        ({"measure": "mas", "scaling": {"rnage": "raw"}}, "'mas': .*unexpected keyword argument 'rnage'"),
        ({"measure": "mas", "scaling": "raw"}, "`scaling` must be a table of settings; got 'raw'"),
        ({"measure": "mas", "scaling": {"quantiles": [0.9, 0.1]}}, "two rising shares"),
        ({"measure": "mas", "scaling": {"quantiles": [0.1, 0.2, 0.3]}}, "two rising shares"),
        ({"measure": "mas", "scaling": {"quantiles": 0.5}}, "'mas': .*not iterable"),
        ({"measure": "mas", "accumulation": "maen"}, "`accumulation` must be one of 'mean'"),
        ({"measure": "si", "damping": "x"}, "'si': .*not supported between"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        measure_from(settings)


@dataclass(frozen=True)
class Theirs(Importance):
    """A third party's measure: one setting without a default, one that is a tuple."""

    layers: tuple[str, ...]
    depth: int = 1

    name = "theirs"

    def estimate(self, model, batches, *, sum_over_processes=None, watched=None):
        return {}


def test_settings_of_somebody_else_s_measure_are_in_its_key_without_a_word_of_theirs() -> None:
    kinds = [Theirs(("a",)), Theirs(("a", "b")), Theirs(("a",), 2), Theirs(("a",), scaling=RAW)]
    assert len({measure.key for measure in kinds}) == len(kinds)
    for measure in kinds:
        assert measure_from(measure.settings(), {"theirs": Theirs}) == measure
