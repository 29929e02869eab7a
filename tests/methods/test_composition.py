from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import pytest

from perdure.errors import MethodError
from perdure.importance import MAS, MEASURES, Fisher, Scaling
from perdure.methods import composed, measure_named, method_named
from perdure.regularization import FORMS, LearningRate, Unrestrained
from perdure.types import Statistics
from perdure.update import Recipe, train, update
from reference.domains import SEGMENTER, TinyDomain

INDEX = Path(__file__).resolve().parents[2] / "docs" / "methods" / "README.md"
RECIPE = Recipe(epochs=1, batch_size=4, learning_rate=0.05)
PLAIN = '[regularizer]\nform = "unrestrained"\n'


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_of_the_documents_updates_a_release(tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", INDEX.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if block.startswith("name = ")]
    file = str(written(tmp_path, example, "fisher-lr.toml"))
    method = method_named(file)
    assert method.importance == Fisher(scaling=Scaling("clip", "unit"))
    assert (method.regularizer, method.granularity, method.batch_norm) == (LearningRate(), "filter", "original")
    base = train(SEGMENTER, TinyDomain(), trusted=["reference"], recipe=RECIPE, measures=[measure_named(file)])
    release = update(base, TinyDomain("site-b"), method=method, recipe=RECIPE)
    record = release.identity.method
    assert (record["name"], record["by"]) == ("fisher-lr", "file fisher-lr.toml")
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(("measure", "form"), list(product(MEASURES, FORMS)))
def test_any_measure_goes_with_any_form(tmp_path: Path, measure: str, form: str) -> None:
    more = "strength = 2.0\n" if form == "surrogate-loss" else ""
    scaling = '[importance.scaling]\nrange = "unit"\n'
    text = f'[importance]\nmeasure = "{measure}"\n{scaling}[regularizer]\nform = "{form}"\n{more}'
    method = composed(written(tmp_path, text))
    assert (type(method.importance), type(method.regularizer)) == (MEASURES[measure], FORMS[form])


@pytest.mark.parametrize("batch_norm", Statistics.__args__)
def test_any_batch_norm_policy_can_be_said(tmp_path: Path, batch_norm: Statistics) -> None:
    assert composed(written(tmp_path, f'batch_norm = "{batch_norm}"\n{PLAIN}')).batch_norm == batch_norm


def test_what_is_left_out_has_its_default_and_the_file_gives_the_name(tmp_path: Path) -> None:
    method = composed(written(tmp_path, PLAIN, "just-train.toml"))
    assert (method.name, method.source, method.by) == ("just-train", "composed", "file just-train.toml")
    assert (method.importance, method.regularizer, method.granularity) == (None, Unrestrained(), "parameter")


def test_a_file_cannot_pass_for_one_of_ours(tmp_path: Path) -> None:
    assert composed(written(tmp_path, f'name = "mas-lr"\n{PLAIN}')).by == "file mine.toml"
    with pytest.raises(MethodError, match="by: no field of a method"):
        composed(written(tmp_path, f'by = "perdure"\n{PLAIN}'))


def test_settings_of_all_parts_are_taken_as_they_are_written(tmp_path: Path) -> None:
    text = (
        'rate = 0.5\nweight_decay = 0.0\ntrainable = "batch-norm"\n'
        '[importance]\nmeasure = "mas"\noutput = "logits"\naccumulation = "max"\n'
        '[importance.scaling]\nquantiles = [0.1, 0.9]\nscope = "layer"\n'
        '[regularizer]\nform = "learning-rate"\npower = 2\n'
    )
    method = composed(written(tmp_path, text))
    assert (method.rate, method.weight_decay, method.trainable) == (0.5, 0.0, "batch-norm")
    scaling = Scaling(quantiles=(0.1, 0.9), scope="layer")
    assert method.importance == MAS("logits", scaling=scaling, accumulation="max")
    assert method.regularizer == LearningRate(power=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"regularizer: missing; add a table \[regularizer\]"),
        (f"lr = 1\n{PLAIN}", "lr: no field of a method; allowed are: name, .*batch_norm"),
        ('regularizer = "freezing"', "regularizer: found 'freezing'; it must be a table"),
        (f"name = 3\n{PLAIN}", "name: found 3; it must be a text"),
        (f"needs_dropout = 1\n{PLAIN}", "needs_dropout: found 1; it must be true or false"),
        (f'rate = "slow"\n{PLAIN}', "`rate` must be above 0, several different such, or 'matched'; got 'slow'"),
        (f"rate = true\n{PLAIN}", "`rate` must be above 0, several different such, or 'matched'; got True"),
        (f"rate = [2, 2]\n{PLAIN}", r"`rate` must be above 0, several different such, or 'matched'; got \(2, 2\)"),
        (f"weight_decay = -1\n{PLAIN}", "`weight_decay` must be at least 0; got -1"),
        (f'batch_norm = "orginal"\n{PLAIN}', "`batch_norm` must be one of"),
        ('[regularizer]\nform = "freeze"', "There is no regularizer 'freeze'. Regularizers: unrestrained"),
        ('[regularizer]\nform = "freezing"\nshare = 0.5', "Regularizer 'freezing': .*share"),
        ('[regularizer]\nform = "freezing"\nhold = "gradeint"', "`hold` must be one of 'step', 'gradient'"),
        ('[regularizer]\nform = "freezing"', "Method 'mine' needs an importance measure"),
        ('[importance]\nmeasure = "fisher"\n[regularizer]\nform = "learning-rate"', "its measure leaves it raw"),
        ('[regularizer]\nform = "distillation"\ntemperature = 0', "`temperature` must be a number above 0"),
        (f'[importance]\nmeasure = "maas"\n{PLAIN}', "There is no importance measure 'maas'"),
        (f'[importance]\nmeasure = "mas"\nscaling = "unit"\n{PLAIN}', "`scaling` must be a table"),
        (f'[importance]\nmeasure = "mas"\naccumulation = "men"\n{PLAIN}', "`accumulation` must be one of"),
        ("name = ", "is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(MethodError, match=f"^{re.escape(str(file))}: .*{said}"):
        composed(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"gone\.toml: cannot be read: No such file"):
        method_named(str(tmp_path / "gone.toml"))


def test_plain_fields_can_be_changed_beside_the_file(tmp_path: Path) -> None:
    file = str(written(tmp_path, PLAIN))
    assert method_named(file, batch_norm="original", granularity="kernel").batch_norm == "original"
    assert method_named(file, batch_norm="original").by == "file mine.toml"


@pytest.mark.parametrize("setting", ["strength", "importance", "name", "by", "recipe"])
def test_what_makes_the_method_stands_in_the_file(tmp_path: Path, setting: str) -> None:
    with pytest.raises(MethodError, match=f"mine.toml: {setting}: no setting beside a file; write it there"):
        method_named(str(written(tmp_path, PLAIN)), **{setting: "x"})
