"""Pack trained pocket models as the shipped weights, measure them, and write their model cards.

    python -m fc_bench.model.pocket.assemble --training training-output

writes `model/pocket/weights/` (fp16 safetensors and ONNX) and `model/pocket/cards/`. The latter has a Markdown card per
model with its training and its held-out quality, sample grids, and all numbers in quality.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from fc_bench.model.command_line import as_command
from fc_bench.model.fastcomposer.pipeline import FastComposerPipeline, load_fastcomposer
from fc_bench.model.fastcomposer.references import keep_trained_layers
from fc_bench.model.fastcomposer.unet_difference import keep_difference
from fc_bench.model.pocket import clip as clip_stage
from fc_bench.model.pocket import ip_adapter, quality
from fc_bench.model.pocket.cards import write_cards
from fc_bench.model.pocket.people import HELD_OUT_RECOGNIZER_PEOPLE
from fc_bench.model.pocket.render import render_seed
from fc_bench.model.pocket.train import ADAPTER_STAGE, FASTCOMPOSER_STAGES, SUPERVISED_LAYERS, Workspace
from fc_bench.model.pocket.vae import reconstruct

HERE = Path(__file__).parent
VARIANTS = {"with-localization": FASTCOMPOSER_STAGES[True], "without-localization": FASTCOMPOSER_STAGES[False]}
ALPHA = 0.7
ADAPTER_SCALE = 1.0


def pack(work: Workspace, weights: Path) -> None:
    """Copy every trained model into `weights`, in half precision; fine-tuned models are reduced to their changes.

    Raises ModelInputError when a stage is missing.
    """
    needed = {
        stage: work.need(stage)
        for stage in ("base", "decoder", "clip", "detector", "recognizer", *VARIANTS.values(), ADAPTER_STAGE)
    }
    final, weights = weights, weights.with_name(weights.name + ".partial")
    shutil.rmtree(weights, ignore_errors=True)
    pipeline = StableDiffusionPipeline.from_pretrained(needed["base"], dtype=torch.float16, safety_checker=None)
    pipeline.vae = AutoencoderKL.from_pretrained(needed["decoder"], dtype=torch.float16)
    pipeline.save_pretrained(weights / "pipeline")
    CLIPModel.from_pretrained(needed["clip"], dtype=torch.float16).save_pretrained(weights / "clip")
    CLIPTokenizer.from_pretrained(needed["clip"]).save_pretrained(weights / "clip")
    clip_stage.build_image_processor().save_pretrained(weights / "clip")
    for variant, stage in VARIANTS.items():
        shutil.copytree(
            needed[stage], weights / "fastcomposer" / variant, ignore=shutil.ignore_patterns("training.json")
        )
        keep_trained_layers(weights / "fastcomposer" / variant / "image_encoder", weights / "clip")
        keep_difference(weights / "fastcomposer" / variant / "unet", weights / "pipeline")
    _pack_adapter(work, weights)
    (weights / "faces").mkdir()
    for stage in ("detector", "recognizer"):
        shutil.copy(needed[stage] / f"{stage}.onnx", weights / "faces" / f"{stage}.onnx")
    for config in weights.rglob("*.json"):
        _forget_origin(config)
    shutil.rmtree(final, ignore_errors=True)
    weights.replace(final)


def _pack_adapter(work: Workspace, weights: Path) -> None:
    """Copy the trained IP-Adapter, which is in half precision, into `weights`."""
    (weights / ADAPTER_STAGE).mkdir(exist_ok=True)
    shutil.copy(work.need(ADAPTER_STAGE) / ip_adapter.WEIGHTS, weights / ADAPTER_STAGE)


def _forget_origin(config: Path) -> None:
    """Remove the path from which a model was loaded, because it is meaningless on other machines."""
    content = json.loads(config.read_text(encoding="utf-8"))
    if content.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def open_base(weights: Path) -> StableDiffusionPipeline:
    """The shipped base pipeline in single precision, without a progress bar."""
    pipeline = StableDiffusionPipeline.from_pretrained(weights / "pipeline", dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def open_fastcomposer(weights: Path, variant: str) -> FastComposerPipeline:
    """A shipped FastComposer variant in single precision, without a progress bar."""
    return open_overlay(weights, weights / "fastcomposer" / variant)


def open_overlay(weights: Path, overlay: Path) -> FastComposerPipeline:
    """A fine-tuned version of the shipped base in single precision, without a progress bar."""
    pipeline = load_fastcomposer(weights / "pipeline", overlay, image_encoder=weights / "clip")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def open_adapter(weights: Path) -> StableDiffusionPipeline:
    """The shipped base pipeline with the shipped IP-Adapter in single precision, without a progress bar."""
    adapter = weights / ADAPTER_STAGE / ip_adapter.WEIGHTS
    return ip_adapter.open_with_adapter(open_base(weights), weights / "clip", adapter)


def measure(weights: Path, pictures: int = 64) -> dict[str, Any]:
    """Held-out quality of all models in `weights`: model name -> measures."""
    faces = quality.open_face_pack(weights / "faces")
    base = open_base(weights)
    clip = CLIPModel.from_pretrained(weights / "clip", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(weights / "clip")
    results: dict[str, Any] = {
        "vae": quality.measure_vae(base.vae),
        "clip": quality.measure_clip(clip, tokenizer),
        "detector": quality.measure_detector(faces),
        "recognizer": quality.measure_recognizer(faces),
        "base": {},
        "reference": {},
    }
    for subjects, name in ((1, "one_subject"), (2, "two_subjects")):
        real = quality.real_set(subjects, pictures)
        results["reference"][name] = {
            "real": quality.measure_identity(faces, real),
            "through_vae": quality.measure_identity(faces, quality.through_vae(base.vae, real)),
            "colors_of_real": quality.measure_colors(faces, real),
        }
        generated = quality.generate_set(base, subjects, pictures, None)
        consistency = quality.measure_prompt_consistency(base, clip, tokenizer, subjects, pictures)
        results["base"][name] = {**_measure_people(faces, generated), "prompt_consistency": consistency}
    for variant, stage in VARIANTS.items():
        pipeline = open_fastcomposer(weights, variant)
        results[stage] = {}
        for subjects, name in ((1, "one_subject"), (2, "two_subjects")):
            by_alpha = {}
            for alpha in (ALPHA, 1.0):
                generated = quality.generate_set(pipeline, subjects, pictures, alpha)
                by_alpha[f"alpha_{alpha}"] = _measure_people(faces, generated)
            results[stage][name] = by_alpha
        results[stage]["attention"] = quality.measure_attention(pipeline, SUPERVISED_LAYERS)
    return results


def measure_adapter(weights: Path, faces: Any, cards: Path, pictures: int = 32) -> dict[str, Any]:
    """Held-out quality of the IP-Adapter in `weights`, and its sample grid in `cards`.

    The grid shows references of one and of two people, samples of the base model, and samples with the adapter. The
    pictures are fewer than for other models, because each is drawn alone.
    """
    base, pipeline = open_base(weights), open_adapter(weights)
    results: dict[str, Any] = {"scale": ADAPTER_SCALE}
    rows = []
    for subjects, name in ((1, "one_subject"), (2, "two_subjects")):
        generated = quality.generate_set(pipeline, subjects, pictures, None, adapter_scale=ADAPTER_SCALE)
        results[name] = _measure_people(faces, generated)
        if subjects == 1:
            results[name]["told_apart"] = quality.measure_telling_apart(faces, generated)
        rows += [[row[k] for row in generated.references[:8]] for k in range(subjects)]
        rows += [quality.generate_set(base, subjects, 8, None).images, generated.images[:8]]
    _save_grid(cards / f"{ADAPTER_STAGE}.png", rows)
    return results


def _measure_people(faces: Any, generated: quality.GeneratedSet) -> dict[str, Any]:
    return {
        "identity": quality.measure_identity(faces, generated),
        "colors": quality.measure_colors(faces, generated),
    }


def draw_grids(weights: Path, cards: Path) -> None:
    """Write sample grids: reconstructions, text-only samples, and FastComposer with and without localization."""
    base = open_base(weights)
    pictures = np.stack([render_seed(60_000_000 + i, HELD_OUT_RECOGNIZER_PEOPLE).image for i in range(8)])
    _save_grid(cards / "decoder.png", [list(pictures), list(reconstruct(base.vae, pictures, torch.device("cpu")))])
    singles, pairs = (quality.generate_set(base, subjects, 8, None) for subjects in (1, 2))
    _save_grid(cards / "base.png", [singles.images, pairs.images])
    for variant, stage in VARIANTS.items():
        pipeline = open_fastcomposer(weights, variant)
        rows = []
        for subjects in (1, 2):
            generated = {alpha: quality.generate_set(pipeline, subjects, 8, alpha) for alpha in (0.4, ALPHA, 1.0)}
            references = generated[ALPHA].references
            rows += [[row[k] for row in references] for k in range(subjects)]
            rows += [generated[alpha].images for alpha in (0.4, ALPHA, 1.0)]
        _save_grid(cards / f"{stage}.png", rows)


def _save_grid(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows])).save(path)


def folders_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """The argument parser of a command on trained models, with options for training, weights and cards folders."""
    parser = argparse.ArgumentParser(
        prog=f"python -m fc_bench.model.pocket.{command}", description=(description or "").split("\n")[0]
    )
    parser.add_argument("--training", type=Path, default=Path("training-output"), help="folder of the training")
    parser.add_argument("--weights", type=Path, default=HERE / "weights", help="folder of the packed weights")
    parser.add_argument("--cards", type=Path, default=HERE / "cards", help="folder of the cards and figures")
    return parser


@as_command
def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = folders_parser("assemble", __doc__)
    parser.add_argument(
        "--measure-only", action="store_true", help="only measure and write cards, without packing weights"
    )
    parser.add_argument("--only", choices=[ADAPTER_STAGE], help="only this model, over the other packed weights")
    options = parser.parse_args(arguments)
    work = Workspace(options.training, torch.device("cpu"))
    if not options.measure_only:
        (_pack_adapter if options.only else pack)(work, options.weights)
    options.cards.mkdir(parents=True, exist_ok=True)
    kept = options.cards / "quality.json"
    if options.only:
        results = json.loads(kept.read_text(encoding="utf-8"))
    else:
        results = measure(options.weights)
        draw_grids(options.weights, options.cards)
    faces = quality.open_face_pack(options.weights / "faces")
    results[ADAPTER_STAGE] = measure_adapter(options.weights, faces, options.cards)
    kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_cards(work, results, options.cards)
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
