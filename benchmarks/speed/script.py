"""The command line that every script of this folder has: which rows, in which form, where to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from goals import GOALS
from results import FORMS, ROOT, Form, Found, Results, Row, place

RECORDS = ROOT / "benchmarks" / "records" / "speed"
Alone = Callable[["Options"], Sequence[float]]


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Args:
        form: how large and how often.
        device: where networks run.
        threads: of torch.
        data: folder of data sets, for what needs real images; None where there is none.
        work: folder for files that are made once and used again.
        missing: the keys that are to be measured; a function may measure more.
    """

    form: Form
    device: str
    threads: int
    data: Path | None
    work: Path
    missing: frozenset[str] = frozenset()

    def pick(self, tiny: Any, short: Any, full: Any) -> Any:
        """One of three, by the form."""
        return {"tiny": tiny, "short": short, "full": full}[self.form]

    @property
    def words(self) -> list[str]:
        """The same as words of a command line, for a process of its own."""
        given = {"form": self.form, "device": self.device, "threads": self.threads, "work": self.work}
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Measure:
    """What measures some rows together.

    Args:
        keys: of the rows.
        find: measures them; what it leaves out stays missing.
    """

    keys: tuple[str, ...]
    find: Callable[[Options], Mapping[str, Found]]


def parser(about: str | None) -> argparse.ArgumentParser:
    """What all of them take, `speed.py` too."""
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--form", choices=FORMS, default="full", help="how large and how often (default full)")
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where networks run (default cpu)")
    found.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    found.add_argument("--out", type=Path, default=RECORDS, help="folder of the results")
    found.add_argument("--work", type=Path, default=ROOT / "runs" / "speed", help="folder for files to measure on")
    found.add_argument("--data", type=Path, help="folder with retina_vessels and cxr_pneumonia, for real images")
    found.add_argument("--only", action="append", default=[], help="a row's key, or how it begins; may be repeated")
    found.add_argument("--again", action="store_true", help="measure also what is there already")
    return found


def chosen(given: argparse.Namespace) -> list[str]:
    """The keys that a command line asks for: of its form, and as `--only` says."""
    keys = [goal.key for goal in GOALS if given.form != "short" or goal.form == "short"]
    return [key for key in keys if not given.only or any(key.startswith(only) for only in given.only)]


def run(file: str, measures: Sequence[Measure], alone: Mapping[str, Alone] | None = None) -> None:
    """Reads the command line, measures what is missing and writes it down.

    Args:
        file: the script.
        measures: what it can measure.
        alone: what it does in a process of its own, by name: see `timing.alone`.
    """
    script = Path(file)
    options = parser(sys.modules["__main__"].__doc__)
    options.add_argument("--alone", help=argparse.SUPPRESS)
    given = options.parse_args()
    _set_threads(given.threads)
    asked = Options(given.form, given.device, given.threads, given.data, given.work)
    if given.alone:
        sys.stdout.write(",".join(f"{value:.6g}" for value in (alone or {})[given.alone](asked)) + "\n")
        return
    results, here, wanted = Results(given.out, given.device), place(script, given.device, given.threads), chosen(given)
    for measure in measures:
        keys = [key for key in measure.keys if key in wanted]
        missing = [key for key in keys if given.again or not results.has(key, given.form, here)]
        if not missing:
            continue
        sys.stderr.write(f"{script.stem}: {', '.join(missing)}\n")
        for key, found in measure.find(replace(asked, missing=frozenset(missing))).items():
            if key in missing:
                results.add(Row(key, given.form, found, here))


def _set_threads(threads: int) -> None:
    # for the processes that this one starts; torch may be here already
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
