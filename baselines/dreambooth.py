"""DreamBooth (arXiv 2208.12242) trains the whole UNet, and optionally the text encoder, on a rare token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from pydantic import BaseModel, Field
from transformers import CLIPTextModel

from fc_bench.baselines.tuning.loop import TuningResult
from fc_bench.baselines.tuning.method import Steps
from fc_bench.baselines.tuning.rare_token import RareTokenMethod, RareTokenOptions, RareTokenTraining
from fc_bench.model.errors import loading
from fc_bench.protocols import Checkpoints, Subject


class DreamBoothOptions(RareTokenOptions):
    """Options; the defaults are those of the diffusers example for faces, which also trains the text encoder."""

    steps: Steps = 800
    learning_rate: float = Field(default=2e-6, gt=0)
    train_text_encoder: bool = True
    """Whether to train the text encoder as well."""


class DreamBooth(RareTokenMethod):
    """Tunes the whole UNet; two subjects are trained jointly, in one model with one rare token each."""

    description: ClassVar[str] = "tunes the whole UNet (and text encoder) to a rare token"
    Options: ClassVar[type[BaseModel]] = DreamBoothOptions

    @classmethod
    def remark(cls, options: DreamBoothOptions, subjects: int) -> str | None:
        """A remark for two subjects, because the published comparison has only single subjects."""
        if subjects == 1:
            return None
        return "two subjects are trained jointly, with a rare token each; this is an extension of published DreamBooth"

    def train(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> list[TuningResult]:
        """Train on all subjects' photographs; write `unet/` and, if it is trained, `text_encoder/`."""
        options: DreamBoothOptions = self.options
        examples = self.examples(subjects)
        unet = self.base.fresh_unet(torch.float32).requires_grad_(True)
        encoder = None
        if options.train_text_encoder:
            encoder = self.base.fresh_text_encoder(torch.float32).requires_grad_(True)
        training = RareTokenTraining(self.base, options, examples, unet, encoder)
        tuned = self.tune(training, subjects, seed, checkpoints, options.prior_weight)
        for name, model in (("unet", unet), ("text_encoder", encoder)):
            if model is not None:
                _to_dtype(model, self.base.dtype).save_pretrained(artefact_folder / name)
        return [tuned]

    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> StableDiffusionPipeline:
        """A pipeline of the tuned UNet, the tuned text encoder if there is one, and the base model's other parts."""
        (artefact,) = artefacts
        base, encoder = self.base, None
        with loading(f"the artefact {artefact}"):
            unet = UNet2DConditionModel.from_pretrained(artefact / "unet", dtype=base.dtype)
            if (artefact / "text_encoder").exists():
                encoder = base.placed(CLIPTextModel.from_pretrained(artefact / "text_encoder", dtype=base.dtype))
        return base.pipeline(base.placed(unet), encoder)


def _to_dtype(model: Any, dtype: torch.dtype) -> Any:
    """The model in a number format, without the library's warning about modules that prefer another format."""
    return torch.nn.Module.to(model, dtype)
