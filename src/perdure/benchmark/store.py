"""Releases and scores that many cells share: each is made once, whoever asks first."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from perdure.benchmark.plan import Cell, Plan, Update, short_hash
from perdure.data import join
from perdure.evaluation import Scores, evaluate, union
from perdure.importance import Importance, Uniform
from perdure.release import Release
from perdure.types import Split
from perdure.update import Machine, adopt, interpolated_release, train, update
from perdure.update.loop import silent

if TYPE_CHECKING:
    from perdure.data import FolderDomain, JointDomain
    from perdure.update.loop import Progress

PRECISION: Literal["32-true"] = "32-true"
"""So that a record does not depend on what the processor of a machine can do."""

READS = "reads.jsonl"


@dataclass(frozen=True, eq=False)
class Kept:
    """A release of the store.

    Args:
        key: of everything that decides it.
        path: its folder.
        release: itself.
    """

    key: str
    path: Path
    release: Release


@dataclass(frozen=True)
class Store:
    """The folder of a benchmark in which releases and scores are kept.

    Args:
        folder: of the benchmark.
        plan: what the releases are made from.
        progress: told what a training run does.
    """

    folder: Path
    plan: Plan
    progress: Progress = silent

    def in_turn(self, cell: Cell, domains: Sequence[str], base: Kept | None = None) -> list[Kept]:
        """The base release of a cell and what became of it after each later domain.

        Args:
            cell: whose row and seed.
            domains: by name, in the order of learning; the base has learnt the first.
            base: that of the cell, with the importance that its method needs, if left out.
        """
        plan = self.plan
        kept = [base or self.base(plan.base_of(cell), plan.update(cell, domains[1]).method.importance)]
        for place, name in enumerate(domains[1:], 1):
            past = [plan.domains[earlier] for earlier in domains[:place]]
            kept.append(self.updated(kept[-1], plan.update(cell, name), past))
        return kept

    def matrix_scores(self, kept: Sequence[Kept], domains: Sequence[str], split: Split, asked_by: str) -> Scores:
        """What each of several releases scores on each of several domains; see `scores`."""
        every = [self.plan.domains[name] for name in domains]
        return union([self.scores(one, domain, split, asked_by) for one in kept for domain in every])

    def base(self, cell: Cell, importance: Importance | None = None) -> Kept:
        """The base release that a cell starts from, with the importance that its method needs.

        It is trained once for all rows; importance is measured on it when a row asks, once for all that want the same.
        Where importance is gathered while a network trains, that is a base release of its own.
        """
        plan = self.plan
        gathered = importance if importance is not None and importance.is_gathered else None
        record = plan.base_record(cell, gathered)
        first = plan.domains[record["domain"]]
        recipe = plan.config.train_recipe(cell.base, plan.contract, cell.seed)
        name = f"base-{cell.base}-{first.name}-seed{cell.seed}"
        path = self._path(name, key := short_hash(record))
        with self._once(path):
            trained = train(
                plan.network(cell.base),
                first,
                recipe=recipe,
                weights=plan.weights,
                measures=(Uniform(),) if gathered is None else (gathered,),
                machine=Machine(plan.device, precision=PRECISION),
                out=path,
                progress=self._named(f"base, {first.name}"),
                trusted=plan.trusted,
            )
        if importance is None or importance.key in trained.memory.measures:
            return Kept(key, path, trained)
        key = short_hash({"base": key, "importance": importance.settings()})
        path = self._path(f"{name}-{importance.name}", key)
        with self._once(path):
            if path.exists():
                return Kept(key, path, Release.open(path, plan.trusted))
            measured = adopt(
                trained.model,
                first,
                measures=(importance,),
                samples=recipe.importance_samples,
                seed=recipe.seed,
                out=path,
                trusted=plan.trusted,
            )
            return Kept(key, path, measured)

    def updated(self, parent: Kept, change: Update, past: Sequence[FolderDomain]) -> Kept:
        """The release that an update makes of another.

        Args:
            parent: what is updated.
            change: how, and to which domain.
            past: the domains learnt before.
        """
        key, path = self._of(parent, change, past)
        if change.retain is None:
            return Kept(key, path, self._trained(parent, change, past, path))
        # the release that the dial goes back from is the same at every place of the dial
        straight = self.updated(parent, replace(change, retain=None), past)
        with self._once(path):
            if path.exists():
                return Kept(key, path, Release.open(path, self.plan.trusted))
            anew = change.method.importance is None or not change.method.importance.is_gathered
            domain = self.plan.domains[change.domain] if anew else None
            return Kept(
                key,
                path,
                interpolated_release(parent.release, straight.release, change.retain, domain=domain, out=path),
            )

    def _of(self, parent: Kept, change: Update, past: Sequence[FolderDomain]) -> tuple[str, Path]:
        """Key and folder of an updated release."""
        digests = self.plan.digests
        old = [digests[one.name] for one in past] if change.method.data in ("cumulative", "replay") else []
        key = short_hash({"parent": parent.key, **change.record(), "data": [digests[change.domain], *old]})
        return key, self._path(f"{change.method.name}-{change.domain}-seed{change.recipe.seed}", key)

    def _trained(self, parent: Kept, change: Update, past: Sequence[FolderDomain], path: Path) -> Release:
        domain = self.plan.domains[change.domain]
        with self._once(path):
            return update(
                parent.release,
                domain,
                method=change.method,
                recipe=change.recipe,
                measures=(change.method.importance or Uniform(),),
                joint_with=_old_data(domain, past, change),
                allow_patient_data=change.entry.allow_patient_data,
                machine=Machine(self.plan.device, precision=PRECISION),
                out=path,
                progress=self._named(f"{change.method.name}, {change.domain}"),
            )

    def scores(self, kept: Kept, domain: FolderDomain, split: Split, asked_by: str) -> Scores:
        """What a release scores on the cases of one domain and split; they are scored once, and that is written down.

        Args:
            kept: the release.
            domain: which domain.
            split: which split.
            asked_by: the name of the cell, for the record.
        """
        cases = self.plan.scored[domain.name, split]
        # the digest of the cases tells domains apart
        name = domain.name.replace("/", "-")
        path = self.folder / "scores" / split / f"{kept.key}-{name}-{cases}.parquet"
        with self._once(path):
            if not path.exists():
                self._write_read(kept, domain, split, asked_by)
                say = partial(_scoring, self.progress, f"{asked_by}: scoring {domain.name}")
                evaluate([kept.release], [domain], split, device=self.plan.device, progress=say).write(path)
            return Scores.read(path)

    def reads(self) -> list[dict[str, str]]:
        """Every time that cases of a split were scored, in order."""
        path = self.folder / READS
        if not path.exists():
            return []
        return [line for text in path.read_text(encoding="utf-8").splitlines() if (line := _line(text)) is not None]

    def _write_read(self, kept: Kept, domain: FolderDomain, split: Split, asked_by: str) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "split": split,
            "domain": domain.name,
            "cases": self.plan.scored[domain.name, split],
            "release": kept.key,
            "cell": asked_by,
        }
        with self._once(self.folder / READS), (self.folder / READS).open("a", encoding="utf-8") as file:
            # a line that a power cut tore stays on its own
            file.write("\n" + json.dumps(line))
            file.flush()
            os.fsync(file.fileno())

    def _named(self, who: str) -> Progress:
        return partial(_told, self.progress, who)

    def _path(self, name: str, key: str) -> Path:
        return self.folder / "releases" / f"{slug(name)}-{key}"

    @contextmanager
    def _once(self, path: Path) -> Iterator[None]:
        """Nobody else makes this at the same time; whoever waited finds it finished."""
        lock = self.folder / "locks" / f"{path.name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield


def slug(text: str) -> str:
    """A name for a file or folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-").lower()


def _told(progress: Progress, who: str, what: str, done: int, total: int, loss: float | None) -> None:
    progress(f"{who}: {what}", done, total, loss)


def _scoring(progress: Progress, what: str, done: int, total: int) -> None:
    progress(what, done, total, None)


def _line(text: str) -> dict[str, str] | None:
    """One line of the list; None for one that was torn by a power cut."""
    try:
        found: dict[str, str] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _old_data(domain: FolderDomain, past: Sequence[FolderDomain], change: Update) -> JointDomain | None:
    if change.method.data == "cumulative":
        return join([domain, *past], domain.name)
    if change.method.data == "replay":
        few = [one.limited(change.entry.replay_cases, change.recipe.seed) for one in past]
        return join([domain, *few], domain.name)
    return None
