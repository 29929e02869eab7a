"""What can go wrong, as one tree.

    PerdureError
    ├── DataError            a dataset folder, its manifest or a file in it
    ├── NetworkError         a network that cannot be built, or weights that do not fit it
    ├── BatchNormError       a batch-norm policy that this network cannot follow
    ├── MethodError          a method, importance or regularizer that cannot be applied
    ├── ReleaseError         a release folder that is damaged, unfinished or not trusted
    ├── DivergenceError      training left the finite numbers, or exploded
    ├── UpdateError          a training run that cannot be started or continued
    ├── MemoryShortageError  a training step that does not fit into memory
    ├── EvaluationError      scores that cannot be computed or compared
    ├── PacsError            a PACS that cannot be reached, refuses, or sends something else than it was asked for
    ├── LedgerError          a ledger that is not as it was written, or evidence that does not agree with it
    └── ConfigurationError   a command line or configuration file

Every message says which file or argument, which field, what was found, what is allowed, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args


class PerdureError(Exception):
    """The root of all failures that Perdure raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field of one file.

    Args:
        file: the file that holds the mistake, as the user wrote it.
        field: the field, column or row in it.
        found: what stands there.
        allowed: what may stand there, and what to do.
    """

    file: str
    field: str
    found: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: found {self.found}; {self.allowed}"


class DataError(PerdureError):
    """One or several problems of a dataset, all reported together.

    Args:
        problems: the problems, or one message.
    """

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = () if isinstance(problems, str) else tuple(problems)
        if isinstance(problems, str):
            message = problems
        else:
            message = "\n".join(str(problem) for problem in self.problems)
            if len(self.problems) > 1:
                message = f"{len(self.problems)} problems:\n{message}"
        super().__init__(message)


class NetworkError(PerdureError):
    """A network cannot be built, or its weights do not fit."""


class BatchNormError(PerdureError):
    """The network's batch normalisation cannot follow the policy asked for."""


class MethodError(PerdureError):
    """A method, importance or regularizer does not exist or cannot be applied here."""


class ReleaseError(PerdureError):
    """A release folder is damaged, unfinished, of another format, or asks for code that was not allowed."""


class DivergenceError(PerdureError):
    """Training produced a number that is not finite, or exploded; the last good state is kept."""


class UpdateError(PerdureError):
    """A training run cannot be started or continued."""


class MemoryShortageError(PerdureError):
    """A training step does not fit into memory; says which batch size should."""


class EvaluationError(PerdureError):
    """Scores cannot be computed, read or compared."""


class PacsError(PerdureError):
    """A PACS cannot be reached, refuses, or sends something else than it was asked for."""


class LedgerError(PerdureError):
    """A ledger is not as it was written, or a release, plan, score file or verdict does not agree with it."""


class ConfigurationError(PerdureError):
    """A command line or configuration file says something that is not allowed."""


def check_choice(argument: str, value: object, choices: object) -> None:
    """Passes if a value is one of a `Literal`; a misspelt word must not quietly mean something else.

    Raises:
        MethodError: naming the argument, the value and the choices.
    """
    if value not in get_args(choices):
        allowed = ", ".join(repr(choice) for choice in get_args(choices))
        raise MethodError(f"`{argument}` must be one of {allowed}; got {value!r}.")
