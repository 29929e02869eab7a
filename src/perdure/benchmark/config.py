"""What a benchmark file says: methods, settings and seeds over sequences of domains."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import Field, JsonValue, ValidationError, model_validator

from perdure.errors import ConfigurationError, Problem
from perdure.methods import Method, method_named
from perdure.methods.composition import method_of
from perdure.models import NetworkSpec
from perdure.types import Contract, Split, Statistics, Value
from perdure.update import Recipe, recipe_for
from perdure.update.recipe import Preset

Settings: TypeAlias = dict[str, JsonValue]
PLAIN = "plain"
"""The name of the base release that methods start from unless they name another."""
PRESET = "preset"


class DataSection(Value):
    """Which data, and the input contract on them.

    Args:
        folder: of the data, relative to the benchmark file.
        size: see `Dataset.default_contract`.
        spacing: mm, the same along all axes.
        view: see `Dataset.default_contract`.
        dims: 2, or 3 for a network that takes volumes.
        merge_sides: see `Dataset.default_contract`.
        channels: of the network, where grey images are for one that takes more; those of the images if left out.
        mean: taken off the scaled intensity, one a channel.
        std: divides what is left, one a channel.
    """

    folder: str = "."
    size: int | None = Field(default=None, ge=1)
    spacing: float | None = Field(default=None, gt=0)
    view: Literal["coronal", "axial", "sagittal"] = "coronal"
    dims: Literal[2, 3] = 2
    merge_sides: bool = False
    channels: int | None = Field(default=None, ge=1)
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None


class NetworkSection(Value):
    """Which network, and the weights that it starts from.

    Args:
        factory: as `--network`.
        arguments: of the factory.
        weights: a local file of pretrained weights, relative to the benchmark file.
    """

    factory: str = "quicknat"
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    weights: str | None = None


class Base(Value):
    """What one base release has of its own.

    Args:
        arguments: of the network, over those of `[network]`.
        train: settings of the recipe, over those of `[train]`.
    """

    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    train: Settings = Field(default_factory=dict)


class Entry(Value):
    """One row of the grid: a method, its settings, and what is searched.

    Args:
        method: its name, or a TOML file that composes it, relative to the benchmark file.
        compose: the method itself, as such a file has it; instead of `method`.
        label: what tables call it; the method's name if left out.
        set: settings of the method, as `--set`.
        update: settings of the recipe, over those of `[update]`.
        base: which base release it starts from.
        retain: how far each update goes back to its parent, in [0, 1].
        search: candidate values by setting: a name as in `set`, `update.NAME` of the recipe, or `retain`. All
            combinations are tried, and one is chosen on validation cases, see `Selection`.
        role: `method`, or `control` for what others must beat.
        allow_patient_data: see `perdure.update`.
        replay_cases: of each earlier domain, for the method `replay`.
    """

    method: str | None = None
    compose: dict[str, Any] | None = None
    label: str = ""
    set: Settings = Field(default_factory=dict)
    update: Settings = Field(default_factory=dict)
    base: str = PLAIN
    retain: float | None = Field(default=None, ge=0, le=1)
    search: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict)
    role: Literal["method", "control"] = "method"
    allow_patient_data: bool = False
    replay_cases: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _is_one_method(self) -> Entry:
        if (self.method is None) == (self.compose is None):
            raise ValueError("say either `method` or `compose`")
        if empty := [name for name, values in self.search.items() if not values]:
            raise ValueError(f"search.{empty[0]} has no candidate; list at least one")
        return self

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.label or self.method or str((self.compose or {}).get("name", "composed"))


class Selection(Value):
    """How one of several candidates is chosen, without a look at a test case or at a domain still to come.

    A candidate makes the first update of the sequence, with every seed, and is scored on the validation cases of the
    domains learnt by then. What is chosen holds for the whole sequence.

    Args:
        rule: `mean` takes the highest mean score over those domains; `gate` the highest score on the new domain among
            the candidates that cost the old one at most `margin`, or the cheapest where all cost more.
        margin: of `gate`, in units of the score.
        metric: which score; Dice for segmentations and kappa for classifications if left out.
    """

    rule: Literal["mean", "gate"] = "mean"
    margin: float = Field(default=0.02, ge=0)
    metric: Literal["dice", "kappa", "accuracy", "auc"] | None = None


class Config(Value):
    """A benchmark file.

    Args:
        name: short, for folders and tables.
        title: one line for people.
        seeds: each makes its own base release and its own updates.
        split: which cases the final scores are of; `val` for a search that must leave the test split alone.
        memory: GiB that one cell needs at most; it bounds how many run at once.
        data: which data, and the input contract.
        sequences: by name, the domains in the order of learning.
        network: which network.
        train: settings of the recipe of base releases, over the default; `preset` names another to start from.
        update: the same for updates.
        bases: base releases besides the plain one, by name.
        selection: how candidates are chosen.
        methods: the rows.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    split: Split = "test"
    memory: float = Field(default=2.0, gt=0)
    data: DataSection = Field(default_factory=DataSection)
    sequences: dict[str, tuple[str, ...]] = Field(min_length=1)
    network: NetworkSection = Field(default_factory=NetworkSection)
    train: Settings = Field(default_factory=dict)
    update: Settings = Field(default_factory=dict)
    bases: dict[str, Base] = Field(default_factory=dict)
    selection: Selection = Field(default_factory=Selection)
    methods: tuple[Entry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Config:
        labels = [entry.name for entry in self.methods]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"methods: {', '.join(twice)} stands there twice; give each row a `label` of its own")
        if len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must differ and be at least 0; got {list(self.seeds)}")
        known = {PLAIN, *self.bases}
        if unknown := sorted({entry.base for entry in self.methods} - known):
            raise ValueError(
                f"methods: base {', '.join(unknown)}: there is none; allowed are {', '.join(sorted(known))}"
            )
        for name, domains in self.sequences.items():
            if len(domains) < 2 or len(set(domains)) != len(domains):
                raise ValueError(f"sequences.{name}: must be two domains or more, each once; got {list(domains)}")
        return self

    def base(self, name: str) -> Base:
        """What a base release has of its own."""
        return self.bases.get(name, Base())

    def network_of(self, base: str) -> NetworkSpec:
        """The network of a base release."""
        return NetworkSpec(
            factory=self.network.factory, arguments={**self.network.arguments, **self.base(base).arguments}
        )

    def train_recipe(self, base: str, contract: Contract, seed: int) -> Recipe:
        """The recipe of a base release."""
        return _recipe({**self.train, **self.base(base).train}, contract, "base", "target", seed)

    def update_recipe(self, own: Settings, contract: Contract, statistics: Statistics, seed: int) -> Recipe:
        """The recipe of an update; `own` are settings over those of the file."""
        return _recipe({**self.update, **own}, contract, "update", statistics, seed)


def read_config(path: Path) -> Config:
    """Reads a benchmark file and checks every word of it, its methods included.

    Raises:
        ConfigurationError: with all mistakes, naming the file, the field, what was found and what is allowed.
    """
    try:
        # TOML tells numbers from text by itself, and JSON in strict mode takes lists for tuples
        text = json.dumps(tomllib.loads(path.read_text(encoding="utf-8")), default=str)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}.") from error
    try:
        return Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        problems = [
            Problem(str(path), ".".join(map(str, e["loc"])) or "file", _found(e), e["msg"]) for e in error.errors()
        ]
        raise ConfigurationError("\n".join(map(str, problems))) from error


def method_for(entry: Entry, settings: Settings, folder: Path) -> Method:
    """The method of a row with some settings.

    Args:
        entry: the row.
        settings: of the method, over those of the row.
        folder: that paths in the row start from.

    Raises:
        MethodError: if there is no such method or setting.
    """
    together = {**entry.set, **settings}
    if entry.compose is not None:
        return method_of({"name": entry.name, **entry.compose, **together}, f"{entry.name}.toml")
    assert entry.method is not None
    name = str(folder / entry.method) if entry.method.endswith(".toml") else entry.method
    return method_named(name, **together)


def _recipe(
    settings: Settings, contract: Contract, stage: Literal["base", "update"], statistics: Statistics, seed: int
) -> Recipe:
    """A recipe from settings over a preset.

    Raises:
        ConfigurationError: naming each setting that is none, or has a value that is not allowed.
    """
    own = {name: value for name, value in settings.items() if name != PRESET}
    preset = settings.get(PRESET, "default")
    if preset not in get_args(Preset):
        raise ConfigurationError(f"{PRESET}: found {preset!r}; allowed are {', '.join(get_args(Preset))}.")
    if "seed" in own:
        raise ConfigurationError("seed: stands in `seeds` of the file, for all of it.")
    recipe = recipe_for(contract, stage, statistics, preset)  # type: ignore[arg-type]
    try:
        return Recipe.model_validate_json(
            json.dumps({**recipe.model_dump(mode="json"), **own, "seed": seed}), strict=True
        )
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}: found {_found(e)}; {e['msg']}" for e in error.errors()]
        raise ConfigurationError("; ".join(found)) from error


def _found(error: Any) -> str:
    return "nothing" if error["type"] == "missing" else repr(error["input"])[:80]
