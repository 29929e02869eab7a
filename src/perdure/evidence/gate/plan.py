"""What may change, by how much, and how is that shown? The change plan, written before the update.

It is the predetermined change control plan of one product, as a file that a gate can follow.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from perdure.errors import ConfigurationError, Problem
from perdure.evaluation import DISTANCES
from perdure.types import Statistics, Value


def _no_distance(metric: Any) -> Any:
    if metric in DISTANCES:
        why = "of a distance smaller is better, and no margin or floor of at most 1 fits what has no largest value"
        raise PydanticCustomError("distance", "Input should be 'dice' or 'kappa': {why}", {"why": why})
    return metric


Metric: TypeAlias = Annotated[Literal["dice", "kappa"], BeforeValidator(_no_distance)]
Score = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Margin = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Place = Annotated[str, Field(pattern=r"^(method|recipe)(\.\w+)+$")]
Values = Annotated[tuple[str | bool | int | float, ...], Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(min_length=1)]

MEAN = "mean"
"""The name for the mean over structures."""


class Range(Value):
    """A number that may lie between two others, both included.

    Args:
        low: the smallest; without it there is none.
        high: the largest; likewise.
    """

    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if self.low is None and self.high is None:
            raise ValueError("needs `low`, `high`, or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"`low` must not be above `high`; got {self.low:g} and {self.high:g}")
        return self

    def holds(self, value: float) -> bool:
        """Whether a number lies in it; NaN never does."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high) and value == value

    def said(self) -> str:
        """In words, as `from 5 to 60`."""
        low = "" if self.low is None else f"from {self.low:g}"
        high = "" if self.high is None else f"{'to' if low else 'up to'} {self.high:g}"
        return " ".join(part for part in (low, high) if part)


class Modifications(Value):
    """Which updates the plan is for.

    Args:
        methods: names of methods.
        domains: new domains that may be learnt.
        batch_norm: batch-norm policies.
        strength: by method, bounds on the strength of its penalty.
        settings: by method, and by where it stands in `release.json` (`method.regularizer.fraction`,
            `recipe.learning_rate`), bounds on any other setting, or the values that it may have.
    """

    methods: Names
    domains: Names
    batch_norm: Annotated[tuple[Statistics, ...], Field(min_length=1)]
    strength: Mapping[str, Range] = Field(default_factory=dict)
    settings: Mapping[str, Mapping[Place, Range | Values]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _bounds_what_it_allows(self) -> Modifications:
        for field, bounds in (("strength", self.strength), ("settings", self.settings)):
            if strange := sorted(bounds.keys() - set(self.methods)):
                raise ValueError(f"{field}: {', '.join(strange)} is not among the methods")
        return self


class Amounts(Value):
    """How much of the new domain an update may train on.

    Args:
        subjects: of the train split.
        cases: likewise.
    """

    subjects: Range | None = None
    cases: Range | None = None


class Override(Value):
    """Another margin for one domain, one structure, or one structure of one domain.

    Args:
        domain: which; all if left out.
        structure: which; all if left out, and `mean` for the mean over structures.
        margin: the margin there.
    """

    domain: Name | None = None
    structure: Name | None = None
    margin: Margin

    @model_validator(mode="after")
    def _is_about_something(self) -> Override:
        if self.domain is None and self.structure is None:
            raise ValueError("name a domain, a structure, or both; the margin for all is `margin` itself")
        return self


class Margins(Value):
    """How much may be lost.

    Args:
        margin: the largest loss, above 0.
        structures: `each` structure but the background, the `mean` over them, or those named (`mean` may be one).
        override: other margins; the most particular wins: domain and structure, then structure, then domain.
        largest_loss: that a single subject can have. With it the level holds whatever the distribution of changes, also
            where a few subjects whom nobody saw lose that much; it takes many more subjects.
    """

    margin: Margin
    largest_loss: Margin | None = None
    structures: Literal["each", "mean"] | Names = "each"
    override: tuple[Override, ...] = ()

    @model_validator(mode="after")
    def _overrides_once(self) -> Margins:
        keys = [(one.domain, one.structure) for one in self.override]
        if len(set(keys)) != len(keys):
            raise ValueError("override: one domain and structure stands there twice")
        widest = max([self.margin, *(one.margin for one in self.override)])
        if self.largest_loss is not None and self.largest_loss <= widest:
            raise ValueError(f"largest_loss must be above every margin; got {self.largest_loss:g} and {widest:g}")
        return self

    def of(self, domain: str, structure: str | None) -> float:
        """The margin of a structure (None for the mean over structures) on a domain."""
        named = structure or MEAN
        found = {(one.domain, one.structure): one.margin for one in self.override}
        keys = ((domain, named), (None, named), (domain, None))
        return next((found[key] for key in keys if key in found), self.margin)

    def chosen(self, domain: str, structures: Iterable[str]) -> tuple[str | None, ...]:
        """The structures to compare on a domain; None is the mean.

        Args:
            domain: which.
            structures: those of the scores, without background. What the plan names and they lack is among the result.
        """
        if self.structures == "each":
            wanted: tuple[str, ...] = tuple(structures)
        else:
            wanted = (MEAN,) if self.structures == "mean" else self.structures
        named = [one.structure for one in self.override if one.structure and one.domain in (None, domain)]
        return tuple(None if name == MEAN else name for name in dict.fromkeys([*wanted, *named]))


class Gain(Value):
    """What the new domain must gain.

    Args:
        minimum: the smallest gain that is worth the update; 0 asks for any.
        structures: as in `Margins`.
    """

    minimum: Score
    structures: Literal["each", "mean"] | Names = "mean"

    def chosen(self, structures: Iterable[str]) -> tuple[str | None, ...]:
        """As `Margins.chosen`."""
        return Margins(margin=1.0, structures=self.structures).chosen("", structures)


class Floors(Value):
    """What must be so of the subjects that were seen; nothing is inferred from them to others.

    Args:
        domain: the smallest mean (over structures and subjects), or kappa, on any domain.
        structure: the smallest mean of the worst structure.
        subject: the smallest mean (over structures) of the worst subject.
        structure_loss: the largest loss of the structure that lost most, on an earlier domain.
        subject_loss: the largest loss of the subject that lost most, on an earlier domain.
        structures: the structures that all of these look at: `each` but the background, or those named.
    """

    structures: Literal["each"] | Names = "each"
    domain: Score | None = None
    structure: Score | None = None
    subject: Score | None = None
    structure_loss: Margin | None = None
    subject_loss: Margin | None = None


class Subgroup(Value):
    """What must be so of the seen subjects that have something in common.

    Args:
        column: of the manifest, kept in the scores by `perdure evaluate --group`.
        value: which; left out, each value that occurs is a subgroup.
        floor: the smallest mean, or kappa, of the subgroup on any domain.
        loss: its largest loss on an earlier domain.
        subjects: with fewer than this many nothing is decided.
        domains: where; left out, on every earlier domain and the new one.
    """

    domains: Names | None = None
    column: Name
    value: Name | None = None
    floor: Score | None = None
    loss: Margin | None = None
    subjects: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _asks_for_something(self) -> Subgroup:
        if self.floor is None and self.loss is None:
            raise ValueError("needs `floor`, `loss`, or both")
        return self


class Looks(Value):
    """How often test splits may be looked at.

    Args:
        at_most: how many candidates may be scored on the test split of a domain. The level is divided by it.
    """

    at_most: int = Field(default=1, ge=1)


class ChangePlan(Value):
    """A change plan, as it stands in PLAN.toml.

    Args:
        format: of the file.
        name: what people call the plan.
        metric: the score that all margins and floors are in: `dice` or `kappa`.
        earlier: the domains that the release serves; nothing may be lost on any of them.
        first: the id of the first authorised release; without it, the first of the line.
        level: of the whole plan, in (0, 1): .05 means intervals of 95 %.
        multiplicity: `all must hold` or `holm`, see decision 0021.
        power: that the number of subjects needed is for.
        modifications: what may change.
        data: how much data an update may train on.
        non_inferiority: how much each earlier domain may lose against the parent.
        drift: how much it may have lost since it was learnt (against the first release, for what that one served).
        gain: what the new domain must gain.
        floors: what must be so of every domain.
        subgroups: what must be so of subgroups.
        looks: how often test splits may be looked at.
    """

    format: Literal[1]
    name: Name
    metric: Metric
    earlier: Names
    first: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    level: Annotated[float, Field(ge=0.001, le=0.2, allow_inf_nan=False)] = 0.05
    multiplicity: Literal["all must hold", "holm"] = "all must hold"
    power: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.8
    modifications: Modifications
    data: Amounts = Amounts()
    non_inferiority: Margins
    drift: Margins
    gain: Gain
    floors: Floors = Floors()
    subgroups: tuple[Subgroup, ...] = ()
    looks: Looks = Looks()

    @model_validator(mode="after")
    def _is_consistent(self) -> ChangePlan:
        for field, names in (("earlier", self.earlier), ("modifications.domains", self.modifications.domains)):
            if len(set(names)) != len(names):
                raise ValueError(f"{field}: a domain stands there twice")
        if both := sorted(set(self.earlier) & set(self.modifications.domains)):
            raise ValueError(f"{', '.join(both)} cannot be an earlier domain and a new one")
        self._check_subgroups()
        for field in ("non_inferiority", "drift"):
            margins: Margins = getattr(self, field)
            if strange := {one.domain for one in margins.override if one.domain} - set(self.earlier):
                raise ValueError(f"{field}.override: {', '.join(sorted(strange))} is no earlier domain")
        if self.each_level < 0.0005:
            raise ValueError(f"level / looks.at_most must be at least 0.0005; got {self.each_level:g}")
        if self.metric == "kappa":
            self._check_kappa()
        return self

    def _check_subgroups(self) -> None:
        """Every subgroup leads to a criterion, and none to two of one name."""
        groups = [(one.column, one.value) for one in self.subgroups]
        if len(set(groups)) != len(groups):
            raise ValueError("subgroups: one column and value stands there twice")
        known = {*self.earlier, *self.modifications.domains}
        for one in self.subgroups:
            domains = one.domains or ()
            if strange := sorted(set(domains) - known):
                raise ValueError(f"subgroups.domains: {', '.join(strange)} is neither an earlier domain nor a new one")
            if len(set(domains)) != len(domains):
                raise ValueError("subgroups.domains: a domain stands there twice")
            if one.loss is not None and domains and not set(domains) & set(self.earlier):
                raise ValueError(f"subgroups.loss: only an earlier domain can lose; {', '.join(domains)} is new")
        for each in (one for one in self.subgroups if one.value is None):
            for one in self.subgroups:
                alike = one.column == each.column and one.value is not None
                if alike and set(each.domains or known) & set(one.domains or known):
                    raise ValueError(
                        f"subgroups: {one.column} stands there without `value` and with {one.value} for one domain"
                    )

    def _check_kappa(self) -> None:
        """Kappa belongs to a domain: a structure has none, and neither has a subject."""
        for field in ("structure", "subject", "structure_loss", "subject_loss"):
            if getattr(self.floors, field) is not None:
                raise ValueError(f"floors.{field}: a {field.partition('_')[0]} has no kappa; remove it")
        for field in ("non_inferiority", "drift", "gain"):
            if getattr(self, field).structures != MEAN:
                raise ValueError(f'{field}.structures: kappa is of all cases together; say structures = "{MEAN}"')
        if any(margins.largest_loss is not None for margins in (self.non_inferiority, self.drift)):
            raise ValueError("largest_loss: it is of one subject, who has no kappa; remove it")
        if any(one.structure for margins in (self.non_inferiority, self.drift) for one in margins.override):
            raise ValueError("override: a structure has no kappa; name domains alone")

    @property
    def each_level(self) -> float:
        """The level of one candidate: that of the plan, divided among as many as may be looked at."""
        return self.level / self.looks.at_most


@dataclass(frozen=True)
class PlanFile:
    """A change plan and the file that it stands in.

    Args:
        plan: what it says.
        sha256: of the bytes of the file: a comment that was changed is a change.
        path: the file, as the user wrote it.
    """

    plan: ChangePlan
    sha256: str
    path: Path

    @classmethod
    def read(cls, path: Path) -> PlanFile:
        """Reads a plan and checks every word of it.

        Raises:
            ConfigurationError: with all mistakes, naming the file, the field, what was found and what is allowed.
        """
        try:
            content = path.read_bytes()
            # TOML tells numbers from text by itself, and JSON in strict mode takes lists for tuples
            text = json.dumps(tomllib.loads(content.decode("utf-8")), default=str)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{path}: is not TOML: {error}.") from error
        try:
            plan = ChangePlan.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise ConfigurationError("\n".join(str(_problem(path, one)) for one in error.errors())) from error
        return cls(plan, hashlib.sha256(content).hexdigest(), path)


def _problem(path: Path, error: Any) -> Problem:
    field = ".".join(map(str, error["loc"])) or "file"
    found = {"missing": "nothing", "value_error": "a contradiction"}.get(error["type"], repr(error["input"])[:80])
    return Problem(str(path), field, found, error["msg"].removeprefix("Value error, "))
