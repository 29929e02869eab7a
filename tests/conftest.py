"""What every test starts from: one thread, known seeds, warnings as errors (`filterwarnings` in pyproject.toml)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)
# for the processes that tests start; two pytest workers of many threads each would slow each other down
os.environ.setdefault("OMP_NUM_THREADS", "1")
# matplotlib's list of fonts takes seconds to build; `_cache` below would have every run build it anew
os.environ.setdefault("MPLCONFIGDIR", str(ROOT / ".pytest_cache" / "matplotlib"))

# a few examples that are the same on every run: a failure that only one machine sees helps nobody
hypothesis.settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
# at the desk other examples each time; the clock of a shared machine is no property of the code
hypothesis.settings.register_profile("desk", deadline=None, max_examples=25)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Every test draws the same numbers, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - third-party code draws from the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared arrays go into a folder of the run, not into the user's own cache."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _single_precision() -> Iterator[None]:
    """Training is in single precision unless a test says otherwise, so that golden numbers hold on every machine."""
    with pytest.MonkeyPatch.context() as machine:
        machine.setattr("perdure.update.machine.has_bf16", lambda device: False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets beside the checkout; without it, a test that runs on real data is skipped."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real PACS on this machine; without one, a test that asks it is skipped."""
    import pacs

    with pacs.orthanc(tmp_path_factory.mktemp("orthanc")) as address:
        yield address
