"""What methods have in common that are the backbone's pipeline with something put into it, and tune nothing.

Such a method says what it loads (`__init__`) and what its pipeline gets for a set of subjects (`inputs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, field_validator

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.settings import Settings
from fc_bench.model.user_cache import expanded
from fc_bench.protocols import Checkpoints, Customization, Request, Setting, Subject


class MethodOptions(Settings):
    """Options of a method; the text below a field is what `fc-bench list` shows, `~` in a `Path` is the home folder."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _expanded(cls, value: Any) -> Any:
        return expanded(value) if isinstance(value, Path) else value


class PipelineMethod:
    """The backbone's Stable Diffusion pipeline, this method's own, as `pipeline`; its parts and device as `base`.

    A method of this kind states `description`, and `Options` where it has any; what is here besides is what most do.
    """

    description: ClassVar[str]
    max_subjects: ClassVar[int] = 1
    uses_photographs: ClassVar[bool] = True
    Options: ClassVar[type[BaseModel]] = MethodOptions

    def __init__(self, setting: Setting, options: Any) -> None:
        from fc_bench.baselines.base_pipeline import BasePipeline

        self.base = BasePipeline(setting)
        self.pipeline = self.base.pipeline()

    def inputs(self, subjects: Sequence[Subject]) -> Mapping[str, Any]:
        """What the pipeline is called with for these subjects, beside prompts and sampler; nothing here."""
        return {}

    @classmethod
    def weights(cls, backbone: Backbone, options: BaseModel) -> Mapping[str, Path]:
        """The pipeline, and every option that is a `Path`; raises UserError when one does not exist."""
        given = {
            name: value for name in type(options).model_fields if isinstance(value := getattr(options, name), Path)
        }
        for name, path in given.items():
            if not path.exists():
                raise UserError(
                    f'The weights {path} of the option "{name}" do not exist; get them or correct the option.'
                )
        return {"pipeline": backbone.path("pipeline"), **given}

    def mention(self, subject: Subject, position: int) -> str:
        """The class noun alone."""
        return subject.noun

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Nothing is trained and nothing kept."""
        return Customization(tuple(subjects), state=self.inputs(subjects))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One batch through the pipeline, each image with its own noise."""
        yield from self.base.sample(self.pipeline, requests, **(customization.state or {}))
