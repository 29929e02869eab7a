"""Updates in a row, in one process, leave nothing behind. `make soak` does three hundred; here are twelve."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_dozen_updates_hold_no_more_files_and_threads_than_one_and_grow_by_their_records_alone(
    tmp_path: Path,
) -> None:
    spec = importlib.util.spec_from_file_location("soak_script", ROOT / "benchmarks" / "soak.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.soak(tmp_path, 12, "mas-lr")
    first, *later = found["steps"]
    for key in ("open_files", "threads", "weights_bytes", "memory_bytes"):
        assert {step[key] for step in later} == {first[key]}, key
    records = [step["record_bytes"] for step in found["steps"]]
    grown = [after - before for before, after in pairwise(records)]
    assert max(grown) < 1000
    # ten updates may not hold what one release has in its files
    held = later[-1]["allocated_bytes"] - later[0]["allocated_bytes"]
    assert held < first["weights_bytes"] + first["memory_bytes"]
    assert found["ledger"].startswith("13 ledger entries, 13 releases, 39 files: all as it was written.")
