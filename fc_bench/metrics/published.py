"""Scores of published benchmarks that follow from the similarities of faces and references, without the image.

Each is the arithmetic of its benchmark's own code on the similarities that `identity` records. The embedder is the
backbone's, not the benchmark's: a value says what the protocol rewards, not what its authors' script prints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fc_bench.metrics.identity import Identity
from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.published import Trimmed, multihuman, multiid, xverse


class FromSimilarities(ABC):
    """A metric that is derived from the record of `identity`: similarities [subjects, faces] of all detected faces."""

    derived_from: ClassVar[str] = "identity"
    embedder: ClassVar[int] = 0
    description: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    source: ClassVar[str]
    """Repository and commit of the code whose arithmetic it is."""
    of_one_image: ClassVar[frozenset[str]] = frozenset()
    """Columns that are meaningful only if all faces are in one generated image."""

    def __init__(self, setting: Setting) -> None:
        self._identity = Identity(setting, self.embedder)

    @staticmethod
    @abstractmethod
    def values(similarities: np.ndarray) -> dict[str, float | None]:
        """Each column's value, from cosines [subjects, faces], faces from the largest to the smallest."""

    @classmethod
    def derive(cls, details: Mapping[str, Any]) -> Score:
        """The score, from the details of the score of `identity` of the same image."""
        return cls._score_of(details)

    @classmethod
    def _score_of(cls, details: Mapping[str, Any]) -> Score:
        rows = details["similarities"]
        return Score(cls.values(np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows[0] else 0)))

    @classmethod
    def as_published(cls, values: Sequence[float]) -> Trimmed | None:
        """The mean of images as the benchmark's own code takes it; None of no values."""
        return Trimmed(float(np.mean(values)), len(values)) if values else None

    @classmethod
    def derive_anchor(cls, details: Mapping[str, Any]) -> Score:
        """The score of photographs in place of an image, without the columns `of_one_image`."""
        found = cls._score_of(details)
        return Score({name: value for name, value in found.values.items() if name not in cls.of_one_image})

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Embed every reference; raises UserError if one shows no face."""
        self._identity.prepare(subjects)

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Find the faces of the next images together."""
        self._identity.look_ahead(samples)

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        return self._score_of(self._identity.score(sample).details)

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """The same arithmetic on the subjects' other photographs (`ceiling`) and on other people (`floor`)."""
        found = self._identity.anchors(subjects, others)
        return {row: [self.derive_anchor(score.details) for score in scores] for row, scores in found.items()}

    def provenance(self) -> Mapping[str, Any]:
        """The embedder and the face models, and the code whose arithmetic it is."""
        return {**self._identity.provenance(), "arithmetic": self.source}


class XVerse(FromSimilarities):
    """ID Score of XVerseBench, which is UMO's ID-Sim, and UMO's ID-Conf."""

    description: ClassVar[str] = "ID-Sim and ID-Conf of XVerseBench and UMO"
    source: ClassVar[str] = "bytedance/XVerse 65e2581, bytedance/UMO aada3dc"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "xverse_id",
            "XVerse ID-Sim",
            True,
            "largest cosine of each subject with any face, mean over the subjects, times 100; one face may serve "
            "several subjects, no face counts 0, negative ones are kept",
            digits=1,
            headline=True,
            bounds=(-100.0, 100.0),
        ),
        Column(
            "umo_id_confidence",
            "UMO ID-Conf",
            True,
            "lead of each subject's most similar face over its second most similar one, relative to it, mean over the "
            "subjects, times 100; images with fewer than two faces are left out",
            digits=1,
            headline=True,
            bounds=(0.0, 100.0),
        ),
    )

    @staticmethod
    def values(similarities: np.ndarray) -> dict[str, float | None]:
        """Both columns, in percent."""
        confidences = xverse.id_confidences(similarities)
        return {
            "xverse_id": xverse.PERCENT * float(np.mean(xverse.id_similarities(similarities))),
            "umo_id_confidence": None if confidences is None else xverse.PERCENT * float(np.mean(confidences)),
        }


class UmoReward(FromSimilarities):
    """The multi-identity matching reward that UMO trains with."""

    description: ClassVar[str] = "multi-identity matching reward of UMO"
    source: ClassVar[str] = "bytedance/UMO aada3dc"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "umo_reward",
            "UMO matching reward",
            True,
            "mean over all pairs of subject and face of the cosine, with the opposite sign for pairs that are not "
            "matched; no face counts 0",
            headline=True,
            bounds=(-1.0, 1.0),
        ),
    )

    @staticmethod
    def values(similarities: np.ndarray) -> dict[str, float | None]:
        """The reward."""
        return {"umo_reward": xverse.matching_reward(similarities)}


class MultiHuman(FromSimilarities):
    """Face similarity and count accuracy of MultiHuman-Testbench."""

    description: ClassVar[str] = "face similarity and count accuracy of MultiHuman-Testbench"
    of_one_image: ClassVar[frozenset[str]] = frozenset({"multihuman_count"})
    source: ClassVar[str] = "Qualcomm-AI-research/MultiHuman-Testbench ff9f120"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "multihuman_similarity",
            "MultiHuman face similarity",
            True,
            "mean over the subjects of the matched cosine, an unmatched subject counts 0, negative ones are kept; the "
            "assignment is theirs, which is not always the best one",
            headline=True,
            bounds=(-1.0, 1.0),
        ),
        Column(
            "multihuman_similarity_optimal",
            "MultiHuman face similarity (optimal)",
            True,
            "the same with the assignment of largest sum, which their paper describes",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "multihuman_count",
            "MultiHuman count accuracy",
            True,
            "share of images with exactly as many faces as subjects",
            digits=2,
            headline=True,
            of_image_alone=True,
            bounds=(0.0, 1.0),
        ),
    )

    @staticmethod
    def values(similarities: np.ndarray) -> dict[str, float | None]:
        """All columns."""
        subjects, faces = similarities.shape
        return {
            "multihuman_similarity": multihuman.face_similarity(similarities),
            "multihuman_similarity_optimal": multihuman.optimal_face_similarity(similarities),
            "multihuman_count": float(subjects == faces),
        }


class MultiID(FromSimilarities):
    """Sim(Ref) and the similarity of pairs that do not belong together of MultiID-Bench."""

    description: ClassVar[str] = "Sim(Ref) and blending of MultiID-Bench"
    source: ClassVar[str] = "Doby-Xu/WithAnyone 996d152"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "multiid_similarity",
            "MultiID Sim(Ref)",
            True,
            "mean cosine of the pairs matched with the largest sum, negative ones kept; a missing person is left out "
            "of the mean, and an image without a face altogether",
            headline=True,
            bounds=(-1.0, 1.0),
        ),
        Column(
            "multiid_non_matched",
            "MultiID non-matched",
            False,
            "mean cosine of all other pairs of subject and face; left out where there is none",
            headline=True,
            bounds=(-1.0, 1.0),
        ),
    )

    @classmethod
    def as_published(cls, values: Sequence[float]) -> Trimmed | None:
        """The mean without values farther than 1.5 interquartile ranges from the quartiles."""
        return multiid.trimmed_mean(values)

    @staticmethod
    def values(similarities: np.ndarray) -> dict[str, float | None]:
        """Both columns."""
        found = multiid.agreement(similarities)
        return {
            "multiid_similarity": None if found is None else found.mean,
            "multiid_non_matched": None if found is None else found.non_matched,
        }


DERIVED: tuple[type[FromSimilarities], ...] = (XVerse, UmoReward, MultiHuman, MultiID)
"""The protocols in the order of their columns."""
