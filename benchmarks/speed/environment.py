"""An environment of their own for the peers, so that none of them decides which versions Perdure runs on."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from results import ROOT

FOLDER = ROOT / ".venv-peers"
PEERS = (
    "nngeometry",
    "backpack-for-pytorch",
    "curvlinops-for-pytorch",
    # last, because it brings torchvision
    "avalanche-lib",
)


def python() -> Path:
    """Its interpreter; all is installed there first, if it is not yet: some 2 GB, a few minutes.

    Perdure is in it too, so that a peer and Perdure are measured in turns in one process, on the same network.
    """
    found, installed = FOLDER / "bin" / "python", FOLDER / "installed"
    if installed.exists() and installed.read_text(encoding="utf-8").split() == list(PEERS):
        return found
    sys.stderr.write(f"Installing the peers into {FOLDER.name} (about 2 GB, a few minutes) ...\n")
    if not found.exists():
        venv.create(FOLDER, with_pip=True)
    # torch stays where it is pinned, or pip would take the newest one with gigabytes for cards
    install = [found, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    subprocess.run([*install, "-e", ROOT], check=True)
    for peer in PEERS:
        subprocess.run([*install, peer], check=True)
    installed.write_text("\n".join(PEERS), encoding="utf-8")
    return found
