"""Exit codes and messages for every way in which a command can end, and the output of unusual characters."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import sys, errno, os
from fc_bench.model.command_line import exit_code_of
from fc_bench.model.errors import ModelInputError
def run(command):
    sys.exit(exit_code_of(command, lambda line: print("told:", line, file=sys.stderr)))
"""


def command(program: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, env={**os.environ, **environment}, check=False
    )


def shell(line: str, program: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `$RUN` is the program."""
    environment = {**os.environ, "RUN": sys.executable, "PROGRAM": BEGIN + program}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "ascii:strict", "utf-8"])
def test_characters_outside_a_console_s_encoding_are_replaced(encoding):
    done = command(
        "def work():\n print('identity ↑ é \\udce9')\n print('ś ┃', file=sys.stderr)\nrun(work)",
        PYTHONIOENCODING=encoding,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"identity ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_closed_pipe_ends_quietly_after_the_work_with_a_code_of_its_own(tmp_path, stream):
    program = f"""
def work():
    for _ in range(20000):
        print("a line", file=sys.{stream})
    open({str(tmp_path / "done")!r}, "w").close()
run(work)
"""
    redirected = "2>&1 >/dev/null" if stream == "stderr" else ""
    done = shell(f'$RUN -c "$PROGRAM" {redirected} | head -n 1; echo ${{PIPESTATUS[0]}}', program)
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_on_a_full_disk_has_a_code_of_its_own_and_a_line():
    done = shell('$RUN -c "$PROGRAM" > /dev/full; echo $?', "run(lambda: print('x'))")
    assert done.stdout == "74\n"
    assert done.stderr == "told: the output could not be written (No space left on device); everything else is done.\n"


def test_closed_streams_are_no_trouble_and_no_file_becomes_one(tmp_path):
    file = tmp_path / "recorded"
    program = f"""
def work():
    with open({str(file)!r}, "w") as out:
        print("shown"); print("shown", file=sys.stderr); os.write(1, b"by a library")
        sys.stdout.flush()
        out.write("recorded")
run(work)
"""
    done = shell('$RUN -c "$PROGRAM" <&- >&- 2>&-; code=$?; exit $code', program)
    assert done.returncode == 0
    assert file.read_text() == "recorded"


@pytest.mark.parametrize("code", [3, 4])
def test_output_trouble_keeps_what_the_command_itself_says(code):
    done = shell('$RUN -c "$PROGRAM" | true; exit ${PIPESTATUS[0]}', f"run(lambda: print('x' * 100000) or {code})")
    assert done.returncode == code


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        ("ModelInputError('not so')", 2, "told: not so"),
        ("KeyboardInterrupt", 130, "told: interrupted; the same command continues."),
        ("RuntimeError('odd')", 70, "RuntimeError: odd"),
        ("SystemExit(1)", 70, "a bug"),
        ("SystemExit('odd')", 70, "a bug"),
        ("EOFError", 70, "a bug"),
        ("BrokenPipeError(errno.EPIPE, 'of a socket')", 70, "a bug"),
        ("SystemExit(2)", 2, ""),
        ("SystemExit", 0, ""),
        ("PermissionError(errno.EACCES, 'Permission denied', '/a/place')", 2, "told: /a/place cannot be used"),
    ],
)
def test_no_exception_ends_in_the_code_of_a_regression(raised, code, told):
    done = command(f"def work():\n raise {raised}\nrun(work)")
    assert done.returncode == code
    assert told in done.stderr.decode()


@pytest.mark.parametrize("raised", ["EOFError", "SystemExit(1)", "BrokenPipeError(errno.EPIPE, 'x')", "RuntimeError"])
def test_a_verb_ends_in_no_code_that_its_library_chooses(fc_bench, monkeypatch, raised):
    from fc_bench.commands import list as listing

    def fail(*_: object) -> None:
        raise eval(raised, {"errno": errno})

    monkeypatch.setattr(listing, "show_kind", fail)
    done = fc_bench("list")
    assert done.code == 70
    assert "fc-bench: this is a bug, not a result" in done.err


def test_sigterm_ends_like_ctrl_c_with_the_code_of_shells():
    done = command(f"run(lambda: os.kill(os.getpid(), {int(signal.SIGTERM)}))")
    assert done.returncode == 143
    assert done.stderr == b"told: interrupted; the same command continues.\n"


def test_a_locale_that_cannot_name_a_file_says_what_helps(tmp_path):
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(f"run(lambda: open({str(tmp_path)!r} + '/\\u015b') and 0)", **environment)
    assert done.returncode == 2
    assert b"PYTHONUTF8=1" in done.stderr
