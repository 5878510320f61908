"""The application, its entry point, and what all verbs share: console, error line, exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from fc_bench.errors import UserError
from fc_bench.model.command_line import PassedOnError, exit_code_of
from fc_bench.model.errors import ModelInputError

if TYPE_CHECKING:
    from fc_bench.commands.session import Outcome

EXIT_INCOMPLETE = 4


class _Verbs(TyperGroup):
    """The group of verbs; passes exceptions and usage errors on to `main` instead of letting typer handle them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, SystemExit, EOFError, OSError) as error:
            raise PassedOnError(error) from error
        except Exception as error:
            describe = getattr(error, "format_message", None)  # typer's usage errors, by their only common mark
            if describe is None:
                raise
            verb = f"fc-bench {ctx.invoked_subcommand or ''}".strip()
            raise UserError(f"{describe().rstrip('.')}; `{verb} --help` lists the options.") from None


class _Verb(TyperCommand):
    """A verb that refuses an empty text for an option without a default; an empty path would be the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = {name for parameter in self.params if parameter.default is None for name in parameter.opts}
        for name, value in zip(args, [*args[1:], None], strict=False):
            if (name in names and value == "") or (name.endswith("=") and name[:-1] in names):
                raise UserError(f"{name.removesuffix('=')} is empty; give a value or leave it out.")
        return super().parse_args(ctx, args)


class _App(typer.Typer):
    """The application; each of its commands is a `_Verb`."""

    def command(self, name: str | None = None, **named: Any) -> Any:
        return super().command(name, **{"cls": _Verb, **named})


app = _App(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run a verb: an error that the user can fix becomes one line and exit code 2."""
    verb = sys.argv[1:2]
    adding = " with --resume" if verb == ["train"] and "--resume" not in sys.argv else ""
    interrupted = f"interrupted; the same command{adding} {'starts again' if verb == ['audit'] else 'continues'}."
    sys.exit(exit_code_of(_run_verb, print_error, (UserError, ModelInputError), interrupted))


def _run_verb() -> int:
    _require_current_folder()
    try:
        app()
    except SystemExit as end:  # typer's own; `_Verbs` passes those of libraries on
        return int(end.code or 0)
    return 0


def _require_current_folder() -> None:
    """Raise UserError if the current folder was removed; libraries would fail with unclear messages."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"The current folder cannot be used ({error.strerror}); change into another one.") from None


def print_error(line: str) -> None:
    """Print a line on standard error; control characters quoted from files are made visible."""
    from fc_bench.reports.escaping import visible

    print(f"fc-bench: {visible(' '.join(line.split()))}", file=sys.stderr)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fc-bench {version('fc-bench')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Benchmark personalized image generation: identity, prompt consistency and cost, with intervals."""


def exit_if_incomplete(outcome: Outcome, tolerated: float = 0) -> None:
    """Print what is missing, and exit with code 4 if more samples are missing than tolerated.

    `tolerated` is a number of samples, or a share of the planned ones if it is below 1. A sample that is missing or has
    a failed score counts once.
    """
    if outcome.complete:
        return
    missing = outcome.planned - outcome.finished
    most = tolerated * outcome.planned if tolerated < 1 else tolerated
    print_error(
        f"incomplete: {outcome.finished} / {outcome.planned} samples finished, {missing} failed or missing, "
        f"{outcome.score_errors} scores failed; --retry-errors tries them again."
    )
    if missing + outcome.unscored > most:
        raise typer.Exit(EXIT_INCOMPLETE)


def console() -> Console:
    """The console on standard output; a file or a pipe gets 240 columns, so that tables are not wrapped."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=240)


def print_line(text: str) -> None:
    """Print a line on standard output, without markup or wrapping."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)


def stay_offline() -> None:
    """Disable the network in all libraries; call it before importing any that downloads from a hub."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIFFUSERS_OFFLINE"):
        os.environ[name] = "1"


def open_in_browser(file: Path) -> None:
    """Open a file in the user's browser, or print its path if there is no browser."""
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        print_line(f"No browser could be started; open {file.resolve()} yourself.")
