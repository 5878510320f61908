"""A manifest may report what its images took: recorded as in runs, shown by tables, never taken for measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

TEMPLATES = ("a photo of a {subject} in the snow", "a photo of a {subject} on the beach", "a sketch of a {subject}")


@pytest.fixture
def scored(fc_bench, suite_data, write_suite, tiny_backbone, portrait, people, tmp_path):
    """Scores nine images of a manifest; `change` maps a row's number to further columns."""
    suite_data.pop("multi")
    suite = write_suite(suite_data)
    images = tmp_path / "images"
    images.mkdir()

    def invoke(change, out: str = "scored"):
        rows = []
        for person, (_, color) in people.items():
            for number, template in enumerate(TEMPLATES):
                name = f"{person}-{number}.png"
                portrait(color, shade=number).save(images / name)
                rows.append({"image": name, "subjects": person, "prompt": template, **change(len(rows))})
        with (tmp_path / "list.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        common = ("--suite", suite, "--backbone", tiny_backbone, "-m", "theirs", "--out", tmp_path / out)
        return fc_bench("score", images, "--manifest", tmp_path / "list.csv", *common)

    return invoke


def costs(number: int) -> dict[str, object]:
    return {
        "seconds": 1 + number,
        "memory": 2**30 * (1 + number),
        "customization_seconds": 60 if number % 3 == 0 else "",
        "storage_bytes": 3 * 2**20,
    }


def test_reported_costs_are_in_the_records_and_the_cost_table(scored, records, fc_bench, tmp_path):
    done = scored(costs)
    assert done.code == 0, done.err
    samples = records(tmp_path / "scored" / "samples.jsonl")
    assert [(one["seconds"], one["peak_memory_bytes"]) for one in samples] == [
        (1.0 + number, 2**30 * (1 + number)) for number in range(9)
    ]
    jobs = records(tmp_path / "scored" / "jobs.jsonl")
    assert [(one["set"], one["seconds"], one["artefact_bytes"], one["reported"]) for one in jobs] == [
        (name, 60.0, 3 * 2**20, True) for name in ("ann", "bob", "cid")
    ]
    table = (tmp_path / "scored" / "report" / "table.md").read_text()
    row = next(line for line in table.split("## Cost\n")[1].splitlines() if line.startswith("| theirs"))
    cells = [cell.strip().strip("*") for cell in row.split("|")]
    assert {"3 / 3", "5.00", "60.00", "9.00", "3.00"} <= set(cells), row
    assert "of theirs are as reported by the manifest; fc-bench did not measure them." in table


def test_part_of_the_costs_is_enough(scored, records, tmp_path):
    assert scored(lambda number: {"storage_bytes": 5 * 2**20}).code == 0
    jobs = records(tmp_path / "scored" / "jobs.jsonl")
    assert {(one["seconds"], one["artefact_bytes"]) for one in jobs} == {(None, 5 * 2**20)}
    table = (tmp_path / "scored" / "report" / "table.md").read_text()
    assert "5.00" in table
    assert "as reported by the manifest" in table


def test_numbers_added_later_replace_what_was_not_reported(scored, records, tmp_path):
    assert scored(lambda number: {}).code == 0
    before = (tmp_path / "scored" / "scores.jsonl").read_bytes()
    assert scored(costs).code == 0
    last = {one["id"]: one for one in records(tmp_path / "scored" / "samples.jsonl")}
    assert sorted(one["seconds"] for one in last.values()) == [1.0 + number for number in range(9)]
    assert (tmp_path / "scored" / "scores.jsonl").read_bytes() == before
    lines = len((tmp_path / "scored" / "jobs.jsonl").read_text().splitlines())
    assert scored(costs).code == 0
    assert len((tmp_path / "scored" / "jobs.jsonl").read_text().splitlines()) == lines


def test_reported_costs_do_not_compare_with_others(scored, fc_bench, tmp_path):
    assert scored(costs, "one").code == 0
    assert scored(costs, "two").code == 0
    gate = tmp_path / "gate.yaml"
    gate.write_text("cost: {image_seconds: {tolerance: 0.1}}\n")
    done = fc_bench("compare", tmp_path / "one", tmp_path / "two", "--gate", gate)
    assert "as reported by a manifest" in done.out


BAD = {
    "seconds": ({"seconds": "fast"}, 'the seconds "fast" is not a number of seconds, such as 1.5'),
    "negative": ({"seconds": "-1"}, 'the seconds "-1" is not a number of seconds'),
    "comma": ({"seconds": "1,5"}, 'the seconds "1,5" is not a number of seconds'),
    "infinite": ({"seconds": "1e99"}, 'the seconds "1e99" is not a number of seconds'),
    "memory": ({"memory": "3.5"}, 'the memory "3.5" is not a whole number of bytes'),
    "memory twice": ({"memory": "3", "peak_memory_bytes": "3"}, "both peak_memory_bytes and memory are given"),
    "storage": ({"storage_bytes": "3 MiB"}, 'the storage_bytes "3 MiB" is not a whole number of bytes'),
}


@pytest.mark.parametrize("case", BAD)
def test_cost_that_is_no_number_is_refused_by_its_line(case, scored, tmp_path):
    change, expected = BAD[case]
    done = scored(lambda number: change)
    assert done.code == 2
    assert expected in done.err
    assert "list.csv:2: " in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "scored").exists()


def test_customization_of_a_set_has_one_number(scored, tmp_path):
    done = scored(lambda number: {"customization_seconds": 60 + number})
    assert done.code == 2
    assert "list.csv:3: the customization_seconds of theirs and ann is 61, but 60 in" in done.err
    assert not Path(tmp_path / "scored").exists()
