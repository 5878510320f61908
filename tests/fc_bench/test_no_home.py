"""A user without a home folder, or without access to one, gets a result or one sentence: never a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fc_bench import registry
from fc_bench.generation.plan import resolve_method
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.model.errors import MissingWeightsError, ModelInputError, loading
from fc_bench.model.user_cache import cache_folder, expanded, made_once, writing_to_cache
from fc_bench.protocols import Sampler, Setting

STRANGER = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
MAIN = "from fc_bench.cli import main; main()"


@pytest.fixture
def homeless(monkeypatch):
    """A user of whom nothing is known: `~` stays as it is."""
    for name in ("HOME", "USER", "LOGNAME", "FC_BENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


def test_cache_of_a_user_without_a_home_names_the_variable_that_places_it(homeless, monkeypatch, tmp_path):
    with pytest.raises(ModelInputError, match="set FC_BENCH_CACHE to a folder"):
        cache_folder()
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_doctor_shows_what_lies_in_an_unknown_home_as_missing(homeless, fc_bench):
    done = fc_bench("doctor", "--no-checksums")
    assert done.code == 0, done.err
    assert "~/.insightface" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "~/suite.yaml"],
        ["run", "--backbone", "~/backbone.yaml"],
        ["validate", "~/suite.yaml"],
        ["train", "fastcomposer", "~/recipe.yaml"],
        ["compose", "a {ada}", "-s", "ada=~/ada.jpg:woman"],
    ],
)
def test_path_in_an_unknown_home_is_refused_in_one_line(homeless, fc_bench, arguments):
    done = fc_bench(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert "home folder" in done.err
    assert "write the path out" in done.err


def test_option_with_a_path_in_an_unknown_home_is_refused(homeless, tiny_backbone, monkeypatch):
    from fc_bench.baselines.pipeline_method import MethodOptions
    from fc_bench.baselines.text_only import TextOnly
    from fc_bench.errors import UserError

    class Adapter(MethodOptions):
        weights: Path

    monkeypatch.setattr(TextOnly, "Options", Adapter)
    setting = Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 2.0, 64), "cpu", "float32")
    with pytest.raises(UserError, match="write the path out"):
        resolve_method("text-only", {"weights": "~/adapter.bin"}, setting)


def test_home_of_somebody_unknown_is_refused():
    with pytest.raises(ModelInputError, match="write the path out"):
        expanded("~nobody-of-that-name/suite.yaml")


def test_hub_s_cache_without_a_home_names_the_variable_that_places_it(homeless, monkeypatch):
    import huggingface_hub

    def fails(*_: object, **__: object) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    backbone = read_backbone("sd15")
    assert backbone.found_path("pipeline") is None
    with pytest.raises(MissingWeightsError, match="set HF_HOME to a folder"):
        backbone.path("pipeline")
    with pytest.raises(ModelInputError, match="set HF_HOME to a folder"), loading("the captioner owner/name"):
        fails()


def test_any_other_error_while_loading_stays_what_it_is():
    with pytest.raises(RuntimeError, match="out of luck"), loading("a model"):
        raise RuntimeError("out of luck")


def test_cached_files_that_cannot_be_read_name_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path))
    made_once("kind", "stem", 1, lambda folder: (folder / "weights").touch())
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "weights")
    with pytest.raises(ModelInputError, match="FC_BENCH_CACHE"), writing_to_cache("kind", "It cannot be kept in"):
        made_once("kind", "stem", 1, lambda folder: None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/photographs"), "/data/photographs cannot be used"),
        (OSError(errno.EROFS, "Read-only file system", "CACHE/images"), "set FC_BENCH_CACHE"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/x']"), "set TMPDIR"),
        (OSError("Matplotlib requires access to a writable cache directory, set MPLCONFIGDIR"), "set MPLCONFIGDIR"),
    ],
)
def test_what_the_system_refuses_ends_in_one_line_with_what_to_do(fc_bench, monkeypatch, tmp_path, error, words):
    monkeypatch.setenv("FC_BENCH_CACHE", str(tmp_path))
    if error.filename is not None:
        error.filename = error.filename.replace("CACHE", str(tmp_path))

    def refuse(_: str) -> Path:
        raise error

    monkeypatch.setattr(registry, "suite_file", refuse)
    done = fc_bench("validate", "pocket")
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert words in done.err


def test_current_folder_that_was_removed_is_refused(fc_bench, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = fc_bench("list", "suites")
    assert (done.code, done.err.count("\n")) == (2, 1), done
    assert "current folder" in done.err


def test_onnxruntime_leaves_nothing_in_the_home_folder(tmp_path):
    program = "from fc_bench.quiet_libraries import quiet_libraries; quiet_libraries(); import onnxruntime"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def stranger() -> Iterator:
    """Runs `fc-bench` as a user whom the machine does not know, in a folder that is not theirs."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user takes root and setpriv")
    program = "import fc_bench, torch"
    if subprocess.run([*STRANGER, sys.executable, "-c", program], capture_output=True, check=False).returncode:
        pytest.skip("the interpreter or the packages cannot be read by another user")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    unknown = {"HOME", "USER", "LOGNAME", "FC_BENCH_CACHE", "TMPDIR"}
    environment = {key: value for key, value in os.environ.items() if key not in unknown}

    def invoke(*arguments: object, program: str = MAIN, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [*STRANGER, sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(
            command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True, check=False
        )

    invoke.folder = folder
    yield invoke
    shutil.rmtree(folder)


@pytest.mark.parametrize("variables", [{}, {"HOME": "/nowhere"}, {"HOME": "/", "TMPDIR": "/nowhere"}])
def test_doctor_works_for_a_user_whom_the_machine_does_not_know(stranger, variables):
    done = stranger("doctor", "--no-checksums", **variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


REFUSED = [
    ["run", "-m", "text-only", "--limit-subjects", "1"],
    ["sweep", "fastcomposer.alpha", "0,1", "--limit-subjects", "1"],
    ["cost", "-m", "text-only", "--budget", "5s"],
    ["curate", "/root/curation.yaml"],
    ["init-suite", "/root/people"],
    ["run", "/root/suite.yaml"],
    ["run", "--backbone", "/root/backbone.yaml"],
    ["report", "/root/run"],
    ["show", "/root/run", "0"],
    ["compare", "/root/run", "/root/run"],
]
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
from fc_bench.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["fc-bench", *arguments]
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, err.getvalue()]))
"""


@pytest.fixture(scope="module")
def refusals(stranger) -> list[list]:
    """Exit code and standard error of each command in `REFUSED`, all run by one process of the stranger."""
    done = stranger(json.dumps(REFUSED), program=ONE_AFTER_THE_OTHER)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[" ".join(words[:2]) for words in REFUSED])
def test_folder_that_a_stranger_cannot_use_is_told_in_one_line(refusals, number):
    code, err = refusals[number]
    assert code == 2, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("fc-bench: ")


def test_class_images_without_a_place_name_the_variable(stranger):
    shutil.copytree(Path(__file__).parents[2] / "datasets" / "pocket", stranger.folder / "pocket")
    stranger.folder.chmod(0o777)
    method = "custom-diffusion"
    options = [f"-o{method}.steps=1", f"-o{method}.class_images=1", "--limit-subjects", "1", "--images-per-prompt", "1"]
    done = stranger("run", "pocket/suite.yaml", "-m", method, *options, "--out", "run")
    assert done.returncode == 4, done.stderr
    assert "set FC_BENCH_CACHE" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
