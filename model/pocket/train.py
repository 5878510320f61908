"""One command trains every pocket model, stage by stage, on whatever device there is, and can be interrupted.

    python -m fc_bench.model.pocket.train --output training-output --budget 8h

Each stage takes its share of the budget, leaves `<output>/<stage>/model` (or an ONNX file) with `result.json` and
`log.jsonl`, and is skipped when that is there. `--stage` runs single ones, `--seconds` overrides a stage's share.
`python -m fc_bench.model.pocket.assemble` measures the result and packs it as the weights that ship.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from fc_bench.model.command_line import as_command
from fc_bench.model.durations import parse_duration
from fc_bench.model.errors import ModelInputError
from fc_bench.model.pocket import base_unet, clip, face_detector, face_recognizer, ip_adapter, vae
from fc_bench.model.pocket.dataset import (
    DatasetPlan,
    PackedDataset,
    read_packed,
    read_photographs,
    training_plan,
    write_dataset,
)
from fc_bench.model.pocket.people import RECOGNIZER_PEOPLE, TRAINING_PEOPLE
from fc_bench.model.pocket.stage import StageSettings, device_name, pick_device
from fc_bench.model.pocket.tokenizer import build_tokenizer
from fc_bench.model.stored_weights import load_whole

SUPERVISED_LAYERS = ("down_blocks.1", "mid_block", "up_blocks.1", "up_blocks.2")
"""Cross-attention groups of the pocket UNet that the localization loss supervises (all but the first)."""


@dataclass(frozen=True)
class BatchSizes:
    """Samples a step, by stage."""

    vae: int
    clip: int
    detector: int
    recognizer: int
    base: int
    fastcomposer: int
    ip_adapter: int


ON_CPU = BatchSizes(vae=16, clip=128, detector=32, recognizer=96, base=32, fastcomposer=48, ip_adapter=16)
ON_ACCELERATOR = BatchSizes(vae=128, clip=512, detector=128, recognizer=512, base=256, fastcomposer=256, ip_adapter=256)


@dataclass(frozen=True)
class Workspace:
    """Where a training lives, how big its world is and what it runs on."""

    folder: Path
    device: torch.device
    pictures: int = 80_000
    people: int = 12_000
    face_pictures: int = 20_000
    face_people: int = 3_000
    workers: int = 2
    earlier: Path | None = None
    """Packed weights that the base model and FastComposer go on from, and that an IP-Adapter is trained on."""

    def __post_init__(self) -> None:
        for count, people in ((self.people, TRAINING_PEOPLE), (self.face_people, RECOGNIZER_PEOPLE)):
            if not 2 <= count <= len(people):
                raise ModelInputError(
                    f"{count} people cannot be drawn, more would be the ones that suites show: "
                    f"ask for 2 to {len(people):,}"
                )

    @property
    def batch(self) -> BatchSizes:
        """Batch sizes that suit the device."""
        return ON_CPU if self.device.type == "cpu" else ON_ACCELERATOR

    def data(self) -> PackedDataset:
        """The pictures that the generator and CLIP are trained on, rendered when first needed."""
        plan = training_plan(self.folder / "data", self.pictures, self.people, self.pictures // 100)
        return read_packed(write_dataset(plan, self.workers))

    def photographs(self) -> PackedDataset:
        """Plain photographs of the same people, which FastComposer takes its references from."""
        self.data()
        return read_photographs(self.folder / "data")

    def face_data(self) -> PackedDataset:
        """The pictures that the face models are trained on, of other people."""
        plan = DatasetPlan(
            folder=self.folder / "faces-data",
            count=self.face_pictures,
            people=self.face_people,
            first_person=RECOGNIZER_PEOPLE.start,
            first_seed=10_000_000,
            share_of_pairs=0.4,
            test_count=self.face_pictures // 50,
        )
        return read_packed(write_dataset(plan, self.workers))

    def model(self, stage: str) -> Path:
        """The trained model of a stage."""
        return self.folder / stage / "model"

    def need(self, stage: str) -> Path:
        """The trained model of an earlier stage; raises ModelInputError when it is not there yet."""
        path = self.model(stage)
        if not path.exists():
            raise ModelInputError(f"{path} is missing: run the stage '{stage}' first")
        return path

    def finished(self, stage: str, packed: str) -> Path:
        """The trained model of an earlier stage, or the folder `packed` of the earlier weights where it is missing."""
        if self.earlier is not None and not self.model(stage).exists():
            return self.earlier / packed
        return self.need(stage)


def _train_vae(work: Workspace, seconds: float, target: Path) -> None:
    settings = StageSettings(
        seconds, learning_rate=5e-4, batch_size=work.batch.vae, betas=(0.9, 0.95), weight_decay=1e-4
    )
    trained = vae.train_vae(work.data(), work.folder / "vae", settings, work.device)
    trained.save_pretrained(target)


def _train_clip(work: Workspace, seconds: float, target: Path) -> None:
    settings = StageSettings(
        seconds, learning_rate=1.2e-3, batch_size=work.batch.clip, weight_decay=0.05, warmup_steps=60
    )
    tokenizer = build_tokenizer()
    trained = clip.train_clip(work.data(), work.photographs(), tokenizer, work.folder / "clip", settings, work.device)
    trained.save_pretrained(target)
    tokenizer.save_pretrained(target)
    clip.build_image_processor().save_pretrained(target)


def _train_decoder(work: Workspace, seconds: float, target: Path) -> None:
    autoencoder = AutoencoderKL.from_pretrained(work.need("vae"))
    nn.Module.to(autoencoder, work.device)
    data = work.data()
    latents = vae.encode_latents(autoencoder, data, work.folder / "vae" / "latents.npy", work.device)
    settings = StageSettings(
        seconds, learning_rate=4e-4, batch_size=work.batch.vae, betas=(0.9, 0.95), weight_decay=1e-4
    )
    vae.train_decoder(autoencoder, data, latents, work.folder / "decoder", settings, work.device)
    autoencoder.save_pretrained(target)


def _train_base(work: Workspace, seconds: float, target: Path) -> None:
    autoencoder = AutoencoderKL.from_pretrained(work.need("vae"))
    nn.Module.to(autoencoder, work.device)
    text_encoder = CLIPTextModel.from_pretrained(work.need("clip"))
    tokenizer = CLIPTokenizer.from_pretrained(work.need("clip"))
    data = work.data()
    latents = vae.encode_latents(autoencoder, data, work.folder / "vae" / "latents.npy", work.device)
    if work.earlier is None:
        unet, rate = base_unet.build_unet(), 1e-3
    else:
        unet, rate = load_whole(UNet2DConditionModel, work.earlier / "pipeline" / "unet"), 6e-4
    settings = StageSettings(seconds, learning_rate=rate, batch_size=work.batch.base, warmup_steps=100, ema=0.998)
    base_unet.train_base_unet(unet, data, latents, text_encoder, tokenizer, work.folder / "base", settings, work.device)
    build_pipeline(unet, autoencoder, text_encoder, tokenizer).save_pretrained(target)


def _train_fastcomposer(localization_weight: float) -> Callable[[Workspace, float, Path], None]:
    def run(work: Workspace, seconds: float, target: Path) -> None:
        from fc_bench.model.training.config import TrainingConfig
        from fc_bench.model.training.loop import train

        work.data()
        stage = FASTCOMPOSER_STAGES[localization_weight > 0]
        recipe = fastcomposer_recipe(work, stage, localization_weight, seconds)
        if work.earlier is not None:
            recipe["initial"] = work.earlier / "fastcomposer" / stage.removeprefix("fastcomposer-")
        weights = train(TrainingConfig.model_validate(recipe), resume=True, watch=keeping_snapshots(seconds))
        (work.folder / stage / "device.json").write_text(json.dumps(device_name(work.device)), encoding="utf-8")
        shutil.copytree(weights, target, dirs_exist_ok=True)

    return run


SNAPSHOTS = "snapshots"
"""Folder in which a fine-tune keeps its weights on the way, for the learning curve (see `learning`)."""
PARTS = 3
"""Parts of a fine-tune's time, at the end of each of which its weights are kept."""


def keeping_snapshots(seconds: float) -> Callable[[int, Path], None]:
    """What keeps a copy of written weights beside them, the first ones in each part of a training's time."""

    def keep(_: int, weights: Path) -> None:
        elapsed = json.loads((weights / "training.json").read_text(encoding="utf-8"))["elapsed"]
        target = weights.parent / SNAPSHOTS / f"part-{min(PARTS, int(PARTS * elapsed / seconds))}"
        if not target.exists():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(weights, partial)
            partial.rename(target)

    return keep


def fastcomposer_recipe(work: Workspace, stage: str, localization_weight: float, seconds: float) -> dict[str, object]:
    """The configuration of FastComposer's fine-tune on pocket pictures, for `fc_bench.model.training`."""
    return {
        "pipeline": work.need("base"),
        "image_encoder": work.need("clip"),
        "output": work.folder / stage,
        "data": {
            "root": work.folder / "data",
            "reference": "other-image",
            "reference_split": "references",
            "background": "keep",
            "resolution": 128,
            "augmentation": None,
            "variants": 1,
            "p_unconditional": 0.1,
            "p_text_only": 0.1,
            "p_keep_subject": 0.95,
            "workers": 0,
        },
        "cache": {"folder": work.folder / "fastcomposer-cache", "vision": True, "batch_size": 64},
        "localization": {"weight": localization_weight, "groups": SUPERVISED_LAYERS},
        "optimizer": {
            "learning_rate": {"unet": 4e-4, "postfuse_module": 1e-3, "image_encoder": 1e-3},
            "betas": (0.9, 0.98),
            "weight_decay": 1e-3,
            "schedule": "cosine",
            "warmup_steps": 40,
            "final_fraction": 0.03,
        },
        "vision_layers": 2,
        "p_masked_loss": 0.5,
        "masked_loss_normalization": "area",
        "stratified_timesteps": True,
        "batch_size": work.batch.fastcomposer,
        "max_seconds": seconds,
        "ema_decay": 0.995,
        "weights_dtype": "float16",
        "log_every": 25,
        "checkpoint_seconds": 180,
    }


def build_pipeline(
    unet: UNet2DConditionModel, autoencoder: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """A stock diffusers pipeline of the pocket models."""
    sampler: Any = base_unet.build_sampler()  # declared as the enumeration of the samplers that fit
    absent: Any = None
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=sampler,
        safety_checker=absent,
        feature_extractor=absent,
        requires_safety_checker=False,
    )


def _train_ip_adapter(work: Workspace, seconds: float, target: Path) -> None:
    base, folder = work.finished("base", "pipeline"), work.folder / ADAPTER_STAGE
    encoder = load_whole(CLIPVisionModelWithProjection, work.finished("clip", "clip"))
    data, photographs = work.data(), work.photographs()
    autoencoder: AutoencoderKL = load_whole(AutoencoderKL, base / "vae")
    nn.Module.to(autoencoder, work.device)
    latents = vae.encode_latents(autoencoder, data, work.folder / "vae" / "latents.npy", work.device)
    settings = StageSettings(
        seconds, learning_rate=1e-3, batch_size=work.batch.ip_adapter, warmup_steps=50, ema=0.99, checkpoint_every=60
    )
    adapter = ip_adapter.train_adapter(
        load_whole(UNet2DConditionModel, base / "unet"),
        data,
        latents,
        photographs,
        ip_adapter.embed_references(encoder, photographs, folder / "photographs.npy", work.device),
        load_whole(CLIPTextModel, base / "text_encoder"),
        CLIPTokenizer.from_pretrained(base / "tokenizer"),
        folder,
        settings,
        work.device,
    )
    ip_adapter.save_adapter(adapter, target / ip_adapter.WEIGHTS)


def _train_detector(work: Workspace, seconds: float, target: Path) -> None:
    settings = StageSettings(seconds, learning_rate=2e-3, batch_size=work.batch.detector, ema=0.99)
    trained = face_detector.train_face_detector(work.face_data(), work.folder / "detector", settings, work.device)
    face_detector.export_face_detector(trained, target / "detector.onnx")


def _train_recognizer(work: Workspace, seconds: float, target: Path) -> None:
    settings = StageSettings(seconds, learning_rate=2e-3, batch_size=work.batch.recognizer, weight_decay=5e-4, ema=0.99)
    trained = face_recognizer.train_face_recognizer(work.face_data(), work.folder / "recognizer", settings, work.device)
    face_recognizer.export_face_recognizer(trained, target / "recognizer.onnx")


FASTCOMPOSER_STAGES = {True: "fastcomposer-with-localization", False: "fastcomposer-without-localization"}
ADAPTER_STAGE = "ip-adapter"
LOCALIZATION_WEIGHT = 0.03
STAGES: dict[str, tuple[float, Callable[[Workspace, float, Path], None]]] = {
    "vae": (0.10, _train_vae),
    "decoder": (0.05, _train_decoder),
    "clip": (0.17, _train_clip),
    "detector": (0.03, _train_detector),
    "recognizer": (0.05, _train_recognizer),
    "base": (0.21, _train_base),
    FASTCOMPOSER_STAGES[True]: (0.18, _train_fastcomposer(LOCALIZATION_WEIGHT)),
    FASTCOMPOSER_STAGES[False]: (0.18, _train_fastcomposer(0.0)),
    ADAPTER_STAGE: (0.03, _train_ip_adapter),
}
"""Stage -> its share of the budget and what trains it into a folder; in the order they need one another."""


CONTINUED = "continued.txt"
"""In the folder of a stage that went on from packed weights: which these were."""


def run_stage(work: Workspace, stage: str, seconds: float) -> None:
    """Train a stage for `seconds`; its model folder appears when it is complete."""
    partial = work.model(stage).with_name("model.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if work.earlier is not None and stage in ("base", *FASTCOMPOSER_STAGES.values()):
        (work.folder / stage / CONTINUED).write_text(f"{work.earlier}\n", encoding="utf-8")
    STAGES[stage][1](work, seconds, partial)
    partial.replace(work.model(stage))


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """An argument type for numbers above 0; argparse names the type when a value is refused."""

    def positive_number(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise ValueError(text)
        return value

    return positive_number


@as_command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fc_bench.model.pocket.train", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--output", type=Path, default=Path("training-output"), help="folder of the training")
    parser.add_argument("--budget", default="8h", help="training time of all stages together, e.g. 25m or 8h")
    parser.add_argument("--stage", action="append", choices=list(STAGES), help="only this stage (repeatable)")
    parser.add_argument(
        "--seconds", type=_positive(float), help="time of each chosen stage, instead of its share of the budget"
    )
    parser.add_argument(
        "--pictures", type=_positive(int), default=Workspace.pictures, help="training pictures to render"
    )
    parser.add_argument(
        "--people", type=_positive(int), default=Workspace.people, help="people in the training pictures"
    )
    parser.add_argument("--workers", type=_positive(int), default=Workspace.workers, help="rendering processes")
    parser.add_argument(
        "--continue-from",
        type=Path,
        help="packed weights that base and FastComposer go on from, and that the IP-Adapter is trained on",
    )
    options = parser.parse_args(arguments)
    work = Workspace(
        options.output,
        pick_device(),
        pictures=options.pictures,
        people=options.people,
        workers=options.workers,
        earlier=options.continue_from,
    )
    budget = parse_duration(options.budget)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelInputError(
            f"{options.output} cannot be written ({error.strerror}): choose another --output"
        ) from error
    for stage in options.stage or STAGES:
        if work.model(stage).exists():
            print(f"{stage}: done already", flush=True)
            continue
        seconds = options.seconds or STAGES[stage][0] * budget
        print(f"{stage}: training for {seconds / 60:.1f} minutes", flush=True)
        run_stage(work, stage, seconds)
        result = work.folder / stage / "result.json"
        if result.exists():
            print(f"{stage}: {json.loads(result.read_bytes())['last']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
