"""Starts the process of a measurement, waits for it, and reports how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fc_bench.cost.records import ERROR, OUT_OF_MEMORY

COMMAND = (sys.executable, "-m", "fc_bench.cost.worker")


def launched(task: Mapping[str, Any], log: Path) -> dict[str, Any]:
    """The worker's answer, or the way it died, with `process_seconds` and `process_peak_bytes` from the system.

    Standard error is appended to `log`. The process has ended when this function returns or raises.
    """
    begun = time.perf_counter()
    with log.open("ab") as errors:
        errors.write(f"== {task['method']} {task['phase']}\n".encode())
        errors.flush()
        start = errors.tell()
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it died at once; the reason follows below
                process.stdin.write(json.dumps({**task, "path": sys.path}).encode() + b"\n")
                process.stdin.flush()
            answer = process.stdout.read()
            code, peak = _ended(process)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()
    seen = {"process_seconds": time.perf_counter() - begun, "process_peak_bytes": peak}
    try:
        result = json.loads(answer)
    except ValueError:
        result = _died(code, peak, _tail(log, start))
    return {**result, **seen}


def _ended(process: subprocess.Popen[bytes]) -> tuple[int, int | None]:
    """Exit code (negative: the signal) and the largest resident set (bytes) of a process that is about to end."""
    if not hasattr(os, "wait4"):
        return process.wait(), None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _died(code: int, peak: int | None, output: str) -> dict[str, Any]:
    """The result of a process without an answer; the system kills a process when memory is short."""
    if code == -signal.SIGKILL:
        message = "the process was killed (signal 9), probably because memory ran out"
        error = {"type": "Killed", "message": message, "traceback": output}
        return {"status": OUT_OF_MEMORY, "used_bytes": peak, "error": error}
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    lines = [line for line in output.splitlines() if line.strip()]
    message = f"the process ended without a result ({how})" + (f": {lines[-1].strip()}" if lines else "")
    return {"status": ERROR, "error": {"type": "Died", "message": message, "traceback": output}}


def _tail(log: Path, start: int, most: int = 20_000) -> str:
    """The last lines of the process's standard error."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(start, file.tell() - most))
        return file.read().decode(errors="replace")
