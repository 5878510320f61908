"""Records of real runs damaged in their keys and types, read by what reads them: a result or one sentence.

A few dozen cases each by default; with `FC_BENCH_FUZZ_CASES` as many as that for what reads records, 200 for
what makes a report of them.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from fc_bench.analysis.comparison import compare
from fc_bench.analysis.gate import Gate
from fc_bench.errors import UserError
from fc_bench.run_folder.json_lines import read_lines, records_at, stream_blocks
from fc_bench.run_folder.record_shapes import KINDS
from fc_bench.run_folder.records import JOBS, PLAN, RUN, SAMPLES, SCORES, RunFolder

CASES = int(os.environ.get("FC_BENCH_FUZZ_CASES", "40"))
REFERENCE = Path(__file__).parents[2] / "reports" / "reference" / "pocket"
METHODS, SETS = ("text-only", "dreambooth"), ("p01", "p02", "p01+p02")
FILES = (RUN, PLAN, SAMPLES, JOBS, SCORES)

fuzzed = settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
whole_reports = settings(fuzzed, max_examples=min(CASES, 200))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.sampled_from(["", "ok", "error", "p01", "p01+p02", "../../x", "/etc/passwd", "a\0b", "\ud800", "\u202e",
                       "x" * 300, -1, 2**31, 2**63, 2**70, 1e300, "all", "identity", "ceiling",
                       "anchor:ceiling:p01:0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "id", "x"]), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip


def report(folder: Path, _: Path) -> None:
    """Tables and page."""
    from fc_bench.reports.report import read, write_report, write_report_page

    runs = read([folder])
    write_report_page(runs, write_report(runs, families=()))


def drawn(folder: Path, _: Path) -> None:
    """What figures show, without drawing it."""
    from fc_bench.reports.figures.amortised import recorded_costs
    from fc_bench.reports.figures.attention import _chosen, read_maps
    from fc_bench.reports.figures.breakdown import subject_means
    from fc_bench.reports.figures.grid import shown_of
    from fc_bench.reports.figures.material import Choice, Material
    from fc_bench.reports.figures.mixing import mixing_of
    from fc_bench.reports.figures.sweep import sweeps_of
    from fc_bench.reports.frame import read_runs

    material = Material(read_runs([folder]))
    for subjects in material.sizes:
        mixing_of(material, subjects)
        recorded_costs(material, subjects)
        subject_means(material.samples, subjects, "identity")
    shown_of(material.samples, Choice())
    sweeps_of(material)
    for row in _chosen(material):
        read_maps(material, row)


def compared(folder: Path, whole: Path) -> None:
    """As base and as new."""
    from fc_bench.reports.comparison import comparison_markdown

    told = None
    for base, new in ((whole, folder), (folder, whole)):
        try:
            comparison_markdown(compare(RunFolder(base), RunFolder(new), Gate()), "base", "new")
        except UserError as error:
            told = error
    if told is not None:
        raise told


def shown(folder: Path, _: Path) -> None:
    """One sample on the terminal."""
    from fc_bench.reports.one_sample import print_sample
    from fc_bench.reports.samples import find_sample

    run = RunFolder(folder)
    name = json.loads((REFERENCE / PLAN).read_text().splitlines()[0])["id"]
    print_sample(run, run.settings(), find_sample(run, name), Console(file=io.StringIO()))


def resumed(folder: Path, _: Path) -> None:
    """What running and scoring again read before they do anything."""
    from fc_bench.generation.customizer import remove_finished
    from fc_bench.generation.plan import MethodRow
    from fc_bench.scoring.score import PendingScores, Siblings

    run = RunFolder(folder)
    run.settings()
    run.statuses()
    Siblings(run)
    pending: Any = PendingScores(run, dict.fromkeys(("identity", "prompt-consistency")), retry_errors=True)  # type: ignore[arg-type]
    assert len(list(pending)) == len(pending)
    remove_finished(run, MethodRow("dreambooth", "dreambooth", {}, {}), [])


def measured(folder: Path, _: Path) -> None:
    """What tables, page and comparisons share: every record, and what is read of single ones again."""
    from fc_bench.analysis.aggregate import columns_of, shared_seconds
    from fc_bench.analysis.measurements import read_measurements
    from fc_bench.reports.samples import sample_views

    run = RunFolder(folder)
    columns_of(run)
    found = read_measurements(run)
    found.rows()
    list(sample_views(found))
    run.jobs()
    shared_seconds(run)


READERS: dict[str, Callable[[Path, Path], None]] = {reader.__name__: reader for reader in (resumed, measured)}
REPORTS: dict[str, Callable[[Path, Path], None]] = {
    reader.__name__: reader for reader in (report, drawn, compared, shown)
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the reference run, too small for intervals, with a failed sample and a failed score."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    folder.mkdir()
    content = json.loads((REFERENCE / RUN).read_text())
    content["methods"] = {name: row for name, row in content["methods"].items() if name in METHODS}
    content["remarks"] = [remark for remark in content["remarks"] if remark["method"] in METHODS]
    (folder / RUN).write_text(json.dumps(content))
    kept: dict[str, int] = {}
    for name in FILES[1:]:
        lines = []
        for record in map(json.loads, (REFERENCE / name).read_text().splitlines()):
            key = record.get("set") or "+".join(record.get("subjects") or [])
            if "method" in record and (record["method"] not in METHODS or key not in SETS):
                continue
            if "metric" in record and record["sample"] not in kept and key not in SETS:
                continue
            number = kept.setdefault(record.get("id", ""), len(kept))
            if name == SAMPLES and number == 3:
                record |= {"status": "error", "error": {"type": "E", "message": "m", "traceback": "t"}}
            if name == SCORES and len(lines) == 4:
                record = {"sample": record["sample"], "metric": record["metric"], "status": "error", "error": "t"}
            lines.append(json.dumps(record))
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def places(data: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything in nested data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def damaged(record: Any, path: tuple, value: Any, gone: bool) -> Any:
    """The record with something else in a place, or nothing."""
    if not path:
        return value
    record = copy.deepcopy(record)
    inside = record
    for key in path[:-1]:
        inside = inside[key]
    if gone:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return record


def read_damaged(data: st.DataObject, folder: Path, name: str) -> bool:
    """Damage one record of a file in one place; whether there still is another record than before."""
    lines = (folder / name).read_text().splitlines() if name != RUN else [(folder / name).read_text()]
    number = data.draw(st.integers(0, len(lines) - 1), "line")
    record = json.loads(lines[number])
    path = data.draw(st.sampled_from(places(record)[1:]), "place")
    changed = damaged(record, path, data.draw(values, "value"), data.draw(st.booleans(), "gone"))
    lines[number] = json.dumps(changed)
    (folder / name).write_text("\n".join(lines) + "\n")
    return changed != record


def damaged_run(data: st.DataObject, whole: Path, folder: Path) -> Path:
    """A copy of a run with one record damaged."""
    shutil.rmtree(folder / "report", ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copyfile(whole / name, folder / name)
    read_damaged(data, folder, data.draw(st.sampled_from(FILES), "file"))
    return folder


@pytest.mark.parametrize("reader", READERS)
@fuzzed
@given(data=st.data())
def test_record_with_anything_in_any_place_is_read_or_refused_by_file_and_line(reader, data, whole, tmp_path, outcomes):
    folder = damaged_run(data, whole, tmp_path / "run")
    with outcomes.told(str(folder)):
        READERS[reader](folder, whole)


@pytest.mark.parametrize("reader", REPORTS)
@whole_reports
@given(data=st.data())
def test_run_with_anything_in_any_place_is_reported_or_refused_by_file(reader, data, whole, tmp_path, outcomes):
    folder = damaged_run(data, whole, tmp_path / "run")
    with outcomes.told(str(folder)):
        REPORTS[reader](folder, whole)


@fuzzed
@given(
    name=st.sampled_from([PLAN, SAMPLES, JOBS, SCORES]),
    place=st.integers(0, 2**31),
    bytes_instead=st.binary(max_size=8) | st.sampled_from([b"\n", b"} {", b"NaN", b"1e999", b"\xff", rb"\ud800"]),
    removed=st.integers(0, 300),
)
def test_lines_with_damaged_bytes_are_the_same_to_all_readers(
    name, place, bytes_instead, removed, whole, tmp_path, outcomes
):
    content = (whole / name).read_bytes()
    start = place % len(content)
    file = tmp_path / name
    file.write_bytes(content[:start] + bytes_instead + content[start + removed :])
    with outcomes.told(f"{file}:"):
        try:
            singly = read_lines(file)
        except UserError as error:
            # Readers of blocks look at no number in a field that they do not read, however large.
            too_large = re.search(rb"\d[eE]\+?\d{3,}", file.read_bytes())
            with suppress(UserError) if too_large else pytest.raises(UserError, match=re.escape(str(error))):
                list(stream_blocks(file, KINDS[name]))
            raise
        blocks = list(stream_blocks(file, KINDS[name]))
        places = [start for starts, _ in blocks for start in starts]
        assert list(records_at(file, places)) == singly
        assert [one for _, own in blocks for one in own] == [msgspec.convert(one, KINDS[name]) for one in singly]


COST = {
    "format": 1, "kind": "cost", "backbone": "pocket", "random_weights": False, "batch": 1, "device": "cpu",
    "sampler": {"scheduler": "dpm", "steps": 25, "guidance_scale": 3.0, "resolution": 128}, "dtype": "float32",
    "machine": {"processor": "some", "cores": 2, "torch_threads": 2, "accelerators": []}, "numerics": {},
    "libraries": {"python": "3.11.7", "torch": "2.13.0"}, "provider": {"virtual_machine": True},
    "subject": {"id": "p01", "noun": "man", "photographs": 5, "template": "a photo of a {subject} in the snow"},
    "methods": {
        "custom-diffusion": {"name": "custom-diffusion", "options": {"steps": 60}, "weights": {}, "personalizes": True,
                             "shared_weights_bytes": 7},
        "text-only": {"name": "text-only", "options": {}, "weights": {}, "personalizes": False,
                      "shared_weights_bytes": 7},
    },
    "commands": [{"command": "fc-bench cost", "started": "2026-11-25T00:02:30+00:00", "budget_seconds": 240.0,
                  "code": {"commit": None, "dirty": None}, "versions": {"fc-bench": "0.1.0", "torch": "2.13.0"}}],
}  # fmt: skip
MEMORY = {"allocated_bytes": None, "reserved_bytes": None, "device_bytes": None, "rss_bytes": 498708480}
QUIET = {
    "seconds": 10.9, "cores": 2, "load_average_before": 7.2, "own_cpu_seconds": 14.9, "others_cpu_seconds": 6.9,
    "steal_seconds": 0.0, "throttled_periods": 0, "cpu_mhz": [2599.9, 2599.9], "device_mhz": [None, None],
    "device_throttle_reasons": None, "device_other_processes": None, "energy_joules": None,
}  # fmt: skip
MEASURED = {
    "budget_seconds": 240.0, "allowance_seconds": 16.4, "status": "ok", "startup_seconds": 4.7, "memory": MEMORY,
    "load": {"seconds": 0.17, "memory": MEMORY}, "restore": None, "warm_ups": 0, "surroundings": QUIET,
    "options_changed": {}, "steps_asked": 25,
}  # fmt: skip
DRAWN = {"calls": [{"seconds": 0.29, "steps": 4, "step_seconds": [0.04, 0.05, 0.05]}]}
MEASUREMENTS = [
    {"method": "custom-diffusion", "phase": "customize", **MEASURED, "steps_asked": 60, "step_period": 1,
     "class_images": {"used": 4, "asked": 16}, "artefact": {"bytes": 987000, "files": 2, "dtypes": ["F32"]},
     "calls": [{"seconds": 0.99, "shared_seconds": 0.1, "steps": 4, "step_seconds": [0.12, 0.16, 0.11],
                "seconds_per_step": 0.18}]},
    {"method": "custom-diffusion", "phase": "step", **MEASURED, **DRAWN},
    {"method": "text-only", "phase": "step", **MEASURED, **DRAWN},
    {"method": "text-only", "phase": "first_image", **MEASURED,
     "calls": [{"seconds": 1.9, "steps": 25, "step_seconds": []}]},
    {"method": "text-only", "phase": "image", **MEASURED, "calls": [{"seconds": 1.2, "steps": 25, "step_seconds": []}]},
    {"method": "custom-diffusion", "phase": "image", "budget_seconds": 240.0, "allowance_seconds": 1.0,
     "status": "not measured", "calls": [], "error": {"type": "Budget", "message": "no room", "traceback": ""}},
]  # fmt: skip


@whole_reports
@given(data=st.data())
def test_cost_run_with_anything_in_any_place_is_read_or_refused(data, tmp_path, outcomes):
    from fc_bench.cost.measurement import pending
    from fc_bench.cost.records import measurements
    from fc_bench.cost.results import describe_measurement
    from fc_bench.reports.cost.output import CostTables, write_cost_tables
    from fc_bench.reports.cost.run import CostRun

    folder = tmp_path / "cost"
    folder.mkdir(exist_ok=True)
    (folder / RUN).write_text(json.dumps(COST))
    (folder / "measurements.jsonl").write_text("".join(json.dumps(record) + "\n" for record in MEASUREMENTS))
    read_damaged(data, folder, data.draw(st.sampled_from([RUN, "measurements.jsonl"]), "file"))
    run = RunFolder(folder)
    with outcomes.told(str(folder)):
        tables = CostTables(CostRun(run, "cost"))
        write_cost_tables(tables, folder / "report")
        tables.show(Console(file=io.StringIO()))
        found = measurements(run)
        pending({"custom-diffusion": {"personalizes": True}}, found, 300.0, retry_errors=True)
        for record in found.values():
            describe_measurement(record)


def test_undamaged_records_are_read_by_all(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for reader in (*READERS.values(), *REPORTS.values()):
        reader(folder, whole)
