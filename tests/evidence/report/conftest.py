"""One small workspace of volumes, as the command line makes it, with a domain whose name is a piece of HTML."""

from __future__ import annotations

import pytest

from command import quietly
from perdure.data import Dataset
from perdure.evidence.gate.verdict import Criterion, PlanReference, Verdict
from perdure.evidence.report import Collected, Workspace, collect
from report_world import EVIL, NEW, World
from synthetic import write_classes, write_volumes


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A base release, two updates of it, and scores of all three."""
    root = tmp_path_factory.mktemp("report")
    data = write_volumes(root / "data", domains=(EVIL, NEW), cases=(1, 1, 3))
    folder, cache = root / "releases", root / "cache"
    shared = ("--data", data, "--cache", cache, "--epochs", 8)
    network = ("--network", "quicknat", "--filters", 4, "--kernel-size", 3, "--size", 32, "--spacing", 2)
    quietly("train", "--domain", EVIL, *network, "--measure", "mas", "--out", folder / "base", *shared)
    for method, name in (("mas-fix", "fixed"), ("finetune", "fine")):
        quietly("update", "--release", folder / "base", "--domain", NEW, "--method", method, "--learning-rate", 0.05,
                "--out", folder / name, *shared)  # fmt: skip
    releases = [word for name in ("base", "fixed", "fine") for word in ("--release", folder / name)]
    scored = ("--data", data, "--cache", cache, "--surface-distance", "--out", folder / "scores.parquet")
    quietly("evaluate", *releases, *scored)
    return World(folder, data, cache)


@pytest.fixture(scope="session")
def collected(world: World) -> Collected:
    """The report on the fine-tuned release, with pictures and a verdict."""
    workspace = Workspace.open(world.workspace)
    found = workspace.candidate("fine")
    assert workspace.scores is not None
    candidate = next(one for one in workspace.scores.header.releases if one.id == found.id)
    verdict = Verdict(
        verdict="REJECT",
        plan=PlanReference(name=f"plan {EVIL}", sha256="1" * 64),
        candidate=candidate,
        parent=workspace.scores.header.releases[0],
        first=workspace.scores.header.releases[0],
        criteria=(
            Criterion(
                name=f"non-inferiority {EVIL}", kind="non-inferiority", outcome="violated", reason=f"{EVIL} lost."
            ),
            Criterion(name="gain scanner-b", kind="gain", outcome="met", reason="It gained.", estimate=0.1, bound=0.0),
        ),
        scores=tuple(file.sha256 for file in workspace.score_files),
        created=workspace.scores.header.created,
    )
    path = world.workspace.parent / "judged.json"
    verdict.write(path)
    workspace = Workspace.open(world.workspace, verdict=path)
    return collect(workspace, release="fine", title=f"Report {EVIL}", domains=world.domains(), cases=2)


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """The report on an update of a network that grades pictures."""
    root = tmp_path_factory.mktemp("graded")
    names = ("hospital-a", "hospital-b")
    data = write_classes(
        root / "data", domains=names, cases=(12, 6, 9), classes=("low", "middle", "high"), ordinal=True
    )
    trust, folder = ("--trust", "report_world"), root / "releases"
    words = ("--data", data, "--cache", root / "cache", *trust)
    quietly("train", "--domain", names[0], "--network", "report_world:classifier", "--size", 32, "--epochs", 3,
            "--out", folder / "base", *words)  # fmt: skip
    quietly("update", "--release", folder / "base", "--domain", names[1], "--method", "ewc-bn", "--epochs", 2,
            "--out", folder / "next", *words)  # fmt: skip
    both = ("--release", folder / "base", "--release", folder / "next")
    quietly("evaluate", *both, *words, "--out", folder / "scores.parquet")
    workspace = Workspace.open(folder)
    dataset, contract = Dataset.open(data), workspace.candidate().identity.contract
    domains = [dataset.domain(name, contract, cache=root / "cache") for name in names]
    return collect(workspace, domains=domains, cases=1, trusted=("report_world",))
