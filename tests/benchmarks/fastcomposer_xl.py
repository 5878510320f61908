"""FastComposer on a small Stable Diffusion XL of the pocket world, trained in minutes; does its training do its work?

    python tests/benchmarks/fastcomposer_xl.py --folder training-output/pocket-xl

A UNet in XL's form (three levels, blocks of one and two layers, time ids, the features of two text encoders) is trained
as text to image on drawn pictures, then FastComposer on it, with and without the localization loss. Measured on people
that no training shows: attention, identity, and how far images of one noise differ when the subject is another. Stages
that are complete are skipped; `--stages` names some. Results are in `results.json` of the folder, of which the stage
`publish` makes the table in docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from fc_bench.model.fastcomposer.pipeline import load_fastcomposer
from fc_bench.model.pocket import quality
from fc_bench.model.pocket.base_unet import build_sampler
from fc_bench.model.pocket.clip import WIDTH
from fc_bench.model.pocket.dataset import training_plan, write_dataset
from fc_bench.model.pocket.people import EVALUATION_PEOPLE, make_person
from fc_bench.model.pocket.render import render_photograph
from fc_bench.model.pocket.tokenizer import build_tokenizer
from fc_bench.model.pocket.vae import LATENT_CHANNELS, LATENT_SIZE
from fc_bench.model.stored_weights import load_whole
from fc_bench.model.training.config import TrainingConfig
from fc_bench.model.training.loop import train
from fc_bench.reports.reference import renew_pages

WEIGHTS = Path(quality.__file__).resolve().parent / "weights"
LOCALIZATION = {"with-localization": 0.03, "without-localization": 0.0}
"""Stage -> weight of the localization loss, as the pocket models were trained."""
STAGES = ("base", *LOCALIZATION, "measure", "publish")
PUBLISHED = Path("reports/reference/pocket-xl/headline.md")
GROUPS = 5


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet with XL's blocks: text attention on the lower two levels and in the middle."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 1, 2],
        attention_head_dim=[2, 4, 4],
        cross_attention_dim=2 * WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=WIDTH + 6 * 16,
    )


def save_pipeline(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write the pipeline: the pocket autoencoder, and its CLIP's text encoder in both places."""
    second = build_tokenizer()
    second.pad_token = "!"
    sampler: Any = build_sampler()
    StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_pretrained(WEIGHTS / "pipeline" / "vae", torch_dtype=torch.float32),
        text_encoder=CLIPTextModel.from_pretrained(WEIGHTS / "pipeline" / "text_encoder", dtype=torch.float32),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(WEIGHTS / "clip", dtype=torch.float32),
        tokenizer=build_tokenizer(),
        tokenizer_2=second,
        unet=unet,
        scheduler=sampler,
        add_watermarker=False,
    ).save_pretrained(folder)


def configuration(folder: Path, stage: str, steps: int, pipeline: Path, **changes: Any) -> TrainingConfig:
    """The pocket recipe on the XL pipeline; `changes` are fields of the data."""
    rates = {"unet": 4e-4, "postfuse_module": 1e-3, "image_encoder": 1e-3}
    fields: dict[str, Any] = {
        "pipeline": pipeline,
        "image_encoder": WEIGHTS / "clip",
        "output": folder / stage,
        "data": {
            "root": folder / "pictures",
            "reference": "other-image",
            "reference_split": "references",
            "background": "keep",
            "resolution": 128,
            "augmentation": None,
            "variants": 1,
            "p_text_only": 0.1,
            "p_keep_subject": 0.95,
            **changes,
        },
        "cache": {"folder": folder / "cache", "vision": True, "batch_size": 64},
        "localization": {"weight": LOCALIZATION.get(stage, 0.0), "groups": GROUPS},
        "optimizer": {
            "learning_rate": rates if stage in LOCALIZATION else {**rates, "unet": 1e-3},
            "betas": (0.9, 0.98),
            "weight_decay": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 40,
            "final_fraction": 0.03,
        },
        "masked_loss_normalization": "area",
        "p_masked_loss": 0.5 if stage in LOCALIZATION else 0.0,
        "stratified_timesteps": True,
        "batch_size": 16,
        "mixed_precision": "no",
        "max_steps": steps,
        "ema_decay": 0.98,
        "log_every": 10,
        "checkpoint_seconds": 60,
        "cpu": True,
    }
    return TrainingConfig.model_validate(fields)


def train_base(folder: Path, steps: int, pictures: int) -> None:
    """Text to image: the same training without a subject."""
    write_dataset(training_plan(folder / "pictures", pictures, pictures // 5, pictures // 100), 1)
    torch.manual_seed(0)
    start = folder / "untrained"
    if not start.exists():
        save_pipeline(build_unet(), start)
    trained = train(configuration(folder, "base", steps, start, p_text_only=0.9), resume=True)
    save_pipeline(load_whole(UNet2DConditionModel, trained / "unet"), folder / "pipeline.partial")
    (folder / "pipeline.partial").rename(folder / "pipeline")
    shutil.rmtree(start)


def measure(folder: Path, pictures: int) -> dict[str, Any]:
    """What the trainings reached; means over unseen people."""
    results: dict[str, Any] = {"base": {"log": curve(folder / "base")}}
    pack = quality.open_face_pack(WEIGHTS / "faces")
    for stage, weight in LOCALIZATION.items():
        pipeline = load_fastcomposer(folder / "pipeline", folder / stage / "weights")
        pipeline.set_progress_bar_config(disable=True)
        results[stage] = {
            "localization_weight": weight,
            "log": curve(folder / stage),
            "attention": quality.measure_attention(pipeline, GROUPS, pictures),
            "differences": differences(pipeline, pictures),
            "identity": quality.measure_identity(pack, quality.generate_set(pipeline, 1, pictures, 0.9)),
            "identity_of_text_only": quality.measure_identity(pack, quality.generate_set(pipeline, 1, pictures, None)),
        }
    return results


def curve(output: Path) -> dict[str, Any]:
    """The first and the last tenth of a training's log, as means."""
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    part = max(1, len(lines) // 10)
    names = ("denoising_loss", "localization_loss")
    means = {
        f"{name}_{end}": float(np.mean([line[name] for line in own]))
        for end, own in (("first", lines[:part]), ("last", lines[-part:]))
        for name in names
    }
    return {"steps": lines[-1]["step"], "seconds": lines[-1]["seconds"], **means}


def differences(pipeline: Any, pictures: int) -> dict[str, float]:
    """Mean absolute differences, in gray levels, of images of one noise: another subject, another photograph."""
    found: dict[str, list[float]] = {"other_subject": [], "other_photograph": []}
    for index in range(pictures):
        person = make_person(EVALUATION_PEOPLE[2 * index])
        stranger = make_person(EVALUATION_PEOPLE[2 * index + 1], person.noun)
        references = [render_photograph(*own).image for own in ((person, 0), (stranger, 0), (person, 1))]
        drawn = pipeline(
            [f"a {person.noun} <|image|> on the beach"] * 3,
            subject_images=[[Image.fromarray(own)] for own in references],
            alpha=0.9,
            num_inference_steps=20,
            guidance_scale=3.0,
            generator=[torch.Generator().manual_seed(index) for _ in references],
        ).images
        own, other, again = (np.asarray(image, dtype=float) for image in drawn)
        found["other_subject"].append(np.abs(own - other).mean())
        found["other_photograph"].append(np.abs(own - again).mean())
    return {name: float(np.mean(values)) for name, values in found.items()}


def table(results: dict[str, Any]) -> str:
    """The results of both trainings as a Markdown table."""
    both = [results[stage] for stage in LOCALIZATION]
    change = "{:.3f} to {:.3f}".format

    def logged(name: str, own: dict[str, Any]) -> str:
        return change(own["log"][f"{name}_first"], own["log"][f"{name}_last"]) if own["log"][f"{name}_last"] else "–"

    def identity(own: dict[str, Any]) -> str:
        return "{identity:.3f} [{interval_low:.3f}, {interval_high:.3f}]".format(**own)

    rows = {
        "steps of 16 pictures": [str(own["log"]["steps"]) for own in both],
        "denoising loss, first and last tenth": [logged("denoising_loss", own) for own in both],
        "localization loss, first and last tenth": [logged("localization_loss", own) for own in both],
        "attention in its own person's pixels minus elsewhere": [
            f"{own['attention']['inside_minus_outside']:.4f}" for own in both
        ],
        "share of the attention on its own person, on the other": [
            "{own:.3f}, {other:.3f}".format(**own["attention"]) for own in both
        ],
        "another subject changes an image by": [f"{own['differences']['other_subject']:.1f}" for own in both],
        "another photograph of the subject by": [f"{own['differences']['other_photograph']:.1f}" for own in both],
        "identity of one subject": [identity(own["identity"]) for own in both],
        "identity of text alone": [identity(own["identity_of_text_only"]) for own in both],
    }
    lines = ["| | with localization | without |", "|---|---:|---:|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    base, measured = results["base"]["log"], results["with-localization"]["identity"]["pictures"]
    note = (
        f"Text to image before: {base['steps']} steps, loss {logged('denoising_loss', results['base'])}. Measured on "
        f"{measured} pictures of unseen people, differences in gray levels of 255. Intervals are 95 % over people."
    )
    return "\n".join([*lines, "", note, ""])


def main() -> None:
    """Run what is not complete yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where pictures, weights and results lie")
    parser.add_argument("--base-steps", type=int, default=600, help="of text to image")
    parser.add_argument("--steps", type=int, default=400, help="of each training of FastComposer")
    parser.add_argument("--pictures", type=int, default=3000, help="that are drawn to train on")
    parser.add_argument("--measured", type=int, default=24, help="pictures of each measure")
    parser.add_argument("--stages", choices=STAGES, nargs="+", default=STAGES, help="those to run; all if not given")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    for stage in arguments.stages:
        if stage == "base":
            if not (folder / "pipeline").exists():
                train_base(folder, arguments.base_steps, arguments.pictures)
        elif stage in LOCALIZATION:
            train(configuration(folder, stage, arguments.steps, folder / "pipeline"), resume=True)
        elif stage == "publish":
            PUBLISHED.parent.mkdir(parents=True, exist_ok=True)
            PUBLISHED.write_text(table(json.loads((folder / "results.json").read_text())))
            renew_pages(Path())
        else:
            results = measure(folder, arguments.measured)
            (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
