"""Tables of a cost run show what was measured, mark what was not, and are published as they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fc_bench.cost.figures import Figure
from fc_bench.cost.results import MethodCost
from fc_bench.records import RunFolder
from fc_bench.reports.cost_tables import break_evens, cost_notes, phases, published_seconds, speed_ups, storage
from fc_bench.reports.reference import publish

FAST = MethodCost(
    "fastcomposer",
    "fastcomposer",
    True,
    load=Figure(4.0),
    customize=Figure(0.004),
    image=Figure(100.0, 98.0, 101.0),
    artefact_bytes=0,
    shared_weights_bytes=3 * 2**30,
    peak_bytes={"image": 3 * 2**30},
)
TUNED = MethodCost(
    "dreambooth",
    "dreambooth",
    True,
    customize=Figure(15234.5, 15100.0, 15380.0, 3, True),
    steps=800,
    steps_taken=4,
    training_step=Figure(19.0, 18.9, 19.2, 3),
    load=Figure(3.0),
    image=Figure(99.0, 97.0, 101.5, 4, True),
    artefact_bytes=1965 * 2**20,
    artefact_dtypes=("BF16",),
    shared_weights_bytes=2 * 2**30,
    peak_bytes={"customize": 17 * 2**30, "image": 3 * 2**30},
    contended={"image": ("other processes used 20% of the processors",)},
    others_share={"image": 0.2, "customize": 0.01},
)
FAILED = MethodCost("lora", "lora", True, failures={"customize": "out of memory at 3.0 GiB"})


def row(block, name: str) -> dict[str, str]:
    found = next(cells for cells in block.texts() if cells[0].startswith(name))
    return dict(zip((heading.text for heading in block.header), found, strict=True))


def test_extrapolated_figures_are_marked_and_steps_are_told():
    found = row(phases([FAST, TUNED], "bfloat16"), "dreambooth")
    assert found["method"] == "dreambooth †"
    assert found["customize s"] == "≈ 15,234 [15,100, 15,380]"
    assert found["steps taken / asked"] == "4 / 800"
    assert found["image s"] == "≈ 99.0 [97.0, 101.5]"
    assert (found["peak GiB"], found["MiB kept"], found["dtype"]) == ("17.00", "1,965", "bfloat16")
    assert (found["identity"], found["prompt consistency"]) == ("–", "–")


def test_what_is_missing_is_shown_as_missing_and_never_as_0():
    found = row(phases([FAILED], "float32"), "lora")
    assert found["peak GiB"] == "out of memory"
    assert {found[key] for key in ("load s", "customize s", "image s", "MiB kept")} == {"–"}


def test_speed_up_stands_beside_the_published_claim():
    block = speed_ups([FAST, TUNED, FAILED])
    (found,) = block.texts()
    cells = dict(zip((heading.text for heading in block.header), found, strict=True))
    assert cells["one image"].startswith("≈ 153x [")
    assert cells["published"] == "300x to 2,500x"
    assert cells["class images included"] == "–"
    assert speed_ups([TUNED]).rows == ()


def test_break_even_tells_that_it_may_never_come():
    ((sooner, later, images, shared),) = break_evens([TUNED, FAST, FAILED]).texts()
    assert (sooner, later, shared) == ("fastcomposer", "dreambooth", "–")
    assert images.startswith("15,")
    assert images.endswith(", never]")


def test_storage_reaches_a_million_subjects_in_units_that_suit():
    found = row(storage([FAST, TUNED, FAILED]), "dreambooth")
    assert (found["1 subject"], found["1,000"], found["1,000,000"]) == ("1.92 GiB", "1.87 TiB", "1.83 PiB")
    assert row(storage([FAST, TUNED]), "fastcomposer")["1,000,000"] == "0"


def test_published_seconds_are_quoted_with_their_source():
    found = row(published_seconds(), "DreamBooth")
    assert (found["s"], found["of FastComposer's"]) == ("1,284", "160x")
    assert "2312.04461" in found["source"]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The smallest cost run: settings and no measurement."""
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {
        "format": 1,
        "kind": "cost",
        "backbone": "tiny",
        "random_weights": True,
        "sampler": {"scheduler": "ddim", "steps": 2, "guidance_scale": 2.0, "resolution": 64},
        "batch": 1,
        "device": "cpu",
        "dtype": "bfloat16",
        "machine": {"processor": "a processor", "cores": 2, "torch_threads": 1, "accelerators": []},
        "libraries": {"torch": "2"},
        "provider": {"virtual_machine": True},
        "numerics": {},
        "methods": {
            "text-only": {"name": "text-only", "personalizes": False, "shared_weights_bytes": 1, "options": {}},
        },
        "commands": [
            {
                "command": "fc-bench cost",
                "started": "today",
                "code": {"commit": None, "dirty": None},
                "versions": {"fc-bench": "1"},
            }
        ],
    }
    (folder / "run.json").write_text(json.dumps(settings))
    return folder


def test_the_page_says_why_quality_is_empty_and_where_it_was_measured(finished):
    told = " ".join(cost_notes(RunFolder(finished), [TUNED]))
    assert "The weights are random and the images mean nothing, so the quality columns are empty" in told
    assert "bfloat16 on cpu (a processor, 2 cores, virtual, no accelerator)" in told
    assert "† measured while something else went on" in told
    assert "dreambooth 20% to 20%" in told


def test_a_cost_run_is_published_beside_the_others(finished, tmp_path):
    repository = tmp_path / "repository"
    repository.mkdir()
    marker = "<!-- results: reports/reference/cost-tiny-cpu/headline.md -->"
    (repository / "README.md").write_text(f"{marker}\nold\n<!-- end of results -->\n")
    (finished / "measurements.jsonl").write_text("")
    target = publish(finished, repository)
    assert target.name == "cost-tiny-cpu"
    files = {file.name for file in target.iterdir()}
    assert files >= {"cost.md", "figures.csv", "amortised.csv", "storage.csv", "run.json", "measurements.jsonl"}
    headline = (target / "headline.md").read_text()
    assert "| text-only | bfloat16 | – | 0 |" in headline
    assert (repository / "README.md").read_text() == f"{marker}\n\n{headline}\n<!-- end of results -->\n"
    assert list(csv.DictReader((target / "amortised.csv").open())) == []
