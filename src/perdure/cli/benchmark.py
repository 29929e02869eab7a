"""`perdure benchmark`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from perdure.cli import options
from perdure.cli.console import SOME_FAILED, Bar, counting, note, progress_bar, show
from perdure.cli.requests import check_device
from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from perdure.benchmark.engines import Engine
    from perdure.benchmark.grid import Told
    from perdure.benchmark.plan import Cell, Plan


def benchmark(
    file: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to run: see docs/benchmark.md.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for cells, releases and records; it is gone on with.")],
    data: Annotated[Path | None, typer.Option("--data", help="The data folder; default: what the file says.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="File of pretrained weights; default: what the file says.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="These seeds of the file alone. Repeat for several.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="These rows alone, by label. Repeat for several.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and the data, list every cell, estimate the time.")
    ] = False,
    engine: Annotated[
        Literal["local", "dask"], typer.Option("--engine", help="Processes of this machine, or a Dask cluster.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Cells at once; default: by cores and memory.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the Dask scheduler, for example tcp://10.0.0.5:8786.")
    ] = None,
    device: options.Device = "cpu",
    trust: options.Trust = None,
    cache: options.CacheFolder = None,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Runs a grid of methods, settings and seeds over sequences of domains; the same command goes on with it.

    Example: perdure benchmark benchmarks/configs/retina_cameras.toml --data retina_vessels --out runs/retina
    """
    check_device(device)
    plan = _plan(file, data, weights, trust, cache, device)
    _check_wanted(plan, only or (), seed or ())
    if dry_run:
        _show_dry_run(plan, out, workers, only or (), seed or (), as_json)
        return
    from perdure.benchmark.grid import RECORDS, run_benchmark
    from perdure.benchmark.rendering.terminal import rich_tables

    with progress_bar() as bar:
        outcome = run_benchmark(
            plan,
            out,
            _engine(plan, engine, workers, address),
            only=only or (),
            seeds=seed or (),
            command=_command(),
            told=_told(bar),
            preparing=counting(bar, "preparing images"),
        )
    for cell, why in outcome.failures.items():
        note(f"{cell.name}: failed: {why}")
    header = outcome.record.header
    result = {
        "records": str(out / RECORDS),
        **header.model_dump(mode="json", include={"cells", "choices", "reads"}),
    }
    show(result, as_json, *rich_tables(outcome.record), f"Records written to {out / RECORDS}")
    if outcome.failures:
        raise typer.Exit(SOME_FAILED)


def _plan(
    file: Path,
    data: Path | None,
    weights: Path | None,
    trust: list[str] | None,
    cache: Path | None,
    device: Literal["cpu", "cuda"],
) -> Plan:
    from perdure.benchmark.config import read_config
    from perdure.benchmark.plan import Plan

    config = read_config(file)
    if weights is None and config.network.weights is not None:
        weights = file.parent / config.network.weights
    if weights is not None and not weights.is_file():
        raise ConfigurationError(
            f"--weights {weights}: there is no such file; name a local file of pretrained weights."
        )
    return Plan(
        config=config,
        file=file.absolute(),
        data=(data or file.parent / config.data.folder).absolute(),
        weights=None if weights is None else weights.absolute(),
        cache=None if cache is None else cache.absolute(),
        trusted=tuple(trust or ()),
        device=device,
    )


def _check_wanted(plan: Plan, only: Collection[str], seeds: Collection[int]) -> None:
    labels = [entry.name for entry in plan.config.methods]
    if unknown := [label for label in only if label not in labels]:
        raise ConfigurationError(f"--only {unknown[0]}: no row of {plan.file}; its rows are {', '.join(labels)}.")
    if others := [seed for seed in seeds if seed not in plan.config.seeds]:
        own = ", ".join(map(str, plan.config.seeds))
        raise ConfigurationError(f"--seed {others[0]}: no seed of {plan.file}; its seeds are {own}.")


def _command() -> str:
    """The command as it was typed, but for the places of this machine: a record goes elsewhere."""
    return shlex.join(["perdure", *(Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])])


def _engine(plan: Plan, engine: Literal["local", "dask"], workers: int | None, address: str | None) -> Engine:
    from perdure.benchmark.engines import Dask, Local, local_workers

    if engine == "local":
        if address is not None:
            raise ConfigurationError(f"--address {address}: only with --engine dask.")
        return Local(workers or local_workers(plan.config.memory, plan.device), plan.device)
    if address is None:
        raise ConfigurationError("--engine dask: name the scheduler with --address, for example tcp://10.0.0.5:8786.")
    if workers is not None:
        raise ConfigurationError(f"--workers {workers}: only with --engine local; a cluster has the workers it has.")
    return Dask(address)


def _told(bar: Bar) -> Told:
    """Shows the share of the whole grid that is done, the time left, and each cell that is over."""
    started = time.monotonic()

    def tell(cell: Cell, how: str, share: float, before: float) -> None:
        rate = (share - before) / (time.monotonic() - started)
        left = f", about {duration((1 - share) / rate)} left" if rate > 0 and share < 1 else ""
        bar(f"{cell.name}: {how} ({share:.0%} of the grid{left})", 1, 1)

    return tell


def _show_dry_run(
    plan: Plan, out: Path, workers: int | None, only: Collection[str], seeds: Collection[int], as_json: bool
) -> None:
    from rich.table import Table

    from perdure.benchmark.cell import record_of
    from perdure.benchmark.engines import local_workers
    from perdure.benchmark.estimate import estimated_seconds, every_cell, seconds_a_sample
    from perdure.benchmark.grid import SELECTION, wanted
    from perdure.benchmark.selection import chosen_before
    from perdure.benchmark.soundness import check_plan

    check_plan(plan)
    is_wanted = wanted(plan, only, seeds)
    cells = [cell for cell in every_cell(plan, chosen_before(out / SELECTION)) if is_wanted(cell)]
    a_sample = {base: seconds_a_sample(plan, base) for base in {cell.base for cell in cells}}
    at_once = workers or local_workers(plan.config.memory, plan.device)
    done = {cell for cell in cells if record_of(plan, cell, out.absolute()) is not None}
    left = estimated_seconds(plan, [cell for cell in cells if cell not in done], a_sample, at_once)
    table = Table("cell", "sequence", "row", "searched", "seed", "state", "about", title=plan.config.title or None)
    listed = []
    for cell in cells:
        alone = estimated_seconds(plan, [cell], a_sample, 1)
        searched = ", ".join(f"{name}={value}" for name, value in cell.settings.items())
        state = "done" if cell in done else "to do"
        listed.append({**cell.model_dump(mode="json"), "state": state, "seconds": round(alone, 1)})
        table.add_row(
            cell.kind, cell.sequence, cell.label or cell.base, searched, str(cell.seed), state, f"{duration(alone)}"
        )
    domains = Table("domain", "train", "val", "test", title="subjects")
    for name, domain in plan.domains.items():
        domains.add_row(name, *(str(domain.counts.subjects[split]) for split in ("train", "val", "test")))
    result = {"cells": listed, "workers": at_once, "seconds": round(left, 1)}
    show(
        result,
        as_json,
        domains,
        table,
        f"{len(cells)} cells, {len(done)} of them done; about {duration(left)} with {at_once} at once on this machine. "
        "Measuring importance and scoring are guessed; where a row searches, its final cells stand without settings.",
    )


def duration(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
