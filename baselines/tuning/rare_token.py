"""The base class of methods that bind a subject to a rare token, with prior preservation, as DreamBooth does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from fc_bench.baselines.base_pipeline import BasePipeline
from fc_bench.baselines.pipeline_method import unset
from fc_bench.baselines.tuning.concepts import Examples, encode_pictures, originals_of
from fc_bench.baselines.tuning.loop import Batch, Draws
from fc_bench.baselines.tuning.method import ClassImageCount, TunedMethod, TuningOptions
from fc_bench.baselines.tuning.text import FrozenPrompts, encode_once, single_token
from fc_bench.model.articles import with_article
from fc_bench.model.families.condition import Condition
from fc_bench.model.families.text import TextEncoders
from fc_bench.protocols import Subject


class RareTokenOptions(TuningOptions):
    """The options of methods with rare tokens."""

    rare_tokens: tuple[str, str] = ("sks", "ohwx")
    """The words before the class noun of the first and the second subject; each must be one token."""
    class_images: ClassImageCount = 200
    """Number of class images per class noun for prior preservation; 0 for none."""
    prior_weight: float = Field(default=1.0, ge=0)
    """Weight of the class images in the loss."""
    train_text_encoder: bool = False
    """Whether to train the text encoders as well."""
    text_learning_rate: float | None = unset(gt=0)
    """Learning rate of trained text encoders; None: `learning_rate`."""
    text_weight_decay: float | None = unset(ge=0)
    """Weight decay of trained text encoders; None: `weight_decay`."""

    @field_validator("rare_tokens")
    @classmethod
    def _check_difference(cls, tokens: tuple[str, str]) -> tuple[str, str]:
        if tokens[0] == tokens[1]:
            raise ValueError("two subjects need two different rare tokens")
        return tokens


class RareTokenMethod(TunedMethod):
    """Base class of methods whose mentions are `sks man`.

    The prompt of photographs is "a photo of a sks man", that of class images "a photo of a man".
    """

    Options: ClassVar[type[BaseModel]]

    @classmethod
    def words_for(cls, options: RareTokenOptions, subject: Subject, position: int) -> str:
        """The rare token of the position, then the class noun."""
        return f"{options.rare_tokens[position]} {subject.noun}"

    @classmethod
    def check_words(cls, tokenizers: Sequence[Any], options: RareTokenOptions, subjects: Sequence[Subject]) -> None:
        """Raise UserError when a rare token that these subjects use is not exactly one token."""
        check_rare_tokens(tokenizers, options.rare_tokens[: len(subjects)])

    def examples(self, subjects: Sequence[Subject], first_position: int = 0) -> Examples:
        """The photographs of the subjects, and class images of their nouns; positions count from `first_position`.

        Raises UserError when a rare token is not exactly one token or a subject has too few photographs.
        """
        used = self.options.rare_tokens[first_position : first_position + len(subjects)]
        check_rare_tokens(self.base.text.tokenizers, used)
        parts = [
            (
                originals_of(subject, self.options.photographs),
                f"a photo of {with_article(self.mention(subject, position))}",
            )
            for position, subject in enumerate(subjects, first_position)
        ]
        pictures = encode_pictures(self.base, parts, self.options.side(self.base.setting))
        return Examples(pictures, self.class_pictures.of(subjects))


def check_rare_tokens(tokenizers: Sequence[Any], tokens: Sequence[str]) -> None:
    """Raise UserError when one of the words is not exactly one token of the text encoders."""
    for token in tokens:
        single_token(tokenizers, token, "The option rare_tokens:")


class RareTokenTraining:
    """The training of a method's trainable parameters in its denoiser and, if given, its text encoders."""

    def __init__(
        self,
        base: BasePipeline,
        options: RareTokenOptions,
        examples: Examples,
        unet: Any,
        text: TextEncoders | None,
    ) -> None:
        self.unet = unet
        self._encoders = text.encoders if text is not None else ()
        for encoder in self._encoders:
            encoder.train()
            if options.gradient_checkpointing:
                encoder.gradient_checkpointing_enable()
        self._family = base.family
        self._encode: Callable[[Sequence[str]], Condition] = (
            FrozenPrompts(base.family, base.text) if text is None else partial(encode_once, base.family, text)
        )
        self._options = options
        self._examples = examples

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All trainable parameters; those of the text encoders may have a learning rate and decay of their own."""
        options = self._options
        rate = options.text_learning_rate or options.learning_rate
        decay = options.weight_decay if options.text_weight_decay is None else options.text_weight_decay
        of_text = [_group(encoder, rate, decay) for encoder in self._encoders]
        return [_group(self.unet, options.learning_rate, options.weight_decay), *of_text]

    def batch(self, step: int, draws: Draws) -> Batch:
        """The step's photographs and class images with their prompts."""
        latents, prompts, framings, photographs = self._examples.batch(step, self._options.batch_size, draws)
        return Batch(latents, self._family.framed(self._encode(prompts), framings), photographs)


def _group(model: Any, rate: float, decay: float) -> dict[str, Any]:
    """The trainable parameters of a model as a parameter group."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return {"params": trainable, "lr": rate, "weight_decay": decay}
