"""`fc-bench judge`: answers of vision-language models about a run's images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import app, console, print_line, stay_offline
from fc_bench.cli.options import Device
from fc_bench.quiet_libraries import quiet_libraries


@app.command()
def judge(
    run: Annotated[Path, typer.Argument(help="Run folder with the images.")],
    protocol: Annotated[
        str,
        typer.Option(
            "--as",
            help="Benchmark whose questions are answered: omnicontext, dreambench-plus, psrbench or multihuman-action.",
            show_default=False,
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines or CSV with the columns image (or method, subjects, prompt, index), question and answer, "
            "optionally repetition.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a local vision-language model that is asked instead.", show_default=False),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Name of the judge; that of the file or of the model's folder if not given.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the wording of each question, {prompt} in it; fc-bench's own if not given.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    longest_answer: Annotated[int, typer.Option(min=1, max=100_000, help="Most tokens of the model's answer.")] = 512,
) -> None:
    """Score a run's images by a judge's answers, from a file or from a local model; its columns join the run's.

    An answer that cannot be read is missing and counted. Tables, `compare` and the gate treat the columns like others.
    """
    quiet_libraries()
    stay_offline()
    from fc_bench.commands.judge import JudgeOptions
    from fc_bench.commands.judge import judge as judged_run

    found = judged_run(JudgeOptions(run, protocol, answers, model, judge, prompts, device, longest_answer), console())
    print_line(
        f"{found.metric}: {found.judged} of {found.planned} images have answers; {found.unreadable} of "
        f"{found.answers} answers could not be read and are missing; {found.added} are new."
    )
    print_line(f"The answers are in {found.folder.path / 'answers.jsonl'}; fc-bench report {run} shows the scores.")
