"""`fc-bench train`: train FastComposer."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from fc_bench.cli.app import Offline, app, go_offline, quiet_libraries, say, stay_offline
from fc_bench.errors import UserError


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="fastcomposer, the only one trained ahead of its subjects.")],
    recipe: Annotated[
        str, typer.Argument(help="Name of a shipped recipe (pocket, ffhq: the paper's) or path of a YAML file.")
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint, if any.")] = False,
    out: Annotated[Path | None, typer.Option(help="Output folder instead of the recipe's.", show_default=False)] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.", show_default=False)] = None,
    budget: Annotated[str | None, typer.Option(help="Training time, e.g. 90s, 10m or 2h.", show_default=False)] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=1024, help="Devices of this machine to train on, a process each.")
    ] = 1,
    offline: Offline = False,
) -> None:
    """Train FastComposer on a backbone; the output folder is a backbone: fc-bench run --backbone OUTPUT.

    Checkpoints, losses, and after each checkpoint pictures and scores of the validation's suite go into it.
    """
    if method != "fastcomposer":
        raise UserError(f'"{method}" is not trained ahead of its subjects; only fastcomposer is.')
    quiet_libraries()
    if offline:
        stay_offline()
    from fc_bench.model.durations import parse_duration
    from fc_bench.training import draw_pictures, is_main_process, prepare, train_fastcomposer

    changes = {
        "output": out.resolve() if out is not None else None,
        "max_steps": max_steps,
        "max_seconds": parse_duration(budget) if budget is not None else None,
    }
    prepared = prepare(recipe, {key: value for key, value in changes.items() if value is not None})
    go_offline(offline, prepared.file.backbone)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if processes > 1:
        draw_pictures(prepared)
        raise typer.Exit(_launched(processes, sys.argv[1:]))
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    from fc_bench.progress import silence_loading_bars

    silence_loading_bars()
    output = train_fastcomposer(prepared, resume)
    if is_main_process():
        say(f"{output} is a backbone: fc-bench run --backbone {shlex.quote(str(output))} -m fastcomposer")


def _launched(processes: int, arguments: list[str]) -> int:
    """The same command in so many processes of this machine, each with a device of its own; its exit code."""
    kept = list(arguments)
    place = next(number for number, word in enumerate(kept) if word.startswith("--processes"))
    del kept[place : place + (1 if "=" in kept[place] else 2)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.call([*launch, "-m", "fc_bench.cli", *kept])
