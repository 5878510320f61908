"""Identity preservation: whether the image shows the requested people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.scoring.anchors import anchors_of
from fc_bench.scoring.faces import Face, FaceModels, ReferenceFaces, match_faces, similarities

OF_ONE_IMAGE = ("in_order", "detection_rate", "face_count")
"""Columns that are meaningful only if all faces are in one generated image."""


class Identity:
    """Similarity of generated faces to the subjects' reference faces, by the backbone's face embedder.

    The column `identity` follows the evaluation protocol of FastComposer (arXiv 2305.10431, section 5): as many of the
    largest faces as there are subjects, matched one to one with the references by largest cosine first; the value is
    the minimum over the subjects, with 0 for a subject without a face and for a negative cosine. The other columns say
    what that one number hides.
    """

    description: ClassVar[str] = "similarity of the generated faces to the subjects' reference faces"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "identity",
            "identity preservation",
            True,
            "minimum over the subjects of the matched cosine; no face or a negative cosine counts 0",
            headline=True,
            bounds=(0.0, 1.0),
        ),
        Column(
            "identity_optimal",
            "identity (optimal matching)",
            True,
            "the same with the one-to-one assignment of largest total cosine (Hungarian) instead of the greedy one",
            bounds=(0.0, 1.0),
        ),
        Column("identity_mean", "identity (mean)", True, "mean over the subjects of the same", bounds=(0.0, 1.0)),
        Column(
            "identity_detected",
            "identity (detected faces)",
            True,
            "mean cosine over the subjects that have a face, negative ones kept; missing where no face is found",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "identity_other",
            "similarity to others",
            False,
            "mean cosine of each matched face with the references of the other subjects in the image",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "identity_mixing",
            "identity mixing",
            False,
            "the same minus the face's cosine with its own reference: below 0 where people are not blended",
            bounds=(-2.0, 2.0),
        ),
        Column(
            "told_apart",
            "correctly identified",
            True,
            "share of images of several subjects in which everyone has a face that resembles its own reference most",
            digits=2,
            headline=True,
            bounds=(0.0, 1.0),
        ),
        Column(
            "in_order",
            "in prompt order",
            None,
            "share of images of several subjects in which everyone has a face and they stand, left to right, in the "
            "prompt's order: which noun carries whose face, not how good an image is",
            digits=2,
            bounds=(0.0, 1.0),
        ),
        Column(
            "detection_rate",
            "faces detected",
            True,
            "share of the subjects for whom there is a face",
            digits=2,
            headline=True,
            of_image_alone=True,
            bounds=(0.0, 1.0),
        ),
        Column(
            "face_count",
            "correct face count",
            True,
            "share of images with exactly as many faces as subjects",
            digits=2,
            of_image_alone=True,
            bounds=(0.0, 1.0),
        ),
    )

    embedder: ClassVar[int] = 0
    """Index of the backbone's face models that it measures with."""

    def __init__(self, setting: Setting, embedder: int | None = None) -> None:
        number = self.embedder if embedder is None else embedder
        self._models = FaceModels.shared(setting.backbone, setting.device, number)
        self._embedder = setting.backbone.faces[number].name
        self._references = ReferenceFaces(self._models)

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Embed every reference; raises UserError if one shows no face."""
        self._references.embeddings(subjects)

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Find the faces of the next images together."""
        self._models.look_ahead(sample.image for sample in samples)

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        faces = self._models.find(sample.image)
        return identity_score(self._references.embeddings(sample.subjects), faces)

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """`ceiling`: the other photographs of each subject; `floor`: another person in place of each subject.

        Only similarities: the number of faces and their positions follow from the construction. A photograph that is
        unreadable or shows no face is left out, and the provenance names it.
        """
        rows: dict[str, list[Score]] = {}
        references = self._references.embeddings(subjects)
        for anchor in anchors_of(subjects, others):
            faces = [self._references.usable(person, anchor.number) for person in anchor.people]
            found = [face for face in faces if face is not None]
            if len(found) == len(subjects):
                score = identity_score(references, found)
                kept = {name: value for name, value in score.values.items() if name not in OF_ONE_IMAGE}
                rows.setdefault(anchor.row, []).append(Score(kept, score.details))
        return rows

    def provenance(self) -> Mapping[str, Any]:
        """Embedder's name, files and onnxruntime providers; photographs unusable for ceiling or floor, and why."""
        unusable = self._references.unusable
        left_out = {"photographs_left_out": dict(unusable)} if unusable else {}
        return {"embedder": self._embedder, **self._models.provenance(), **left_out}


def identity_score(references: Sequence[np.ndarray], faces: Sequence[Face]) -> Score:
    """All identity columns from unit-length reference embeddings (one per subject) and the faces, largest first."""
    count = len(references)
    everything = similarities(references, faces)
    considered = everything[:, :count]
    matched = match_faces(references, faces)
    own = [float(considered[subject, matched[subject]]) for subject in sorted(matched)]
    published = [max(0.0, float(considered[row, matched[row]])) if row in matched else 0.0 for row in range(count)]
    other = [
        float(considered[row, column]) for subject, column in matched.items() for row in range(count) if row != subject
    ]
    apart = len(matched) == count and all(
        considered[subject, column] > np.delete(considered[:, column], subject).max(initial=-np.inf)
        for subject, column in matched.items()
    )
    return Score(
        values={
            "identity": min(published),
            "identity_optimal": _optimal(considered),
            "identity_mean": float(np.mean(published)),
            "identity_detected": float(np.mean(own)) if own else None,
            "identity_other": float(np.mean(other)) if other else None,
            "identity_mixing": float(np.mean(other)) - float(np.mean(own)) if other else None,
            "told_apart": float(apart) if count > 1 else None,
            "in_order": float(_in_order(faces, matched, count)) if count > 1 else None,
            "detection_rate": min(len(faces), count) / count,
            "face_count": float(len(faces) == count),
        },
        details={
            "faces": [{"box": [round(x, 2) for x in face.box], "score": round(face.score, 4)} for face in faces],
            "similarities": [[round(float(value), 6) for value in row] for row in everything],
            "matched": {str(row): column for row, column in sorted(matched.items())},
        },
    )


def _optimal(considered: np.ndarray) -> float:
    """Minimum over the subjects under the optimal assignment; no face or a negative cosine counts 0."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(considered, maximize=True)
    if len(rows) < len(considered):
        return 0.0
    return max(0.0, float(considered[rows, columns].min()))


def _in_order(faces: Sequence[Face], matched: Mapping[int, int], count: int) -> bool:
    """Whether every subject has a face and their centers lie from left to right in the subjects' order."""
    if len(matched) < count:
        return False
    centers = [faces[matched[subject]].box[0] + faces[matched[subject]].box[2] for subject in range(count)]
    return all(left < right for left, right in pairwise(centers))
