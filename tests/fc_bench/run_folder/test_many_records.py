"""Runs of many samples: planned without holding them, resumed by set difference, read a record at a time."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fc_bench.analysis.aggregate import sample_rows
from fc_bench.analysis.measurements import read_measurements
from fc_bench.errors import UserError
from fc_bench.generation.plan import make_plan, resolve_method
from fc_bench.generation.recorder import pending_ids
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler, Setting, fill, seed_of
from fc_bench.run_folder.records import PLAN, RUN, SAMPLES, SCORES, RunFolder, write_lines
from fc_bench.scoring.score import PendingScores
from fc_bench.suites.suite import digest, digests_of_each, read_suite

COLUMNS = {"identity": ("identity", "detected"), "prompt-consistency": ("prompt_consistency",)}
METRICS: dict[str, Any] = dict.fromkeys(COLUMNS)
REFERENCE = Path(__file__).parents[3] / "reports" / "reference" / "pocket" / RUN
BYTES = 1000
"""Of memory per sample: a million stay well below 1 GiB."""


@pytest.fixture
def planned(tiny_backbone, suite):
    """The plan of the trio for two methods that need no weights of their own, with so many images of each prompt."""
    setting = Setting(read_backbone(str(tiny_backbone)), Sampler("ddim", 2, 2.0, 64), "cpu", "float32")
    rows = [resolve_method(name, {}, setting) for name in ("text-only", "fastcomposer")]
    return lambda images: make_plan(read_suite(suite), setting, rows, images_per_prompt=images)


@pytest.fixture
def recorded(planned, tmp_path):
    """A folder with 1100 planned samples: some failed, tried twice or missing, some scores failed or missing."""
    draw = random.Random(1)
    plan = [sample.record() for sample in planned(50).samples()]
    samples, scores = [], []
    for sample in plan:
        for status in draw.choice([("ok",), ("ok",), ("ok",), ("error",), ("error", "ok"), ()]):
            cost = {"image": f"images/{sample['shared_key']}.png", "seconds": draw.random(), "peak_memory_bytes": 7}
            samples.append({**sample, "status": status, **(cost if status == "ok" else {})})
        for metric, columns in COLUMNS.items():
            for status in draw.choice([("ok",), ("ok",), ("error",), ("error", "ok"), ()]):
                score = {"sample": sample["id"], "metric": metric, "status": status}
                values = {name: draw.choice([draw.random(), None]) for name in columns}
                scores.append({**score, **({"values": values, "details": {}} if status == "ok" else {})})
    ceiling = {"metric": "identity", "sample": "anchor:ceiling:ann:1", "subjects": ["ann"], "row": "ceiling"}
    scores.append({**ceiling, "status": "ok", "values": {"identity": 0.9}})
    folder = tmp_path / "run"
    write_lines(folder / PLAN, plan)
    write_lines(folder / SAMPLES, samples)
    write_lines(folder / SCORES, scores)
    columns = {
        metric: [{"name": name, "title": name, "higher_is_better": True, "description": ""} for name in names]
        for metric, names in COLUMNS.items()
    }
    settings = json.loads(REFERENCE.read_text())
    settings["suite"]["subjects"] = [{"id": name, "noun": "man", "photographs": None} for name in ("ann", "bob", "cid")]
    (folder / RUN).write_text(json.dumps({**settings, "columns": columns}))
    return RunFolder(folder)


def lines(file: Path):
    return [json.loads(line) for line in file.read_text().splitlines()]


def peak(work) -> int:
    """Bytes of memory that the work needs at most."""
    work()
    tracemalloc.start()
    try:
        result = work()
        del result
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_sample_is_named_by_the_hash_of_what_decides_it(planned, suite):
    asked = read_suite(suite)
    digests = asked.photograph_digests()
    for job in planned(2).jobs:
        people = job.subject_set.subjects
        who = [[person.id, person.noun, digests[person.id]] for person in people]
        row = {"method": [job.row.name, job.row.options], "weights": job.row.weights}
        settled = {"sampler": {"scheduler": "ddim", "steps": 2, "guidance_scale": 2.0, "resolution": 64}}
        shared = digest({"suite": ["trio", "1"], "dtype": "float32", **settled, **row})
        for sample in job.samples:
            seed = seed_of(7, sample.template, sample.index)
            text = fill(sample.template, [person.noun for person in people])
            shown = [] if job.row.name == "text-only" else who
            assert sample.seed == seed
            assert sample.prompt == text
            assert sample.id == digest([shared, who, sample.template, seed])[:20]
            assert sample.shared_key == digest([shared, shown, text, seed])[:20]


def test_hashes_with_a_common_beginning_are_those_of_the_whole():
    parts = ["é\n", [["ann", 1]], {"b": None, "a": 2.5}]
    assert list(digests_of_each(parts, [0, 7, 2**63])) == [digest([*parts, number]) for number in (0, 7, 2**63)]


def test_plan_holds_none_of_its_samples(planned):
    assert planned(10_000).size == 2 * 11 * 10_000
    assert peak(lambda: planned(10_000)) < 10 * 2 * 11 * 10_000


def test_what_is_pending_is_what_is_planned_without_what_is_recorded(planned, recorded):
    last = {record["id"]: record["status"] for record in lines(recorded.path / SAMPLES)}
    assert recorded.statuses() == last
    plan = planned(50)
    every = {name for job in plan.jobs for name in job.ids}
    pending = set().union(*(pending_ids(job, last) for job in plan.jobs))
    again = set().union(*(pending_ids(job, last, retry_errors=True) for job in plan.jobs))
    assert pending == every - last.keys()
    assert again == pending | {name for name, status in last.items() if status == "error"}
    assert 0 < len(pending) < len(again) < len(every)


@pytest.mark.parametrize("retry_errors", [False, True])
def test_pending_scores_are_those_of_finished_samples_without_what_is_scored(recorded, retry_errors):
    finished = {name for name, status in recorded.statuses().items() if status == "ok"}
    scored = {key for key, record in recorded.scores().items() if record["status"] == "ok" or not retry_errors}
    found = PendingScores(recorded, METRICS, retry_errors)
    pending = [(record["id"], name) for record, names in found for name in names]
    assert len(set(pending)) == len(pending)
    assert set(pending) == {(name, metric) for name in finished for metric in METRICS} - scored
    assert len(found) == len({name for name, _ in pending})
    assert all(record["status"] == "ok" and "image" in record for record, _ in found)
    assert found.anchors == {("anchor:ceiling:ann:1", "identity")}


def test_table_has_the_last_record_of_everything_planned(recorded):
    samples, scores = recorded.samples(), recorded.scores()
    rows = sample_rows(recorded)
    assert [row["sample"] for row in rows] == list(recorded.planned())
    for row in rows:
        record = samples.get(row["sample"], {"status": "missing"})
        planned = recorded.planned()[row["sample"]] if record["status"] == "missing" else record
        assert row["set"] == "+".join(planned["subjects"])
        assert all(row[key] == planned[key] for key in ("method", "category", "template", "prompt", "index", "seed"))
        for key in ("status", "image", "seconds", "peak_memory_bytes", "same_image_as"):
            assert row[key] == record.get(key)
        for metric, columns in COLUMNS.items():
            score = scores.get((row["sample"], metric), {}) if record["status"] == "ok" else {}
            assert {name: row[name] for name in columns} == {
                name: score.get("values", {}).get(name) for name in columns
            }
    assert {type(row["seed"]) for row in rows} == {int}
    assert {row["status"] for row in rows} == {"ok", "error", "missing"}


@pytest.mark.parametrize("name", [PLAN, SAMPLES, SCORES])
def test_damaged_line_among_many_is_named(recorded, name):
    file = recorded.path / name
    content = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*content[:700], b'{"id": "half a rec\n', *content[700:]]))
    with pytest.raises(UserError, match=rf"{name}:701: this line is not a record"):
        read_measurements(recorded)


def test_unfinished_last_line_counts_for_nothing(recorded):
    before = read_measurements(recorded).rows()
    pending = len(PendingScores(recorded, METRICS))
    for name in (PLAN, SAMPLES, SCORES):
        with (recorded.path / name).open("ab") as file:
            file.write(b'{"id": "half a rec')
    assert read_measurements(recorded).rows() == before
    assert len(PendingScores(recorded, METRICS)) == pending


@pytest.mark.parametrize("work", [read_measurements, lambda folder: PendingScores(folder, METRICS), RunFolder.statuses])
def test_reading_a_run_takes_less_than_a_kilobyte_a_sample(recorded, work):
    taken = peak(lambda: work(recorded)) / len(lines(recorded.path / PLAN))
    assert taken < BYTES
    # The records themselves take more.
    assert peak(lambda: (recorded.samples(), recorded.scores())) / len(lines(recorded.path / PLAN)) > BYTES


def test_values_of_a_set_stand_in_the_plan_s_order(recorded):
    from fc_bench.analysis.aggregate import values_by_set

    samples = read_measurements(recorded).samples
    expected: dict[str, list[float]] = {}
    for row in sample_rows(recorded):
        if row["identity"] is not None:
            expected.setdefault(row["set"], []).append(row["identity"])
    found = values_by_set(samples, "identity")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], values) for name, values in expected.items())
