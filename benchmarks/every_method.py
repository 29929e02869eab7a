"""One update by every method from one real camera to another, on the command line: writes docs/methods/table.md.

Run by `make methods-table`. It takes minutes on one core, and goes on where it was stopped. It shows that every method
runs on real data, and roughly what it does there; it ranks none: one small network, one seed, settings not searched.
"""

from __future__ import annotations

import argparse
import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from perdure.cli import main
from perdure.methods import built_in, method_named

OLD, NEW = "drive", "chase"
NETWORK = ("--size", "96", "--filters", "8", "--kernel-size", "3")
BASE_EPOCHS, UPDATE_EPOCHS, DROPOUT = 60, 20, 0.1
# a record does not depend on what the processor multiplies in half precision
PRECISION = ("--precision", "32-true")
MEASURES = ("mas", "fisher", "si", "uniform", "mas-authors", "fisher:labels=dataset")

HEAD = f"""# Every method on real photographs

<!-- made by `make methods-table`; do not edit -->

One update by each method, all from the command line: a network learns one camera (`{OLD}`) and is updated to another
(`{NEW}`). It shows that every method runs on real data. **It ranks none**: one seed, a QuickNAT with 8 filters of
3 x 3 on pictures of 96 x 96 pixels, {BASE_EPOCHS} epochs and then {UPDATE_EPOCHS}, all settings at their defaults.
Two rows more hold the weights, or the statistics of batch norm: with target statistics much of what is forgotten can
sit in them, where no importance protects it.

Dice of the vessels, mean over the test pictures (20 of {OLD}, 8 of {NEW}). "Before" is the release that was updated;
the methods that need dropout start from one with dropout {DROPOUT}, so their "before" is another.

| method | {OLD} before | {OLD} after | {NEW} before | {NEW} after |
| --- | --- | --- | --- | --- |
"""

FOOT = f"""
Data: DRIVE (Staal et al. 2004) and CHASE_DB1 (Fraz et al. 2012), as one data folder with the domains `{OLD}` and
`{NEW}`, 448 x 448 pixels, scored inside the field of view. `make methods-table DATA=FOLDER` makes this page again.
"""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        method: its name.
        options: what is added to the command.
        remark: what they mean.
    """

    method: str
    options: tuple[str, ...] = ()
    remark: str = ""

    @property
    def release(self) -> str:
        """The name of its release folder."""
        return "-".join([self.method, *(option.removeprefix("--") for option in self.options)])

    @property
    def base(self) -> str:
        """The name of the release folder that it starts from."""
        return "base-dropout" if method_named(self.method).needs_dropout else "base"

    def words(self) -> list[str]:
        """What it adds to `perdure update`."""
        words = ["--method", self.method, *self.options]
        data = method_named(self.method).data
        if data in ("cumulative", "replay"):
            words += ["--joint-with", OLD]
        return [*words, "--allow-patient-data"] if data == "replay" else words


def rows() -> list[Row]:
    """Every method of ours, twice where a recipe of the authors differs; and two rows that tell statistics apart."""
    both = [name for name, factory in built_in().items() if "recipe" in signature(factory).parameters]
    more = [Row(name, ("--recipe", "authors"), "recipe `authors`") for name in both]
    more.append(Row("finetune", ("--learning-rate", "1e-9"), "weights held: batch-norm statistics alone"))
    more.append(Row("mas-lr", ("--batch-norm", "original"), "original statistics"))
    return sorted([*map(Row, built_in()), *more], key=lambda row: (row.method, row.options))


def perdure(*words: object) -> Any:
    """A command that must end well; its result.

    Raises:
        SystemExit: if it does not.
    """
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            main([*map(str, words), "--json"])
        except SystemExit as ended:
            if ended.code != 0:
                raise
    return json.loads(out.getvalue())


def train(data: Path, work: Path) -> None:
    """The two bases, and one release of every method."""
    for base, more in (("base", ()), ("base-dropout", ("--dropout", DROPOUT))):
        measures = [word for name in (MEASURES if base == "base" else ("mas",)) for word in ("--measure", name)]
        words = ("--data", data, "--domain", OLD, *NETWORK, *more, *measures, *PRECISION, "--epochs", BASE_EPOCHS)
        perdure("train", *words, "--out", work / base)
    for row in rows():
        words = ("--data", data, "--domain", NEW, *row.words(), *PRECISION, "--epochs", UPDATE_EPOCHS)
        perdure("update", "--release", work / row.base, *words, "--out", work / row.release)


def scores(data: Path, work: Path) -> dict[tuple[str, str], float]:
    """The mean Dice by release and domain."""
    names = ["base", "base-dropout", *(row.release for row in rows())]
    releases = [word for name in names for word in ("--release", work / name)]
    words = (*releases, "--data", data, "--domain", OLD, "--domain", NEW, "--out", work / "scores.parquet")
    found = perdure("evaluate", *words)["scores"]
    return {(one["name"], one["domain"]): one["value"] for one in found if one["metric"] == "dice"}


def table(dice: dict[tuple[str, str], float]) -> str:
    """The page."""
    lines = []
    for row in rows():
        values = [dice[release, domain] for domain in (OLD, NEW) for release in (row.base, row.release)]
        name = f"[{row.method}]({row.method}.md)" + (f", {row.remark}" if row.remark else "")
        lines.append(" | ".join([f"| {name}", *(f"{value:.3f}" for value in values)]) + " |")
    return HEAD + "\n".join(lines) + "\n" + FOOT


def run() -> None:
    """Reads the command line, trains, scores, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"data folder with the domains {OLD} and {NEW}")
    parser.add_argument("--work", type=Path, default=Path("runs/every_method"), help="where releases are kept")
    parser.add_argument("--table", type=Path, default=Path("docs/methods/table.md"), help="the page to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    train(given.data, given.work)
    given.table.write_text(table(scores(given.data, given.work)), encoding="utf-8")


if __name__ == "__main__":
    run()
