"""The base model without any subject: what identity is by chance, and the best prompt consistency to hope for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image
from pydantic import BaseModel, ConfigDict

from fc_bench.model.backbone import Backbone
from fc_bench.protocols import Checkpoints, Customization, Request, Setting, Subject


class TextOnlyOptions(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextOnly:
    """The backbone's Stable Diffusion pipeline with the plain prompt."""

    description: ClassVar[str] = "the base model with the plain prompt; knows nothing of the subject"
    max_subjects: ClassVar[int] = 8
    uses_photographs: ClassVar[bool] = False
    Options: ClassVar[type[BaseModel]] = TextOnlyOptions

    def __init__(self, setting: Setting, options: TextOnlyOptions) -> None:
        from fc_bench.baselines.tuning.base_pipeline import BasePipeline

        self._base = BasePipeline(setting)
        self._pipeline = self._base.pipeline()

    @classmethod
    def weights(cls, backbone: Backbone, options: TextOnlyOptions) -> Mapping[str, Path]:
        """The pipeline."""
        return {"pipeline": backbone.path("pipeline")}

    def mention(self, subject: Subject, position: int) -> str:
        """The class noun."""
        return subject.noun

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Nothing to do."""
        return Customization(tuple(subjects))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One batch through the pipeline."""
        yield from self._base.sample(self._pipeline, requests)
