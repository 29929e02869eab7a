"""Makes a data folder of simulated T1 scans: real anatomies, four scanners, the same test subjects in each.

    python benchmarks/brain_phantoms.py --labelmaps FOLDER --out FOLDER

FOLDER holds `label_table.csv` and `labels/` with one NIfTI label map a subject, FreeSurfer's numbers in it. The 20 maps
that SynthSeg publishes take minutes on one core; a run that was stopped goes on. Simulated scanners show how a method
behaves; they are no evidence about real ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perdure.data import Dataset
from perdure.data.phantom import About
from perdure.data.phantom.anatomies import write_dataset_of_labelmaps
from perdure.errors import DataError
from perdure.types import SPLITS

ABOUT = About(
    name="brain_phantoms",
    title="Brain structures on SIMULATED T1 MRI of real anatomies, four scanners",
    modality="simulated T1-weighted MRI",
    citation="Billot et al. 2023, SynthSeg, Medical Image Analysis 86 (label maps and intensities)",
)


def show(done: int, total: int) -> None:
    """One line that counts."""
    sys.stderr.write(f"\rscan {done} of {total}" + ("\n" if done == total else ""))


def run() -> None:
    """Reads the command line, makes the folder, says what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelmaps", type=Path, required=True, help="folder with label_table.csv and labels/")
    parser.add_argument("--out", type=Path, required=True, help="data folder to write")
    parser.add_argument("--spacing", type=float, default=2.0, help="mm, isotropic (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    given = parser.parse_args()
    try:
        folder = write_dataset_of_labelmaps(
            given.out,
            given.labelmaps / "labels",
            given.labelmaps / "label_table.csv",
            spacing_mm=given.spacing,
            seed=given.seed,
            about=ABOUT,
            progress=show,
        )
    except (DataError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    dataset = Dataset.open(folder)
    for domain in dataset.domains:
        splits = [case.split for case in dataset.cases if case.domain == domain]
        sys.stdout.write(f"{domain}: " + ", ".join(f"{splits.count(split)} {split}" for split in SPLITS) + "\n")


if __name__ == "__main__":
    run()
