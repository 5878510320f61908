"""The common part of methods that extend the backbone's pipeline and tune nothing.

Such a method defines what it loads (`__init__`) and which inputs its pipeline gets for a subject set (`inputs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.settings import Settings
from fc_bench.model.user_cache import expanded
from fc_bench.protocols import Checkpoints, Customization, Request, Setting, Subject


def unset(**limits: Any) -> Any:
    """A field that is None unless it is set.

    While it is None, records do not have it, so an option that is added later does not change the ids of samples.
    """
    return Field(default=None, exclude_if=lambda value: value is None, **limits)


class MethodOptions(Settings):
    """Base class of a method's options.

    `fc-bench list` shows the docstring of each field. A `~` in a `Path` is the home folder.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    @field_validator("*")
    @classmethod
    def _expanded(cls, value: Any) -> Any:
        return expanded(value) if isinstance(value, Path) else value


class PipelineMethod:
    """Base class of methods without tuning; `pipeline` is the method's own pipeline, `base` has its parts and device.

    A subclass defines `description`, and `Options` if it has any. It overrides the other members where it differs.
    """

    description: ClassVar[str]
    max_subjects: ClassVar[int] = 1
    uses_photographs: ClassVar[bool] = True
    conditions: ClassVar[frozenset[str]] = frozenset({"negative_prompt", "size"})
    Options: ClassVar[type[BaseModel]] = MethodOptions

    def __init__(self, setting: Setting, options: Any) -> None:
        from fc_bench.baselines.base_pipeline import BasePipeline

        self.base = BasePipeline(setting)
        self.pipeline = self.base.pipeline()

    def inputs(self, subjects: Sequence[Subject]) -> Mapping[str, Any]:
        """Additional arguments of the pipeline for these subjects, besides prompts and sampler; none by default."""
        return {}

    @classmethod
    def weights(cls, backbone: Backbone, options: BaseModel) -> Mapping[str, Path]:
        """The pipeline and every option that is a `Path`; raises UserError when one of these does not exist."""
        given = {
            name: value for name in type(options).model_fields if isinstance(value := getattr(options, name), Path)
        }
        return {"pipeline": backbone.path("pipeline"), **{name: existing(name, path) for name, path in given.items()}}

    def mention(self, subject: Subject, position: int) -> str:
        """The class noun."""
        return subject.noun

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """Compute the pipeline's inputs; nothing is trained and no artefact is written."""
        return Customization(tuple(subjects), state=self.inputs(subjects))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """The images of one batch, each with its own noise."""
        yield from self.base.sample(self.pipeline, requests, **(customization.state or {}))


def existing(option: str, path: Path) -> Path:
    """The path of an option; raises UserError when it does not exist."""
    if not path.exists():
        raise UserError(
            f'The option "{option}" names the weights {path}, which do not exist; get them or correct the option.'
        )
    return path
