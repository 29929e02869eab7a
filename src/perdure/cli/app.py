"""The command line as a whole."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from perdure import __version__
from perdure.cli.adopt import adopt
from perdure.cli.allocator import keep_memory
from perdure.cli.approve import approve
from perdure.cli.audit import audit
from perdure.cli.benchmark import benchmark
from perdure.cli.check import check
from perdure.cli.console import FAILED, INTERRUPTED, USAGE, fail
from perdure.cli.demo import demo
from perdure.cli.doctor import doctor
from perdure.cli.evaluate import evaluate
from perdure.cli.export import export
from perdure.cli.gate import gate
from perdure.cli.import_ import import_
from perdure.cli.inspect import inspect
from perdure.cli.key import key
from perdure.cli.log import log
from perdure.cli.predict import predict
from perdure.cli.publish import publish
from perdure.cli.report import report
from perdure.cli.rollback import rollback
from perdure.cli.train import train
from perdure.cli.update import update
from perdure.cli.verify import verify
from perdure.errors import ConfigurationError, PerdureError

app = typer.Typer(
    name="perdure",
    help="Updates a deployed medical-imaging model without forgetting the domains it already serves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: tuple[Callable[..., None], ...] = (
    demo,
    import_,
    train,
    adopt,
    update,
    evaluate,
    predict,
    inspect,
    doctor,
    gate,
    report,
    benchmark,
    audit,
    check,
    key,
    log,
    verify,
    approve,
    rollback,
    publish,
    export,
)
for command in COMMANDS:
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"perdure {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Updates a deployed medical-imaging model without forgetting the domains it already serves."""
    keep_memory()


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and leaves with its exit code; a failure is one message, not a traceback."""
    code: Any
    try:
        # typer turns Ctrl-C into this code
        code = app(arguments, prog_name="perdure", standalone_mode=False) or 0
        if code == INTERRUPTED:
            fail("stopped. Nothing that was finished is lost: the same command goes on.")
    except PerdureError as error:
        code = fail(str(error), USAGE if isinstance(error, ConfigurationError) else FAILED).exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = fail(f"{where}{error.strerror or error}").exit_code
    except (MemoryError, RuntimeError) as error:
        from perdure.update.shortage import is_shortage

        if not is_shortage(error):
            raise
        code = fail("there is not enough memory for this. Nothing that was finished is lost.").exit_code
    except typer.TyperException as error:
        code = error.exit_code
        if message := error.format_message():  # without one, the help was printed
            context = getattr(error, "ctx", None)
            fail(f"{message}\nTry `{context.command_path if context else 'perdure'} --help`.")
    sys.exit(code)
