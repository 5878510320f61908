"""Diversity: how different a method's images of the same prompt and subjects are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from fc_bench.protocols import Column, Score, ScoredSample, Setting, Sibling, Subject
from fc_bench.scoring.clip import ClipScorer

MOST_KEPT = 4096
"""Number of sibling embeddings kept in memory."""


class Diversity:
    """Mean distance of an image's CLIP embedding (1 - cosine) from those of its siblings, which differ in seed alone.

    The mean over all images of a prompt is the mean distance of all their pairs. A prompt with one image has no value.
    """

    description: ClassVar[str] = "CLIP distance of the images of one prompt over their seeds (two or more a prompt)"
    needs_siblings: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "diversity",
            "diversity",
            True,
            "1 - CLIP cosine of the image and the others of the same prompt and subjects, mean over them; missing "
            "where a prompt has one image; images that miss the prompt are diverse, too: read it beside the others",
            of_image_alone=True,
            bounds=(0.0, 2.0),
        ),
    )

    def __init__(self, setting: Setting) -> None:
        self._folder = setting.backbone.path("clip")
        self._scorer = ClipScorer.shared(self._folder, setting.device)
        self._kept: dict[Path, Any] = {}

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Nothing, because references are not used."""

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Embed the next images together."""
        self._scorer.look_ahead(sample.image for sample in samples)

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        own = self._scorer.image(sample.image)
        # Equal images have a cosine of one up to rounding.
        distances = [max(0.0, 1 - float(own @ self._embedding(sibling))) for sibling in sample.siblings]
        return Score({"diversity": fmean(distances) if distances else None})

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """None: photographs have no common prompt."""
        return {}

    def provenance(self) -> Mapping[str, Any]:
        """The scorer's folder name and number format."""
        return {"model": self._folder.name, "dtype": "float32"}

    def _embedding(self, sibling: Sibling) -> Any:
        """The embedding of a sibling; each file is read once, as a prompt's samples are scored consecutively."""
        if sibling.file not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[sibling.file] = self._scorer.image(sibling.image())
        return self._kept[sibling.file]
