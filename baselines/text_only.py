"""The base model without any subject: the chance level of identity and an upper bound for prompt consistency."""

from typing import ClassVar

from fc_bench.baselines.pipeline_method import PipelineMethod


class TextOnly(PipelineMethod):
    """The backbone's Stable Diffusion pipeline with the plain prompt."""

    description: ClassVar[str] = "the base model with the plain prompt; knows nothing of the subject"
    max_subjects: ClassVar[int] = 8
    uses_photographs: ClassVar[bool] = False
