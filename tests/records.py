"""Records of grids that never ran, for tests of tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from perdure.benchmark.config import Config
from perdure.benchmark.record import COLUMNS, Finished, Record, RecordHeader, Row, together
from perdure.benchmark.selection import Candidate, Choice
from perdure.evaluation.classification import kappa
from perdure.evaluation.confusion import confusion

METHOD = {"regularizer": {"form": "unrestrained"}, "importance": None, "batch_norm": "target", "data": "target"}


def row(label: str, method: str = "", **more: Any) -> Row:
    name = method or label
    data = {"joint": "cumulative", "replay": "replay", "no-update": "none"}.get(name, "target")
    norm = "per-domain" if name == "dsbn" else "target"
    method = {"name": name, **METHOD, "data": data, "batch_norm": norm}
    return Row.model_validate({"label": label, "method": method, "role": "method", "base": "plain", **more})


def segmentation_rows(
    label: str,
    seed: int,
    R: Sequence[Sequence[float]],
    domains: Sequence[str],
    *,
    subjects: int = 2,
    apart: float = 0.0,
    structures: Sequence[str] = ("background", "organ"),
    sequence: str = "forward",
) -> pl.DataFrame:
    """Rows of Dice whose mean over subjects is R; subjects lie `apart` from each other, structures all alike."""
    places = np.arange(subjects) - (subjects - 1) / 2
    rows = [
        (
            sequence,
            label,
            seed,
            i,
            domain,
            f"{domain}-{s}",
            f"{domain}-{s}-a",
            structure,
            "dice",
            R[i][j] + apart * places[s],
        )
        for i in range(len(domains))
        for j, domain in enumerate(domains)
        for s in range(subjects)
        for structure in structures
    ]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def classification_rows(
    label: str,
    seed: int,
    predictions: Mapping[tuple[int, str], Sequence[int]],
    truth: Mapping[str, Sequence[int]],
    *,
    classes: int = 2,
    ordinal: bool = False,
    cases_each: int = 2,
    sequence: str = "forward",
) -> pl.DataFrame:
    """Rows of classes by stage and domain; each subject has some cases in turn."""
    rows: list[tuple[Any, ...]] = []
    for (stage, domain), predicted in predictions.items():
        key = (sequence, label, seed, stage, domain)
        for c, (found, true) in enumerate(zip(predicted, truth[domain], strict=True)):
            case = (f"{domain}-{c // cases_each:03}", f"{domain}-{c:04}", None)
            rows += [(*key, *case, "prediction", float(found)), (*key, *case, "truth", float(true))]
        counts = confusion(np.array(truth[domain]), np.array(predicted), classes)
        value = float(kappa(counts, "linear" if ordinal else "none"))
        rows.append((*key, None, None, None, "kappa", None if np.isnan(value) else value))
        rows.append((*key, None, None, None, "accuracy", float(np.trace(counts) / counts.sum())))
        rows.append((*key, None, None, None, "auc", None))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def record(
    rows: Sequence[Row],
    parts: Sequence[pl.DataFrame],
    sequences: Mapping[str, Sequence[str]],
    *,
    seeds: Sequence[int] = (0, 1),
    failed: Sequence[tuple[str, str, int, str, str]] = (),
    task: str = "segmentation",
    structures: Sequence[str] = ("background", "organ"),
    ordinal: bool = False,
    subjects: int = 2,
    choices: Sequence[Choice] = (),
    **more: Any,
) -> Record:
    """A record whose cells are done where there are scores; `failed` holds sequence, label, seed, status, reason."""
    table = together(list(parts))
    done = set(table.select("sequence", "label", "seed").iter_rows())
    cells = [
        Finished(sequence=name, label=one.label, seed=seed, status="done", seconds=90.0)
        for name in sequences
        for one in rows
        for seed in seeds
        if (name, one.label, seed) in done
    ]
    cells += [
        Finished.model_validate({"sequence": q, "label": label, "seed": s, "status": status, "reason": reason})
        for q, label, s, status, reason in failed
    ]
    config = Config.model_validate(
        {"name": "small", "seeds": tuple(seeds), "sequences": sequences, "methods": ({"method": "finetune"},)}
    )
    header = RecordHeader.model_validate(
        {
            "name": "small",
            "title": "A small grid",
            "config": config.model_dump(mode="json"),
            "task": task,
            "ordinal": ordinal,
            "split": "test",
            "metric": "dice" if task == "segmentation" else "kappa",
            "structures": tuple(structures),
            "sequences": sequences,
            "seeds": tuple(seeds),
            "subjects": {domain: subjects for names in sequences.values() for domain in names},
            "rows": tuple(rows),
            "cells": tuple(cells),
            "choices": tuple(choices),
            "seconds": {"base": 36.0, "final": 540.0},
            "reads": {"scored": 12, "repeated": 0, "others": 4},
            "first_read": "2026-11-01T09:00:00+00:00",
            "command": "perdure benchmark /home/someone/grids/small.toml --out /home/someone/runs/small",
            "created": datetime(2026, 11, 2, 10, 30, tzinfo=UTC),
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
            "machine": "2 cores, x86_64, one thread a cell",
            **more,
        }
    )
    return Record(header, table)


def choice(label: str, scores: Mapping[float, tuple[float, float]], chosen: float, sequence: str = "forward") -> Choice:
    """A search of the strength; by candidate the scores on both domains after the update."""
    candidates = tuple(
        Candidate(settings={"strength": strength}, old=(0.8, old), new=(0.3, new), seeds=2)
        for strength, (old, new) in scores.items()
    )
    made = "2026-10-31T09:00:00.000+00:00"
    return Choice(sequence=sequence, label=label, made=made, chosen={"strength": chosen}, candidates=candidates)
