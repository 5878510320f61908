"""Text-only prefixes are computed once for all subjects: fewer UNet calls, the same images, times that say so."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from fc_bench.baselines.fastcomposer import FastComposer, FastComposerOptions
from fc_bench.commands.run import RunOptions, setting_of
from fc_bench.commands.run import run as execute
from fc_bench.generation.plan import MethodRow, make_plan
from fc_bench.generation.shared_prefixes import PrefixStore, describe_calls, planned_calls
from fc_bench.generation.worker import InProcess, Worker
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.protocols import Sampler
from fc_bench.registry import suite_file
from fc_bench.reports.frame import read_runs
from fc_bench.reports.quality.notes import notes
from fc_bench.suites.suite import read_suite


@pytest.fixture
def plan_of(tmp_path, portrait):
    """The plan of a published suite for FastComposer with each of the alphas, and what its rows share."""
    from fc_bench.model.yaml_file import read_yaml
    from fc_bench.suites.suite_file import SuiteFile

    def make(name: str, *alphas: float):
        for subject in read_yaml(suite_file(name), SuiteFile).subjects:
            portrait((250, 20, 20)).save(tmp_path / f"{subject.id}.jpg")
        suite = read_suite(suite_file(name), tmp_path)
        setting = setting_of(suite, read_backbone("pocket"), "cpu")
        options = [FastComposerOptions(alpha=alpha) for alpha in alphas]
        rows = [(FastComposer, each, MethodRow(f"alpha={each.alpha}", "fastcomposer", {}, {})) for each in options]
        shares = {row.label: FastComposer.text_only_iterations(each, setting.sampler) for _, each, row in rows}
        return make_plan(suite, setting, rows), shares, setting.sampler

    return make


@pytest.mark.parametrize(
    ("name", "steps", "calls"),
    [
        ("fastcomposer-single", (120_000, 65_920), (122_400, 68_320)),
        ("fastcomposer-multi", (441_000, 220_416), (449_820, 229_236)),
    ],
)
def test_plan_of_the_published_suites_says_what_sharing_saves(plan_of, name, steps, calls):
    plan, shares, sampler = plan_of(name, 0.5)
    (counted,) = planned_calls(plan, shares, sampler.steps)
    assert (counted.whole, counted.shared) == steps
    (told,) = describe_calls(plan, shares, sampler)
    assert told == (
        f"alpha=0.5: {steps[1]:,} of {steps[0]:,} sampling steps, text-only prefixes shared "
        f"(pndm calls the UNet once more per image: {calls[1]:,} of {calls[0]:,})"
    )


def test_rows_of_a_sweep_share_the_longest_prefix(plan_of):
    plan, shares, _ = plan_of("fastcomposer-single", 0.5, 0.8, 0.2)
    first, second, third = planned_calls(plan, shares, 50)
    assert first.shared == 65_920
    assert second.shared == 2400 * (50 - 10)  # its 10 steps are among the first's 26
    assert third.shared == 320 * (41 - 26) + 2400 * (50 - 41)


@pytest.fixture
def run(tiny_backbone, suite, suite_data, tmp_path, records):
    """Generates and scores the suite with a sampler; gives what was printed, records and images by sample."""

    def invoke(out: str, scheduler: str = "ddim", alphas: tuple[float, ...] = (0.5,), **options: object):
        suite.write_text(yaml.safe_dump({**suite_data, "sampler": {"scheduler": scheduler, "steps": 6}}))
        variants = {"fastcomposer": [{"alpha": alpha} for alpha in alphas]}
        asked = {"methods": ("fastcomposer",), "variants": variants, "device": "cpu", **options}
        folder, told = tmp_path / out, io.StringIO()
        execute(RunOptions(str(suite), backbone=str(tiny_backbone), out=folder, **asked), Console(file=told, width=240))
        samples = {sample["id"]: sample for sample in records(folder / "samples.jsonl")}
        pictures = {name: np.asarray(Image.open(folder / sample["image"])) for name, sample in samples.items()}
        return told.getvalue(), samples, pictures

    return invoke


@pytest.fixture
def unet_calls(monkeypatch):
    """How many images the UNet was called for: guided pairs, of any UNet."""
    from diffusers import UNet2DConditionModel

    seen: list[int] = []
    forward = UNet2DConditionModel.forward

    def count(self, sample, *arguments, **further):
        seen.append(len(sample) // 2)
        return forward(self, sample, *arguments, **further)

    monkeypatch.setattr(UNet2DConditionModel, "forward", count)
    return seen


@pytest.mark.parametrize("scheduler", ["pndm", "dpm"])
def test_images_are_the_same_with_and_without_sharing_and_the_unet_is_called_as_planned(run, unet_calls, scheduler):
    told, samples, shared = run("shared", scheduler)
    iterations = Sampler(scheduler, 6, 2.0, 64).iterations
    # Nine images alone and two of pairs; the two men have three prefixes of 4 steps in common.
    assert sum(unet_calls) == 11 * iterations - 3 * 4
    assert f"{11 * 6 - 12} of 66 sampling steps, text-only prefixes shared" in told
    unet_calls.clear()
    _, _, whole = run("whole", scheduler, share_prefixes=False)
    assert sum(unet_calls) == 11 * iterations
    assert shared.keys() == whole.keys() == samples.keys()
    assert all((shared[name] == whole[name]).all() for name in whole)


def test_a_sweep_shares_prefixes_between_its_values(run, unet_calls):
    _, samples, shared = run("shared", alphas=(0.0, 0.5, 1.0), limit_subjects=2)
    calls = sum(unet_calls)
    unet_calls.clear()
    _, _, whole = run("whole", alphas=(0.0, 0.5, 1.0), limit_subjects=2, share_prefixes=False)
    # Nobody shares with anybody else, but each of seven images with itself: all 6 steps once, then 2 and 5 more.
    assert (calls, sum(unet_calls)) == (7 * 6 + 7 * (2 + 5), 3 * 7 * 6)
    assert all((shared[name] == whole[name]).all() for name in samples)


def test_jobs_cut_between_their_batches_for_several_workers_share_as_much(run, unet_calls, monkeypatch):
    _, _, whole = run("whole", batch_size=1)
    calls, units = sum(unet_calls), []
    unet_calls.clear()
    monkeypatch.setattr(InProcess, "workers", lambda _: 12)
    work = Worker.work
    monkeypatch.setattr(Worker, "work", lambda self, unit: (units.append(unit), work(self, unit))[1])
    _, samples, cut = run("cut", batch_size=1)
    assert sum(unet_calls) == calls
    assert all((cut[name] == whole[name]).all() for name in whole)
    # Three prompts alone, of the woman and of both men together, and the pairs: a part holds one batch of each job.
    assert sorted((len(unit.jobs), unit.size) for unit in units) == [(1, 1)] * 5 + [(2, 2)] * 3
    assert len(samples) == sum(unit.size for unit in units) == 11


def test_an_interrupted_run_that_shares_is_continued_to_the_same_images(run, tmp_path):
    _, samples, whole = run("whole")
    file = tmp_path / "whole" / "samples.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:4] + lines[7:8]))  # in the middle of a batch of the men
    for name in list(samples)[4:]:
        if name != list(samples)[7]:
            (tmp_path / "whole" / samples[name]["image"]).unlink()
    _, _, again = run("whole")
    assert all((again[name] == whole[name]).all() for name in whole)


def test_seconds_hold_the_shared_part_for_every_image_and_say_whose_it_is(run):
    _, samples, _ = run("run")
    of = {name: [sample for sample in samples.values() if sample["subjects"] == [name]] for name in ("bob", "cid")}
    for first, second in zip(of["bob"], of["cid"], strict=True):
        assert (first["shared_prefix"]["iterations"], first["shared_prefix"]["reused"]) == (4, 0)
        assert first["shared_prefix"]["reused_seconds"] == 0
        assert second["shared_prefix"]["reused"] == 4
        assert 0 < second["shared_prefix"]["reused_seconds"] < second["seconds"]
        assert second["shared_prefix"]["reused_seconds"] < first["seconds"]
    alone = [sample for sample in samples.values() if sample["subjects"] == ["ann"]]
    assert not any("shared_prefix" in sample for sample in alone)


def test_seconds_of_a_run_that_shares_are_not_compared_with_those_of_one_that_does_not(run, fc_bench, tmp_path):
    run("shared")
    run("whole", share_prefixes=False)
    shutil.copytree(tmp_path / "shared", tmp_path / "again")
    gate = tmp_path / "gate.yaml"
    gate.write_text(yaml.safe_dump({"quality": {}, "cost": {"image_seconds": {"tolerance": 1000}}}))
    done = fc_bench("compare", tmp_path / "whole", tmp_path / "shared", "--gate", gate)
    assert done.code == 3
    assert "text-only prefixes were shared in only one run" in done.out
    done = fc_bench("compare", tmp_path / "shared", tmp_path / "again", "--gate", gate)
    assert "shared in only one run" not in done.out
    note = "computed the text-only steps once for all subjects"
    assert [note in line for line in notes(read_runs([tmp_path / "shared"]))].count(True) == 1
    assert not any(note in line for line in notes(read_runs([tmp_path / "whole"])))


def test_dry_run_says_the_plan_and_writes_nothing(fc_bench, tiny_backbone, suite, tmp_path):
    out = tmp_path / "run"
    asked = ("-m", "fastcomposer", "--backbone", tiny_backbone, "--out", out)
    done = fc_bench("run", suite, *asked, "--dry-run")
    assert (done.code, out.exists()) == (0, False)
    assert done.out.startswith("trio on tiny: 11 samples in 5 jobs\nfastcomposer: ")
    done = fc_bench("run", suite, *asked, "--dry-run", "--no-shared-prefixes")
    assert "sampling steps" not in done.out


class State:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_prefixes_that_do_not_fit_are_not_kept_and_those_nobody_needs_make_room():
    from fc_bench.generation.shared_prefixes import _Kept

    store = PrefixStore(most_bytes=100)
    store.keep("men", (("a man", 1),), 4, _Kept(State(80), 1.0))
    store.keep("women", (("a woman", 1),), 4, _Kept(State(30), 1.0))
    assert (len(store.of("men", (("a man", 1),))), len(store.of("women", (("a woman", 1),)))) == (1, 0)
    store.drop("men")
    store.keep("women", (("a woman", 1),), 4, _Kept(State(30), 1.0))
    assert (len(store.of("men", (("a man", 1),))), len(store.of("women", (("a woman", 1),)))) == (0, 1)


def test_record_of_what_generating_took_is_in_run_json(run, tmp_path):
    told, _, _ = run("run")
    took = json.loads((tmp_path / "run" / "run.json").read_text())["commands"][-1]["generation"]
    parts = [took[f"{name}_seconds"] for name in ("loading", "customizing", "sampling", "recording")]
    assert all(part > 0 for part in parts)
    assert sum(parts) <= took["seconds"]
    assert "ms per sample" in told
    command = json.loads((tmp_path / "run" / "run.json").read_text())["commands"][-1]
    assert set(command["seconds"]) == {"preparing", "generating", "scoring"}
    since = command["seconds"]["generating"] + command["seconds"]["scoring"] - took["loading_seconds"]
    share = (took["customizing_seconds"] + took["sampling_seconds"]) / since
    assert f"sampling and customization took {share:.1%} of the time after loading" in told
