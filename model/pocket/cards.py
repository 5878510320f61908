"""Model cards of the pocket models, written from the records of training and measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fc_bench.model.errors import ModelInputError
from fc_bench.model.pocket.dataset import PLAN
from fc_bench.model.pocket.train import ADAPTER_STAGE, CONTINUED, FASTCOMPOSER_STAGES, STAGES, Workspace

_TITLES = {
    "vae": ("Pocket autoencoder", "AutoencoderKL, 128 x 128 pictures to 16 x 16 latents with 8 channels"),
    "decoder": ("Pocket autoencoder, decoder", "The decoder, trained further on the latents of the finished encoder"),
    "clip": (
        "Pocket CLIP",
        "CLIPModel; its text tower conditions the UNet, and its vision tower initializes FastComposer's image encoder",
    ),
    "detector": (
        "Pocket face detector",
        "ONNX model for insightface with SCRFD's output layout and a fixed input of 128 x 128 pixels",
    ),
    "recognizer": (
        "Pocket face recognizer",
        "ONNX model for insightface, from aligned faces of 112 x 112 pixels to embeddings of 128 numbers",
    ),
    "base": ("Pocket base model", "StableDiffusionPipeline with a v-prediction UNet, text only"),
    FASTCOMPOSER_STAGES[True]: (
        "Pocket FastComposer with localization",
        "UNet, image encoder and post-fuse module, fine-tuned from the base model",
    ),
    FASTCOMPOSER_STAGES[False]: (
        "Pocket FastComposer without localization",
        "The same fine-tuning for the same time with a localization weight of 0",
    ),
    ADAPTER_STAGE: (
        "Pocket IP-Adapter",
        "Projection of an image embedding to four tokens, and keys and values of the cross-attention that attends to "
        "them, over the base model; in the published layout, which diffusers loads",
    ),
}
TRAINING = "training.json"
"""Name of the file beside the cards that records how each stage was trained; later trainings may not repeat a stage."""
PAST = "went on from weights of"
"""Key of the earlier training from which a stage continued."""
FACE_STAGES = ("detector", "recognizer")
"""The stages that are trained on pictures of other people."""
_LABELS = {PAST: "continued from the weights of"}
_GENERATORS = ("base", *FASTCOMPOSER_STAGES.values(), ADAPTER_STAGE)
_GRIDS = {"decoder", *_GENERATORS}
_CARD = """# {title}

{what}.

{grid}## Training

{training}

Command: `{command}`

## Held-out quality

Measured on people that no model was trained on. `python -m fc_bench.model.pocket.assemble --measure-only` repeats the
measurement.

{quality}

## Data and license

The model was trained from scratch on {pictures:,} pictures of {people:,} people, drawn by this project's own renderer.
No other data set shows the same people, and no photograph of a real person was involved. The license is MIT, as for the
whole project. The model is made for testing a benchmark, not for recognizing or depicting real people.
"""


def write_cards(work: Workspace, quality: Mapping[str, Any], folder: Path) -> None:
    """Write `<folder>/<stage>.md` for every stage, and the training facts of all stages to `training.json`.

    A stage whose folder has no new records keeps its facts from `training.json`. Raises ModelInputError for a stage
    without facts.
    """
    kept = folder / TRAINING
    trained: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for stage in STAGES:
        if (work.folder / stage / "log.jsonl").is_file():
            data = work.folder / ("faces-data" if stage in FACE_STAGES else "data")
            plan = json.loads((data / PLAN).read_text(encoding="utf-8"))
            facts = {"pictures": plan["count"], "people": plan["people"]}
            facts = {**_training_facts(work.folder / stage), **facts}
            if (work.folder / stage / CONTINUED).is_file():
                facts[PAST] = _past(trained[stage], facts)
            trained[stage] = facts
        if stage not in trained:
            raise ModelInputError(
                f"{work.folder / stage} has no records of its training: train the stage '{stage}' there"
            )
    kept.write_text(json.dumps({stage: trained[stage] for stage in STAGES}, indent=1) + "\n", encoding="utf-8")
    for stage, facts in trained.items():
        title, what = _TITLES[stage]
        card = _CARD.format(
            title=title,
            what=what,
            grid=f"![samples]({stage}.png)\n\n" if stage in _GRIDS else "",
            training=table(facts),
            command=_command(stage, facts),
            pictures=facts["pictures"],
            people=facts["people"],
            quality=table(flat(quality[measured_as(stage)])) + _reference(stage, quality),
        )
        (folder / f"{stage}.md").write_text(card, encoding="utf-8")


def _past(facts: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A description of the earlier training, from the recorded facts.

    If the recorded facts are those of the current training, because its cards are written again, their own description
    of the earlier training is kept.
    """
    if PAST in facts and {name: fact for name, fact in facts.items() if name != PAST} == dict(now):
        return str(facts[PAST])
    description = f"{facts['steps']} steps of {facts['batch size']} in {facts['wall time (s)']:.0f} s"
    return f"{description} and {facts[PAST]}" if PAST in facts else description


def _command(stage: str, facts: Mapping[str, Any]) -> str:
    command = f"python -m fc_bench.model.pocket.train --stage {stage} --seconds {facts['time budget (s)']:.0f}"
    if stage not in FACE_STAGES:
        command += f" --pictures {facts['pictures']} --people {facts['people']}"
    return f"{command} --continue-from WEIGHTS" if PAST in facts or stage == ADAPTER_STAGE else command


def _training_facts(folder: Path) -> dict[str, Any]:
    """The facts that a stage recorded about its training: seed, steps, device, time, settings and last losses."""
    if (folder / "result.json").exists():
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        settings = result["settings"]
        return {
            "seed": settings["seed"],
            "steps": result["steps"],
            "device": result["device"],
            "wall time (s)": result["seconds"],
            "time budget (s)": settings["seconds"],
            "batch size": settings["batch_size"],
            "learning rate": settings["learning_rate"],
            **{f"last {name}": value for name, value in result["last"].items()},
        }
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    state = json.loads((folder / "weights" / "training.json").read_text(encoding="utf-8"))
    return {
        "seed": config["seed"],
        "steps": state["step"],
        "batch size": config["batch_size"],
        "device": json.loads((folder / "device.json").read_text(encoding="utf-8")),
        "wall time (s)": round(state["elapsed"], 1),
        "time budget (s)": config["max_seconds"],
        "learning rate of the UNet": config["optimizer"]["learning_rate"]["unet"],
        "localization weight": config["localization"]["weight"],
        "last denoising loss": lines[-1]["denoising_loss"],
        "last localization loss": lines[-1]["localization_loss"],
    }


def _reference(stage: str, quality: Mapping[str, Any]) -> str:
    """For the generators, the measures of the text-only base model (floor) and of true pictures (ceiling)."""
    if stage not in _GENERATORS:
        return ""
    if stage != "base":
        text_only = "\n\nThe same measures of the base model, which is conditioned only on text:\n\n" + table(
            flat(quality["base"])
        )
    else:
        text_only = ""
    return text_only + "\n\nThe same measures of true pictures (the ceiling):\n\n" + table(flat(quality["reference"]))


def measured_as(stage: str) -> str:
    """The key of a stage's measures; the decoder is measured as part of the autoencoder."""
    return "vae" if stage == "decoder" else stage


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested measures flattened to one level, with joined names."""
    joined: dict[str, Any] = {}
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ")
        joined.update(flat(value, f"{label}, ") if isinstance(value, Mapping) else {label: value})
    return joined


def table(facts: Mapping[str, Any]) -> str:
    """A two-column Markdown table."""
    rows = [f"| {_LABELS.get(name, name)} | {_format(value)} |" for name, value in facts.items()]
    return "\n".join(["| quantity | value |", "|---|---|", *rows])


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
