"""What there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from perdure.methods import built_in, registered
from perdure.models import networks

if TYPE_CHECKING:
    from rich.console import RenderableType


def methods_record() -> dict[str, Any]:
    """Every method: what it does and where it is from; of another package's only that it is registered, and where."""
    ours = {name: factory().record() for name, factory in built_in().items()}
    return {**ours, **{name: {"by": where} for name, where in registered().items() if name not in ours}}


def methods_table() -> RenderableType:
    """The methods, for a person."""
    table = Table("--method", "what it does", "source", box=SIMPLE_HEAD)
    for name, record in methods_record().items():
        summary = record.get("summary", "of another package, see there")
        table.add_row(Text(name), Text(summary), Text(record.get("source", record["by"])))
    return table


def networks_table() -> RenderableType:
    """The networks, for a person."""
    table = Table("--network", "what it is", box=SIMPLE_HEAD)
    for name, line in networks().items():
        table.add_row(Text(name), Text(line))
    return table
