"""The common half of the adapters that tune: options, customizing through an artefact, generating from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from fc_bench.baselines.tuning.base_pipeline import BasePipeline
from fc_bench.baselines.tuning.loop import Settings, Training, Tuned, tune
from fc_bench.model.backbone import Backbone
from fc_bench.protocols import Checkpoints, Customization, Request, Setting, Subject


class TuningOptions(BaseModel):
    """What every method that tunes can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(ge=1)
    """Updates of the weights, for all subjects of a joint training together."""
    learning_rate: float = Field(gt=0)
    batch_size: int = Field(default=1, ge=1)
    """Photographs a step; class images come on top, as many."""
    photographs: int = Field(default=5, ge=1)
    """Photographs of each subject that are used, the first ones."""
    weight_decay: float = Field(default=1e-2, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    gradient_checkpointing: bool = False
    """Less memory for more time; the same result."""


class TunedMethod(ABC):
    """A method that trains something for its subjects and samples from what it has written.

    Images always come from the artefact as it was written, never from the trained weights in memory, so that a fresh
    process gives the same ones.
    """

    description: ClassVar[str]
    max_subjects: ClassVar[int] = 2
    uses_photographs: ClassVar[bool] = True
    Options: ClassVar[type[BaseModel]]

    def __init__(self, setting: Setting, options: Any) -> None:
        self.base = BasePipeline(setting)
        self.options = options

    @property
    def tunes_apart(self) -> bool:
        """Whether subjects are customized one by one and then loaded together."""
        return False

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The pipeline."""
        return {"pipeline": backbone.path("pipeline")}

    @abstractmethod
    def mention(self, subject: Subject, position: int) -> str:
        """What stands in a prompt for the subject."""

    @abstractmethod
    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Train and write the artefact."""

    @abstractmethod
    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> StableDiffusionPipeline:
        """A pipeline that knows the subjects, from the artefacts alone; the shared parts stay as they are."""

    def restore(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Customization:
        """The customization from its artefact, or from each subject's when tuned apart."""
        kept = artefacts[0] if len(artefacts) == 1 else None
        return Customization(tuple(subjects), kept, state=self.load(subjects, artefacts))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One batch through the customized pipeline."""
        yield from self.base.sample(customization.state, requests)

    def tune(self, training: Training, seed: int, checkpoints: Checkpoints | None, prior_weight: float = 1.0) -> Tuned:
        """Run the shared loop with the method's options."""
        options: TuningOptions = self.options
        settings = Settings(options.steps, options.batch_size, options.max_grad_norm, prior_weight)
        if options.gradient_checkpointing:
            training.unet.enable_gradient_checkpointing()
        try:
            return tune(training, self.base.noise_schedule(), settings, seed, self.base.dtype, checkpoints)
        finally:  # the UNet may be the shared one
            training.unet.eval()
            training.unet.disable_gradient_checkpointing()

    def finished(
        self,
        subjects: Sequence[Subject],
        artefact: Path,
        tuned: Sequence[Tuned],
        shared_seconds: float = 0.0,
        details: Mapping[str, Any] | None = None,
    ) -> Customization:
        """The customization just written, with what its trainings took."""
        steps = sum(part.steps for part in tuned)
        return Customization(
            tuple(subjects),
            artefact,
            steps=steps,
            seconds_per_step=sum(part.seconds_per_step * part.steps for part in tuned) / steps,
            earlier_seconds=sum(part.earlier_seconds for part in tuned),
            shared_seconds=shared_seconds,
            details={
                "last_loss": [part.last_loss for part in tuned],
                "continued_from": [part.continued_from for part in tuned],
                **(details or {}),
            },
            state=self.load(subjects, [artefact]),
        )
