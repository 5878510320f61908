"""Customizing: finished once, restored from what it left, shared between sets, with checkpoints, in the tables."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError

SETS = ["ann", "bob", "cid", "ann+bob", "bob+cid"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The run folder."""
    return tmp_path / "run"


@pytest.fixture
def run(fc_bench, tiny_backbone, plugin, suite, folder) -> Callable[..., Any]:
    """`fc-bench run` of the suite into `folder` with the given method (collage)."""

    def invoke(*arguments: object, method: str = "collage", suite: Path = suite, out: Path = folder) -> Any:
        return fc_bench("run", suite, "--backbone", tiny_backbone, "--out", out, "-m", method, *arguments)

    return invoke


@pytest.fixture
def customized(plugin, monkeypatch) -> list[str]:
    """The sets the method was really customized to, in order."""
    import paste_faces

    calls: list[str] = []
    original = paste_faces.Collage.customize

    def spy(self, subjects: Sequence[Any], *arguments: object) -> Any:
        calls.append("+".join(subject.id for subject in subjects))
        return original(self, subjects, *arguments)

    monkeypatch.setattr(paste_faces.Collage, "customize", spy)
    return calls


@pytest.fixture
def interrupt(plugin, monkeypatch) -> Callable[[str], None]:
    """The next run is interrupted before the first image of that set, once."""
    import paste_faces

    original = paste_faces.Paste.generate

    def arm(key: str) -> None:
        def generate(self, customization: Any, requests: Any) -> Any:
            if "+".join(subject.id for subject in customization.subjects) == key:
                monkeypatch.setattr(paste_faces.Paste, "generate", original)
                raise KeyboardInterrupt
            return original(self, customization, requests)

        monkeypatch.setattr(paste_faces.Paste, "generate", generate)

    return arm


@pytest.fixture
def jobs(records, folder) -> Callable[[], list[dict[str, Any]]]:
    """The records of jobs.jsonl."""
    return lambda: records(folder / "jobs.jsonl")


def pixels(folder: Path) -> dict[tuple[str, str], list[int]]:
    """(set, template) -> all pixels."""
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return {
        ("+".join(sample["subjects"]), sample["template"]): np.asarray(Image.open(folder / sample["image"])).tolist()
        for sample in samples
    }


def test_finished_customization_is_restored_after_an_interruption(run, jobs, customized, interrupt, folder, tmp_path):
    interrupt("bob")
    assert run().code == 130
    assert customized == ["ann", "bob"]
    assert run().code == 0
    assert customized == SETS
    assert [job["set"] for job in jobs()] == SETS
    assert not (folder / "artefacts").exists()
    assert run(out=tmp_path / "whole").code == 0
    assert pixels(folder) == pixels(tmp_path / "whole")


def test_method_that_cannot_be_restored_is_customized_again(run, jobs, interrupt):
    interrupt("bob")
    assert run(method="paste").code == 130
    assert run(method="paste").code == 0
    assert [job["set"] for job in jobs()] == ["ann", "bob", *SETS[1:]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda artefact: np.save(artefact / "0.npy", np.zeros((128, 128, 3), np.uint8)),
        lambda artefact: (artefact / "more.txt").write_text("of somebody else"),
        shutil.rmtree,
    ],
)
def test_artefact_that_is_not_what_was_recorded_is_made_again(run, jobs, interrupt, folder, tmp_path, damage):
    interrupt("bob")
    run()
    damage(folder / "artefacts" / "collage" / "bob")
    assert run().code == 0
    assert [job["set"] for job in jobs()] == ["ann", "bob", *SETS[1:]]
    run(out=tmp_path / "whole")
    assert pixels(folder) == pixels(tmp_path / "whole")


def test_kept_artefacts_serve_what_is_asked_for_later(run, jobs, customized, folder):
    run("--keep-artefacts")
    assert sorted(path.name for path in (folder / "artefacts" / "collage").iterdir()) == sorted(SETS)
    for images in (2, 3):
        assert run("--images-per-prompt", images).code == 0
        assert sorted(path.name for path in (folder / "artefacts" / "collage").iterdir()) == sorted(SETS)
    assert customized == SETS
    assert len(jobs()) == len(SETS)
    assert all(job["kept"] for job in jobs())


def test_kept_parts_serve_what_is_asked_for_later(run, customized, folder):
    place = folder / "artefacts"
    run("-o", "collage.apart=true", "--keep-artefacts")
    run("-o", "collage.apart=true", "--images-per-prompt", 2)
    assert customized == ["ann", "bob", "cid"]
    (method,) = place.iterdir()
    assert sorted(path.name for path in method.iterdir()) == ["ann", "bob", "cid"]


def test_artefact_of_a_method_that_cannot_be_restored_stays_kept(run, folder):
    run("--keep-artefacts", method="paste")
    run("--images-per-prompt", 2, method="paste")
    assert sorted(path.name for path in (folder / "artefacts" / "paste").iterdir()) == sorted(SETS)


def test_artefact_restored_by_a_command_that_keeps_is_kept_and_counted_once(run, jobs, interrupt, folder):
    interrupt("bob")
    run("-o", "collage.shared_seconds=0.0001")
    run("-o", "collage.shared_seconds=0.0001", "--keep-artefacts")
    run("-o", "collage.shared_seconds=0.0001", "--images-per-prompt", 2)
    (method,) = (folder / "artefacts").iterdir()
    assert sorted(path.name for path in method.iterdir()) == sorted(SETS[1:])
    bob = [job for job in jobs() if job["set"] == "bob"]
    assert [(job["shared_seconds"], job.get("kept", False)) for job in bob] == [(0.0001, False), (0.0, True)]


def test_kept_artefact_that_cannot_be_restored_stays_kept(run, jobs, folder, plugin, monkeypatch):
    import paste_faces

    run("--keep-artefacts")
    with monkeypatch.context() as patched:
        patched.setattr(paste_faces.Collage, "restore", lambda *_: None)
        run("--images-per-prompt", 2)
    assert jobs()[-1]["status"] == "error"
    assert run("--images-per-prompt", 2).code == 4
    assert sorted(path.name for path in (folder / "artefacts" / "collage").iterdir()) == sorted(SETS)


@pytest.mark.parametrize("options", [(), ("-o", "collage.apart=true")])
def test_nothing_is_left_behind_by_interruptions_once_all_samples_are_there(
    run, interrupt, folder, monkeypatch, options
):
    interrupt("bob+cid")
    assert run(*options).code == 130
    (method,) = (folder / "artefacts").iterdir()
    (method / "cid").mkdir(exist_ok=True)
    assert run(*options).code == 0
    assert not (folder / "artefacts").exists()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fc_bench.generation.recorder.release", killed)
        patched.setattr("fc_bench.generation.recorder.remove_finished", killed)
        for _ in SETS:
            assert run(*options, "--images-per-prompt", 2).code == 130
    assert method.exists()
    assert run(*options, "--images-per-prompt", 2).code == 0
    assert not (folder / "artefacts").exists()


def test_artefacts_that_an_earlier_command_s_plan_still_needs_stay(run, customized, interrupt, folder):
    interrupt("bob")
    run()
    assert run("--limit-subjects", 1).code == 0
    assert [path.name for path in (folder / "artefacts" / "collage").iterdir()] == ["bob"]
    assert run().code == 0
    assert customized == SETS


@pytest.mark.parametrize("options", [(), ("-o", "collage.apart=true")])
def test_failed_samples_are_tried_again_with_the_artefact_that_is_there(
    run, customized, folder, plugin, monkeypatch, options
):
    import paste_faces

    def out_of_memory(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(paste_faces.Paste, "generate", out_of_memory)
        assert run(*options).code == 4
    before = list(customized)
    assert run(*options, "--retry-errors").code == 0
    assert customized == before
    assert not (folder / "artefacts").exists()


def test_a_part_lets_go_of_its_memory_before_the_next_is_customized(run, suite_data, write_suite, plugin, monkeypatch):
    import gc
    import weakref

    import paste_faces

    made: list[weakref.ref[Any]] = []
    original = paste_faces.Collage.customize

    def customize(self, *given: Any) -> Any:
        gc.collect()
        assert all(earlier() is None for earlier in made)
        fitted = original(self, *given)
        made.append(weakref.ref(fitted))
        return fitted

    monkeypatch.setattr(paste_faces.Collage, "customize", customize)
    del suite_data["single"]
    assert run("-o", "collage.apart=true", suite=write_suite(suite_data)).code == 0
    assert len(made) == 3


def test_each_customization_is_shown_while_it_lasts(run, plugin, monkeypatch):
    import paste_faces

    from fc_bench import progress as module

    waiting: list[str] = []
    shown: list[str] = []

    class Timer:
        def __init__(self, seconds: float, say: Callable[[str], None], arguments: list[str]) -> None:
            self._text = arguments[0]

        def start(self) -> None:
            waiting.append(self._text)

        def cancel(self) -> None:
            waiting.remove(self._text)

    original = paste_faces.Collage.customize

    def customize(self, *given: Any) -> Any:
        shown.extend(waiting)
        return original(self, *given)

    monkeypatch.setattr(module.threading, "Timer", Timer)
    monkeypatch.setattr(paste_faces.Collage, "customize", customize)
    done = run()
    assert shown == [f"collage {key}: customizing" for key in SETS]
    assert waiting == []
    assert "customizing" not in done.out


def test_failed_job_is_told_once_with_what_it_costs(run):
    done = run("-o", "collage.fail_subject=bob")
    label = "collage[fail_subject=bob]"
    lines = [line for line in done.out.splitlines() if line.startswith(label) and "diverged" in line]
    assert lines == [
        f"{label} bob: RuntimeError: diverged (costs 3 samples)",
        f"{label} ann+bob: RuntimeError: diverged (costs 1 sample)",
        f"{label} bob+cid: RuntimeError: diverged (costs 1 sample)",
    ]


def test_method_that_cannot_be_loaded_is_told_once_with_what_it_costs(run):
    done = run("-o", "collage.fail_load=true")
    assert done.out.count("no such accelerator") == 1
    assert "collage[fail_load=True]: RuntimeError: no such accelerator (costs 11 samples)" in done.out


def test_failed_sample_is_told_by_itself(run):
    done = run("-o", "collage.fail_prompt=beach")
    assert done.out.count("cannot draw") == 3


class LibraryError(Exception):
    """What a library makes of a full disk."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EROFS, "Read-only file system"),
        LibraryError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
@pytest.mark.parametrize("verb", ["customize", "generate"])
def test_disk_that_takes_no_more_ends_the_run_and_the_same_command_continues(
    run, jobs, records, plugin, folder, monkeypatch, error, verb
):
    import paste_faces

    def full(self, given: Any, *_: object) -> Any:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(paste_faces.Collage, verb, full)
        done = run()
    assert done.code == 2
    assert "make room" in done.err
    assert str(folder) in done.err
    assert records(folder / "samples.jsonl") == []
    assert [job["status"] for job in jobs()] == ([] if verb == "customize" else ["ok"])
    assert run().code == 0


def test_error_for_the_user_about_a_full_disk_ends_the_run_with_its_own_sentence(run, jobs, plugin, monkeypatch):
    import paste_faces

    def customize(*_: object) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise UserError("The cache is full; choose another folder.") from None

    monkeypatch.setattr(paste_faces.Collage, "customize", customize)
    done = run()
    assert (done.code, done.err) == (2, "fc-bench: The cache is full; choose another folder.\n")
    assert jobs() == []


def test_file_that_is_not_there_fails_its_job_alone(run, jobs, plugin, monkeypatch):
    import paste_faces

    def customize(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(paste_faces.Collage, "customize", customize)
    assert run().code == 4
    assert [job["status"] for job in jobs()] == ["error"] * len(SETS)


def test_checkpoint_of_a_part_killed_after_its_record_goes(run, suite_data, write_suite, plugin, folder, monkeypatch):
    from fc_bench.generation import customizer as customizing

    original, suite = customizing._remove, write_suite({k: v for k, v in suite_data.items() if k != "single"})

    def killed(path: Path) -> None:
        if path.parent.parent.name == "checkpoints":
            raise KeyboardInterrupt
        original(path)

    options = ("-o", "collage.apart=true", "--checkpoint-every", 20)
    with monkeypatch.context() as patched:
        patched.setattr(customizing, "_remove", killed)
        assert run(*options, suite=suite).code == 130
    (method,) = (folder / "checkpoints").iterdir()
    assert [path.name for path in method.iterdir()] == ["ann"]
    assert run(*options, suite=suite).code == 0
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(("given", "missing"), [("restore", "tunes_apart"), ("tunes_apart", "restore")])
def test_method_that_is_half_restorable_is_refused(run, plugin, monkeypatch, given, missing):
    import paste_faces

    monkeypatch.setattr(paste_faces.Paste, given, False, raising=False)
    done = run(method="paste")
    assert done.code == 2
    assert f'The method "paste" has `{given}` but no `{missing}`' in done.err


def test_artefact_that_cannot_be_restored_fails_its_job_and_is_made_again_on_request(
    run, jobs, interrupt, plugin, monkeypatch
):
    import paste_faces

    interrupt("bob")
    run()
    with monkeypatch.context() as patched:
        patched.setattr(paste_faces.Collage, "restore", lambda *_: None)
        assert run().code == 4
    failed = jobs()[2]
    assert (failed["set"], failed["status"]) == ("bob", "error")
    assert "instead of a Customization" in failed["error"]["message"]
    assert run("--retry-errors").code == 0
    assert (jobs()[-1]["set"], jobs()[-1]["status"]) == ("bob", "ok")


def test_subjects_tuned_apart_are_customized_once_and_loaded_together(run, jobs, customized, folder, tmp_path):
    assert run("-o", "collage.apart=true").code == 0
    assert customized == ["ann", "bob", "cid"]
    by_set = {job["set"]: job for job in jobs()}
    assert list(by_set) == SETS
    pair, parts = by_set["ann+bob"], [by_set["ann"], by_set["bob"]]
    assert pair["parts"] == ["ann", "bob"]
    assert "parts" not in parts[0]
    assert pair["seconds"] > sum(part["seconds"] for part in parts)
    assert pair["peak_memory_bytes"] >= max(part["peak_memory_bytes"] for part in parts)
    assert (pair["steps"], pair["seconds_per_step"]) == (6, 0.25)
    assert pair["artefact_bytes"] == sum(part["artefact_bytes"] for part in parts)
    assert not (folder / "artefacts").exists()
    run(out=tmp_path / "joint")
    assert pixels(folder) == pixels(tmp_path / "joint")


def test_part_of_a_set_is_customized_as_the_subject_alone_is(run, jobs, suite_data, write_suite, records, tmp_path):
    run("-o", "collage.apart=true")
    del suite_data["single"]
    run("-o", "collage.apart=true", suite=write_suite(suite_data), out=tmp_path / "pairs")
    pairs = {job["set"]: job for job in records(tmp_path / "pairs" / "jobs.jsonl")}
    assert list(pairs) == ["ann", "bob", "ann+bob", "cid", "bob+cid"]
    for job in jobs():
        assert (job["details"], job["artefact_sha256"]) == (
            pairs[job["set"]]["details"],
            pairs[job["set"]]["artefact_sha256"],
        )


@pytest.mark.parametrize("key", ["cid", "ann+bob", "bob+cid"])
def test_parts_are_shared_over_an_interruption(run, jobs, customized, interrupt, folder, key):
    interrupt(key)
    assert run("-o", "collage.apart=true").code == 130
    assert run("-o", "collage.apart=true").code == 0
    assert customized == ["ann", "bob", "cid"]
    assert [job["set"] for job in jobs()] == SETS


def test_failing_part_fails_only_its_sets_and_is_not_tried_twice(run, jobs, customized, records, folder):
    assert run("-o", "collage.apart=true", "-o", "collage.fail_subject=bob").code == 4
    assert customized == ["ann", "bob", "cid"]
    assert {job["set"]: job["status"] for job in jobs()} == {key: "error" if "bob" in key else "ok" for key in SETS}
    samples = records(folder / "samples.jsonl")
    messages = {sample["error"]["message"] for sample in samples if "bob" in sample["subjects"]}
    assert messages == {"RuntimeError: diverged"}
    assert all(sample["status"] == "ok" for sample in samples if "bob" not in sample["subjects"])
    text = (folder / "report" / "table.md").read_text()
    label = "collage[apart=True,fail_subject=bob]"
    assert f"| {label} | 6 / 9 |" in text
    assert f"| {label}¹ | 0 / 2 |" in text
    assert f"| {label} | 1 | 2 / 3 |" in text
    assert f"| {label}¹ | 2 | 0 / 2 |" in text


def test_checkpoints_survive_failures_and_go_when_the_customization_is_finished(run, plugin, folder, monkeypatch):
    import paste_faces

    original = paste_faces.Collage.customize
    place = folder / "checkpoints" / "collage"
    found: dict[str, list[str]] = {}

    def customize(self, subjects: Sequence[Any], seed: int, artefact_folder: Path, checkpoints: Any) -> Any:
        key = "+".join(subject.id for subject in subjects)
        assert (checkpoints.folder, checkpoints.every) == (place / key, 20)
        found[key] = [file.name for file in checkpoints.folder.iterdir()]
        (checkpoints.folder / "step-20").touch()
        if key == "bob" and not found[key]:
            raise RuntimeError("out of memory")
        if key == "ann+bob" and not found[key]:
            raise KeyboardInterrupt
        return original(self, subjects, seed, artefact_folder, checkpoints)

    monkeypatch.setattr(paste_faces.Collage, "customize", customize)
    assert run("--checkpoint-every", 20).code == 130
    assert sorted(path.name for path in place.iterdir()) == ["ann+bob", "bob"]
    assert found == {"ann": [], "bob": [], "cid": [], "ann+bob": []}
    assert run("--checkpoint-every", 20, "--retry-errors").code == 0
    assert found == {"ann": [], "bob": ["step-20"], "cid": [], "ann+bob": ["step-20"], "bob+cid": []}
    assert not (folder / "checkpoints").exists()


def test_without_the_option_no_checkpoints_are_asked_for(run, plugin, folder, monkeypatch):
    import paste_faces

    asked = []
    original = paste_faces.Collage.customize

    def customize(self, subjects: Sequence[Any], seed: int, artefact_folder: Path, checkpoints: Any) -> Any:
        asked.append(checkpoints)
        return original(self, subjects, seed, artefact_folder, checkpoints)

    monkeypatch.setattr(paste_faces.Collage, "customize", customize)
    assert run().code == 0
    assert asked == [None] * len(SETS)
    assert not (folder / "checkpoints").exists()


def test_what_a_class_shares_is_recorded_beside_the_job_s_own_seconds(run, jobs, folder, monkeypatch):
    clock = itertools.count(0, 10)
    monkeypatch.setattr("fc_bench.generation.customizer.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    done = run("-o", "collage.shared_seconds=4")
    assert done.code == 0, done.err
    assert [(job["seconds"], job["shared_seconds"]) for job in jobs()] == [(6.0, 4.0)] * len(SETS)
    assert "collage[shared_seconds=4.0] spent 20.0 s in this run on what all subjects of a class share" in done.out


def test_seconds_before_an_interruption_count_as_the_job_s(run, jobs, plugin, monkeypatch):
    from dataclasses import replace

    import paste_faces

    clock = itertools.count(0, 10)
    monkeypatch.setattr("fc_bench.generation.customizer.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    original = paste_faces.Collage.customize
    monkeypatch.setattr(paste_faces.Collage, "customize", lambda *given: replace(original(*given), earlier_seconds=7.0))
    assert run("--limit-subjects", 1).code == 0
    assert [job["seconds"] for job in jobs()] == [17.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"earlier_seconds": -1.0}, "-1.0 earlier seconds"),
        ({"shared_seconds": 1e6}, "1000000.0 shared seconds of"),
        ({"seconds_per_step": "fast"}, "'fast' as its seconds per step"),
        ({"seconds_per_step": float("nan")}, "seconds_per_step is nan: give finite numbers"),
        ({"earlier_seconds": float("inf")}, "earlier_seconds is inf: give finite numbers"),
        ({"shared_seconds": None}, "None as its shared seconds"),
        ({"steps": 2.5}, "2.5 as its number of steps"),
        ({"artefact": None}, "must use the artefact folder"),
        ({"details": {"loss": float("inf")}}, "details.loss is inf: give finite numbers"),
        ({"details": {"losses": [{"last": float("nan")}]}}, "details.losses.0.last is nan: give finite numbers"),
        ({"details": {"loss": np.float32(1)}}, "details.loss is a float32: give numbers"),
        ({"details": {1: "one"}}, "details has the key 1"),
    ],
)
def test_customization_that_tells_nonsense_fails_its_job(run, jobs, plugin, monkeypatch, change, message):
    from dataclasses import replace

    import paste_faces

    original = paste_faces.Collage.customize
    monkeypatch.setattr(paste_faces.Collage, "customize", lambda *given: replace(original(*given), **change))
    assert run("--limit-subjects", 1).code == 4
    (job,) = jobs()
    assert message in job["error"]["message"]


@pytest.mark.parametrize("kind", [UserError, ModelInputError])
def test_error_meant_for_the_user_is_recorded_and_printed_as_its_sentence(
    run, jobs, records, plugin, folder, monkeypatch, kind
):
    import paste_faces

    def customize(*_: object) -> None:
        raise kind("The subject has one photograph, five are needed;\nadd some.")

    monkeypatch.setattr(paste_faces.Collage, "customize", customize)
    done = run("--limit-subjects", 1)
    sentence = "The subject has one photograph, five are needed; add some."
    assert jobs()[0]["error"]["message"] == sentence
    assert jobs()[0]["error"]["type"] == kind.__name__
    assert {sample["error"]["message"] for sample in records(folder / "samples.jsonl")} == {sentence}
    assert f"collage ann: {sentence} (costs 3 samples)" in done.out


def test_remark_of_a_method_stands_as_a_footnote_at_its_rows(run, fc_bench, folder):
    done = run()
    note = "¹ Two people are pasted side by side."
    assert "remarks" in json.loads((folder / "run.json").read_text())
    text = (folder / "report" / "table.md").read_text()
    for shown in (done.out, fc_bench("report", folder).out, text):
        assert shown.count(note) == 1
        assert "collage¹" in shown
    assert "| collage | 9 / 9 |" in text
    assert "| collage¹ | 2 / 2 |" in text
    assert "¹" not in (folder / "report" / "table.csv").read_text()
    assert "¹" not in (folder / "report" / "results.csv").read_text()


def test_remarks_of_earlier_commands_stay(run, folder):
    run()
    run(method="paste")
    text = (folder / "report" / "table.md").read_text()
    assert "| collage¹ | 2 / 2 |" in text
    assert "| paste | 2 / 2 |" in text


@pytest.mark.parametrize(
    ("mib", "shown"),
    [(0.0, "0"), (3 / 1024, "0.00293"), (0.5, "0.500"), (1.0, "1.00"), (12.34, "12.3"), (3280.4, "3280")],
)
def test_what_is_kept_is_shown_with_three_significant_digits_whatever_its_size(mib, shown):
    from fc_bench.analysis.aggregate import COST_COLUMNS
    from fc_bench.reports.quality.contents import Contents

    cells = {"n_ok": 1, "n_total": 1, "low": None, "high": None}
    who = {"label": "m", "kind": "method", "subjects": 1, "category": "all"}
    rows = [
        {**who, **cells, "column": column.name, "mean": mib if column.name == "artefact_mib" else None}
        for column in COST_COLUMNS
    ]
    table = Contents(rows, []).cost()
    titles = [heading.text for heading in table.header]
    assert dict(zip(titles, table.texts()[0], strict=True))["MiB kept"] == shown


def test_cost_table_shows_steps_and_seconds_per_step(run, folder):
    run()
    run(method="text-only")
    with (folder / "report" / "table.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "Cost"]
    shown = {(row["method"], row["subjects"]): (row["n"], row["steps"], row["s per step"]) for row in rows}
    assert shown["collage", "1"] == ("3 / 3", "3", "0.250")
    assert shown["collage", "2"] == ("2 / 2", "3", "0.500")
    assert shown["text-only", "1"] == ("2 / 2", "0", "–")
