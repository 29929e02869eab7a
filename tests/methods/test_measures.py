from __future__ import annotations

from pathlib import Path

import pytest

from perdure.errors import MethodError
from perdure.importance import AUTHORS, MAS, SI, Fisher, Scaling, Uniform
from perdure.methods import measure_named, words_for


@pytest.mark.parametrize(
    ("words", "measure"),
    [
        ("mas", MAS()),
        ("fisher", Fisher()),
        ("si", SI()),
        ("uniform", Uniform()),
        ("mas-authors", MAS(scaling=AUTHORS, accumulation="samples")),
        ("mas:output=logits", MAS("logits")),
        ("fisher:labels=dataset,seed=3", Fisher("dataset", 3)),
        ("si:damping=0.01", SI(0.01)),
        ("mas:accumulation=max", MAS(accumulation="max")),
    ],
)
def test_words_mean_a_measure_and_a_measure_has_its_words(words: str, measure: object) -> None:
    assert measure_named(words) == measure
    assert words_for(measure) == words


def test_what_only_a_file_can_say_is_said_by_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    importance = '[importance]\nmeasure = "fisher"\n[importance.scaling]\nrange = "unit"\n'
    file.write_text(f'{importance}[regularizer]\nform = "learning-rate"\n')
    assert measure_named(str(file)) == Fisher(scaling=Scaling(range="unit"))
    assert words_for(measure_named(str(file))).startswith("FILE.toml")


def test_a_file_whose_method_measures_nothing_is_no_measure(tmp_path: Path) -> None:
    file = tmp_path / "plain.toml"
    file.write_text('[regularizer]\nform = "unrestrained"\n')
    with pytest.raises(MethodError, match=r"its method measures no importance; it has no table \[importance\]"):
        measure_named(str(file))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mass", "There is no importance measure 'mass'. Measures: mas, fisher, si, uniform, mas-authors, or"),
        ("mas:output", "found 'output'; write NAME:setting=value"),
        ("mas:output=logits,output=softmax", "each once"),
        ("mas:output=probability", "`output` must be one of"),
        ("mas:labels=dataset", "Importance measure 'mas': .*labels"),
        ("fisher:accumulation=mode", "`accumulation` must be one of"),
        ("fisher:scaling=raw", "`scaling` must be a table of settings"),
    ],
)
def test_a_mistake_is_named(words: str, said: str) -> None:
    with pytest.raises(MethodError, match=said):
        measure_named(words)
