"""The command line. Heavy libraries are imported inside the verb that needs them."""

from __future__ import annotations

import re
import sys
from enum import Enum
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


class Listed(str, Enum):
    """What `fc-bench list` can show."""

    methods = "methods"
    metrics = "metrics"
    suites = "suites"
    backbones = "backbones"


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


@app.command()
def run(
    suite: Annotated[
        str, typer.Argument(help="Name of a suite (fc-bench list suites) or path of a suite.yaml.")
    ] = "pocket",
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Method to run; repeat for several.", show_default=False)
    ] = None,
    backbone: Annotated[str, typer.Option(help="Name of a backbone or path of its YAML file.")] = "pocket",
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<suite> if not given.", show_default=False)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Option of a method, e.g. fastcomposer.alpha=0.6.", show_default=False),
    ] = None,
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of the subjects' photographs, for a suite that ships none.", show_default=False),
    ] = None,
    limit_subjects: Annotated[
        int | None, typer.Option(min=1, help="Only the first N subjects (and sets of them).", show_default=False)
    ] = None,
    images_per_prompt: Annotated[
        int | None, typer.Option(min=1, help="Instead of the suite's number.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Images generated together.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Try failed samples and scores again.")] = False,
    keep_artefacts: Annotated[
        bool, typer.Option("--keep-artefacts", help="Keep what methods store per subject set.")
    ] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Have tuning keep checkpoints each N steps to go on from if interrupted.", show_default=False
        ),
    ] = None,
) -> None:
    """Generate and score a suite's images with each method; the same command continues an interrupted run.

    Without arguments: the suite pocket with every built-in method, in about six minutes on two CPU cores.
    """
    overrides = _overrides(option or [])
    quiet_libraries()
    from fc_bench.run import RunOptions
    from fc_bench.run import run as execute

    defaults = RunOptions()
    outcome = execute(
        RunOptions(
            suite=suite,
            methods=tuple(method) if method else defaults.methods,
            backbone=backbone,
            out=out,
            photographs=photographs,
            options=overrides,
            limit_subjects=limit_subjects,
            images_per_prompt=images_per_prompt,
            batch_size=batch_size,
            device=device,
            retry_errors=retry_errors,
            keep_artefacts=keep_artefacts,
            checkpoint_every=checkpoint_every,
        ),
        _console(),
    )
    _report(outcome.folder.path)
    if not outcome.complete:
        missing = outcome.planned - outcome.finished
        print(
            f"fc-bench: incomplete: {outcome.finished} / {outcome.planned} samples finished, {missing} failed, "
            f"{outcome.score_errors} scores failed; --retry-errors tries them again.",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_INCOMPLETE)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
) -> None:
    """Print a run's tables again and write them with the image grid below its report/."""
    _report(run)


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(help="Run folder to compare with: the reference.")],
    new: Annotated[Path, typer.Argument(help="Run folder to judge.")],
    gate: Annotated[
        Path | None, typer.Option(help="YAML file with tolerances; headline columns if not given.", show_default=False)
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", "-m", help="Rows that belong together, BASE=NEW.", show_default=False),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.", show_default=False)] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            help="Append a Markdown summary here.", envvar="GITHUB_STEP_SUMMARY", show_default=False, show_envvar=True
        ),
    ] = None,
) -> None:
    """Compare two runs sample by sample and judge every measure: better, worse, unchanged or not comparable.

    Exit code 0: nothing beyond its tolerance; 1: something is; 2: wrong usage; 3: not comparable; 4: incomplete.
    """
    from fc_bench.comparing import compare as judge
    from fc_bench.gate import Gate, read_gate
    from fc_bench.records import RunFolder, write_atomically
    from fc_bench.reports.comparison import comparison_junit, comparison_markdown, print_comparison

    chosen = read_gate(gate) if gate else Gate()
    found = judge(RunFolder(base), RunFolder(new), chosen, _renamed(method or []))
    print_comparison(found, str(base), str(new), _console())
    try:
        if junit:
            write_atomically(junit, comparison_junit(found, str(base), str(new)))
        if summary:
            with summary.open("a", encoding="utf-8") as file:
                file.write(comparison_markdown(found, str(base), str(new)))
    except OSError as error:
        raise UserError(f"The comparison cannot be written ({error}); choose another file.") from None
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command("list")
def list_(
    what: Annotated[Listed | None, typer.Argument(help="Only these.", show_default=False)] = None,
    name: Annotated[
        str | None, typer.Argument(help="A method, to show its options: list methods NAME.", show_default=False)
    ] = None,
    backbone: Annotated[str, typer.Option(help="Whose choice of a method's options to show.")] = "pocket",
) -> None:
    """Show methods, metrics, suites and backbones, built-in and from plug-ins; or the options of one method."""
    quiet_libraries()
    from fc_bench.listing import show_kind, show_options

    if name is None:
        for kind in [what] if what else list(Listed):
            show_kind(kind.value, _console())
    elif what is Listed.methods:
        show_options(name, backbone, _console())
    else:
        raise UserError(f'Only methods have options to show; leave "{name}" out.')


@app.command()
def validate(
    suite: Annotated[str, typer.Argument(help="Name of a suite or path of a suite.yaml.")],
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of the subjects' photographs, for a suite that ships none.", show_default=False),
    ] = None,
) -> None:
    """Check a suite: the file, every photograph, every prompt slot. Needs no weights."""
    from fc_bench.photographs import read_photograph
    from fc_bench.registry import load, suite_file
    from fc_bench.suite import read_suite

    checked = read_suite(suite_file(suite), photographs)
    for name in checked.file.metrics:
        load("metrics", name)
    files = [path for subject in checked.subjects for path in subject.photographs]
    for path in files:
        read_photograph(path)
    sets = checked.subject_sets()
    images = sum(len(prompts) for _, prompts in sets) * checked.file.images_per_prompt
    _say(
        f"{checked.file.name} {checked.file.version} is fine: {len(checked.subjects)} subjects, "
        f"{len(files)} photographs, {len(sets)} subject sets, {images} images per method."
    )


@app.command()
def doctor(
    backbone: Annotated[
        str | None, typer.Option(help="Only this backbone (name or path); all if not given.", show_default=False)
    ] = None,
    checksums: Annotated[bool, typer.Option(help="Compute the sha256 of every file.")] = True,
) -> None:
    """Show what is installed, the hardware, and every file the backbones need: present, size, sha256, license.

    Exit code 2 when a file of the named backbone (pocket if none is named) is missing.
    """
    quiet_libraries()
    from fc_bench.doctor import examine

    examine(backbone, checksums, _console())


def _report(path: Path) -> None:
    from fc_bench.aggregate import result_rows
    from fc_bench.records import RunFolder
    from fc_bench.reports.grid import write_grid
    from fc_bench.reports.tables import print_report, write_report

    folder = RunFolder(path)
    folder.settings()
    try:
        results = result_rows(folder)
        files = write_report(folder, results)
        grid = write_grid(folder)
    except OSError as error:
        raise UserError(
            f"The report cannot be written below {path} ({error}); make room or make it writable."
        ) from None
    print_report(folder, results, _console())
    for file in [*files, *([grid] if grid else [])]:
        _say(f"wrote {file}")


def _renamed(pairs: list[str]) -> dict[str, str]:
    """`["fastcomposer=mine"]` -> `{"fastcomposer": "mine"}`; a label's own brackets may hold equal signs."""
    renamed: dict[str, str] = {}
    for pair in pairs:
        found = re.fullmatch(r"([^=\[\]]+(?:\[[^\]]*\])?)=(.+)", pair)
        if found is None:
            raise UserError(f'The methods "{pair}" are not of the form BASE=NEW, e.g. fastcomposer=my-method.')
        renamed[found[1]] = found[2]
    return renamed


def _overrides(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """`["fastcomposer.alpha=0.6"]` -> `{"fastcomposer": {"alpha": 0.6}}`; values are read as YAML scalars."""
    import yaml

    overrides: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        method, dot, key = name.strip().rpartition(".")
        if not (equals and dot and method and key):
            raise UserError(f'The option "{pair}" is not of the form METHOD.OPTION=VALUE, e.g. fastcomposer.alpha=0.6.')
        try:
            overrides.setdefault(method, {})[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f'The value of the option "{pair}" cannot be read; quote it.') from None
    return overrides


def _console() -> Console:
    """Standard output; wide enough not to fold tables when it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=240)


def _say(text: str) -> None:
    _console().print(text, markup=False, highlight=False, soft_wrap=True)


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and notices out of the output; ours say what happens."""
    import os
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":
    main()
