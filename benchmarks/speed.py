"""How fast is Perdure, beside the plain way, other libraries and what the machine allows? Run by `make bench`.

    python benchmarks/speed.py [--form short] [--device cuda] [--only KEY] [--data FOLDER]

measures what is missing, row by row, into benchmarks/records/speed (it goes on where it was stopped; `--again`
measures anew), and writes docs/performance-table.md from what is there. The form `short` takes some 3 minutes on one
core, `full` hours; `tiny` shows that the suite runs and measures nothing: give it an --out of its own. What the figures
mean: docs/performance.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "benchmarks" / "speed"
sys.path.insert(0, str(SCRIPTS))

from goals import BY_KEY  # noqa: E402
from results import Results  # noqa: E402
from script import chosen, parser  # noqa: E402
from table import write  # noqa: E402

# quick ones first, those that take hours or an environment of their own last
ORDER = (
    "startup", "roofline", "importance", "restraint", "training", "evaluation", "prediction", "growth", "trained",
    "seeds", "peers",
)  # fmt: skip
FULL_ONLY = ("trained", "seeds", "peers")


def run() -> int:
    """Reads the command line, runs the scripts one after the other, writes the table; 1 if one of them failed."""
    options = parser(__doc__)
    options.add_argument("--table", type=Path, help="the page (default docs/performance-table.md, for a card another)")
    given = options.parse_args()
    keys = chosen(given)
    if not keys:
        options.error(f"no row of the form {given.form} begins with {', '.join(given.only)}; rows: {', '.join(BY_KEY)}")
    words = [word for word in sys.argv[1:] if word not in ("--table", str(given.table))]
    threads = str(given.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    failed = []
    for name in ORDER:
        if given.form == "short" and name in FULL_ONLY:
            continue
        done = subprocess.run([sys.executable, SCRIPTS / f"{name}.py", *words], env=environment, check=False)
        if done.returncode:
            failed.append(name)
    table = given.table or ROOT / "docs" / f"performance-table{'' if given.device == 'cpu' else '-cuda'}.md"
    forms = ("tiny",) if given.form == "tiny" else ("short", "full")
    if given.form != "tiny" or given.table:
        write(Results(given.out, given.device).newest(forms), table)
        sys.stdout.write(f"Table written to {table}\n")
    if failed:
        sys.stderr.write(f"These ended with an error, see above: {', '.join(failed)}. The same command goes on.\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(run())
