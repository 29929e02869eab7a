"""Updates one small release to one domain after the other, and measures what grows.

    python benchmarks/soak.py --updates 300 --out OUT.json [--method mas-lr]

All updates run in this one process, by the command line with its ledger, so that whatever a command forgets to let go
adds up. A line of `steps` is one update: seconds, resident memory, open files, threads, and the sizes of what it wrote.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import gc
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

import perdure.cli

WIDTH = 32
IMAGES = 4


def main() -> None:
    """Runs all updates, and writes what was measured and how fast it grows."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--updates", type=int, default=300)
    options.add_argument("--method", default="mas-lr")
    options.add_argument("--folder", type=Path, help="where releases go; a temporary folder if left out")
    options.add_argument("--out", type=Path, required=True)
    arguments = options.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-soak-")))
        found = soak(folder, arguments.updates, arguments.method)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "steps"}, indent=1))  # noqa: T201


def soak(folder: Path, updates: int, method: str) -> dict[str, Any]:
    """Trains a base release, updates it so many times, and verifies the ledger.

    Args:
        folder: for data and releases.
        updates: how many.
        method: of each update.

    Returns:
        The measurements, and by quantity what it was after a tenth of the updates, at the end, and its growth a hundred
        updates (least squares over all but the first tenth).
    """
    data = write_data(folder / "data", updates)
    work = folder / "releases"
    where = ("--data", data, "--cache", folder / "cache", "--epochs", 1)
    network = ("--filters", 2, "--kernel-size", 3, "--size", WIDTH)
    run("train", *where, "--domain", "d0", *network, "--out", work / "r0")
    steps = []
    for number in range(1, updates + 1):
        started = time.perf_counter()
        out = work / f"r{number}"
        run("update", "--release", work / f"r{number - 1}", *where, "--domain", f"d{number}", "--method", method,
            "--out", out)  # fmt: skip
        steps.append({"update": number, "seconds": round(time.perf_counter() - started, 3), **measured(out)})
    started = time.perf_counter()
    verified = run("verify", work)
    return {
        "method": method,
        "updates": updates,
        "growth": {key: growth([step[key] for step in steps]) for key in steps[0] if key != "update"},
        "ledger": verified.splitlines()[-1],
        "verify_seconds": round(time.perf_counter() - started, 1),
        "steps": steps,
    }


def write_data(folder: Path, updates: int) -> Path:
    """A data folder with one domain for each update, of a few small pictures that all domains share."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(IMAGES):
        label = np.hypot(*(np.indices((WIDTH, WIDTH)) - WIDTH / 2)) < 6 + number
        grey = np.where(label, 170, 80) + rng.normal(0, 12, label.shape)
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(label.astype(np.uint8)).save(folder / "images" / f"{number}-label.png")
    (folder / "dataset.toml").write_text(
        'name = "soak"\ntask = "segmentation"\n[labels]\nbackground = 0\ndisc = 1\n', encoding="utf-8"
    )
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "subject", "domain", "split", "image", "label"])
        for domain in range(updates + 1):
            for number, split in enumerate(("train", "train", "val", "test")):
                name = f"d{domain}-{number}"
                table.writerow([name, name, f"d{domain}", split, f"images/{number}.png", f"images/{number}-label.png"])
    return folder


def run(*words: object) -> str:
    """One command in this process; its standard output."""
    printed = io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            perdure.cli.main(list(map(str, words)))
        except SystemExit as ended:
            code = ended.code
    if code:
        sys.exit(f"{' '.join(map(str, words))}\nended with {code}:\n{printed.getvalue()}")
    return printed.getvalue()


def measured(release: Path) -> dict[str, int]:
    """What this process holds, and how large the release is that it has just written."""
    gc.collect()
    process = psutil.Process()
    sizes = {file.stem: file.stat().st_size for file in release.iterdir()}
    return {
        "resident_bytes": process.memory_info().rss,
        "allocated_bytes": allocated(),
        "python_blocks": sys.getallocatedblocks(),
        "open_files": process.num_fds(),
        "threads": process.num_threads(),
        "weights_bytes": sizes["weights"],
        "memory_bytes": sizes["memory"],
        "record_bytes": sizes["release"],
        "ledger_bytes": (release.parent / "ledger.jsonl").stat().st_size,
    }


class _Mallinfo(ctypes.Structure):
    """Of mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
                     "keepcost")
    ]  # fmt: skip


def allocated() -> int:
    """Bytes that glibc has handed out and not got back: what is kept free for later does not count."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def growth(values: list[float]) -> dict[str, float]:
    """Where a quantity began (after a tenth), where it ended, and its growth a hundred updates."""
    first = len(values) // 10
    kept = np.asarray(values[first:], float)
    slope = np.polyfit(np.arange(len(kept)), kept, 1)[0] if len(kept) > 1 else 0.0
    return {"from": float(kept[0]), "to": float(kept[-1]), "a_hundred": round(float(slope) * 100, 3)}


if __name__ == "__main__":
    main()
