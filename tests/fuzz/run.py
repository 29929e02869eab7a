"""Reads hostile files by the thousand, and writes down what should not have happened.

    python tests/fuzz/run.py nifti --inputs 100000 --out nifti.json

Inputs are changes of valid files, and of what came of those. With `--engine atheris` (https://pypi.org/project/atheris,
not installed by us) those that reach new lines of Perdure are changed further: docs/decisions/0027.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for what tests share

KEPT = 200
"""Changed inputs that are changed further."""
ADDRESSES = 8 * 2**30
"""Bytes of address space that a target may take on top: no input may take the machine with it."""


def fuzzed(
    name: str, inputs: int, seed: int = 0, *, engine: str = "own", limit: float = 0, out: Path | None = None
) -> dict[str, Any]:
    """Reads many inputs of one target.

    Args:
        name: of the target.
        inputs: how many.
        seed: of the changes.
        engine: `own` or `atheris`.
        limit: seconds after which no further input is read; 0 sets none.
        out: where what was found is written; the inputs that led to it go beside it.

    Returns:
        How many inputs were read, how many of those were refused, in how many seconds, and the findings.
    """
    from fuzz.targets import targets
    from fuzz.watch import Watch

    with tempfile.TemporaryDirectory(prefix="perdure-fuzz-", dir=_quick()) as folder:
        target = targets()[name](Path(folder) / name)
        for content in target.seeds:  # whatever is imported or made once is made here
            _quietly(target.read, content)
        watch = Watch(target.folder)
        state = {"read": 0, "started": time.monotonic()}
        seen: set[int] = set()

        def read(content: bytes) -> None:
            state["read"] += 1
            seen.add(hash(content))
            watch(lambda: target.read(content), content)

        def result() -> dict[str, Any]:
            findings = {what: [count, said] for what, (count, _, said) in sorted(watch.findings.items())}
            seconds = round(time.monotonic() - state["started"], 1)
            return {"target": name, "engine": engine, "seed": seed, "inputs": state["read"], "different": len(seen),
                    "refused": watch.refused, "seconds": seconds, "findings": findings}  # fmt: skip

        def keep() -> None:
            if out is not None:
                _write(out, result(), {what: first for what, (_, first, _) in watch.findings.items()})

        random = Random(seed)
        if engine == "atheris":
            _steered(target, read, inputs, seed, keep)
        pool = list(target.seeds)
        largest = 2 * max(map(len, pool))
        while state["read"] < inputs and (not limit or time.monotonic() - state["started"] < limit):
            content = target.changed(random.choice(pool), random)
            read(content)
            if random.random() < 0.05 and len(content) <= largest:
                place = random.randrange(len(target.seeds), KEPT) if len(pool) >= KEPT else len(pool)
                pool[place : place + 1] = [content]
            if state["read"] % 5000 == 0:
                keep()
        keep()
        return result()


def _quietly(read: Any, content: bytes) -> None:
    from perdure.errors import PerdureError

    with contextlib.suppress(PerdureError):
        read(content)


def _counted(engine: str) -> contextlib.AbstractContextManager[Any]:
    """Imports Perdure, until this is left, so that atheris sees which of its lines an input reaches."""
    if engine != "atheris":
        return contextlib.nullcontext()
    import atheris

    counted: contextlib.AbstractContextManager[Any] = atheris.instrument_imports(include=["perdure"])
    return counted


def _steered(target: Any, read: Any, inputs: int, seed: int, keep: Any) -> None:
    import atheris

    def mutated(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        return atheris.Mutate(data, most) if random.random() < 0.3 else target.changed(data, random)[:most]

    def one(data: bytes) -> None:
        read(data)
        nonlocal done
        done += 1
        if done % 5000 == 0 or done == inputs:
            keep()
        if done == inputs:  # libFuzzer then ends the process, and nobody leaves the `with` around this
            shutil.rmtree(target.folder.parent)

    done = 0
    corpus = target.folder.parent / "corpus"
    corpus.mkdir()
    for number, content in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(content)
    arguments = [sys.argv[0], f"-runs={inputs}", f"-seed={seed + 1}", "-max_len=200000", "-timeout=0",
                 "-rss_limit_mb=0", "-detect_leaks=0", "-verbosity=0", str(corpus)]  # fmt: skip
    atheris.Setup(arguments, one, custom_mutator=mutated)
    atheris.Fuzz()  # ends the process


def _write(out: Path, found: dict[str, Any], firsts: dict[str, bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    for number, (what, content) in enumerate(sorted(firsts.items())):
        out.with_name(f"{out.stem}.{number}.input").write_bytes(content)
        out.with_name(f"{out.stem}.{number}.txt").write_text(what + "\n")


def _quick() -> str | None:
    """Memory that looks like a disk, where there is any."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - as above


def main() -> None:
    """Reads inputs of the target that is named."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("target", help="as docs/reliability.md calls it")
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--engine", choices=("own", "atheris"), default="own")
    options.add_argument("--limit", type=float, default=0, help="seconds; 0 sets none")
    options.add_argument("--out", type=Path)
    arguments = options.parse_args()
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, used + ADDRESSES))
    with _counted(arguments.engine):
        from fuzz.targets import targets

        if arguments.target not in targets():
            options.error(f"{arguments.target}: no target; there are {', '.join(sorted(targets()))}")
        found = fuzzed(
            arguments.target,
            arguments.inputs,
            arguments.seed,
            engine=arguments.engine,
            limit=arguments.limit,
            out=arguments.out,
        )
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
