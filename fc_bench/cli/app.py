"""The application all verbs belong to, its entry point, and what verbs share: console, exit codes, quiet libraries."""

from __future__ import annotations

import os
import re
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
    from fc_bench.commands.run import Prepared
    from fc_bench.commands.session import Outcome
    from fc_bench.generation.ray_cluster import Cluster

EXIT_INCOMPLETE = 4

MOST = 10**9
"""Of whatever an option counts, where it has no bound of its own."""

FailOnError = Annotated[
    str, typer.Option(help="How many samples may fail, N or a share such as 0.1, before the exit code is 4.")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never use the network; it is not used anyway where all weights are local.")
]
BackboneName = Annotated[str, typer.Option(help="Name of a backbone or path of its YAML file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Photographs = Annotated[
    Path | None,
    typer.Option(help="Folder of the subjects' photographs, for a suite that ships none.", show_default=False),
]
LimitSubjects = Annotated[
    int | None, typer.Option(min=1, max=MOST, help="Only the first N subjects (and sets of them).", show_default=False)
]
ImagesPerPrompt = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Instead of the suite's number.", show_default=False)
]
BatchSize = Annotated[
    str, typer.Option(help="Images generated together; auto: 8, on an accelerator as many as its memory holds.")
]
RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="Try failed samples and scores again.")]
Crop = Annotated[
    bool, typer.Option("--crop/--no-crop", help="Look for faces and cut portraits out, or take photographs as is.")
]
SharedPrefixes = Annotated[
    bool,
    typer.Option(
        "--shared-prefixes/--no-shared-prefixes",
        help="Compute the steps that see no subject once for all subjects; the images are the same.",
    ),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile UNets with torch.compile; for many images on an accelerator.")
]
ExecutorName = Annotated[
    str, typer.Option("--executor", help="Where jobs run: local (this process) or ray (a cluster).")
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster; RAY_ADDRESS or one on this machine if not given.", show_default=False),
]
GpusPerJob = Annotated[
    float | None,
    typer.Option(min=0, help="Accelerators a Ray worker takes; 1 where there is one here.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=MOST, help="Ray workers at most; as many as there is room for.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be generated, write nothing.")]


class _Verbs(TyperGroup):
    """The verbs; what typer would turn into an exit code of its own, and its words on arguments, reach `main`."""

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
            raise UserError(f"{describe().rstrip('.')}; `{verb} --help` shows what there is.") from None


class _Verb(TyperCommand):
    """A verb whose options without a default are not given as an empty text; a path would be the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = {name for parameter in self.params if parameter.default is None for name in parameter.opts}
        for name, value in zip(args, [*args[1:], None], strict=False):
            if (name in names and value == "") or (name.endswith("=") and name[:-1] in names):
                raise UserError(f"{name.removesuffix('=')} is empty; give a value or leave it out.")
        return super().parse_args(ctx, args)


class _App(typer.Typer):
    """The application, each command of which is a `_Verb`."""

    def command(self, name: str | None = None, **named: Any) -> Any:
        return super().command(name, **{"cls": _Verb, **named})


app = _App(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Entry point: what the user can put right becomes one line and exit code 2; an interruption says how to go on."""
    adding = " with --resume" if sys.argv[1:2] == ["train"] and "--resume" not in sys.argv else ""
    interrupted = f"interrupted; the same command{adding} continues."
    sys.exit(exit_code_of(_run_verb, tell, (UserError, ModelInputError), interrupted))


def _run_verb() -> int:
    _require_current_folder()
    try:
        app()
    except SystemExit as end:  # typer's own, those of libraries are passed on
        return int(end.code or 0)
    return 0


def _require_current_folder() -> None:
    """Raise UserError where the current folder was removed; libraries would end the process in their own words."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"The current folder cannot be used ({error.strerror}); change into another one.") from None


def tell(line: str) -> None:
    """Say on standard error why the exit code is not 0; what is quoted of files cannot steer the terminal."""
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
    """Benchmark of personalized image generation: identity, prompt consistency and cost, with intervals."""


def exit_if_incomplete(outcome: Outcome, tolerated: float = 0) -> None:
    """End with exit code 4 and a line that says what is missing, where more is than tolerated.

    `tolerated` is a number of samples from 1 on, or a share of the planned ones below 1; a sample that is missing or
    has a failed score counts once. What is missing is said in any case.
    """
    if outcome.complete:
        return
    missing = outcome.planned - outcome.finished
    most = tolerated * outcome.planned if tolerated < 1 else tolerated
    tell(
        f"incomplete: {outcome.finished} / {outcome.planned} samples finished, {missing} failed or missing, "
        f"{outcome.score_errors} scores failed; --retry-errors tries them again."
    )
    if missing + outcome.unscored > most:
        raise typer.Exit(EXIT_INCOMPLETE)


def console() -> Console:
    """Standard output; wide enough not to fold tables when it is a file or a pipe."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=240)


def say(text: str) -> None:
    """Print a line as it is."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)


def say_planned(prepared: Prepared) -> None:
    """What a command would generate, line by line."""
    for line in prepared.told():
        say(line)


def tolerated_failures(text: str) -> float:
    """How many samples may fail, "5" or as a share "0.1" of the planned ones; raises UserError for anything else."""
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"0?\.\d{1,9}", text, re.ASCII):
        return float(text)
    raise UserError(f'--fail-on-error "{text}" is neither a number of samples, such as 5, nor a share, such as 0.1.')


def cluster_of(
    executor: str, address: str | None, gpus_per_job: float | None, workers: int | None, device: str
) -> Cluster | None:
    """The Ray cluster asked for, None for this process; raises UserError for options that do not go together."""
    if executor == "ray":
        from fc_bench.generation.ray_cluster import Cluster

        return Cluster(address, _gpus_per_job(gpus_per_job, device), workers=workers)
    if executor != "local":
        raise UserError(f'There is no executor "{executor}"; give local or ray.')
    if any(given is not None for given in (address, gpus_per_job, workers)):
        raise UserError("--address, --gpus-per-job and --workers say what a Ray cluster does; add --executor ray.")
    return None


def _gpus_per_job(given: float | None, device: str) -> float:
    """Accelerators that a worker takes: those given, or one where the device asks for it."""
    from fc_bench.generation.device import resolve_device

    if given is None:
        given = 1.0 if device == "cuda" or resolve_device(device) != "cpu" else 0.0
    if not (given == 0 or 0.0001 <= given <= 1 or (given.is_integer() and given <= 1024)):
        raise UserError(
            f"--gpus-per-job {given:g} is not what Ray can give; give a whole number or a share from 0.0001 to 1."
        )
    if device not in ("auto", "cuda" if given else "cpu"):
        fitting = "cuda" if given else "cpu"
        raise UserError(
            f"--device {device} does not go with {given:g} accelerators for a Ray worker, which gets them from Ray; "
            f"give --device {fitting}, or another --gpus-per-job."
        )
    return given


def batch_size_of(text: str) -> int | None:
    """`auto` -> None, a number from 1 to 1024 -> itself; raises UserError for anything else."""
    if text == "auto":
        return None
    if re.fullmatch(r"\d{1,4}", text, re.ASCII) and 1 <= int(text) <= 1024:
        return int(text)
    raise UserError(f'--batch-size "{text}" is neither auto nor a number from 1 to 1024.')


def stay_offline() -> None:
    """Keep every library from the network; to be called before any that loads from a hub is imported."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "DIFFUSERS_OFFLINE"):
        os.environ[name] = "1"


def go_offline(forbidden: bool, backbone: str) -> None:
    """Stay offline where asked, and where the backbone has nothing to fetch."""
    from fc_bench.model.backbones.backbone import read_backbone

    if forbidden or not read_backbone(backbone).fetches:
        stay_offline()


def open_in_browser(file: Path) -> None:
    """Open a file in the user's browser, or say that there is none."""
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        say(f"No browser could be started; open {file.resolve()} by hand.")
