from __future__ import annotations

from pathlib import Path

import pytest

from perdure.benchmark.config import Config, method_for, read_config
from perdure.errors import ConfigurationError

SMALLEST = """
name = "small"
[sequences]
there = ["a", "b"]
[[methods]]
method = "finetune"
"""


def read(folder: Path, text: str) -> Config:
    (folder / "grid.toml").write_text(text)
    return read_config(folder / "grid.toml")


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    config = read(tmp_path, SMALLEST)
    assert (config.seeds, config.split, config.selection.rule) == ((0,), "test", "mean")
    assert config.network_of("plain").factory == "quicknat"
    assert [entry.name for entry in config.methods] == ["finetune"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[[methods]]\nmethod = "finetune"\n', "finetune stands there twice"),
        ('[[methods]]\nlabel = "x"\n', "say either `method` or `compose`"),
        ('[[methods]]\nmethod = "mas"\nstrenght = 3\n', "methods.1.strenght: found 3"),
        ('[[methods]]\nmethod = "mas"\nbase = "big"\n', "base big: there is none; allowed are plain"),
        ('[[methods]]\nmethod = "mas"\nsearch = { strength = [] }\n', "search.strength has no candidate"),
        ('[[methods]]\nmethod = "mas"\nretain = 1.5\n', "methods.1.retain: found 1.5"),
        ("[data]\nstd = [0.0]\n", "data.std.0: found 0.0"),
        ('[selection]\nrule = "best"\n', "selection.rule: found 'best'"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        read(tmp_path, SMALLEST + more)
    assert "grid.toml" in str(caught.value)


@pytest.mark.parametrize("domains", ['["a"]', '["a", "a"]'])
def test_a_sequence_is_two_different_domains_or_more(tmp_path: Path, domains: str) -> None:
    with pytest.raises(ConfigurationError, match="sequences.there: must be two domains or more, each once"):
        read(tmp_path, SMALLEST.replace('["a", "b"]', domains))


def test_all_mistakes_come_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, SMALLEST.replace('"small"', '"Not a name"') + "memory = 0\n[data]\nsise = 3\n")
    assert all(word in str(caught.value) for word in ("name", "sise"))


def test_a_file_that_is_no_toml_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not TOML"):
        read(tmp_path, "name = ")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_config(tmp_path / "none.toml")


def test_a_base_release_of_its_own_goes_over_the_plain_one(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        SMALLEST
        + "[network]\narguments = { filters = 8, dropout = 0.0 }\n[train]\nepochs = 7\n"
        + "[bases.wild]\narguments = { dropout = 0.2 }\ntrain = { weight_decay = 1e-4 }\n",
    )
    assert config.network_of("wild").arguments == {"filters": 8, "dropout": 0.2}
    assert config.network_of("plain").arguments == {"filters": 8, "dropout": 0.0}


def test_a_method_is_named_composed_or_in_a_file_beside_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[regularizer]\nform = "unrestrained"\n')
    config = read(
        tmp_path,
        SMALLEST
        + '[[methods]]\nmethod = "own.toml"\nset = { batch_norm = "frozen" }\n'
        + '[[methods]]\nlabel = "inline"\n[methods.compose.importance]\nmeasure = "fisher"\n'
        + '[methods.compose.regularizer]\nform = "surrogate-loss"\nstrength = 3.0\n',
    )
    _, own, inline = config.methods
    assert method_for(own, {}, tmp_path).batch_norm == "frozen"
    assert method_for(inline, {"batch_norm": "original"}, tmp_path).batch_norm == "original"
    assert method_for(inline, {}, tmp_path).name == "inline"
