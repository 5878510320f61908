"""`fc-bench train`: train FastComposer."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread
from typing import IO, TYPE_CHECKING, Annotated

import typer

from fc_bench.cli.app import app, print_error, print_line, stay_offline
from fc_bench.cli.options import LARGEST_COUNT, Offline, go_offline
from fc_bench.errors import UserError
from fc_bench.quiet_libraries import quiet_libraries

if TYPE_CHECKING:
    from fc_bench.commands.train import Prepared


@app.command()
def train(
    method: Annotated[
        str, typer.Argument(help="fastcomposer, the only method that is trained before it sees its subjects.")
    ],
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name of a shipped recipe (pocket, ffhq: the paper's, sdxl, sdxl-lora) or path of a YAML file."
        ),
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint, if any.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; the recipe's if not given.", show_default=False)
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, max=LARGEST_COUNT, help="Training steps; the recipe's if not given.", show_default=False),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Training time, e.g. 90s, 10m or 2h.", show_default=False)] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=1024, help="Number of devices of this machine to train on, one process for each.")
    ] = 1,
    offline: Offline = False,
) -> None:
    """Train FastComposer on a backbone. The output folder is itself a backbone: fc-bench run --backbone OUTPUT.

    It also holds the checkpoints, the losses, and the validation pictures and scores of each checkpoint.
    """
    if method != "fastcomposer":
        raise UserError(f'"{method}" is not trained before it sees its subjects; give fastcomposer.')
    quiet_libraries()
    if offline:
        stay_offline()
    from fc_bench.commands.train import is_main_process, prepare, train_fastcomposer
    from fc_bench.model.durations import parse_duration

    changes = {
        "output": out.resolve() if out is not None else None,
        "max_steps": max_steps,
        "max_seconds": parse_duration(budget) if budget is not None else None,
    }
    prepared = prepare(recipe, {key: value for key, value in changes.items() if value is not None})
    go_offline(offline, prepared.file.backbone)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if processes > 1:
        _check_inputs(prepared)
        raise typer.Exit(_launch(processes, sys.argv[1:]))
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    from fc_bench.progress import silence_loading_bars

    silence_loading_bars()
    output = train_fastcomposer(prepared, resume)
    if is_main_process():
        print_line(f"{output} is a backbone: fc-bench run --backbone {shlex.quote(str(output))} -m fastcomposer")


def _check_inputs(prepared: Prepared) -> None:
    """Draw the pictures and check data and validation once on the CPU, before any process starts.

    Raises UserError or ModelInputError for unusable data or validation.
    """
    from fc_bench.commands.train import Validation, draw_pictures
    from fc_bench.model.training.dataset import read_records

    if prepared.file.validation is not None:
        config = prepared.config.model_copy(update={"cpu": True})
        Validation(replace(prepared, config=config), prepared.file.validation)
    draw_pictures(prepared)
    data = prepared.config.data
    for split in filter(None, (data.split, data.reference_split)):
        read_records(data.root, split, data.labels)


def _launch(processes: int, arguments: Sequence[str]) -> int:
    """Run the same command in several processes, with torchrun's variables; returns the exit code of the first failure.

    A message of several processes is printed once. If a process fails, the others are stopped.
    """
    kept = list(arguments)
    place = next(number for number, word in enumerate(kept) if word.startswith("--processes"))
    del kept[place : place + (1 if "=" in kept[place] else 2)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    children: list[subprocess.Popen[str]] = []
    readers: list[Thread] = []
    codes: list[int | None] = []
    printed, lock = set[str](), Lock()
    try:
        for rank in range(processes):
            own = {key: str(value) for key, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
            child = subprocess.Popen(
                [sys.executable, "-m", "fc_bench.cli", *kept],
                env={"OMP_NUM_THREADS": "1", **os.environ, **own},
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
            children.append(child)
            readers.append(Thread(target=_pass_on, args=(child.stderr, printed, lock), daemon=True))
            readers[-1].start()
        while not any(codes := [child.poll() for child in children]) and None in codes:
            time.sleep(0.1)
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired):  # Ctrl-C reaches them as well
            for child in children:
                child.wait(2)
        raise
    finally:
        _stop(children)
        for reader in readers:
            reader.join(5)
    rank, code = next(((rank, code) for rank, code in enumerate(codes) if code), (0, 0))
    if code < 0:
        print_error(
            f"process {rank} of {processes} was ended by {signal.Signals(-code).name}; the same command with "
            "--resume continues."
        )
        return 128 - code
    return code


def _pass_on(lines: IO[str], printed: set[str], lock: Lock) -> None:
    """Print the lines of a process, without messages that another has printed and without its interruption."""
    for line in lines:
        with lock:
            if line.startswith("fc-bench: "):
                if line in printed or line.startswith("fc-bench: interrupted"):
                    continue
                printed.add(line)
            sys.stderr.write(line)
            sys.stderr.flush()


def _stop(children: Sequence[subprocess.Popen[str]]) -> None:
    """Stop the processes that still run, after ten seconds by force."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    until = time.monotonic() + 10
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
