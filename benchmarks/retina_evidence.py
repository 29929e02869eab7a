"""The evidence of a real sequence: a plan, four releases, the gate after every update, and the report.

    python benchmarks/retina_evidence.py --data FOLDER --out WORKSPACE [--docs docs/examples/retina]

FOLDER holds photographs of the retina by four cameras (domains drive, chase, hrf, lesav; one structure, vessel). Every
step is a command line, printed before it runs; a workspace that was stopped goes on. What is copied into `--docs` holds
scores and figures and no photograph.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

CAMERAS = ("drive", "chase", "hrf", "lesav")
TRAIN = ("--network", "quicknat", "--size", "96", "--filters", "8", "--kernel-size", "3", "--epochs", "60")
UPDATE = ("--epochs", "15")

PLAN = """format = 1
name = "retina: {new} joins {known}"
metric = "dice"
earlier = {earlier}
level = 0.05

[modifications]
methods = ["dsbn"]
domains = ["{new}"]
batch_norm = ["per-domain"]

[data]
subjects = {{ low = 4, high = 100 }}

[non_inferiority]
margin = 0.02
structures = ["vessel"]

[drift]
margin = 0.03
structures = ["vessel"]

[gain]
minimum = 0.02
structures = ["vessel"]

[floors]
subject_loss = 0.10

[looks]
at_most = 1
"""


def perdure(*words: str | Path, allowed: tuple[int, ...] = (0,)) -> int:
    """Runs one command; a verdict other than ACCEPT is a result too."""
    arguments = list(map(str, words))
    sys.stdout.write(f"$ perdure {shlex.join(arguments)}\n")
    sys.stdout.flush()
    code = subprocess.run([Path(sys.executable).with_name("perdure"), *arguments], check=False).returncode
    if code not in allowed:
        sys.exit(f"stopped with code {code}")
    return code


def main() -> None:
    """Makes the workspace, step by step."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--out", type=Path, required=True, help="the workspace")
    parser.add_argument("--docs", type=Path, help="where plans, verdicts and the report are copied to")
    given = parser.parse_args()
    out, data = given.out, given.data
    perdure("train", "--data", data, "--domain", CAMERAS[0], *TRAIN, "--out", out / CAMERAS[0])
    for place, new in enumerate(CAMERAS[1:], 1):
        known = CAMERAS[:place]
        plan = out / f"PLAN-{new}.toml"
        if not plan.exists():
            earlier = "[" + ", ".join(f'"{name}"' for name in known) + "]"
            plan.write_text(PLAN.format(new=new, known=", ".join(known), earlier=earlier), encoding="utf-8")
            perdure("gate", "--plan", plan, "--declare")
        perdure("update", "--release", out / known[-1], "--data", data, "--domain", new, *UPDATE, "--out", out / new)
        line = [word for name in (*known, new) for word in ("--release", out / name)]
        domains = [word for name in (*known, new) for word in ("--domain", name)]
        scores, verdict = out / f"scores-{new}.parquet", out / f"verdict-{new}.json"
        if not scores.exists():
            perdure("evaluate", *line, "--data", data, *domains, "--out", scores)
        if not verdict.exists():
            perdure("gate", "--plan", plan, "--scores", scores, "--out", verdict, allowed=(0, 3, 4, 5))
    last = CAMERAS[-1]
    perdure("verify", out)
    report = out / "report.html"
    title = "Four cameras of the retina"
    perdure(
        "report", out, "--out", report, "--scores", out / f"scores-{last}.parquet",
        "--verdict", out / f"verdict-{last}.json", "--title", title, "--no-subjects",
    )  # fmt: skip
    if given.docs is not None:
        given.docs.mkdir(parents=True, exist_ok=True)
        for file in (report, *sorted(out.glob("PLAN-*.toml")), *sorted(out.glob("verdict-*.json"))):
            shutil.copy(file, given.docs / file.name)


if __name__ == "__main__":
    main()
