"""A plan says what it may say, and every mistake in it is named."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from perdure.errors import ConfigurationError
from perdure.evidence.gate.plan import Margins, Override, PlanFile, Range

PLAN = """
format = 1
name = "plan"
metric = "dice"
earlier = ["A"]
[modifications]
methods = ["ewc"]
domains = ["B"]
batch_norm = ["original"]
[non_inferiority]
margin = 0.02
[drift]
margin = 0.05
[gain]
minimum = 0.0
"""


def written(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in PLAN
    path = folder / "PLAN.toml"
    path.write_text(PLAN.replace(old, new) if old else PLAN + new, encoding="utf-8")
    return path


def test_a_plan_is_read_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = written(tmp_path)
    read = PlanFile.read(path)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (read.plan.level, read.plan.multiplicity, read.plan.each_level) == (0.05, "all must hold", 0.05)
    commented = PlanFile.read(written(tmp_path, "", "# a remark\n"))
    assert (commented.plan, commented.sha256 != read.sha256) == (read.plan, True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "format: found 2"),
        ('name = "plan"\n', "", "name: found nothing"),
        ("margin = 0.02", "margin = -0.02", "non_inferiority.margin: found -0.02; Input should be greater than 0"),
        ("margin = 0.02", "margin = 2", "non_inferiority.margin: found 2"),
        ("margin = 0.02", "margin = nan", "non_inferiority.margin"),
        ("margin = 0.02", 'margin = "0.02"', "non_inferiority.margin: found '0.02'"),
        ("margin = 0.02", "margin = true", "non_inferiority.margin: found True"),
        ("minimum = 0.0", "minimum = inf", "gain.minimum"),
        ("minimum = 0.0", "minimum = 0.0\nmin = 1", "gain.min: found 1"),
        ('earlier = ["A"]', "earlier = []", "earlier: found []"),
        ('earlier = ["A"]', 'earlier = ["A", "A"]', "earlier: a domain stands there twice"),
        ('domains = ["B"]', 'domains = ["A"]', "A cannot be an earlier domain and a new one"),
        ('batch_norm = ["original"]', 'batch_norm = ["orignal"]', "modifications.batch_norm.0: found 'orignal'"),
        ("[non_inf", "strength.mas = {low = 1}\n[non_inf", "strength: mas is not among the methods"),
        ("[non_inf", "settings.mas = {}\n[non_inf", "settings: mas is not among the methods"),
        (
            "[non_inf", 'settings.mas-lr."fraction" = {low = 1}\n[non_inf',
            "modifications.settings.mas-lr.fraction.[key]: found 'fraction'",
        ),
        (
            "[non_inf", 'settings.mas-lr."method.x" = []\n[non_inf', "modifications.settings.mas-lr.method.x",
        ),
        (
            "margin = 0.02", "margin = 0.02\nlargest_loss = 0.02",
            "non_inferiority: found a contradiction; largest_loss must be above every margin; got 0.02 and 0.02",
        ),
        ("", "[[floors.override]]\nx = 1", "floors.override"),
        ("", "[data]\nsubjects = {}", "data.subjects: found a contradiction; needs `low`, `high`, or both"),
        ("", "[data]\nsubjects = {low = 5, high = 4}", "`low` must not be above `high`"),
        ("", '[[subgroups]]\ncolumn = "sex"', "subgroups.0: found a contradiction; needs `floor`, `loss`, or both"),
        ("", '[[drift.override]]\nmargin = 0.1', "name a domain, a structure, or both"),
        ("", '[[drift.override]]\ndomain = "C"\nmargin = 0.1', "drift.override: C is no earlier domain"),
        ("", "[looks]\nat_most = 0", "looks.at_most: found 0"),
        ("", "[looks]\nat_most = 1000", "level / looks.at_most must be at least 0.0005"),
        ('name = "plan"', 'name = "plan"\nlevel = 5', "level: found 5"),
        ('name = "plan"', 'name = "plan"\nfirst = "abc"', "first: found 'abc'"),
        ('metric = "dice"', 'metric = "kappa"', 'say structures = "mean"'),
        (
            'metric = "dice"',
            'metric = "hd95"',
            "metric: found 'hd95'; Input should be 'dice' or 'kappa': of a distance smaller is better",
        ),
        ('metric = "dice"', 'metric = "auc"', "metric: found 'auc'; Input should be 'dice' or 'kappa'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_and_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, old, new)
    with pytest.raises(ConfigurationError) as caught:
        PlanFile.read(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


EACH, WOMEN = '[[subgroups]]\ncolumn = "sex"\n', '[[subgroups]]\ncolumn = "sex"\nvalue = "F"\n'


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (EACH + 'floor = 0.5\ndomains = ["X"]', "subgroups.domains: X is neither an earlier domain nor a new one"),
        (EACH + 'floor = 0.5\ndomains = ["A", "A"]', "subgroups.domains: a domain stands there twice"),
        (EACH + 'loss = 0.1\ndomains = ["B"]', "subgroups.loss: only an earlier domain can lose; B is new"),
        (f'{EACH}floor = 0.5\n{WOMEN}floor = 0.6\ndomains = ["B"]', "sex stands there without `value` and with F"),
    ],
)
def test_a_subgroup_that_leads_to_no_criterion_or_to_two_of_one_name_is_refused(
    tmp_path: Path, new: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        PlanFile.read(written(tmp_path, "", new))


def test_subgroups_of_one_column_may_differ_between_domains(tmp_path: Path) -> None:
    both = f'{EACH}floor = 0.5\nloss = 0.1\ndomains = ["A"]\n{WOMEN}floor = 0.6\ndomains = ["B"]\n'
    assert len(PlanFile.read(written(tmp_path, "", both)).plan.subgroups) == 2


def test_all_mistakes_come_in_one_message(tmp_path: Path) -> None:
    path = written(tmp_path, "margin = 0.02", "margin = 7\nmargins = 1")
    with pytest.raises(ConfigurationError) as caught:
        PlanFile.read(path)
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_no_toml_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        PlanFile.read(tmp_path / "none.toml")
    bad = tmp_path / "PLAN.toml"
    bad.write_text("format = ", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        PlanFile.read(bad)


def test_the_most_particular_margin_wins() -> None:
    margins = Margins(
        margin=0.1,
        override=(
            Override(domain="A", margin=0.2),
            Override(structure="x", margin=0.3),
            Override(domain="A", structure="x", margin=0.4),
            Override(structure="mean", margin=0.5),
        ),
    )
    found = [margins.of(*where) for where in (("B", "y"), ("A", "y"), ("B", "x"), ("A", "x"), ("B", None))]
    assert found == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_an_override_of_a_structure_makes_it_compared() -> None:
    margins = Margins(margin=0.1, structures="mean", override=(Override(domain="A", structure="x", margin=0.2),))
    assert (margins.chosen("A", ("x", "y")), margins.chosen("B", ("x", "y"))) == ((None, "x"), (None,))
    assert Margins(margin=0.1).chosen("A", ("x", "y")) == ("x", "y")


def test_a_range_holds_its_ends_and_never_nan() -> None:
    both, up = Range(low=1, high=2), Range(high=2)
    assert [both.holds(value) for value in (0.9, 1, 2, 2.1, float("nan"))] == [False, True, True, False, False]
    assert (up.holds(-9), up.holds(float("nan"))) == (True, False)
    assert (both.said(), up.said(), Range(low=1).said()) == ("from 1 to 2", "up to 2", "from 1")
