"""The base class of the tuned methods: options, customization into an artefact, generation from the artefact."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from PIL import Image
from pydantic import BaseModel, Field

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.pipeline_method import MethodOptions, unset
from fc_bench.baselines.tuning.checkpoint import FORMAT
from fc_bench.baselines.tuning.concepts import ClassPictures, check_photographs, class_prompt
from fc_bench.baselines.tuning.layers import training_layers
from fc_bench.baselines.tuning.loop import LoopSettings, Training, TuningResult, tune
from fc_bench.baselines.tuning.text import PromptLengths
from fc_bench.baselines.tuning.tokens import check_new_tokens
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.families.detection import family_of
from fc_bench.model.settings import GradientNorm
from fc_bench.protocols import AskedSet, Checkpoints, Customization, Request, Setting, Subject
from fc_bench.suites.suite import digest

Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Photographs = Annotated[int, Field(ge=1, le=1024)]
"""A number of photographs, of a step or of a subject."""
ClassImageCount = Annotated[int, Field(ge=0, le=100_000)]


class TuningOptions(MethodOptions):
    """The options of every tuned method."""

    steps: Steps
    """Training steps per subject; joint training of two subjects takes twice as many."""
    learning_rate: float = Field(gt=0)
    """Learning rate of AdamW, constant."""
    batch_size: Photographs = 1
    """Photographs per step; prior preservation adds the same number of class images."""
    photographs: Photographs = 5
    """Number of photographs used per subject, from the first on."""
    accumulation: int | None = unset(ge=1, le=1024)
    """Number of parts of a step's batch that are computed one after the other; None: one. It trades time for memory;
    the result is the same to rounding."""
    resolution: int | None = unset(ge=8, le=4096)
    """Largest side in pixels of the squares to train on; None: the run's resolution, which is never exceeded."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Weight decay of AdamW."""
    max_grad_norm: GradientNorm = 1.0
    """Largest norm of the gradients, which are clipped to it; null or inf: no clipping."""
    gradient_checkpointing: bool = False
    """Whether to trade time for memory; the result is the same."""

    def side(self, setting: Setting) -> int:
        """The side in pixels of the squares to train on."""
        own = setting.sampler.resolution
        return min(self.resolution or own, own)


class TunedMethod(ABC):
    """Base class of methods that train for their subjects and generate from the written artefact.

    Images always come from the artefact and never from the weights in memory, so a new process generates the same ones.
    """

    description: ClassVar[str]
    max_subjects: ClassVar[int] = 2
    uses_photographs: ClassVar[bool] = True
    conditions: ClassVar[frozenset[str]] = frozenset({"negative_prompt", "size"})
    Options: ClassVar[type[BaseModel]]
    shared_parts: ClassVar[tuple[str, ...]] = ("vae", "text")
    """The parts of the base model that all customizations use unchanged."""

    def __init__(self, setting: Setting, options: Any) -> None:
        self.base = BasePipeline(setting)
        self.options = options
        self.class_pictures = ClassPictures(self.base, getattr(options, "class_images", 0), options.side(setting))
        for part in self.shared_parts:
            getattr(self.base, part)  # read here, so that no subject's time includes it

    @property
    def tunes_apart(self) -> bool:
        """Whether each subject is tuned separately and a subject set loads all its artefacts together."""
        return False

    @property
    def step_period(self) -> int:
        """Number of steps after which the work of a step repeats."""
        return 1

    @property
    def class_image_count(self) -> int:
        """Number of class images per class noun."""
        return self.class_pictures.count

    def use_class_images(self, images: Sequence[Image.Image]) -> None:
        """Use these images as class images instead of generating any."""
        self.class_pictures.substitute(images)

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The weights that the method loads: the pipeline."""
        return {"pipeline": backbone.path("pipeline")}

    @classmethod
    def references(cls, options: Any) -> int:
        """The largest number of photographs used per subject."""
        return options.photographs

    @classmethod
    @abstractmethod
    def words_for(cls, options: Any, subject: Subject, position: int) -> str:
        """The subject's mention in a prompt, at `position` of its set, determined by the options alone."""

    @classmethod
    def new_tokens(cls, options: Any, subject: Subject) -> list[str]:
        """The tokens that are added to the text encoder for a subject; prompts have the first one for all of them."""
        return []

    @classmethod
    @abstractmethod
    def check_words(cls, tokenizers: Sequence[Any], options: Any, subjects: Sequence[Subject]) -> None:
        """Raise UserError for words in the options or subjects that the method cannot use with these tokenizers."""

    @classmethod
    def check(cls, setting: Setting, options: Any, asked: Sequence[AskedSet]) -> None:
        """Raise UserError for too few photographs, and for a side, words or prompts that do not fit the pipeline."""
        pipeline = setting.backbone.path("pipeline")
        family = family_of(pipeline)
        if (side := options.side(setting)) % (step := family.size_step(pipeline)):
            what = "The option resolution" if options.resolution else "The resolution that it trains at"
            raise UserError(
                f"{what} is {side} pixels, no multiple of the {step} that the autoencoder takes; change the option "
                "resolution."
            )
        tokenizers = family.load_tokenizers(pipeline)
        vocabularies = [frozenset(tokenizer.get_vocab()) for tokenizer in tokenizers]
        readers = [PromptLengths(tokenizer) for tokenizer in tokenizers]
        for one in asked:
            for subject in one.subjects:
                check_photographs(subject, options.photographs)
            cls.check_words(tokenizers, options, one.subjects)
            tokens = [cls.new_tokens(options, subject) for subject in one.subjects]
            for vocabulary in vocabularies:
                check_new_tokens(vocabulary, [token for own in tokens for token in own])
            mentions = [cls.words_for(options, subject, place) for place, subject in enumerate(one.subjects)]
            stand_for = {own[0]: len(own) for own in tokens if own}
            for lengths in readers:
                for prompt in one.prompts(mentions):
                    lengths.check(prompt, stand_for)
                if getattr(options, "class_images", 0):
                    for subject in one.subjects:
                        lengths.check(class_prompt(subject))

    def mention(self, subject: Subject, position: int) -> str:
        """The subject's mention in a prompt."""
        return self.words_for(self.options, subject, position)

    @abstractmethod
    def train(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> list[TuningResult]:
        """Train for the subjects and write the artefact; returns the result of each training."""

    @abstractmethod
    def load(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Any:
        """A pipeline customized to the subjects, from the artefacts alone; shared parts do not change."""

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Train, write the artefact and load it."""
        before = self.class_pictures.seconds
        results = self.train(subjects, seed, artefact_folder, checkpoints)
        steps = sum(result.steps for result in results)
        return Customization(
            tuple(subjects),
            artefact_folder,
            steps=steps,
            seconds_per_step=sum(result.seconds_per_step * result.steps for result in results) / steps,
            earlier_seconds=sum(result.earlier_seconds for result in results),
            shared_seconds=self.class_pictures.seconds - before,
            details={
                "updates": [result.updates for result in results],
                "last_loss": [result.last_loss for result in results],
                "continued_from": [result.continued_from for result in results],
                "class_images": self.class_pictures.describe(subjects),
            },
            state=self.load(subjects, [artefact_folder]),
        )

    def restore(self, subjects: Sequence[Subject], artefacts: Sequence[Path]) -> Customization:
        """The customization from its artefact, or from one artefact per subject if they were tuned separately."""
        kept = artefacts[0] if len(artefacts) == 1 else None
        return Customization(tuple(subjects), kept, state=self.load(subjects, artefacts))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """The images of one batch."""
        yield from self.base.sample(customization.state, requests)

    def tune(
        self,
        training: Training,
        subjects: Sequence[Subject],
        seed: int,
        checkpoints: Checkpoints | None,
        prior_weight: float = 1.0,
    ) -> TuningResult:
        """Run the shared training loop with the method's options."""
        options: TuningOptions = self.options
        parts = min(options.accumulation or 1, options.batch_size)
        settings = LoopSettings(options.steps * len(subjects), options.max_grad_norm, prior_weight, parts)
        identity = digest([FORMAT, seed, [subject.id for subject in subjects], options.model_dump(mode="json")])
        if options.gradient_checkpointing:
            training.unet.enable_gradient_checkpointing()
        try:
            base, diffusion = self.base, self.base.diffusion()
            with training_layers(training.unet, base.dtype):
                return tune(base.family, training, diffusion, settings, seed, base.dtype, checkpoints, identity)
        finally:  # the UNet may be the shared one
            training.unet.eval()
            training.unet.disable_gradient_checkpointing()
