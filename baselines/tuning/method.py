"""The common half of the adapters that tune: options, customizing through an artefact, generating from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import BaseModel, Field
from transformers import CLIPTokenizer

from fc_bench.baselines.base_pipeline import BasePipeline, read_tokenizer
from fc_bench.baselines.pipeline_method import MethodOptions
from fc_bench.baselines.tuning.concepts import ClassPictures, check_photographs, class_prompt
from fc_bench.baselines.tuning.loop import LoopSettings, Training, Tuned, tune
from fc_bench.baselines.tuning.text import PromptLengths
from fc_bench.baselines.tuning.tokens import check_new_tokens
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.settings import GradientNorm
from fc_bench.protocols import AskedSet, Checkpoints, Customization, Request, Setting, Subject
from fc_bench.suites.suite import digest

Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Photographs = Annotated[int, Field(ge=1, le=1024)]
"""Of a step, or of a subject."""
ClassImageCount = Annotated[int, Field(ge=0, le=100_000)]


class TuningOptions(MethodOptions):
    """What every method that tunes can be told."""

    steps: Steps
    """Steps for each subject: a joint training of two takes twice as many."""
    learning_rate: float = Field(gt=0)
    """AdamW's, constant."""
    batch_size: Photographs = 1
    """Photographs a step; class images come on top, as many."""
    photographs: Photographs = 5
    """Photographs of each subject that are used, the first ones."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """AdamW's."""
    max_grad_norm: GradientNorm = 1.0
    """Gradients are clipped to this norm; null or inf: they are not."""
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
    shared_parts: ClassVar[tuple[str, ...]] = ("vae", "text_encoder", "tokenizer")
    """What all customizations use of the base model as it is."""

    def __init__(self, setting: Setting, options: Any) -> None:
        self.base = BasePipeline(setting)
        self.options = options
        self.class_pictures = ClassPictures(self.base, getattr(options, "class_images", 0))
        for part in self.shared_parts:
            getattr(self.base, part)  # read now: it is no subject's cost

    @property
    def tunes_apart(self) -> bool:
        """Whether subjects are customized one by one and then loaded together."""
        return False

    @property
    def step_period(self) -> int:
        """Steps after which the work of a step repeats."""
        return 1

    @property
    def class_image_count(self) -> int:
        """Class images of each class noun."""
        return self.class_pictures.count

    def use_class_images(self, images: Sequence[Image.Image]) -> None:
        """Train beside these instead of drawing any."""
        self.class_pictures.stand_in(images)

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The pipeline."""
        return {"pipeline": backbone.path("pipeline")}

    @classmethod
    def references(cls, options: Any) -> int:
        """How many photographs of a subject are used at most."""
        return options.photographs

    @classmethod
    @abstractmethod
    def words_for(cls, options: Any, subject: Subject, position: int) -> str:
        """What stands in a prompt for the subject at `position` of its set, from the options alone."""

    @classmethod
    def new_tokens(cls, options: Any, subject: Subject) -> list[str]:
        """The tokens that the text encoder is taught for a subject; the first one stands in the prompt for all."""
        return []

    @classmethod
    @abstractmethod
    def check_words(cls, tokenizer: CLIPTokenizer, options: Any, subjects: Sequence[Subject]) -> None:
        """Raise UserError for words of the options or the subjects that the method cannot use with this tokenizer."""

    @classmethod
    def check(cls, setting: Setting, options: Any, asked: Sequence[AskedSet]) -> None:
        """Raise UserError for photographs that are too few, and words or prompts that the text encoder cannot take."""
        tokenizer = read_tokenizer(setting.backbone.path("pipeline"))
        lengths = PromptLengths(tokenizer)
        for one in asked:
            for subject in one.subjects:
                check_photographs(subject, options.photographs)
            cls.check_words(tokenizer, options, one.subjects)
            tokens = [cls.new_tokens(options, subject) for subject in one.subjects]
            check_new_tokens(lengths.vocabulary, [token for own in tokens for token in own])
            mentions = [cls.words_for(options, subject, place) for place, subject in enumerate(one.subjects)]
            stand_for = {own[0]: len(own) for own in tokens if own}
            for prompt in one.prompts(mentions):
                lengths.check(prompt, stand_for)
            if getattr(options, "class_images", 0):
                for subject in one.subjects:
                    lengths.check(class_prompt(subject))

    def mention(self, subject: Subject, position: int) -> str:
        """What stands in a prompt for the subject."""
        return self.words_for(self.options, subject, position)

    @abstractmethod
    def train(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> list[Tuned]:
        """Train for the subjects and write the artefact; what each training took."""

    @abstractmethod
    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> StableDiffusionPipeline:
        """A pipeline that knows the subjects, from the artefacts alone; the shared parts stay as they are."""

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Train, write the artefact and load it."""
        before = self.class_pictures.seconds
        tuned = self.train(subjects, seed, artefact_folder, checkpoints)
        steps = sum(part.steps for part in tuned)
        return Customization(
            tuple(subjects),
            artefact_folder,
            steps=steps,
            seconds_per_step=sum(part.seconds_per_step * part.steps for part in tuned) / steps,
            earlier_seconds=sum(part.earlier_seconds for part in tuned),
            shared_seconds=self.class_pictures.seconds - before,
            details={
                "updates": [part.updates for part in tuned],
                "last_loss": [part.last_loss for part in tuned],
                "continued_from": [part.continued_from for part in tuned],
                "class_images": self.class_pictures.about(subjects),
            },
            state=self.load(subjects, [artefact_folder]),
        )

    def restore(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Customization:
        """The customization from its artefact, or from each subject's when tuned apart."""
        kept = artefacts[0] if len(artefacts) == 1 else None
        return Customization(tuple(subjects), kept, state=self.load(subjects, artefacts))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One batch through the customized pipeline."""
        yield from self.base.sample(customization.state, requests)

    def tune(
        self,
        training: Training,
        subjects: Sequence[Subject],
        seed: int,
        checkpoints: Checkpoints | None,
        prior_weight: float = 1.0,
    ) -> Tuned:
        """Run the shared loop with the method's options."""
        options: TuningOptions = self.options
        settings = LoopSettings(options.steps * len(subjects), options.max_grad_norm, prior_weight)
        identity = digest([seed, [subject.id for subject in subjects], options.model_dump(mode="json")])
        if options.gradient_checkpointing:
            training.unet.enable_gradient_checkpointing()
        try:
            schedule = self.base.noise_schedule()
            return tune(training, schedule, settings, seed, self.base.dtype, checkpoints, identity)
        finally:  # the UNet may be the shared one
            training.unet.eval()
            training.unet.disable_gradient_checkpointing()
