"""Attention localization: whether a subject's cross-attention falls on its own face."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, ClassVar

import numpy as np

from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.scoring.faces import FaceModels, ReferenceFaces, match_faces

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares of the image's width and height."""


class AttentionLocalization:
    """The share of a subject's cross-attention on its own face, and on the faces of the others.

    For methods that expose their attention (`protocols.ShowsAttention`): FastComposer claims that localized attention
    in training keeps identities separate (arXiv 2305.10431, section 4.2). Faces are detected and matched with the
    subjects as for identity; a face is its detected box. `attention_among_faces` does not depend on how much of a
    person is face.
    """

    description: ClassVar[str] = "share of a subject's cross-attention on its own face, of methods that show it"
    needs_attention: ClassVar[bool] = True
    needs_faces: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "attention_on_own",
            "attention on own face",
            True,
            "share of a subject's cross-attention inside the box of its own face, mean over the subjects with a face; "
            "missing without a face and of methods that show no attention",
            bounds=(0.0, 1.0),
        ),
        Column(
            "attention_on_others",
            "attention on others",
            False,
            "share of a subject's cross-attention inside the boxes of the other subjects' faces, mean over the "
            "subjects beside whom somebody has a face",
            bounds=(0.0, 1.0),
        ),
        Column(
            "attention_among_faces",
            "own share of face attention",
            True,
            "of a subject's cross-attention inside the boxes of all matched faces, the share inside its own, mean over "
            "the subjects with a face beside another one; missing where there are no two",
            bounds=(0.0, 1.0),
        ),
        Column(
            "attention_over_chance",
            "attention vs. chance",
            True,
            "attention on the own face divided by its box's share of the image, mean over the subjects with a face: 1 "
            "where attention is spread evenly",
            digits=2,
            bounds=(0.0, None),
        ),
    )

    def __init__(self, setting: Setting) -> None:
        self._models = FaceModels.shared(setting.backbone, setting.device)
        self._embedder = setting.backbone.faces[0].name
        self._references = ReferenceFaces(self._models)

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Embed every reference; raises UserError if one shows no face."""
        self._references.embeddings(subjects)

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Find the faces of the next images together."""
        self._models.look_ahead(sample.image for sample in samples if sample.attention is not None)

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        if sample.attention is None:
            nothing = {column.name: None for column in self.columns}
            return Score(nothing, {"reason": "the method showed no attention for this image"})
        faces = self._models.find(sample.image)
        matched = match_faces(self._references.embeddings(sample.subjects), faces)
        width, height = sample.image.size
        boxes = {row: _clipped(faces[column].box, width, height) for row, column in sorted(matched.items())}
        return localization_score(sample.attention, boxes)

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """None: photographs have no attention maps."""
        return {}

    def provenance(self) -> Mapping[str, Any]:
        """Embedder's name, files and onnxruntime providers."""
        return {"embedder": self._embedder, **self._models.provenance()}


def localization_score(maps: np.ndarray, boxes: Mapping[int, Box]) -> Score:
    """All columns from maps [subjects, height, width], each with the sum 1, and the face box of each subject.

    A cell of a map counts with the share of it inside the box.
    """
    maps = np.asarray(maps, dtype=np.float64)
    covers = {subject: _cover([box], *maps.shape[1:]) for subject, box in boxes.items()}
    own = {subject: float((maps[subject] * cover).sum()) for subject, cover in covers.items()}
    areas = {subject: float(cover.mean()) for subject, cover in covers.items()}
    elsewhere, everywhere = {}, {}
    for subject in range(len(maps)):
        theirs = [box for other, box in sorted(boxes.items()) if other != subject]
        if theirs:
            elsewhere[subject] = float((maps[subject] * _cover(theirs, *maps.shape[1:])).sum())
            everywhere[subject] = float((maps[subject] * _cover(list(boxes.values()), *maps.shape[1:])).sum())
    among = [own[subject] / share for subject, share in everywhere.items() if subject in own and share > 0]
    ratios = [share / areas[subject] for subject, share in own.items() if areas[subject] > 0]
    return Score(
        values={
            "attention_on_own": _mean(own.values()),
            "attention_on_others": _mean(elsewhere.values()),
            "attention_among_faces": _mean(among),
            "attention_over_chance": _mean(ratios),
        },
        details={
            "own": {str(subject): round(share, 6) for subject, share in own.items()},
            "others": {str(subject): round(share, 6) for subject, share in elsewhere.items()},
            "face_area": {str(subject): round(area, 6) for subject, area in areas.items()},
        },
    )


def _clipped(box: tuple[float, float, float, float], width: int, height: int) -> Box:
    """A box in pixels, clipped to the image."""
    x0, x1 = (min(max(x / width, 0.0), 1.0) for x in (box[0], box[2]))
    y0, y1 = (min(max(y / height, 0.0), 1.0) for y in (box[1], box[3]))
    return x0, y0, max(x0, x1), max(y0, y1)


def _cover(boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    """The share of each cell of a map inside any of the boxes: float64 [height, width]."""
    covered = np.zeros((height, width))
    xs, ys = (sorted({edge for box in boxes for edge in (box[first], box[first + 2])}) for first in (0, 1))
    for left, right in pairwise(xs):
        for top, bottom in pairwise(ys):
            x, y = (left + right) / 2, (top + bottom) / 2
            if any(box[0] < x < box[2] and box[1] < y < box[3] for box in boxes):
                covered += np.outer(_overlap(top, bottom, height), _overlap(left, right, width))
    return covered


def _overlap(start: float, end: float, count: int) -> np.ndarray:
    """The share of each of `count` equal parts of [0, 1] between start and end."""
    edges = np.arange(count + 1) / count
    return np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None) * count


def _mean(values: Collection[float]) -> float | None:
    return fmean(values) if values else None
