"""What the documents say is so: code blocks run, links lead somewhere, words and decisions keep their form."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path

import pytest

from synthetic import write_images

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")

# a fence may stand inside a list, indented; `<!-- no-run: why -->` on the line before it keeps it from running
BLOCK = re.compile(
    r"^(?:(?P<mark> *<!-- no-run: [^>\n]+-->)\n)?(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """The line and the code of each python block that is to run."""
    return [
        (text[: block.start("code")].count("\n"), textwrap.dedent(block["code"]))
        for block in BLOCK.finditer(text)
        if not block["mark"]
    ]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


WITH_CODE = [path for path in DOCUMENTS if python_blocks(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("document", WITH_CODE, ids=name)
def test_python_blocks_run_one_after_the_other(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "DATA", domains=("site-a", "site-b"))
    namespace: dict[str, object] = {"__name__": "__document__"}
    for line, code in python_blocks(document.read_text(encoding="utf-8")):
        # empty lines in front, so that a traceback names the line of the document
        exec(compile("\n" * line + code, str(document), "exec"), namespace)  # noqa: S102 - our own documents


def test_the_readme_and_the_guide_to_a_new_method_have_code_that_runs() -> None:
    assert {"README.md", "CONTRIBUTING.md"} <= set(map(name, WITH_CODE))


def test_a_block_is_left_out_only_by_a_mark_right_before_it_that_says_why() -> None:
    left_out = "<!-- no-run: no data -->\n```python\nb\n```\n"
    text = f"```python\na = 1\n```\n\n{left_out}\n- x\n\n   ```python\n   c = 3\n   ```\n"
    assert python_blocks(text) == [(1, "a = 1\n"), (12, "c = 3\n")]
    assert python_blocks("<!-- no-run -->\n```python\na\n```\n") == [(2, "a\n")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    files = [link for link in links if "://" not in link]
    assert [file for file in files if not (document.parent / file).exists()] == []


def test_the_glossary_says_each_word_once() -> None:
    words = re.findall(r"^\*\*([^*]+)\*\*", GLOSSARY, re.MULTILINE)
    assert len(words) == len(set(words)) > 0


def test_the_glossary_is_in_order_within_each_part() -> None:
    for part in GLOSSARY.split("\n## ")[1:]:
        words = [word.casefold() for word in re.findall(r"^\*\*([^*]+)\*\*", part, re.MULTILINE)]
        assert words == sorted(words)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name[:4])
def test_a_decision_names_the_files_that_it_governs_and_has_its_three_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:4]}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequence"]
    governed = re.search(r"^Governs (.+?)\.$", text, re.MULTILINE | re.DOTALL)
    assert governed
    files = re.findall(r"`([^`]+)`", governed[1])
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_constraints_pin_every_requirement_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    required = {_name(line) for group in (project["dependencies"], *extras) for line in group}
    assert required - {_name(pin) for pin in pins} == set()


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()
