"""Every cell of a grid, and what decides its result."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, JsonValue
from torch import nn

from perdure.benchmark.config import Config, Entry, Settings, method_for
from perdure.data import Dataset, FolderDomain
from perdure.errors import ConfigurationError, Problem
from perdure.importance import Importance
from perdure.methods import Method
from perdure.models import NetworkSpec, build
from perdure.release.folder import sha256
from perdure.types import SPLITS, Contract, Split, Value
from perdure.update import Recipe
from perdure.update.provenance import digest_of_hashes

Kind: TypeAlias = Literal["base", "trial", "final"]
RECIPE = "update."
RETAIN = "retain"
PATHS = ("file", "data", "weights", "cache")


class Cell(Value):
    """One job of the grid, that is done or not, on its own.

    Args:
        kind: `base` trains a base release; `trial` makes the first update with candidate settings and scores it on
            validation cases; `final` makes all updates with the chosen settings and reads the split that counts.
        sequence: which sequence; of a base the first that needs it.
        base: which base release.
        seed: of everything random.
        label: the row; empty for a base.
        settings: what was searched, by its name in `search`.
    """

    kind: Kind
    sequence: str
    base: str
    seed: int
    label: str = ""
    settings: Settings = Field(default_factory=dict)

    def __hash__(self) -> int:
        # its settings are a dictionary, which has no hash of its own
        return hash(self.model_dump_json())

    @property
    def name(self) -> str:
        """What people call it."""
        searched = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        row = " ".join(part for part in (self.label, f"({searched})" if searched else "") if part)
        return ", ".join(part for part in (self.kind, self.sequence, row or self.base, f"seed {self.seed}") if part)


@dataclass(frozen=True)
class Update:
    """One update, with all that decides its result but the parent.

    Args:
        domain: the new one.
        method: how earlier ones are protected.
        recipe: the numbers.
        retain: how far it goes back to its parent afterwards; None for not at all.
        entry: the row of the file.
    """

    domain: str
    method: Method
    recipe: Recipe
    retain: float | None
    entry: Entry

    @property
    def gathered(self) -> Importance | None:
        """Its importance, where that has to be measured while a network trains."""
        importance = self.method.importance
        return importance if importance is not None and importance.is_gathered else None

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "domain": self.domain,
            "method": self.method.record(),
            "recipe": self.recipe.model_dump(mode="json"),
            "retain": self.retain,
            "replay_cases": self.entry.replay_cases if self.method.data == "replay" else None,
        }


@dataclass(frozen=True)
class Plan:
    """A benchmark file on the data that it is run on.

    Args:
        config: what the file says.
        file: the file; paths in it start from its folder.
        data: the data folder.
        weights: a file of pretrained weights, or None.
        cache: where prepared images are kept; the default place if None.
        trusted: modules that may be imported to build the network.
        device: where networks run.
    """

    config: Config
    file: Path
    data: Path
    weights: Path | None = None
    cache: Path | None = None
    trusted: tuple[str, ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"

    def to_json(self) -> str:
        """All of it as text, for another process."""
        paths = {name: None if value is None else str(value) for name, value in vars(self).items() if name in PATHS}
        return json.dumps(
            {"config": self.config.model_dump(mode="json"), "trusted": self.trusted, "device": self.device, **paths}
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """What `to_json` wrote."""
        content = json.loads(text)
        paths: dict[str, Any] = {name: None if content[name] is None else Path(content[name]) for name in PATHS}
        config = Config.model_validate(content["config"])
        return cls(config=config, trusted=tuple(content["trusted"]), device=content["device"], **paths)

    @cached_property
    def contract(self) -> Contract:
        """The input contract of all releases: that of the first domain of the first sequence."""
        section = self.config.data
        first = next(iter(self.config.sequences.values()))[0]
        return Dataset.open(self.data).default_contract(
            first,
            size=section.size,
            spacing=None if section.spacing is None else (section.spacing,) * 3,
            view=section.view,
            spatial_dims=section.dims,
            merge_sides=section.merge_sides,
            channels=section.channels,
            mean=section.mean,
            std=section.std,
            required=("train",),
            cache=self.cache,
        )

    @cached_property
    def domains(self) -> dict[str, FolderDomain]:
        """Every domain of every sequence, checked, by name.

        Raises:
            ConfigurationError: if the data folder lacks one of them.
            DataError: if the data are not sound.
        """
        dataset = Dataset.open(self.data)
        names = list(dict.fromkeys(name for sequence in self.config.sequences.values() for name in sequence))
        if absent := [name for name in names if name not in dataset.domains]:
            allowed = f"{self.data} has {', '.join(dataset.domains)}"
            raise ConfigurationError(str(Problem(str(self.file), "sequences", ", ".join(absent), allowed)))
        return {name: dataset.domain(name, self.contract, cache=self.cache, required=self.splits) for name in names}

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that no domain may lack."""
        searching = any(entry.search for entry in self.config.methods)
        return ("train", "val", self.config.split) if searching else ("train", self.config.split)

    @cached_property
    def digests(self) -> dict[str, str]:
        """By domain one SHA-256 over its training and validation cases."""
        return {name: digest_of_hashes(domain) for name, domain in self.domains.items()}

    @cached_property
    def weights_digest(self) -> str | None:
        """SHA-256 of the file of pretrained weights."""
        return None if self.weights is None else sha256(self.weights)

    @cached_property
    def scored(self) -> dict[tuple[str, Split], str]:
        """By domain and split, ten characters that tell the cases that are scored, and their truth, from others."""
        return {
            (name, split): short_hash(
                [
                    [case, row.subject, domain.files[case].digest(domain.cache)]
                    for case, row in domain.rows.items()
                    if row.split == split
                ]
            )
            for name, domain in self.domains.items()
            for split in SPLITS
        }

    @property
    def metric(self) -> str:
        """The score that selection and tables go by."""
        return self.config.selection.metric or ("dice" if self.contract.task == "segmentation" else "kappa")

    def entry(self, label: str) -> Entry:
        """The row of a label."""
        return next(entry for entry in self.config.methods if entry.name == label)

    def network(self, base: str) -> NetworkSpec:
        """The network of a base release."""
        return self.config.network_of(base)

    def update(self, cell: Cell, domain: str) -> Update:
        """The update of a cell to a domain."""
        entry = self.entry(cell.label)
        method = method_for(entry, method_settings(cell.settings), self.file.parent)
        own = {**entry.update, **recipe_settings(cell.settings)}
        recipe = self.config.update_recipe(own, self.contract, method.batch_norm, cell.seed)
        retain: Any = cell.settings.get(RETAIN, entry.retain)
        return Update(domain, method, recipe, retain or None, entry)

    def base_record(self, cell: Cell, gathered: Importance | None = None) -> dict[str, Any]:
        """All that decides a base release, as plain JSON values.

        Args:
            cell: that starts from it.
            gathered: an importance that is measured while it trains, and so makes it another one.
        """
        first = self.config.sequences[cell.sequence][0]
        return {
            "data": self.digests[first],
            "contract": self.contract.model_dump(mode="json"),
            "network": self.network(cell.base).model_dump(mode="json"),
            "weights": self.weights_digest,
            "recipe": self.config.train_recipe(cell.base, self.contract, cell.seed).model_dump(mode="json"),
            "gathered": [] if gathered is None else [gathered.settings()],
            "domain": first,
        }

    def bases(self) -> list[Cell]:
        """One cell for each base release; sequences that begin with the same domain share it."""
        found: dict[tuple[str, str, int], Cell] = {}
        used = {entry.base for entry in self.config.methods}
        for (name, domains), base, seed in itertools.product(
            self.config.sequences.items(), sorted(used), self.config.seeds
        ):
            found.setdefault((domains[0], base, seed), Cell(kind="base", sequence=name, base=base, seed=seed))
        return list(found.values())

    def base_of(self, cell: Cell) -> Cell:
        """The cell whose base release another cell starts from."""
        first = self.config.sequences[cell.sequence][0]
        return next(
            one
            for one in self.bases()
            if (self.config.sequences[one.sequence][0], one.base, one.seed) == (first, cell.base, cell.seed)
        )

    def trials(self) -> list[Cell]:
        """One cell for each candidate of each row that searches, in each sequence and with each seed."""
        return [
            Cell(kind="trial", sequence=name, base=entry.base, seed=seed, label=entry.name, settings=settings)
            for entry in self.config.methods
            if entry.search
            for name in self.config.sequences
            for settings in candidates(entry)
            for seed in self.config.seeds
        ]

    def finals(self, chosen: Mapping[tuple[str, str], Settings | None]) -> list[Cell]:
        """One cell for each row, sequence and seed.

        Args:
            chosen: by sequence and label what selection found, None where it found nothing; a row that is missing
                stands with its first candidate.
        """
        return [
            Cell(kind="final", sequence=name, base=entry.base, seed=seed, label=entry.name, settings=settings)
            for name in self.config.sequences
            for entry in self.config.methods
            if (settings := chosen.get((name, entry.name), first_candidate(entry))) is not None
            for seed in self.config.seeds
        ]

    def built(self, base: str) -> nn.Module:
        """The network of a base release, untrained."""
        contract = self.contract
        return build(
            self.network(base),
            channels=contract.channels,
            classes=contract.classes,
            spatial_dims=contract.spatial_dims,
            trusted=self.trusted,
        )


def first_candidate(entry: Entry) -> Settings:
    """The first combination of what a row searches; empty where it searches nothing."""
    return next(candidates(entry))


def candidates(entry: Entry) -> Iterator[Settings]:
    """All combinations of what a row searches; one empty combination where it searches nothing."""
    names = list(entry.search)
    for values in itertools.product(*entry.search.values()):
        yield dict(zip(names, values, strict=True))


def method_settings(settings: Settings) -> Settings:
    """Those of the searched settings that are the method's."""
    return {name: value for name, value in settings.items() if name != RETAIN and not name.startswith(RECIPE)}


def recipe_settings(settings: Settings) -> Settings:
    """Those of the searched settings that are the recipe's."""
    return {name.removeprefix(RECIPE): value for name, value in settings.items() if name.startswith(RECIPE)}


def short_hash(record: Mapping[str, Any] | Sequence[JsonValue]) -> str:
    """Ten characters that tell one record from another."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:10]
