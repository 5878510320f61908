"""Identity preservation as the authors' scorer computes it, with a grey crop for each missing face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from fc_bench.metrics.identity import Identity, identity_score
from fc_bench.protocols import Column, Score, ScoredSample, Subject
from fc_bench.scoring.faces import Face


class IdentityGreyCrop(Identity):
    """Identity preservation of FastComposer's protocol, with a missing face embedded as an empty crop instead of 0.

    If fewer faces than subjects are detected, the scorer in the authors' repository (mit-han-lab/fastcomposer, commit
    5282a7e) adds all-zero crops; an image without any face counts 0. With one subject it equals `identity`.
    """

    description: ClassVar[str] = "identity with a grey crop for each missing face, as in the authors' scorer"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "identity_grey_crop",
            "identity (grey crop)",
            True,
            "minimum over the subjects of the matched cosine; a missing face is embedded as an empty crop, no face at "
            "all or a negative cosine counts 0",
            bounds=(0.0, 1.0),
        ),
    )

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        references = self._references.embeddings(sample.subjects)
        faces = self._models.find(sample.image)
        missing = len(references) - len(faces) if faces else 0
        if missing > 0:
            faces += [Face((0.0, 0.0, 0.0, 0.0), 0.0, self._models.empty_crop())] * missing
        value = identity_score(references, faces).values["identity"]
        return Score({"identity_grey_crop": value}, {"filled_up": max(missing, 0)})

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """None: photographs have no missing face, so `identity` has these rows."""
        return {}
