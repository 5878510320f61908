"""The application all verbs belong to, its entry point, and what verbs share: console, exit codes, quiet libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError

EXIT_USAGE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 2, 4, 130


class _InterruptedError(Exception):
    """Ctrl-C inside a verb."""


class _Verbs(TyperGroup):
    """The verbs; what typer would turn into a bare exit code on Ctrl-C reaches `main`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Entry point: what the user can put right becomes one line and exit code 2; an interruption says how to go on."""
    try:
        app()
    except (UserError, ModelInputError) as error:
        sys.stdout.flush()
        print(f"fc-bench: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except (_InterruptedError, KeyboardInterrupt):
        print("fc-bench: interrupted; the same command continues.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


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
    """Benchmark of personalized image generation: identity, prompt consistency and cost, with intervals."""


def console() -> Console:
    """Standard output; wide enough not to fold tables when it is a file or a pipe."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=240)


def say(text: str) -> None:
    """Print a line as it is."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)


def open_in_browser(file: Path) -> None:
    """Open a file in the user's browser, or say that there is none."""
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        say(f"No browser could be started; open {file.resolve()} by hand.")


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and notices out of the output; ours say what happens."""
    import os
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
