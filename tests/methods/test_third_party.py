"""A method of another package: found by its entry point, and marked as theirs in every record."""

from __future__ import annotations

import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from perdure.evidence.catalogue import methods_record, methods_table
from perdure.evidence.release_text import identity_panel
from perdure.methods import Method, finetune, method_named, registered, registry
from perdure.regularization import Unrestrained
from perdure.update import Recipe, train, update
from reference.domains import SEGMENTER, TinyDomain

RECIPE = Recipe(epochs=1, batch_size=4, learning_rate=0.05)


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution `their-package` 1.2 beside ours, which claims in its own method that it were ours."""
    info = tmp_path / "their_package-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[perdure.methods]\ntheirs = their_package:theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = ModuleType("their_package")
    module.theirs = lambda: Method("theirs", "them 2026", "nothing", Unrestrained(), by="perdure")
    monkeypatch.setitem(sys.modules, "their_package", module)
    assert distribution("their-package").version == "1.2"
    assert "theirs" in entry_points(group=registry.GROUP).names


@pytest.mark.usefixtures("_installed")
def test_the_method_says_which_distribution_brings_it() -> None:
    assert method_named("theirs").by == "their-package 1.2"
    assert registered()["theirs"] == "their-package 1.2"


@pytest.mark.usefixtures("_installed")
def test_it_is_listed_as_theirs() -> None:
    assert methods_record()["theirs"] == {"by": "their-package 1.2"}
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(methods_table())
    (line,) = [line for line in capture.get().splitlines() if "theirs" in line]
    assert "of another package" in line
    assert "their-package 1.2" in line


@pytest.mark.usefixtures("_installed")
def test_every_release_after_it_says_so() -> None:
    base = train(SEGMENTER, TinyDomain(), trusted=["reference"], recipe=RECIPE)
    second = update(base, TinyDomain("site-b"), method=method_named("theirs"), recipe=RECIPE)
    assert second.identity.method["by"] == "their-package 1.2"
    third = update(second, TinyDomain("site-c"), method=finetune(), recipe=RECIPE)
    assert third.identity.method["by"] == "perdure"
    assert [ancestor.method for ancestor in third.lineage] == ["trained", "theirs (by their-package 1.2)"]
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(identity_panel(second.identity, "second"))
    assert "theirs (by their-package 1.2)" in capture.get()
