"""Prompt consistency: whether the image shows what the prompt describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.scoring.clip import ClipScorer


class PromptConsistency:
    """CLIP cosine of the image and the plain prompt: class nouns only, no placeholders or rare tokens."""

    description: ClassVar[str] = "CLIP cosine of the image and the prompt with plain class nouns"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "prompt_consistency",
            "prompt consistency",
            True,
            "CLIP cosine of the image and the prompt with plain class nouns, raw",
            headline=True,
            of_image_alone=True,
            bounds=(-1.0, 1.0),
        ),
    )

    def __init__(self, setting: Setting) -> None:
        self._folder = setting.backbone.path("clip")
        self._device = setting.device
        self._scorer: ClipScorer | None = None

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Load the scorer, so that damaged weights are reported early; references are not used."""
        self._loaded()

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Embed the next images and prompts together."""
        self._loaded().look_ahead((sample.image for sample in samples), (sample.prompt for sample in samples))

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        return Score({"prompt_consistency": self._loaded().similarity(sample.image, sample.prompt)})

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """None: a photograph of the subject does not show the prompt."""
        return {}

    def provenance(self) -> Mapping[str, Any]:
        """The scorer's folder name, number format and preprocessing."""
        return {"model": self._folder.name, "dtype": "float32"}

    def _loaded(self) -> ClipScorer:
        if self._scorer is None:
            self._scorer = ClipScorer.shared(self._folder, self._device)
        return self._scorer
