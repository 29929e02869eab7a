"""Methods by name: ours, and those that other packages register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from inspect import isfunction, signature
from typing import Any, TypeAlias

from perdure.errors import MethodError
from perdure.methods.composition import adjusted, composed
from perdure.methods.method import Method

Factory: TypeAlias = Callable[..., Method]

GROUP = "perdure.methods"


def built_in() -> dict[str, Factory]:
    """Our own methods by name: every function of `perdure.methods` that has a file of its name."""
    from perdure import methods

    files = {name: value for name, value in vars(methods).items() if isfunction(value)}
    own = {name: value for name, value in files.items() if value.__module__ == f"{methods.__name__}.{name}"}
    return {name.replace("_", "-"): value for name, value in sorted(own.items())}


def registered() -> dict[str, str]:
    """The methods that other packages add through the entry points `perdure.methods`, by name: who brings each.

    None of their code is imported for this.
    """
    return {point.name: _bringer(point) for point in entry_points(group=GROUP)}


def method_named(name: str, /, **settings: Any) -> Method:
    """A method by its name, with settings as keyword arguments; a name that ends in `.toml` is a file, see `composed`.

    `trainable` may be given for every method that does not itself fix what trains. A method of another package says so
    in `by`.

    Raises:
        MethodError: if there is no such method, it has no such setting, or its package cannot give it.
    """
    if name.endswith(".toml"):
        return adjusted(composed(name), name, settings)
    ours = built_in()
    if name in ours:
        return _made(name, ours[name], settings)
    theirs = {point.name: point for point in entry_points(group=GROUP)}
    if name not in theirs:
        raise MethodError(
            f"There is no method {name!r}. Methods: {', '.join(sorted({*ours, *theirs}))}; or a file that composes one "
            "(FILE.toml)."
        )
    point = theirs[name]
    try:
        factory = point.load()
    except (ImportError, AttributeError) as error:
        raise MethodError(f"Method {name!r} cannot be loaded from {point.value!r}: {error}.") from error
    return replace(_made(name, factory, settings), by=_bringer(point))


def _bringer(point: EntryPoint) -> str:
    """Distribution and version; `module:function` where a point is of no installed distribution."""
    return point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _made(name: str, factory: Factory, settings: dict[str, Any]) -> Method:
    trainable = None
    try:
        # what trains goes with any method, so that few functions have it as a setting of their own
        if "trainable" in settings and "trainable" not in signature(factory).parameters:
            trainable = settings.pop("trainable")
        method = factory(**settings)
    except TypeError as error:
        raise MethodError(f"Method {name!r} does not take these settings: {sorted(settings)} ({error}).") from error
    if not isinstance(method, Method):
        raise MethodError(f"Method {name!r}: its function must return a Method; it returned {type(method).__name__}.")
    if trainable is None:
        return method
    if method.trainable != "all" or method.data == "none":
        fixed = "nothing" if method.data == "none" else method.trainable
        raise MethodError(f"Method {name!r} itself says what trains ({fixed}); leave `trainable` out.")
    return replace(method, trainable=trainable)
