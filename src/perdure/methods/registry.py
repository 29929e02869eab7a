"""Methods by name: ours, and those that other packages register."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from perdure.errors import MethodError
from perdure.methods.finetune import finetune
from perdure.methods.joint import joint
from perdure.methods.mas_lr import mas_lr
from perdure.methods.method import Method

Factory: TypeAlias = Callable[..., Method]

GROUP = "perdure.methods"


def built_in() -> dict[str, Factory]:
    """Our own methods by name."""
    return {"finetune": finetune, "joint": joint, "mas-lr": mas_lr}


def registered() -> dict[str, str]:
    """The methods that other packages add through the entry points `perdure.methods`, by name: `module:function`.

    None of their code is imported for this.
    """
    return {point.name: point.value for point in entry_points(group=GROUP)}


def method_named(name: str, **settings: Any) -> Method:
    """A method by its name, with settings as keyword arguments.

    Raises:
        MethodError: if there is no such method, it has no such setting, or its package cannot give it.
    """
    ours = built_in()
    if name in ours:
        return _made(name, ours[name], settings)
    theirs = {point.name: point for point in entry_points(group=GROUP)}
    if name not in theirs:
        raise MethodError(f"There is no method {name!r}. Methods: {', '.join(sorted({*ours, *theirs}))}.")
    point = theirs[name]
    try:
        factory = point.load()
    except (ImportError, AttributeError) as error:
        raise MethodError(f"Method {name!r} cannot be loaded from {point.value!r}: {error}.") from error
    return _made(name, factory, settings)


def _made(name: str, factory: Factory, settings: dict[str, Any]) -> Method:
    try:
        method = factory(**settings)
    except TypeError as error:
        raise MethodError(f"Method {name!r} does not take these settings: {sorted(settings)} ({error}).") from error
    if not isinstance(method, Method):
        raise MethodError(f"Method {name!r}: its function must return a Method; it returned {type(method).__name__}.")
    return method
