"""FastComposer in a run on the tiny Stable Diffusion XL, alone and with two subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from fc_bench.model.fastcomposer.postfuse import PostfuseModule

from ..golden.photomaker_models import VISION, filled

FEATURES = 16 + 24


@pytest.fixture(scope="module")
def backbone(tiny_sdxl_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the tiny backbone with a FastComposer checkpoint of random weights."""
    folder, pipeline = tmp_path_factory.mktemp("fastcomposer-xl"), tiny_sdxl_backbone.parent / "pipeline"
    trained = folder / "trained"
    trained.mkdir()
    (trained / "unet").symlink_to(pipeline / "unet")
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**VISION, "projection_dim": FEATURES}))
    filled(vision, "vision").save_pretrained(trained / "image_encoder")
    filled(PostfuseModule(features=FEATURES), "postfuse").save_pretrained(trained / "postfuse_module")
    data = yaml.safe_load(tiny_sdxl_backbone.read_text())
    data |= {
        "pipeline": str(pipeline),
        "fastcomposer": {"default": "random", "variants": {"random": str(trained)}},
        "methods": {"fastcomposer": {"alpha": 1.0}},
    }
    (folder / "backbone.yaml").write_text(yaml.safe_dump(data))
    return folder / "backbone.yaml"


def test_a_suite_of_single_subjects_and_pairs_runs_with_attention_and_shared_steps(
    fc_bench, suite, suite_data, backbone, records, tmp_path
):
    suite.write_text(yaml.safe_dump({**suite_data, "metrics": ["attention-localization"]}))
    arguments = ("run", suite, "--backbone", backbone, "-m", "fastcomposer", "-m", "text-only")
    done = fc_bench(*arguments, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    samples = [one for one in records(tmp_path / "run" / "samples.jsonl") if one["method"] == "fastcomposer"]
    assert [sample["status"] for sample in samples] == ["ok"] * len(samples)
    assert len({Path(tmp_path / "run" / sample["image"]).read_bytes() for sample in samples}) == len(samples) == 11
    assert len(list((tmp_path / "run" / "attention").rglob("*.npz"))) == len(samples)
    plain = ("-o", "fastcomposer.alpha=0")
    assert fc_bench(*arguments, *plain, "--out", tmp_path / "plain").code == 0
    text, mine = (
        [np.asarray(Image.open(file), dtype=int) for file in sorted(folder.rglob("*.png"))]
        for folder in sorted((tmp_path / "plain" / "images").iterdir(), key=lambda folder: folder.name != "text-only")
    )
    assert len(mine) == len(samples)
    for image in mine:  # batches of other sizes round differently
        assert min(np.abs(image - other).max() for other in text) <= 1


def test_a_checkpoint_of_the_other_family_is_refused_before_anything_is_generated(
    fc_bench, suite, backbone, tiny_backbone, tmp_path
):
    data = yaml.safe_load(backbone.read_text())
    data["fastcomposer"] = {"default": "other", "variants": {"other": str(tiny_backbone.parent / "fastcomposer")}}
    (tmp_path / "mixed.yaml").write_text(yaml.safe_dump(data))
    done = fc_bench(
        "run", suite, "--backbone", tmp_path / "mixed.yaml", "-m", "fastcomposer", "--out", tmp_path / "run"
    )
    assert done.code == 2
    assert "are for text of 16 features in place of 40" in done.err
    assert done.err.count("fc-bench: ") == 1
    assert not list((tmp_path / "run").rglob("*.png"))
