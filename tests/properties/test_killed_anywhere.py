"""A command killed at any of its file operations and repeated is the command that was never interrupted.

Each attempt is a process that ends itself, without any cleaning up, at a chosen one of the operations it performs in
its folder: before a file is opened, renamed or removed, or in the middle of writing a record. The processes are forked
from a server that has imported everything and computed nothing: a process forked from this one would lack the threads
that the numeric libraries believe to have here, and may wait for them forever.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fc_bench.reports.state import STATE

ATTEMPTS, MANY_ATTEMPTS, REPORT_ATTEMPTS = 4, 100, 20
REFERENCE = Path(__file__).parents[2] / "reports" / "reference" / "pocket"
PATIENCE = 300.0
"""Seconds until an attempt that has not ended is taken to hang."""
PRELOADED = (
    "fc_bench.cli",
    "fc_bench.commands.run",
    "fc_bench.commands.score",
    "fc_bench.cost.measurement",
    "fc_bench.run_folder.settings",
    "fc_bench.baselines.fastcomposer",
    "fc_bench.reports.report",
    "fc_bench.metrics.identity",
    "fc_bench.metrics.prompt_consistency",
    "insightface.app",
    "scipy.stats",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "matplotlib.style",
    "pandas.io.formats.csvs",
    "diffusers",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "PIL.JpegImagePlugin",
    "tests.properties.frozen",
)
"""What the server imports; it would pass over a name that cannot be imported and leave each attempt to do it."""
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def perform(arguments: list[str], folder: Path, last: int, told: Path, number: int) -> None:
    """Run the command in this process, sent the signal at the `last`-th operation in the folder; say how many were."""
    from fc_bench.cli import main
    from fc_bench.run_folder.json_lines import LineWriter

    count = 0

    def die_at_last() -> bool:
        nonlocal count
        count += 1
        return count == last

    def watch(event: str, arguments: tuple) -> None:
        if event in OPERATIONS and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.fsdecode(arguments[0])
            if path.startswith(str(folder)) and die_at_last():
                os.kill(os.getpid(), number)

    append = LineWriter.append

    def append_half(self: LineWriter, record: dict, **further: Any) -> None:
        if die_at_last():
            if number == signal.SIGKILL:
                line = json.dumps(record).encode()
                self._file.write(line[: len(line) // 2])
                self._file.flush()
            os.kill(os.getpid(), number)
        append(self, record, **further)

    sys.addaudithook(watch)
    LineWriter.append = append_half
    output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["fc-bench", *arguments]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    told.write_text(str(count))
    os._exit(code)


def attempt(arguments: list[str], folder: Path, last: int, told: Path, number: int = signal.SIGKILL) -> int | None:
    """The exit code of a process of its own that performs the command; negative when it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=perform, args=(arguments, folder, last, told, number))
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()
        pytest.fail(f"the process did not end in {PATIENCE:.0f} s")
    return process.exitcode


def report_state(folder: Path) -> dict[str, bytes]:
    """A report's files, without the times and places of their writing."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != STATE]
    return {file.relative_to(folder).as_posix(): file.read_bytes().replace(bytes(folder), b"") for file in files}


def state(folder: Path) -> dict[str, object]:
    """What a finished folder says, without times and places; asserts that nothing is twice, half or left over."""
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert len({sample["id"] for sample in samples}) == len(samples)
    assert len({(score["sample"], score["metric"]) for score in scores}) == len(scores)
    assert not list(folder.rglob("*.part"))
    results = (folder / "report" / "results.csv").read_text().splitlines()
    return {
        "images": {sample["id"]: (folder / sample["image"]).read_bytes() for sample in samples},
        "scores": {(score["sample"], score["metric"]): score["values"] for score in scores},
        "results": [line for line in results if not any(word in line for word in ("seconds", "gib"))],
        "files": sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()),
    }


@pytest.fixture
def killed_anywhere(tmp_path) -> Callable[..., list[int]]:
    """Kills the command at seeded operations, repeats it, compares with an uninterrupted one; gives the exit codes."""

    def check(
        arguments: list[str],
        attempts: int,
        state: Callable[[Path], object] = state,
        number: int = signal.SIGKILL,
    ) -> list[int]:
        told = tmp_path / "told"
        whole = tmp_path / "whole"
        assert attempt([*arguments, "--out", str(whole)], whole, 0, told) == 0
        total, expected = int(told.read_text()), state(whole)
        assert total > attempts
        points = sorted(random.Random(0).sample(range(1, total), attempts))
        codes = []
        for point in points:
            folder = tmp_path / "killed"
            shutil.rmtree(folder, ignore_errors=True)
            codes.append(attempt([*arguments, "--out", str(folder)], folder, point, told, number))
            assert attempt([*arguments, "--out", str(folder)], folder, 0, told) == 0, f"killed at {point}"
            assert state(folder) == expected, f"killed at {point} of {total}"
        return codes

    return check


@pytest.fixture
def run_arguments(tiny_backbone, suite, plugin) -> list[str]:
    return ["run", str(suite), "--backbone", str(tiny_backbone), "-m", "collage", "--keep-artefacts"]


@pytest.fixture
def score_arguments(tiny_backbone, suite, portrait, tmp_path) -> list[str]:
    images = tmp_path / "theirs"
    images.mkdir()
    for number in range(3):
        for prompt in range(3):
            name = f"subject_{number:04d}_prompt_{prompt:04d}_instance_0000.png"
            portrait((250, 80 * number, 20), shade=10 * prompt).save(images / name)
    data = suite.read_text().split("multi:")[0]
    alone = suite.with_name("alone.yaml")
    alone.write_text(data)
    return ["score", str(images), "--suite", str(alone), "--backbone", str(tiny_backbone), "--layout", "fastcomposer"]


def test_run_killed_anywhere_and_repeated_is_an_uninterrupted_one(killed_anywhere, run_arguments):
    codes = killed_anywhere(run_arguments, ATTEMPTS)
    assert codes == [-signal.SIGKILL] * ATTEMPTS


def test_scoring_killed_anywhere_and_repeated_is_an_uninterrupted_one(killed_anywhere, score_arguments):
    codes = killed_anywhere(score_arguments, ATTEMPTS // 2)
    assert codes == [-signal.SIGKILL] * (ATTEMPTS // 2)


def test_report_killed_anywhere_and_repeated_is_an_uninterrupted_one(killed_anywhere):
    codes = killed_anywhere(["report", str(REFERENCE), "--no-figures"], ATTEMPTS // 2, report_state)
    assert codes == [-signal.SIGKILL] * (ATTEMPTS // 2)


def test_what_attempts_import_is_there():
    assert [name for name in PRELOADED if importlib.util.find_spec(name) is None] == []


@pytest.mark.slow
def test_report_with_figures_killed_anywhere_is_an_uninterrupted_one(killed_anywhere):
    codes = killed_anywhere(["report", str(REFERENCE)], REPORT_ATTEMPTS, report_state)
    assert codes == [-signal.SIGKILL] * REPORT_ATTEMPTS


@pytest.mark.slow
def test_run_killed_at_a_hundred_points_is_an_uninterrupted_one(killed_anywhere, run_arguments):
    assert killed_anywhere(run_arguments, MANY_ATTEMPTS) == [-signal.SIGKILL] * MANY_ATTEMPTS


@pytest.mark.slow
def test_scoring_killed_at_a_hundred_points_is_an_uninterrupted_one(killed_anywhere, score_arguments):
    assert killed_anywhere(score_arguments, MANY_ATTEMPTS) == [-signal.SIGKILL] * MANY_ATTEMPTS


SIGNALS = [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_scoring_ended_by_a_signal_anywhere_and_repeated_is_an_uninterrupted_one(
    killed_anywhere, score_arguments, number, code
):
    assert killed_anywhere(score_arguments, ATTEMPTS // 2, number=number) == [code] * (ATTEMPTS // 2)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_report_ended_by_a_signal_anywhere_and_repeated_is_an_uninterrupted_one(killed_anywhere, number, code):
    arguments = ["report", str(REFERENCE), "--no-figures"]
    assert killed_anywhere(arguments, ATTEMPTS // 4, report_state, number) == [code] * (ATTEMPTS // 4)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_a_run_with_one_line_and_the_same_command_continues(
    number, code, tiny_backbone, suite, plugin_folder, fc_bench, plugin, tmp_path
):
    arguments = ["run", str(suite), "--backbone", str(tiny_backbone), "--out", str(tmp_path / "run"), "-m", "paste"]
    arguments += ["-o", "paste.seconds=0.2"]
    # A process in the background of a shell ignores SIGINT; the test wants it to hear.
    begin = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", f"{begin}from fc_bench.cli import main; main()", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    samples = tmp_path / "run" / "samples.jsonl"
    deadline = time.monotonic() + 120
    while not samples.exists() or not samples.read_bytes().count(b"\n"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.strip().splitlines()[-1] == "fc-bench: interrupted; the same command continues."
    assert "Traceback" not in err
    assert fc_bench(*arguments).code == 0
    assert len({json.loads(line)["id"] for line in samples.read_text().splitlines()}) == 11


def test_signal_ends_a_report_with_one_line_and_without_a_page_that_lacks_anything(tmp_path):
    out = tmp_path / "report"
    command = [sys.executable, "-c", "from fc_bench.cli import main; main()"]
    command += ["report", str(REFERENCE), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "table.md").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.strip().splitlines() == ["fc-bench: interrupted; the same command continues."]
    assert not list(out.rglob("*.part"))
    assert not (out / "index.html").exists()
