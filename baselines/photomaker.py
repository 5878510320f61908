"""PhotoMaker v1 (arXiv 2312.04461): several photographs of a subject, on Stable Diffusion XL, without tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from fc_bench.baselines.fastcomposer import FastComposer, mention
from fc_bench.baselines.pipeline_method import MethodOptions, existing
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.protocols import AskedSet, Checkpoints, Customization, Request, Sampler, Setting, Subject
from fc_bench.suites.photographs import read_photograph


class PhotoMakerOptions(MethodOptions):
    """Options of PhotoMaker."""

    weights: Path | None = None
    """The file photomaker-v1.bin; None: the backbone's."""
    photographs: int = Field(default=4, ge=1)
    """Most photographs of a subject that are used, the first ones; training shows up to four."""
    start_merge_step: int = Field(default=10, ge=0)
    """The last sampling step, from 0, that sees the text alone."""


class PhotoMaker(FastComposer):
    """PhotoMaker's image encoder, post-fuse module and LoRA on the backbone's pipeline.

    In a prompt, the class noun stands for their class noun and trigger word. Its last token is repeated for every
    photograph, and each copy is fused with the embedding of one.
    """

    description: ClassVar[str] = "fuses embeddings of several photographs into the prompt, with a LoRA; one subject"
    max_subjects: ClassVar[int] = 1
    Options: ClassVar[type[BaseModel]] = PhotoMakerOptions

    def __init__(self, setting: Setting, options: PhotoMakerOptions) -> None:
        super().__init__(setting, options)
        self._options = options

    @classmethod
    def _load(cls, setting: Setting, options: PhotoMakerOptions) -> Any:
        from fc_bench.baselines.base_pipeline import BasePipeline
        from fc_bench.model.fastcomposer.photomaker import with_photomaker

        base = BasePipeline(setting)
        return with_photomaker(base.pipeline(unet=base.fresh_unet()), cls.weights(setting.backbone, options)["weights"])

    @classmethod
    def alpha(cls, options: PhotoMakerOptions, sampler: Sampler) -> float:
        """The share of the sampling steps after `start_merge_step`."""
        from fc_bench.model.fastcomposer.photomaker import alpha_of

        return alpha_of(options.start_merge_step, sampler.steps)

    @classmethod
    def complete_options(cls, backbone: Backbone, options: PhotoMakerOptions) -> PhotoMakerOptions:
        """The options as they are."""
        return options

    @classmethod
    def references(cls, options: PhotoMakerOptions) -> int:
        """Most photographs of a subject that are used."""
        return options.photographs

    @classmethod
    def weights(cls, backbone: Backbone, options: PhotoMakerOptions) -> Mapping[str, Path]:
        """The pipeline and PhotoMaker's file."""
        if options.weights is None:
            file = backbone.path(backbone.photomaker_component())
        else:
            file = existing("weights", options.weights)
        return {"pipeline": backbone.path("pipeline"), "weights": file}

    @classmethod
    def check(cls, setting: Setting, options: PhotoMakerOptions, asked: Sequence[AskedSet]) -> None:
        """Raise UserError or ModelInputError for another file, a merge too late, and prompts too long.

        A prompt has an image token for each photograph.
        """
        from fc_bench.model.families.detection import family_of
        from fc_bench.model.fastcomposer.photomaker import check_photomaker
        from fc_bench.model.fastcomposer.prompts import parse_prompt

        if options.start_merge_step >= setting.sampler.steps - 1:
            raise UserError(
                f"The option start_merge_step is {options.start_merge_step}, so that none of the "
                f"{setting.sampler.steps} sampling steps sees the subject; lower it."
            )
        parts = cls.weights(setting.backbone, options)
        family = family_of(parts["pipeline"])
        check_photomaker(parts["weights"], parts["pipeline"])
        tokenizer, *_ = family.load_tokenizers(parts["pipeline"])
        for one in asked:
            counts = [len(_used(subject, options)) for subject in one.subjects]
            for prompt in dict.fromkeys(one.prompts([mention(subject) for subject in one.subjects])):
                parse_prompt(prompt, tokenizer).stacked(counts, tokenizer)

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Read the photographs; nothing is trained and no artefact is written."""
        state = [[read_photograph(file) for file in _used(subject, self._options)] for subject in subjects]
        return Customization(tuple(subjects), state=state)

    def generate_with_attention(
        self, customization: Customization, requests: Sequence[Request], prefix: Any = None
    ) -> Iterator[tuple[Image.Image, np.ndarray | None]]:
        """The same images, with the mean attention to the subject's image tokens."""
        for image, maps in super().generate_with_attention(customization, requests, prefix):
            yield image, None if maps is None else maps.mean(0, keepdims=True)


def _used(subject: Subject, options: PhotoMakerOptions) -> Sequence[Path]:
    return subject.photographs[: options.photographs]
