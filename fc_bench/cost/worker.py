"""The process of one measurement: `python -m fc_bench.cost.worker`, started by `launcher`.

It reads its task (a line of JSON) from standard input and writes one result (JSON) to the original standard output.
Output of libraries goes to standard error. The process ends when its standard input ends. It does not use the terminal
and knows no metric.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

STARTED = time.time()


def main() -> None:
    """Measure the task from standard input."""
    answer = _Answer()
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.path[:] = task["path"]
    _keep_within(task["memory_limit"], answer)
    answer.give(measure(task))


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """The result of the task, or its failure, as part of a record."""
    try:
        assignment = _assignment(task)
        startup = time.time() - STARTED
        from fc_bench.cost.phases import measured

        return {"status": "ok", "startup_seconds": startup, **measured(assignment)}
    except Exception as error:
        return _failed(error)


def _end_with_parent() -> None:
    """Wait for the end of standard input, which belongs to the parent process."""
    sys.stdin.read()
    os._exit(1)


def _keep_within(limit: int, answer: _Answer) -> None:
    """End this process with a result if it exceeds its memory limit."""
    from fc_bench.cost.memory_guard import die_first, watch_memory

    def give_up(used: int) -> None:
        message = f"it used {used} bytes, more than the limit of {limit} bytes"
        error = {"type": "MemoryError", "message": message, "traceback": ""}
        answer.give({"status": "out of memory", "used_bytes": used, "error": error})
        os._exit(1)

    die_first()
    watch_memory(limit, give_up)


class _Answer:
    """The single line for the parent; the first thread to write it wins."""

    def __init__(self) -> None:
        self._file = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._given = False

    def give(self, result: dict[str, Any]) -> None:
        """Write the result unless one was written."""
        with self._lock:
            if self._given:
                return
            self._given = True
            data = json.dumps(result).encode()
            while data:
                data = data[os.write(self._file, data) :]
            os.close(self._file)


def _assignment(task: dict[str, Any]) -> Any:
    """The task, with all required libraries imported, so that imports are not measured."""
    from fc_bench.quiet_libraries import quiet_libraries

    quiet_libraries()
    from fc_bench import registry
    from fc_bench.cost.phases import Assignment
    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.model.fastcomposer import pipeline  # noqa: F401 (what methods import when they are built)
    from fc_bench.model.kernels import Kernels
    from fc_bench.progress import silence_loading_bars
    from fc_bench.protocols import Sampler, Setting, Subject

    silence_loading_bars()
    kind = registry.load("methods", task["method"])
    subject = task["subject"]
    return Assignment(
        kind,
        kind.Options.model_validate(task["options"]),
        Setting(
            read_backbone(task["backbone"]),
            Sampler(**task["sampler"]),
            task["device"],
            task["dtype"],
            kernels=Kernels(**task["kernels"]),
        ),
        task["phase"],
        Subject(subject["id"], subject["noun"], tuple(map(Path, subject["photographs"]))),
        task["template"],
        task["seed"],
        Path(task["artefact"]),
        task["deadline"],
    )


def _failed(error: BaseException) -> dict[str, Any]:
    from fc_bench.cost.memory_guard import is_out_of_memory
    from fc_bench.errors import Failure, raise_if_disk_refuses

    record = Failure.of(error).record()
    if is_out_of_memory(error):
        return {**record, "status": "out of memory"}
    try:
        raise_if_disk_refuses(error)
    except Exception as refused:
        return {**record, "disk_refused": str(refused)}
    return record


if __name__ == "__main__":
    main()
