"""Scoring within runs: what metrics are given, what is kept for them, and runs that are continued with more metrics."""

from __future__ import annotations

import csv
import errno
import json

import numpy as np
import pytest
import yaml

from fc_bench.analysis.comparison import compare
from fc_bench.analysis.gate import Gate
from fc_bench.run_folder.records import RunFolder

ALL = ["identity", "prompt-consistency", "image-similarity", "diversity", "attention-localization"]


@pytest.fixture
def run(fc_bench, tiny_backbone, plugin, suite_data, write_suite, tmp_path):
    """`fc-bench run` of the suite with these metrics into `run/` (or `out`)."""

    def invoke(*arguments: object, methods=("paste",), metrics=ALL, out="run", backbone=tiny_backbone):
        suite_data["metrics"] = list(metrics)
        chosen = [part for name in methods for part in ("-m", name)]
        command = ("run", write_suite(suite_data), "--backbone", backbone, "--out", tmp_path / out)
        return fc_bench(*command, *chosen, *arguments)

    return invoke


def cell(folder, name: str, method: str, subjects: int = 1) -> dict[str, str]:
    """The row of results.csv."""
    with (folder / "report" / "results.csv").open() as file:
        keys = ("column", "method", "subjects", "category")
        (row,) = [r for r in csv.DictReader(file) if tuple(r[k] for k in keys) == (name, method, str(subjects), "all")]
    return row


def test_all_metrics_together_on_methods_that_show_attention_and_that_do_not(run, records, tmp_path):
    done = run("--images-per-prompt", 2, methods=("text-only", "fastcomposer", "paste"))
    assert done.code == 0, done.err
    folder = tmp_path / "run"
    assert float(cell(folder, "clip_i", "ceiling")["mean"]) > 0.9
    assert cell(folder, "clip_i", "ceiling")["n_total"] == cell(folder, "identity", "ceiling")["n_total"] == "3"
    assert float(cell(folder, "face_clip_i", "paste")["mean"]) == pytest.approx(1, abs=1e-5)
    assert float(cell(folder, "diversity", "paste")["mean"]) > 0
    assert cell(folder, "attention_on_own", "paste")["n_ok"] == "0"
    assert cell(folder, "dino", "paste")["mean"] == ""
    text = (folder / "report" / "table.md").read_text()
    assert 'DINO is missing: the backbone "tiny" declares no image_features.' in text
    assert "The attention of fastcomposer was recorded, which adds to its seconds and memory." in text
    kept = {sample["id"]: sample.get("attention") for sample in records(folder / "samples.jsonl")}
    assert sum(name is not None for name in kept.values()) == 22
    for sample in records(folder / "samples.jsonl"):
        if sample["method"] != "fastcomposer":
            assert "attention" not in sample
            continue
        assert sample["attention"] == sample["image"].replace("images", "attention").replace(".png", ".npz")
        maps = np.load(folder / sample["attention"])["maps"]
        assert maps.dtype == np.float16
        assert len(maps) == len(sample["subjects"])
        np.testing.assert_allclose(maps.astype(float).sum((1, 2)), 1, atol=1e-2)
    # Random weights draw no faces: the maps were read, and there is no box to look into.
    scores = [s for s in records(folder / "scores.jsonl") if s["metric"] == "attention-localization"]
    read = [score for score in scores if kept[score["sample"]]]
    assert all(score["details"] == {"own": {}, "others": {}, "face_area": {}} for score in read)
    assert all("showed no attention" in s["details"]["reason"] for s in scores if not kept[s["sample"]])


def test_order_in_which_samples_were_finished_changes_no_score_of_any_metric(run, records, tmp_path):
    folder = tmp_path / "run"
    every = [*ALL, "identity-grey-crop"]
    run("--images-per-prompt", 2, "--limit-subjects", 2, metrics=every)
    before = {(s["sample"], s["metric"]): s for s in records(folder / "scores.jsonl")}
    lines = (folder / "samples.jsonl").read_text().splitlines(keepends=True)
    (folder / "samples.jsonl").write_text("".join(np.random.default_rng(0).permutation(lines)))
    (folder / "scores.jsonl").unlink()
    run("--images-per-prompt", 2, "--limit-subjects", 2, metrics=every)
    assert {(s["sample"], s["metric"]): s for s in records(folder / "scores.jsonl")} == before


def test_attention_is_kept_only_where_a_metric_asks_and_changes_no_image(run, records, tmp_path):
    run("--limit-subjects", 2, methods=("fastcomposer",))
    run("--limit-subjects", 2, methods=("fastcomposer",), metrics=["identity"], out="plain")
    assert not (tmp_path / "plain" / "attention").exists()
    watched, plain = (
        {s["id"]: (tmp_path / out / s["image"]).read_bytes() for s in records(tmp_path / out / "samples.jsonl")}
        for out in ("run", "plain")
    )
    assert watched == plain
    assert len(plain) == 7


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        (np.full((1, 2, 2), 0.5, np.float32), "do not sum to 1"),
        (np.array([[[1.5, -0.5]]], np.float32), "negative"),
        (np.full((2, 1, 1), 1, np.float32), r"shape (2, 1, 1) for 1 subjects"),
        ([[1.0]], "list as attention maps"),
    ],
)
def test_maps_that_are_none_fail_their_samples_with_a_sentence(run, records, tmp_path, monkeypatch, maps, reason):
    import paste_faces

    def show(self, customization, requests):
        for request, image in zip(requests, self.generate(customization, requests), strict=True):
            good = np.full((1, 2, 2), 0.25, np.float32)
            yield image, maps if "beach" in request.prompt else None if "snow" in request.prompt else good

    monkeypatch.setattr(paste_faces.Paste, "generate_with_attention", show, raising=False)
    done = run("--limit-subjects", 1, metrics=["attention-localization"])
    assert (done.code, reason in done.out) == (4, True)
    snow, beach, sketch = records(tmp_path / "run" / "samples.jsonl")
    assert [sample["status"] for sample in (snow, beach, sketch)] == ["ok", "error", "ok"]
    assert "attention" not in snow
    assert "attention" in sketch


def test_lost_map_fails_that_score_alone(run, records, tmp_path):
    run("--limit-subjects", 1, methods=("fastcomposer",), metrics=["attention-localization"])
    folder = tmp_path / "run"
    lost = records(folder / "samples.jsonl")[0]
    (folder / lost["attention"]).unlink()
    (folder / "scores.jsonl").unlink()
    done = run("--limit-subjects", 1, methods=("fastcomposer",), metrics=["attention-localization"])
    assert (done.code, "1 scores failed" in done.err) == (4, True)
    status = {score["sample"]: score["status"] for score in records(folder / "scores.jsonl")}
    assert [name for name, value in status.items() if value == "error"] == [lost["id"]]


def test_maps_are_written_before_their_record(run, records, tmp_path, monkeypatch):
    from fc_bench.generation import recorder as generating

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    arguments = {"methods": ("fastcomposer",), "metrics": ["attention-localization"]}
    with monkeypatch.context() as patch:
        patch.setattr(generating, "write_maps", full)
        assert run("--limit-subjects", 1, **arguments).code == 2
    assert records(tmp_path / "run" / "samples.jsonl") == []
    assert run("--limit-subjects", 1, **arguments).code == 0
    assert all("attention" in sample for sample in records(tmp_path / "run" / "samples.jsonl"))


def test_run_is_continued_with_more_metrics_and_nothing_is_generated_again(run, records, tmp_path):
    folder = tmp_path / "run"
    run(methods=("fastcomposer",), metrics=["identity"])
    samples = (folder / "samples.jsonl").read_bytes()
    before = records(folder / "scores.jsonl")
    done = run(methods=("fastcomposer",), metrics=[*ALL[1:], "identity"])
    assert done.code == 0, done.err
    assert (folder / "samples.jsonl").read_bytes() == samples
    scores = records(folder / "scores.jsonl")
    assert scores[: len(before)] == before
    assert {score["metric"] for score in scores} == set(ALL)
    assert cell(folder, "clip_i", "fastcomposer")["n_ok"] == "9"
    assert cell(folder, "attention_on_own", "fastcomposer")["n_ok"] == "0"
    refused = run(methods=("fastcomposer",), metrics=["prompt-consistency"])
    assert refused.code == 2
    assert 'a run with the metric "image-similarity", which this command does not measure; choose' in refused.err


def test_scores_on_siblings_follow_a_run_that_gets_more_images_a_prompt(run, records, tmp_path):
    run("--images-per-prompt", 2, metrics=["diversity"])
    first = {s["sample"]: s for s in records(tmp_path / "run" / "scores.jsonl")}
    assert {len(score["siblings"]) for score in first.values()} == {1}
    run("--images-per-prompt", 3, metrics=["diversity"])
    run("--images-per-prompt", 3, metrics=["diversity"], out="fresh")
    grown, fresh = ({s["sample"]: s for s in records(tmp_path / out / "scores.jsonl")} for out in ("run", "fresh"))
    assert grown == fresh
    assert {len(score["siblings"]) for score in grown.values()} == {2}
    assert len(records(tmp_path / "run" / "scores.jsonl")) == 22 + 33


def test_samples_that_share_images_share_their_diversity_and_count_once(run, records, tmp_path):
    run("--images-per-prompt", 2, methods=("text-only",), metrics=["diversity"])
    folder = tmp_path / "run"
    samples = {sample["id"]: sample for sample in records(folder / "samples.jsonl")}
    values: dict[str, set[float]] = {}
    for score in records(folder / "scores.jsonl"):
        values.setdefault(samples[score["sample"]]["image"], set()).add(score["values"]["diversity"])
        theirs = {samples[name]["image"] for name in score["siblings"]}
        assert samples[score["sample"]]["image"] not in theirs
    assert all(len(own) == 1 for own in values.values())
    assert any("same_image_as" in sample for sample in samples.values())
    assert (cell(folder, "diversity", "text-only")["n_sets"], cell(folder, "diversity", "text-only")["low"]) == (
        "3",
        "",
    )


def test_image_features_are_recorded_where_a_metric_uses_them_and_old_runs_go_on(
    run, fc_bench, tiny_backbone, tmp_path
):
    import torch
    from transformers import ViTConfig, ViTModel

    def features(seed):
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        )
        ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "features")

    def scorers(out="run"):
        return set(json.loads((tmp_path / out / "run.json").read_text())["scorers"])

    features(0)
    featured = tiny_backbone.with_name("featured.yaml")
    declared = {**yaml.safe_load(tiny_backbone.read_text()), "image_features": str(tmp_path / "features")}
    featured.write_text(yaml.safe_dump(declared))
    assert run(metrics=["identity"]).code == 0
    assert scorers() == {"clip", "faces"}
    # The component alone changes nothing; the metric that uses it adds it.
    assert run(metrics=["identity"], backbone=featured).code == 0
    assert scorers() == {"clip", "faces"}
    assert run(metrics=["identity", "image-similarity"], backbone=featured).code == 0
    assert scorers() == {"clip", "faces", "image_features"}
    assert cell(tmp_path / "run", "dino", "paste")["n_ok"] == "9"
    # Without it, or with another one, values would not belong together.
    refused = run(metrics=["identity", "image-similarity"])
    assert (refused.code, "other scoring weights" in refused.err) == (2, True)
    features(1)
    refused = run(metrics=["identity", "image-similarity"], backbone=featured)
    assert (refused.code, "other scoring weights" in refused.err) == (2, True)
    # Comparing: other features leave identity comparable.
    assert run(metrics=["identity", "image-similarity"], backbone=featured, out="other").code == 0
    done = fc_bench("compare", tmp_path / "run", tmp_path / "other")
    assert done.code == 0, done.out
    report = compare(RunFolder(tmp_path / "run"), RunFolder(tmp_path / "other"), Gate())
    verdicts = {item.column.name: (item.verdict, item.reason) for item in report.comparisons if item.subjects == 1}
    assert verdicts["dino"] == ("not comparable", "different scoring weights")
    assert verdicts["identity"][0] == "unchanged"


def test_times_are_not_compared_where_attention_was_watched_in_one_run_alone(run, tmp_path):
    run("--limit-subjects", 1, methods=("fastcomposer",), metrics=["identity"], out="plain")
    run("--limit-subjects", 1, methods=("fastcomposer",), metrics=["identity", "attention-localization"])
    report = compare(RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "run"), Gate())
    reasons = {item.column.name: item.reason for item in report.comparisons}
    assert reasons["image_seconds"] == reasons["peak_memory_gib"] == "attention was recorded in only one run"
    assert "attention" not in reasons["artefact_mib"]


def test_full_disk_ends_scoring_and_is_nobody_s_failed_score(run, records, tmp_path, monkeypatch):
    import paste_faces

    def score(self, sample):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(paste_faces.Brightness, "score", score)
        done = run("--limit-subjects", 1, metrics=["identity", "brightness"])
    assert done.code == 2
    assert "No space left on device" in done.err
    assert all(score["status"] == "ok" for score in records(tmp_path / "run" / "scores.jsonl"))
    assert len(records(tmp_path / "run" / "samples.jsonl")) == 3
    monkeypatch.setattr(paste_faces.Brightness, "score", lambda self, sample: paste_faces.Score({"brightness": 0.5}))
    assert run("--limit-subjects", 1, metrics=["identity", "brightness"]).code == 0


def test_every_picture_and_every_text_is_embedded_once_for_all_metrics(run, records, tmp_path, monkeypatch):
    from collections import Counter

    from transformers import CLIPModel

    from fc_bench.scoring.clip import ClipScorer
    from fc_bench.scoring.faces import FaceModels

    looked: dict[str, Counter[bytes]] = {"faces": Counter(), "clip": Counter()}
    texts: list[int] = []
    find, images, text = FaceModels._find, ClipScorer.images, CLIPModel.get_text_features

    def found(self, pictures):
        looked["faces"].update(picture.tobytes() for picture in pictures)
        return find(self, pictures)

    def embedded(self, pictures):
        looked["clip"].update(picture.tobytes() for picture in pictures)
        return images(self, pictures)

    def told(self, input_ids=None, **further):
        texts.append(len(input_ids))
        return text(self, input_ids=input_ids, **further)

    for shared in ("fc_bench.scoring.faces._SHARED", "fc_bench.scoring.clip._SHARED"):
        monkeypatch.setattr(shared, {})  # models of earlier tests remember what they saw
    monkeypatch.setattr(FaceModels, "_find", found)
    monkeypatch.setattr(ClipScorer, "images", embedded)
    monkeypatch.setattr(CLIPModel, "get_text_features", told)
    assert run("--images-per-prompt", 2).code == 0
    samples = records(tmp_path / "run" / "samples.jsonl")
    assert len(samples) == 22
    for counted in looked.values():
        assert set(counted.values()) == {1}
    assert sum(texts) == len({sample["prompt"] for sample in samples})
