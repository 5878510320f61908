"""Copying: whether a face repeats the reference photograph instead of showing the person anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.published.multiid import agreement, copy_paste, copy_paste_of_image
from fc_bench.scoring.anchors import anchors_of
from fc_bench.scoring.faces import Face, FaceModels, ReferenceFaces, match_faces, similarities
from fc_bench.suites.photographs import read_photograph

LEFT_EYE, RIGHT_EYE, NOSE, MOUTH = 0, 1, 2, (3, 4)
"""Rows of a face's landmarks."""


@dataclass(frozen=True)
class Shown:
    """A face and the picture it is in."""

    face: Face
    size: tuple[int, int]

    @property
    def frame(self) -> np.ndarray:
        """The sides of the face's box, as shares of the picture's sides [4]."""
        return np.array(self.face.box) / np.tile(self.size, 2)


class CopyPaste:
    """How much nearer a face is to the reference than the person's own other photographs are.

    Face embeddings of one person differ between photographs. With c the mean cosine of the person's other photographs
    with the reference, a face of cosine s copies the share (s - c) / (1 - c) of what is left between another photograph
    and the reference itself. `multiid_copy_paste` is the measure of MultiID-Bench (Doby-Xu/WithAnyone, commit 996d152)
    with the person's other photographs as targets. Subjects with a single photograph are left out. Where a suite names
    a target for a prompt, a photograph of its people that matches the text, the measure is also taken with the target's
    faces, all of them at once as its code does. Pose, expression and framing are compared beside it: a copied
    photograph repeats them, too.
    """

    description: ClassVar[str] = "copying of the reference photograph, beyond the likeness of the person's other ones"
    embedder: ClassVar[int] = 0
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "copying",
            "copying",
            False,
            "how far the face is from the person's other photographs to the reference itself (1), mean over the "
            "subjects; 0 where it is no nearer to the reference than they are",
            headline=True,
            bounds=(0.0, 1.0),
        ),
        Column(
            "likeness_to_reference",
            "likeness beyond other photographs",
            None,
            "the same with its sign: below 0, the face is less like the reference than the person's other photographs",
            bounds=(None, 1.0),
        ),
        Column(
            "multiid_copy_paste",
            "MultiID copy-paste",
            False,
            "angle to the target minus angle to the reference, relative to the angle between them: 1 is the reference, "
            "-1 the target; targets are the person's other photographs, mean over these and the subjects",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "pose_difference",
            "pose difference",
            None,
            "distance of the noses in the image and in the reference, relative to the eyes, in distances of the eyes; "
            "mean over the subjects; small where the pose is copied",
            bounds=(0.0, None),
        ),
        Column(
            "expression_difference",
            "expression difference",
            None,
            "the same of the mouths' widths and distances from the noses",
            bounds=(0.0, None),
        ),
        Column(
            "framing_difference",
            "framing difference",
            None,
            "mean difference of the sides of the face's box in the image and in the reference, as shares of the image",
            bounds=(0.0, 1.0),
        ),
        Column(
            "target_copy_paste",
            "MultiID copy-paste (target)",
            False,
            "MultiID copy-paste with the faces of the prompt's target: 1 is the reference, -1 the target; images "
            "without a target, or in which image, target and references differ in the number of faces, are left out",
            headline=True,
            bounds=(-1.0, 1.0),
        ),
        Column(
            "target_similarity",
            "MultiID Sim(GT)",
            True,
            "mean cosine of the matched pairs of faces in the image and in the prompt's target; images without a "
            "target or without a face are left out",
            bounds=(-1.0, 1.0),
        ),
    )

    def __init__(self, setting: Setting) -> None:
        self._models = FaceModels.shared(setting.backbone, setting.device, self.embedder)
        self._references = ReferenceFaces(self._models)
        self._embedder = setting.backbone.faces[self.embedder].name
        self._shown: dict[str, Shown] = {}
        """Subject's id -> its reference."""
        self._targets: dict[Path, list[Face]] = {}

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Embed every reference; raises UserError if one shows no face."""
        self._references.embeddings(subjects)

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Find the faces of the next images together."""
        self._models.look_ahead(sample.image for sample in samples)

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        found = self._models.find(sample.image)
        matched = match_faces(self._references.embeddings(sample.subjects), found)
        size = sample.image.size
        shown = [(sample.subjects[row], Shown(found[column], size)) for row, column in sorted(matched.items())]
        score = self._score(shown)
        return Score({**score.values, **self._beside_target(sample, found)}, score.details)

    def _beside_target(self, sample: ScoredSample, found: Sequence[Face]) -> dict[str, float | None]:
        """The columns that need the prompt's target; empty without one."""
        if sample.target is None:
            return {}
        if sample.target not in self._targets:
            self._targets[sample.target] = self._models.find(read_photograph(sample.target, "target"))
        made, aims = ([face.embedding for face in faces] for faces in (found, self._targets[sample.target]))
        copied = copy_paste_of_image(made, aims, self._references.embeddings(sample.subjects))
        likeness = agreement(similarities(aims, found)) if aims else None
        return {
            "target_copy_paste": None if copied is None else fmean(copied),
            "target_similarity": None if likeness is None else likeness.mean,
        }

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """`ceiling`: the subjects' other photographs, each beside the remaining ones; `floor`: other people."""
        rows: dict[str, list[Score]] = {}
        for anchor in anchors_of(subjects, others):
            faces = [self._references.usable(person, anchor.number) for person in anchor.people]
            shown = [
                (subject, Shown(face, _size(person.photographs[anchor.number])))
                for subject, person, face in zip(subjects, anchor.people, faces, strict=True)
                if face is not None
            ]
            if len(shown) == len(subjects):
                number = anchor.number if anchor.people == tuple(subjects) else None
                rows.setdefault(anchor.row, []).append(self._score(shown, number))
        return rows

    def provenance(self) -> Mapping[str, Any]:
        """Embedder's name, files and onnxruntime providers; photographs without a usable face, and why."""
        unusable = self._references.unusable
        left_out = {"photographs_left_out": dict(unusable)} if unusable else {}
        return {"embedder": self._embedder, **self._models.provenance(), **left_out}

    def _score(self, shown: Sequence[tuple[Subject, Shown]], left_out: int | None = None) -> Score:
        """The score of faces by subject; photograph `left_out` of each subject is no other photograph."""
        signed, theirs = [], []
        for subject, one in shown:
            reference = self._references.embeddings([subject])[0]
            others = [
                face.embedding
                for number in range(1, len(subject.photographs))
                if number != left_out and (face := self._references.usable(subject, number)) is not None
            ]
            if not others:
                continue
            usual = fmean(float(other @ reference) for other in others)
            if usual < 1:
                signed.append((float(one.face.embedding @ reference) - usual) / (1 - usual))
            theirs.append(fmean(copy_paste(one.face.embedding, other, reference) for other in others))
        differences = [found for subject, one in shown if (found := self._differences(subject, one)) is not None]
        values: dict[str, float | None] = {
            "copying": fmean(max(0.0, value) for value in signed) if signed else None,
            "likeness_to_reference": fmean(signed) if signed else None,
            "multiid_copy_paste": fmean(theirs) if theirs else None,
        }
        for name in ("pose_difference", "expression_difference", "framing_difference"):
            own = [found[name] for found in differences if name in found]
            values[name] = fmean(own) if own else None
        return Score(values, {"subjects_compared": len(signed)})

    def _differences(self, subject: Subject, one: Shown) -> dict[str, float] | None:
        """Pose, expression and framing of a face and the subject's reference."""
        reference = self._reference(subject)
        if reference is None:
            return None
        found = {"framing_difference": float(np.abs(one.frame - reference.frame).mean())}
        here, there = _features(one.face), _features(reference.face)
        if here is not None and there is not None:
            for name, left, right in zip(("pose_difference", "expression_difference"), here, there, strict=True):
                found[name] = float(np.linalg.norm(left - right))
        return found

    def _reference(self, subject: Subject) -> Shown | None:
        """The reference, whose photograph is read once; None without a face."""
        face = self._references.face(subject)
        if face is not None and subject.id not in self._shown:
            self._shown[subject.id] = Shown(face, _size(subject.photographs[0]))
        return self._shown.get(subject.id)


def _features(face: Face) -> tuple[np.ndarray, np.ndarray] | None:
    """The nose [2], and the mouth's width and distance from the nose [2], in distances of the eyes.

    The origin is between the eyes, the first axis goes through them. None without landmarks.
    """
    if face.landmarks is None:
        return None
    across = face.landmarks[RIGHT_EYE] - face.landmarks[LEFT_EYE]
    distance = float(np.linalg.norm(across))
    if distance == 0:
        return None
    x = across / distance
    axes = np.stack([x, [-x[1], x[0]]])
    points = (face.landmarks - (face.landmarks[LEFT_EYE] + face.landmarks[RIGHT_EYE]) / 2) @ axes.T / distance
    mouth = points[list(MOUTH)]
    width = float(np.linalg.norm(mouth[1] - mouth[0]))
    return points[NOSE], np.array([width, mouth.mean(axis=0)[1] - points[NOSE][1]])


def _size(photograph: Any) -> tuple[int, int]:
    image: Image.Image = read_photograph(photograph)
    return image.size
