"""Options that several verbs share: each is declared once here, with the code that reads its value."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from fc_bench.cli.app import console, exit_if_incomplete, print_line, stay_offline
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError

if TYPE_CHECKING:
    from fc_bench.commands.run import RowLines, RunOptions
    from fc_bench.commands.session import Outcome
    from fc_bench.generation.ray_cluster import Cluster
    from fc_bench.reports.quality.finished_rows import FinishedRows
    from fc_bench.run_folder.records import RunFolder

LARGEST_COUNT = 10**9
"""Upper bound of an option that counts something, unless the option has its own bound."""

SuiteName = Annotated[str, typer.Argument(help="Name of a suite (fc-bench list suites) or path of a suite.yaml.")]
SuiteOption = Annotated[str, typer.Option("--suite", help="Name of a suite or path of a suite.yaml.")]
MethodNames = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="Name of a method; repeat for several.", show_default=False),
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        help="Option of a method, e.g. fastcomposer.alpha=0.6; repeat for several.",
        show_default=False,
    ),
]
BackboneName = Annotated[str, typer.Option(help="Name of a backbone or path of its YAML file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never use the network. It is never used when all weights are local.")
]
Photographs = Annotated[
    Path | None,
    typer.Option(help="Folder with the subjects' photographs, for a suite that ships none.", show_default=False),
]
LimitSubjects = Annotated[
    int | None,
    typer.Option(
        min=1, max=LARGEST_COUNT, help="Use only the first N subjects (and sets of them).", show_default=False
    ),
]
ImagesPerPrompt = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Images per prompt; the suite's if not given.", show_default=False)
]
FailOnError = Annotated[
    str,
    typer.Option(help="Number of samples that may fail, N or a share such as 0.1, before the exit code is 4."),
]
RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="Try failed samples and scores again.")]
Crop = Annotated[bool, typer.Option("--crop/--no-crop", help="Detect faces and crop portraits, or use photos as is.")]


@dataclass(frozen=True)
class GenerationOptions:
    """The options of each verb that generates a suite's images; `with_generation_options` adds them to a verb."""

    backbone: BackboneName = "pocket"
    option: MethodOptions = None
    photographs: Photographs = None
    limit_subjects: LimitSubjects = None
    images_per_prompt: ImagesPerPrompt = None
    batch_size: Annotated[
        str,
        typer.Option(help="Images generated together; auto: 8, on an accelerator as many as fit into its memory."),
    ] = "auto"
    device: Device = "auto"
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Compile UNets with torch.compile; for many images on an accelerator."),
    ] = False
    retry_errors: RetryErrors = False
    fail_on_error: FailOnError = "0"
    offline: Offline = False
    shared_prefixes: Annotated[
        bool,
        typer.Option(
            "--shared-prefixes/--no-shared-prefixes",
            help="Compute the text-only steps once for all subjects; the images are the same.",
        ),
    ] = True
    executor: Annotated[
        str, typer.Option("--executor", help="Where jobs run: local (processes of this machine) or ray (a cluster).")
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster; RAY_ADDRESS or this machine if not given.", show_default=False),
    ] = None
    gpus_per_job: Annotated[
        float | None,
        typer.Option(
            min=0, help="Accelerators per Ray worker; 1 if this machine has an accelerator.", show_default=False
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Number of processes that generate; by default as many as make it faster. On Ray: at most.",
            show_default=False,
        ),
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be generated and write nothing.")] = False

    def run_options(self, **own: Any) -> RunOptions:
        """The run that these options describe, with the verb's `own` fields of `RunOptions`.

        Raises UserError for a value that cannot be used. Applies `--offline` before any heavy library is imported.
        """
        options, _ = parse_method_options(self.option), parse_tolerated_failures(self.fail_on_error)
        go_offline(self.offline, self.backbone)
        from fc_bench.commands.run import RunOptions

        return RunOptions(
            backbone=self.backbone,
            photographs=self.photographs,
            options=options,
            limit_subjects=self.limit_subjects,
            images_per_prompt=self.images_per_prompt,
            batch_size=parse_batch_size(self.batch_size),
            device=self.device,
            compiled=self.compiled,
            retry_errors=self.retry_errors,
            share_prefixes=self.shared_prefixes,
            cluster=parse_cluster(self.executor, self.address, self.gpus_per_job, self.workers, self.device),
            workers=self.workers,
            **own,
        )

    def execute(self, options: RunOptions, write_report: Callable[[Outcome], None]) -> None:
        """Run, write the report and exit with code 4 if samples are missing; with `--dry-run` only print the plan."""
        from fc_bench.commands.run import prepare, run

        if self.dry_run:
            for line in prepare(options).describe():
                print_line(line)
            return
        outcome = run(options, console(), _row_lines())
        write_report(outcome)
        exit_if_incomplete(outcome, parse_tolerated_failures(self.fail_on_error))


def _row_lines() -> RowLines:
    """The lines of the main table, as rows are finished."""

    @cache
    def table(folder: RunFolder) -> FinishedRows:
        from fc_bench.reports.quality.finished_rows import FinishedRows

        return FinishedRows(folder)

    return lambda folder, label: table(folder).lines(label)


def with_generation_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with one command-line option for each field of its parameter `generation`, a `GenerationOptions`."""
    hints = get_type_hints(GenerationOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(GenerationOptions)
    ]
    signature = inspect.signature(verb, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        parameters += shared if parameter.name == "generation" else own

    @wraps(verb)
    def command(**values: Any) -> None:
        generation = GenerationOptions(**{field.name: values.pop(field.name) for field in fields(GenerationOptions)})
        verb(**values, generation=generation)

    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return command


def parse_method_options(pairs: list[str] | None) -> dict[str, dict[str, Any]]:
    """`["fastcomposer.alpha=0.6"]` -> `{"fastcomposer": {"alpha": 0.6}}`; values are read as YAML.

    Raises UserError for a pair that is not METHOD.OPTION=VALUE.
    """
    from fc_bench.model.yaml_file import read_value

    options: dict[str, dict[str, Any]] = {}
    for pair in pairs or []:
        if pair.endswith("="):
            raise UserError(f'The option "{pair}" has no value; give one, or null for none.')
        name, equals, value = pair.partition("=")
        method, dot, key = name.strip().rpartition(".")
        if not (equals and dot and method and key):
            raise UserError(f'The option "{pair}" is not of the form METHOD.OPTION=VALUE, e.g. fastcomposer.alpha=0.6.')
        try:
            options.setdefault(method, {})[key] = read_value(value)
        except ModelInputError as error:
            problem = str(error).rstrip(".")
            raise UserError(f'The value of the option "{pair}" cannot be read ({problem}); quote it.') from None
    return options


def parse_tolerated_failures(text: str) -> float:
    """How many samples may fail, "5" or as a share "0.1" of the planned ones; raises UserError for anything else."""
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"0?\.\d{1,9}", text, re.ASCII):
        return float(text)
    raise UserError(f'--fail-on-error "{text}" is neither a number of samples, such as 5, nor a share, such as 0.1.')


def parse_batch_size(text: str) -> int | None:
    """`auto` -> None, a number from 1 to 1024 -> itself; raises UserError for anything else."""
    if text == "auto":
        return None
    if re.fullmatch(r"\d{1,4}", text, re.ASCII) and 1 <= int(text) <= 1024:
        return int(text)
    raise UserError(f'--batch-size "{text}" is neither auto nor a number from 1 to 1024.')


def parse_cluster(
    executor: str, address: str | None, gpus_per_job: float | None, workers: int | None, device: str
) -> Cluster | None:
    """The requested Ray cluster, None for this machine alone; raises UserError for options that do not go together."""
    if executor == "ray":
        from fc_bench.generation.ray_cluster import Cluster

        return Cluster(address, _gpus_per_job(gpus_per_job, device), workers=workers)
    if executor != "local":
        raise UserError(f'There is no executor "{executor}"; give local or ray.')
    if address is not None or gpus_per_job is not None:
        raise UserError("--address and --gpus-per-job need a Ray cluster; add --executor ray.")
    return None


def _gpus_per_job(given: float | None, device: str) -> float:
    """Accelerators per worker: the given number, else 1 if the device is an accelerator."""
    from fc_bench.generation.device import resolve_device

    if given is None:
        given = 1.0 if device == "cuda" or resolve_device(device) != "cpu" else 0.0
    if not (given == 0 or 0.0001 <= given <= 1 or (given.is_integer() and given <= 1024)):
        raise UserError(f"Ray cannot assign --gpus-per-job {given:g}; give a whole number or a share from 0.0001 to 1.")
    if device not in ("auto", "cuda" if given else "cpu"):
        fitting = "cuda" if given else "cpu"
        raise UserError(
            f"--device {device} does not fit --gpus-per-job {given:g}, because Ray assigns each worker's device; "
            f"give --device {fitting}, or another --gpus-per-job."
        )
    return given


def go_offline(forbidden: bool, backbone: str) -> None:
    """Disable the network if the user forbids it or the backbone has nothing to download."""
    from fc_bench.model.backbones.backbone import read_backbone

    if forbidden or not read_backbone(backbone).fetches:
        stay_offline()
