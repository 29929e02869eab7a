from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from perdure.errors import EvaluationError
from perdure.evaluation import Header, ScoredRelease, Scores, domain_rows, mean_scores, one_sided, union

MakeScores = Callable[..., Scores]


@pytest.fixture
def scores(dice_scores: MakeScores) -> Scores:
    values = np.random.default_rng(0).random((2, 2, 2, 2))
    values[0, 0, 0, 0] = np.nan
    return dice_scores(values)


def changed(scores: Scores, **columns: Any) -> Scores:
    return Scores(scores.header, scores.table.with_columns(**columns), "here.parquet")


def in_first_row(column: str, value: object) -> pl.Expr:
    first = pl.int_range(pl.len()) == 0
    kind = pl.Float64 if column == "value" else pl.String
    return pl.when(first).then(pl.lit(value, dtype=kind)).otherwise(pl.col(column)).alias(column)


def test_what_is_written_is_read(scores: Scores, tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.parquet"
    scores.write(path)
    again = Scores.read(path)
    assert again.header == scores.header
    assert again.source == str(path)
    assert_frame_equal(again.table, scores.table)


def test_a_score_that_could_not_be_computed_keeps_its_row(scores: Scores, tmp_path: Path) -> None:
    scores.write(tmp_path / "s.parquet")
    table = pl.read_parquet(tmp_path / "s.parquet")
    assert table["value"].null_count() == 1
    assert not table["value"].is_nan().any()
    assert len(table) == 2 * 2 * 2 * 3


def test_a_failed_write_leaves_the_old_scores_and_nothing_else(
    scores: Scores, kappa_scores: MakeScores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scores.parquet"
    scores.write(path)

    def no_space(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        kappa_scores(np.full((1, 1), 0.5)).write(path)
    assert_frame_equal(Scores.read(path).table, scores.table)
    assert list(tmp_path.iterdir()) == [path]


class TestDistances:
    DICE = ((((0.9, 0.0), (0.8, np.nan), (0.0, 0.5))),)
    HD95 = ((((2.0, np.nan), (4.0, np.nan), (np.nan, 7.0))),)

    def test_are_written_and_read_with_their_unit(self, distance_scores: MakeScores, tmp_path: Path) -> None:
        scores = distance_scores(self.DICE, self.HD95, "pixels")
        scores.write(tmp_path / "s.parquet")
        again = Scores.read(tmp_path / "s.parquet")
        assert again.header.unit == "pixels"
        assert_frame_equal(again.table, scores.table)

    def test_without_them_a_file_says_nothing_of_a_unit(self, scores: Scores) -> None:
        """Byte for byte the header of a file of before there were distances."""
        assert list(scores.header.model_dump(mode="json")) == [
            "format", "task", "ordinal", "split", "releases", "domains", "structures", "created", "groups"
        ]  # fmt: skip
        assert "unit" not in scores.header.model_dump_json()

    def test_have_a_unit_and_no_upper_bound(self, distance_scores: MakeScores) -> None:
        scores = distance_scores(self.DICE, self.HD95)
        far = pl.when(pl.col("metric") == "hd95").then(1e5).otherwise(pl.col("value")).alias("value")
        Scores(scores.header, scores.table.with_columns(far))
        near = pl.when(pl.col("metric") == "hd95").then(-1.0).otherwise(pl.col("value")).alias("value")
        with pytest.raises(EvaluationError, match="found -1.0; must be a number from 0"):
            changed(scores, value=near)
        with pytest.raises(EvaluationError, match=r"column 'metric': found 'hd95'; must be one of: dice"):
            Scores(scores.header.model_copy(update={"unit": None}), scores.table)

    def test_are_averaged_as_dice_over_those_that_have_one(self, distance_scores: MakeScores) -> None:
        """s1 has 2 and 4, s2 only 7."""
        scores = distance_scores(self.DICE, self.HD95)
        assert mean_scores(scores, "hd95") == {("r0", "d1"): pytest.approx((3 + 7) / 2)}
        assert mean_scores(scores, "assd") == {("r0", "d1"): pytest.approx((3 + 7) / 4)}

    def test_say_how_many_structures_have_none_because_only_one_side_has_them(
        self, distance_scores: MakeScores, scores: Scores
    ) -> None:
        """Two have a Dice of 0 and no distance; the one without Dice is absent from both sides."""
        assert one_sided(distance_scores(self.DICE, self.HD95)) == {("r0", "d1"): 2}
        assert one_sided(distance_scores(np.full((1, 1, 2), 0.5), np.ones((1, 1, 2)))) == {}
        assert one_sided(scores) == {}

    def test_are_joined_with_scores_that_have_none_and_not_with_those_in_another_unit(
        self, distance_scores: MakeScores, dice_scores: MakeScores
    ) -> None:
        far = distance_scores(self.DICE, self.HD95)
        without = dice_scores(np.full((1, 1, 3, 2), 0.5), "q")
        for parts in ([far, without], [without, far]):
            assert union(parts).header.unit == "mm"
        assert union([without]).header.unit is None
        other = distance_scores(self.DICE, self.HD95, "pixels")
        other = Scores(other.header, other.table, "other.parquet")
        with pytest.raises(EvaluationError, match=r"other\.parquet: unit: found 'pixels'; must be 'mm' as in scores"):
            union([far, other])


class TestReading:
    def test_refuses_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match=r"nowhere\.parquet: file: found none .*name a score file"):
            Scores.read(tmp_path / "nowhere.parquet")

    def test_refuses_a_damaged_file(self, scores: Scores, tmp_path: Path) -> None:
        path = tmp_path / "s.parquet"
        scores.write(path)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(EvaluationError, match=r"s\.parquet: file: found damage .*evaluate again"):
            Scores.read(path)

    def test_refuses_a_parquet_file_of_somebody_else(self, scores: Scores, tmp_path: Path) -> None:
        scores.table.write_parquet(tmp_path / "s.parquet")
        with pytest.raises(EvaluationError, match=r"s\.parquet: metadata 'perdure\.scores': found none"):
            Scores.read(tmp_path / "s.parquet")

    def test_refuses_another_format_version(self, scores: Scores, tmp_path: Path) -> None:
        header = scores.header.model_dump_json().replace('"format":1', '"format":2')
        scores.table.write_parquet(tmp_path / "s.parquet", metadata={"perdure.scores": header})
        with pytest.raises(EvaluationError, match=r"s\.parquet: metadata .*format: Input should be 1"):
            Scores.read(tmp_path / "s.parquet")

    def test_refuses_a_header_field_it_does_not_know(self, scores: Scores, tmp_path: Path) -> None:
        header = scores.header.model_dump_json().replace('"split"', '"subset":1,"split"')
        scores.table.write_parquet(tmp_path / "s.parquet", metadata={"perdure.scores": header})
        with pytest.raises(EvaluationError, match=r"subset: Extra inputs are not permitted"):
            Scores.read(tmp_path / "s.parquet")

    def test_names_the_file_where_a_row_is_wrong(self, scores: Scores, tmp_path: Path) -> None:
        metadata = {"perdure.scores": scores.header.model_dump_json()}
        scores.table.with_columns(domain=pl.lit("elsewhere")).write_parquet(tmp_path / "s.parquet", metadata=metadata)
        with pytest.raises(EvaluationError, match=r"s\.parquet: column 'domain': found 'elsewhere'; .*d1, d2"):
            Scores.read(tmp_path / "s.parquet")


class TestTable:
    def test_refuses_other_columns(self, scores: Scores) -> None:
        with pytest.raises(EvaluationError, match=r"here\.parquet: columns: found .*colour \(String\); must be"):
            changed(scores, colour=pl.lit("red"))

    def test_refuses_another_type(self, scores: Scores) -> None:
        with pytest.raises(EvaluationError, match=r"value \(Float32\); must be .*value \(Float64\)"):
            changed(scores, value=pl.col("value").cast(pl.Float32))

    @pytest.mark.parametrize("column", ["release", "domain", "structure", "metric"])
    def test_refuses_a_name_that_the_header_does_not_have(self, scores: Scores, column: str) -> None:
        with pytest.raises(EvaluationError, match=f"column '{column}': found 'strange'; must be one of: "):
            changed(scores, **{column: in_first_row(column, "strange")})

    @pytest.mark.parametrize("column", ["release", "domain", "metric"])
    def test_refuses_a_row_without_a_name(self, scores: Scores, column: str) -> None:
        with pytest.raises(EvaluationError, match=f"column '{column}': found None"):
            changed(scores, **{column: in_first_row(column, None)})

    def test_refuses_a_metric_of_the_other_task(self, scores: Scores) -> None:
        with pytest.raises(EvaluationError, match="column 'metric': found 'kappa'; must be one of: dice"):
            changed(scores, metric=in_first_row("metric", "kappa"))

    @pytest.mark.parametrize("column", ["subject", "case", "structure"])
    def test_refuses_a_dice_that_belongs_to_nothing(self, scores: Scores, column: str) -> None:
        with pytest.raises(EvaluationError, match="a dice belongs to a structure"):
            changed(scores, **{column: in_first_row(column, None)})

    def test_refuses_a_kappa_of_one_case(self, kappa_scores: MakeScores) -> None:
        with pytest.raises(EvaluationError, match="a kappa belongs to a domain"):
            changed(kappa_scores(np.full((1, 1), 0.5)), case=pl.lit("case1"))

    @pytest.mark.parametrize("value", [1.01, -0.01, float("nan"), float("inf")])
    def test_refuses_an_impossible_dice(self, scores: Scores, value: float) -> None:
        with pytest.raises(EvaluationError, match=r"row release 'r0'.*must be a number from 0 to 1, or null"):
            changed(scores, value=in_first_row("value", value))

    def test_refuses_a_truth_between_two_classes(self, kappa_scores: MakeScores) -> None:
        base = kappa_scores(np.full((1, 1), 0.5))
        row = domain_rows("r0", "d1", {"truth": 0.5}).with_columns(subject=pl.lit("s"), case=pl.lit("c"))
        with pytest.raises(EvaluationError, match=r"found 0\.5; must be a class index from 0 to 2"):
            Scores(base.header, pl.concat([base.table, row]))

    def test_refuses_the_same_row_twice(self, scores: Scores) -> None:
        with pytest.raises(EvaluationError, match="found it more than once"):
            Scores(scores.header, pl.concat([scores.table, scores.table.head(1)]))

    def test_refuses_a_case_without_one_of_its_structures(self, scores: Scores) -> None:
        with pytest.raises(EvaluationError, match=r"row .*case 'case0'.*found 2 structures; a case has all 3"):
            Scores(scores.header, scores.table.slice(1))


class TestHeader:
    def fields(self, **changes: Any) -> dict[str, Any]:
        release = ScoredRelease(id="a", name="a", domain="d")
        return {
            "task": "segmentation",
            "split": "test",
            "releases": (release,),
            "domains": ("d",),
            "structures": ("background", "x"),
            "created": datetime(2026, 1, 1, tzinfo=UTC),
            **changes,
        }

    def test_refuses_a_parent_after_its_child(self) -> None:
        child, parent = (
            ScoredRelease(id="b", name="child", domain="e", parent="a"),
            ScoredRelease(id="a", name="parent", domain="d"),
        )
        Header(**self.fields(releases=(parent, child)))
        with pytest.raises(ValidationError, match="releases must stand after their parents; 'child' does not"):
            Header(**self.fields(releases=(child, parent)))

    @pytest.mark.parametrize("field", ["domains", "structures"])
    def test_refuses_a_name_twice(self, field: str) -> None:
        with pytest.raises(ValidationError, match=f"{field} must differ from each other; got x, x"):
            Header(**self.fields(**{field: ("x", "x")}))


class TestUnion:
    def test_joins_releases_and_orders_parents_first(self, scores: Scores) -> None:
        first, second = (
            Scores(
                scores.header.model_copy(update={"releases": (release,)}),
                scores.table.filter(pl.col("release") == release.id),
            )
            for release in scores.header.releases
        )
        joined = union([second, first])
        assert joined.header.releases == scores.header.releases
        assert_frame_equal(joined.table, scores.table, check_row_order=False)

    def test_keeps_the_same_row_once(self, scores: Scores) -> None:
        assert_frame_equal(union([scores, scores]).table, scores.table)

    def test_joins_domains_in_the_order_in_which_they_come(self, dice_scores: MakeScores) -> None:
        two, one = dice_scores(np.full((1, 2, 1, 1), 0.5)), dice_scores(np.full((1, 1, 1, 1), 0.5))
        assert union([one, two]).header.domains == ("d1", "d2")

    def test_refuses_contradictions(self, scores: Scores) -> None:
        other = changed(scores, value=pl.col("value") / 2)
        with pytest.raises(EvaluationError, match=r"here\.parquet: row release 'r0'.*different values in different"):
            union([scores, other])

    @pytest.mark.parametrize(("field", "value"), [("split", "val"), ("structures", ("background", "s1", "other"))])
    def test_refuses_scores_of_another_kind(self, scores: Scores, field: str, value: object) -> None:
        table = scores.table.with_columns(structure=pl.col("structure").replace("s2", "other"))
        table = table if field == "structures" else scores.table
        other = Scores(scores.header.model_copy(update={field: value}), table, "other.parquet")
        with pytest.raises(EvaluationError, match=rf"other\.parquet: {field}: found .*only like scores can be joined"):
            union([scores, other])

    def test_refuses_two_descriptions_of_one_release(self, scores: Scores) -> None:
        renamed = tuple(release.model_copy(update={"name": "x"}) for release in scores.header.releases)
        other = Scores(scores.header.model_copy(update={"releases": renamed}), scores.table, "other.parquet")
        with pytest.raises(EvaluationError, match=r"other\.parquet: release r0: found"):
            union([scores, other])

    def test_of_nothing_is_refused(self) -> None:
        with pytest.raises(EvaluationError, match="name at least one score file"):
            union([])
