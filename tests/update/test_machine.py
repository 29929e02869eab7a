from __future__ import annotations

import pytest
import torch

from perdure.importance import Uniform
from perdure.update import Machine, Recipe, machine, train
from reference.domains import TinyDomain, segmenter

# as it is before `conftest` takes its place
MACHINE_HAS_BF16 = machine.has_bf16


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_half_precision_where_the_machine_has_it_and_the_release_says_so(
    has_bf16: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda device: has_bf16)
    release = train(segmenter(), TinyDomain(), recipe=Recipe(epochs=1), measures=[Uniform()])
    assert release.identity.training["precision"] == precision
    assert {p.dtype for p in release.model.parameters()} == {torch.float32}


def test_what_is_asked_for_is_taken() -> None:
    assert Machine(precision="bf16-mixed").resolved() == Machine(precision="bf16-mixed")
    assert Machine(precision="32-true").resolved() == Machine(precision="32-true")


@pytest.mark.parametrize(
    ("capabilities", "has"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False), ({}, False)],
)
def test_a_processor_has_it_where_it_says_so(
    capabilities: dict[str, bool], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert MACHINE_HAS_BF16("cpu") is has
