"""Claims that a thing may keep or break, each a plain function under a sentence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from perdure.errors import PerdureError

Case = TypeVar("Case")


class Claims(Generic[Case]):
    """What must hold of one kind of thing: sentence to function, in the order in which they are checked.

    Each function takes a case (the thing, and what it is tried on) and raises an `AssertionError` where the claim does
    not hold. `list(claims)` are the sentences, for `pytest.mark.parametrize`.

    Args:
        kind: what the claims are of, for error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._functions: dict[str, Callable[[Case], None]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __call__(self, sentence: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
        """Adds a function as a claim."""

        def add(function: Callable[[Case], None]) -> Callable[[Case], None]:
            self._functions[sentence] = function
            return function

        return add

    def check(self, case: Case, called: str, without: Collection[str] = ()) -> None:
        """Checks every claim but those left out; the state of torch's random numbers is as before afterwards.

        Args:
            case: what the claims are of.
            called: its name in messages.
            without: claims that do not hold of it by intent, as sentences.

        Raises:
            AssertionError: naming the thing, the first claim that it breaks, and what was seen.
            ValueError: if a sentence of `without` is no claim.
        """
        if unknown := sorted(set(without) - set(self._functions)):
            raise ValueError(f"These are no claims: {unknown}. Claims: {list(self._functions)}.")
        with torch.random.fork_rng(devices=[]):
            for sentence, function in self._functions.items():
                if sentence not in without:
                    with _named(f"{self.kind} {called!r} breaks the claim {sentence!r}"):
                        function(case)


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except (AssertionError, PerdureError) as error:
        raise AssertionError(f"{what}: {error}") from error


def require(holds: bool, seen: str) -> None:
    """Raises an `AssertionError` that says what was seen, also under `python -O`."""
    if not holds:
        raise AssertionError(seen)


def bits(tensor: Tensor) -> bytes:
    """What a tensor is made of: equal only where every bit is."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors agree bit for bit."""
    return one.keys() == other.keys() and all(bits(one[name]) == bits(other[name]) for name in one)


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """The first names under which two mappings differ; tensors are compared bit for bit."""
    plain = [{n: bits(v) if isinstance(v, Tensor) else v for n, v in each.items()} for each in (one, other)]
    return [name for name in sorted(one.keys() | other.keys()) if plain[0].get(name) != plain[1].get(name)][:5]


def everything(model: nn.Module) -> dict[str, object]:
    """All of a model that measuring leaves alone: values, gradients, modes, and the state of the random numbers."""
    return {
        **{f"value of {name}": bits(tensor) for name, tensor in model.state_dict().items()},
        **{f"gradient of {n}": None if p.grad is None else bits(p.grad) for n, p in model.named_parameters()},
        **{f"mode of {name}": module.training for name, module in model.named_modules()},
        **{f"requires_grad of {name}": p.requires_grad for name, p in model.named_parameters()},
        "random numbers": bits(torch.get_rng_state()),
    }
