from __future__ import annotations

from pathlib import Path

import pytest

from grids import PLAIN, plan
from perdure.benchmark.soundness import check_plan
from perdure.errors import ConfigurationError


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[[methods]]\nmethod = "mas"\nsearch = { lamda = [1, 2] }\n', "methods.1 .mas.: found {'lamda': 2}"),
        ('[[methods]]\nmethod = "mas"\nsearch = { retain = [0.5, 1.5] }\n', r"retain must be in \[0, 1\]; got 1.5"),
        ('[[methods]]\nmethod = "mas"\nupdate = { preset = "paper_a" }\n', "preset: found 'paper_a'; allowed are"),
        ('[[methods]]\nmethod = "mas"\nupdate = { epochs = "5" }\n', "epochs: found '5'"),
        ('[[methods]]\nmethod = "mas"\nupdate = { sped = 5 }\n', "sped: found 5"),
        ('[[methods]]\nmethod = "mas"\nupdate = { seed = 5 }\n', "seed: stands in `seeds` of the file"),
        ('[[methods]]\nmethod = "mas-lr-dropout"\n', "the network of base 'plain' has none"),
        ('[[methods]]\nmethod = "replay"\n', "Say that you may keep them"),
        ('[selection]\nmetric = "kappa"\n', "selection.metric: found kappa; a segmentation has dice"),
        ('[[methods]]\nlabel = "x"\nmethod = "mas"\nset = { batch_norm = "old" }\n', "batch_norm"),
    ],
)
def test_what_could_only_fail_later_is_said_before_anything_runs(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        check_plan(plan(tmp_path, PLAIN + more))
    assert "grid.toml" in str(caught.value)


def test_a_row_that_needs_dropout_goes_with_a_base_that_has_it(tmp_path: Path) -> None:
    check_plan(plan(tmp_path, PLAIN + '[[methods]]\nmethod = "mas-lr-dropout"\nbase = "wild"\n'))


def test_a_domain_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sequences: found c; .* has a, b"):
        check_plan(plan(tmp_path, PLAIN.replace('"a", "b"', '"a", "c"')))
