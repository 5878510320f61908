"""DreamBooth (arXiv 2208.12242): the whole UNet, and if asked the text encoder, learns a rare token for the subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from pydantic import BaseModel, Field
from transformers import CLIPTextModel

from fc_bench.baselines.tuning.loop import Tuned
from fc_bench.baselines.tuning.method import Steps
from fc_bench.baselines.tuning.rare_token import RareTokenMethod, RareTokenOptions, RareTokenTraining
from fc_bench.model.errors import loading
from fc_bench.protocols import Checkpoints, Subject


class DreamBoothOptions(RareTokenOptions):
    """Defaults are the diffusers example's for faces; it recommends to train the text encoder for them."""

    steps: Steps = 800
    learning_rate: float = Field(default=2e-6, gt=0)
    train_text_encoder: bool = True
    """Whether the text encoder learns, too."""


class DreamBooth(RareTokenMethod):
    """Joint training for two subjects: one model, a rare token each."""

    description: ClassVar[str] = "the whole UNet (and text encoder) tuned to a rare token"
    Options: ClassVar[type[BaseModel]] = DreamBoothOptions

    @classmethod
    def remark(cls, options: DreamBoothOptions, subjects: int) -> str | None:
        """Two subjects are no part of the published comparison."""
        if subjects == 1:
            return None
        return "joint training, a rare token for each subject: an extension, DreamBooth has no published way for two"

    def train(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> list[Tuned]:
        """Train on all subjects' photographs; write `unet/` and, if trained, `text_encoder/`."""
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
                _in_format(model, self.base.dtype).save_pretrained(artefact_folder / name)
        return [tuned]

    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> StableDiffusionPipeline:
        """The tuned UNet, and text encoder, beside the base model's other parts."""
        (artefact,) = artefacts
        base, encoder = self.base, None
        with loading(f"the artefact {artefact}"):
            unet = UNet2DConditionModel.from_pretrained(artefact / "unet", dtype=base.dtype)
            if (artefact / "text_encoder").exists():
                encoder = base.placed(CLIPTextModel.from_pretrained(artefact / "text_encoder", dtype=base.dtype))
        return base.pipeline(base.placed(unet), encoder)


def _in_format(model: Any, dtype: torch.dtype) -> Any:
    """The model in a number format, without the library's warning about modules that want another one."""
    return torch.nn.Module.to(model, dtype)
