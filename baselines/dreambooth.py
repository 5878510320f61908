"""DreamBooth (arXiv 2208.12242) trains the whole UNet, and optionally the text encoder, on a rare token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, Field

from fc_bench.baselines.tuning.loop import TuningResult
from fc_bench.baselines.tuning.method import Steps
from fc_bench.baselines.tuning.rare_token import RareTokenMethod, RareTokenOptions, RareTokenTraining
from fc_bench.model.errors import loading
from fc_bench.model.families.text import TextEncoders
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
        """Train on all subjects' photographs; write `unet/` and, if they are trained, the text encoders' folders."""
        options: DreamBoothOptions = self.options
        examples = self.examples(subjects)
        unet = self.base.fresh_unet(torch.float32).requires_grad_(True)
        text = self.base.fresh_text(torch.float32) if options.train_text_encoder else None
        encoders = text.encoders if text is not None else ()
        for encoder in encoders:
            encoder.requires_grad_(True)
        training = RareTokenTraining(self.base, options, examples, unet, text)
        tuned = self.tune(training, subjects, seed, checkpoints, options.prior_weight)
        parts = ("unet", *(encoder.part for encoder in self.base.family.encoders))
        for part, model in zip(parts, (unet, *encoders), strict=False):  # no encoders, or all of them
            _to_dtype(model, self.base.dtype).save_pretrained(artefact_folder / part)
        return [tuned]

    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Any:
        """A pipeline of the tuned UNet, the tuned text encoders if there are any, and the base model's other parts."""
        (artefact,) = artefacts
        base, text = self.base, self.base.text
        with loading(f"the artefact {artefact}"):
            unet = base.stored("unet", artefact / "unet")
            parts = [encoder.part for encoder in base.family.encoders]
            if any((artefact / part).exists() for part in parts):
                text = TextEncoders(text.tokenizers, tuple(base.stored(part, artefact / part) for part in parts))
        return base.pipeline(unet, text)


def _to_dtype(model: Any, dtype: torch.dtype) -> Any:
    """The model in a number format, without the library's warning about modules that prefer another format."""
    return torch.nn.Module.to(model, dtype)
