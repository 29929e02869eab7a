"""How long until it can start: the import, the help, a release?"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from results import Found
from script import Measure, Options, run
from timing import of_children, over, side_by_side

IMPORTS = {
    "torch": "import torch",
    "import": "import torch, perdure",
    "names": "import torch, perdure; [getattr(perdure, name) for name in perdure.__all__]",
    "help": "from perdure.cli import main; main(['--help'])",
}


def imports(options: Options) -> Mapping[str, Found]:
    """Processor seconds of new processes, in turns; what is imported beyond torch is the difference."""
    wanted = {"torch", *(key.partition("/")[2] for key in options.missing)}
    works = {name: _process(code) for name, code in IMPORTS.items() if name in wanted}
    taken = side_by_side(works, options.pick(1, 3, 21), of_children)
    torch_s = statistics.median(taken["torch"])
    found = {}
    for name in [name for name in works if name != "torch"]:
        less = [0.0] * len(taken[name]) if name == "help" else taken["torch"]
        seconds = tuple(one - other for one, other in zip(taken[name], less, strict=True))
        share = statistics.median(seconds) / torch_s
        found[f"startup/{name}"] = Found(seconds, f"{share:.2f} of `import torch` ({torch_s:.2f} s)")
    return found


def _process(code: str) -> Callable[[], None]:
    words = [sys.executable, "-c", code]
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL) and None


def opening(options: Options) -> Mapping[str, Found]:
    """A release of a QuickNAT of usual size is read from the disk."""
    import torch
    from releases import release_of, volumes

    from perdure.importance import MAS, Fisher
    from perdure.models import QuickNAT
    from perdure.release import Release

    folder = options.work / f"quicknat-{options.pick('tiny', 'usual', 'usual')}"
    if not folder.exists():
        torch.manual_seed(0)
        folder.parent.mkdir(parents=True, exist_ok=True)
        model = QuickNAT(filters=options.pick(4, 64, 64))
        release_of(model, volumes(), (MAS(), Fisher())).save(folder)
    works = {"open": lambda: Release.open(folder), "torch": _process(IMPORTS["torch"])}

    def now() -> float:
        return time.process_time() + of_children()

    taken = side_by_side(works, options.pick(1, 3, 15), now)
    share = statistics.median(over(taken["open"], taken["torch"]))
    size = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
    return {"startup/open": Found(tuple(taken["open"]), f"{share:.2f} of `import torch`; {size:.0f} MiB")}


ALL = (
    Measure(("startup/import", "startup/names", "startup/help"), imports),
    Measure(("startup/open",), opening),
)

if __name__ == "__main__":
    run(__file__, ALL)
