"""Faces: detection and embedding with a backbone's face models, and matching with references."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.errors import MissingWeightsError
from fc_bench.model.matching import greedy_matching
from fc_bench.protocols import Subject
from fc_bench.scoring.dlib_pack import DlibPack
from fc_bench.scoring.insightface_pack import InsightFacePack
from fc_bench.scoring.memo import Remembering
from fc_bench.scoring.recognizers import TOGETHER, unit
from fc_bench.suites.photographs import Crop, cut_out, read_photograph

MOST_VIEWS = 16
"""Number of squares of a photograph that are searched."""
EDGE, OVERLAP = 0.02, 0.5
"""A face closer to an edge than this share of a side may be cut off; boxes that overlap by this share are one face."""
DOUBTFUL = 0.7
"""In a photograph that is searched, what has less than this part of the best score is no face.

Of the pocket people's faces beside each other the lowest is 0.77, of what is found on empty floors the highest 0.66.
"""
CLOSE_UP, MUCH_MORE = 1.8, 1.3
"""Side of a close-up in heights of the face's box; a photograph of at least this many close-ups shows much more."""


@dataclass(frozen=True)
class Face:
    """A detected face: box (x0, y0, x1, y1 in pixels), detection score, unit-length float32 embedding [dim].

    `landmarks` are both eyes, the nose and both corners of the mouth, x and y in pixels [5, 2], those on the left of
    the image first; None if the detector gives none.
    """

    box: tuple[float, float, float, float]
    score: float
    embedding: np.ndarray
    landmarks: np.ndarray | None = None

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])


class FaceModels:
    """Detector and recognizer of one of a backbone's face packs.

    Raises UserError if the pack's files are not such a pair.
    """

    def __init__(self, backbone: Backbone, device: str, embedder: int = 0) -> None:
        path, settings = backbone.path(backbone.faces_component(embedder)), backbone.faces[embedder]
        kind = InsightFacePack if settings.kind is None else DlibPack
        self._path = path
        self._pack = kind(path, settings, device, f'The face pack {path} of the backbone "{backbone.name}"')
        self._remembered = Remembering(self._find)

    @classmethod
    def shared(cls, backbone: Backbone, device: str, embedder: int = 0) -> FaceModels:
        """The backbone's face models; all metrics share one instance while any of them uses it."""
        part = backbone.faces_component(embedder)
        key = (backbone.path(part), backbone.fingerprint(part), backbone.faces[embedder], device)
        models = _SHARED.get(key)
        if models is None:
            models = _SHARED[key] = cls(backbone, device, embedder)
        return models

    def find(self, image: Image.Image) -> list[Face]:
        """All faces in an RGB image, largest first (ties: from left to right)."""
        return list(self._remembered(image))

    def look_ahead(self, images: Iterable[Image.Image]) -> None:
        """Find the faces of several images on all cores, for `find`."""
        self._remembered.look_ahead(images, TOGETHER, threads=True)

    def _find(self, images: Sequence[Image.Image]) -> list[list[Face]]:
        """The faces of each image: images are searched one by one, all their faces are embedded together."""
        pixels = [np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1]) for image in images]
        detected = [(number, found) for number, shown in enumerate(pixels) for found in self._detected(shown)]
        with self._failing(pixels):
            embeddings = self._pack.embed([(pixels[number], found) for number, found in detected])
        faces: list[list[Face]] = [[] for _ in images]
        for (number, found), embedding in zip(detected, embeddings, strict=True):
            left, top, right, bottom = map(float, found.bbox)
            face = Face((left, top, right, bottom), float(found.det_score), unit(embedding), _landmarks(found))
            faces[number].append(face)
        return [sorted(own, key=lambda face: (-face.area, face.box)) for own in faces]

    def _detected(self, pixels: np.ndarray) -> list[Any]:
        """The pack's faces in BGR pixels [height, width, 3], without embeddings."""
        with self._failing([pixels]):
            return self._pack.detect(pixels)

    @contextlib.contextmanager
    def _failing(self, pixels: Sequence[np.ndarray]) -> Iterator[None]:
        """Raise UserError, with the sizes of the images, if the models fail on them."""
        try:
            yield
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            sizes = " and ".join(dict.fromkeys(f"{one.shape[1]} x {one.shape[0]}" for one in pixels))
            raise UserError(
                f"The face models of {self._path} fail on an image of {sizes} pixels "
                f"({type(error).__name__}: {reason}); they need {self._pack.needs}."
            ) from error

    def empty_crop(self) -> np.ndarray:
        """Unit-length embedding of the recognizer's all-zero input, a crop of mean grey."""
        return unit(self._pack.embed_empty())

    def provenance(self) -> dict[str, Any]:
        """The files, and what computes with them."""
        return self._pack.provenance()


_SHARED: WeakValueDictionary[Any, FaceModels] = WeakValueDictionary()


class FaceFinder:
    """A backbone's face models, loaded at first use and shared with the metrics while this object exists."""

    def __init__(self, backbone: Backbone, device: str) -> None:
        self._backbone, self._device = backbone, device
        self._models: dict[int, FaceModels] = {}

    def is_here(self) -> bool:
        """Whether the main models are on this machine or can be downloaded."""
        try:
            self._backbone.require(self._backbone.faces_component(0))
        except MissingWeightsError:
            return False
        return True

    def name(self, embedder: int = 0) -> str:
        """The name of the models."""
        return self._backbone.faces[embedder].name

    def find(self, image: Image.Image, embedder: int = 0) -> list[Face]:
        """All faces in an RGB image, largest first; raises the errors of loading the models."""
        if embedder not in self._models:
            self._models[embedder] = FaceModels.shared(self._backbone, self._device, embedder)
        return self._models[embedder].find(image)

    def search(self, image: Image.Image) -> list[Face]:
        """All faces in a photograph of any shape, largest first.

        Detectors scale a picture to a fixed size, in which a long photograph becomes small; therefore squares of it are
        searched as well. False detections have much lower scores than faces.
        """
        found = self.find(image)
        if image.width == image.height:
            return found
        long, side = (0 if image.width > image.height else 1), min(image.size)
        views = min(MOST_VIEWS, math.ceil(2 * (image.size[long] - side) / side) + 1)
        for start in np.linspace(0, image.size[long] - side, views).round():
            view = Crop((start + side / 2, side / 2) if long == 0 else (side / 2, start + side / 2), side)
            found += [face for face in self._within(image, view) if not _cut_by(view, face, image.size)]
        kept: list[Face] = []
        for face in sorted(found, key=lambda face: (-face.score, face.box)):
            if not any(_is_same(face, other) for other in kept):
                kept.append(face)
        sure = [face for face in kept if face.score >= DOUBTFUL * kept[0].score]
        return sorted(sure, key=lambda face: (-face.area, face.box))

    def look_close(self, image: Image.Image, face: Face) -> Face:
        """The face as detected in a close-up, if the photograph shows much more than a portrait."""
        (left, top, right, bottom) = face.box
        middle, side = ((left + right) / 2, (top + bottom) / 2), CLOSE_UP * (bottom - top)
        if MUCH_MORE * side >= max(image.size):
            return face
        found = self._within(image, Crop(middle, min(side, *image.size)))
        same = [other for other in found if _is_same(face, other)]
        return replace(face, embedding=same[0].embedding) if same else face

    def _within(self, image: Image.Image, view: Crop) -> list[Face]:
        """The faces in a square of a photograph, in the photograph's coordinates."""
        left, top = (max(0.0, round(place)) for place in view.inside(image.size).box[:2])
        moved = np.array([left, top])
        return [
            replace(
                face,
                box=(face.box[0] + left, face.box[1] + top, face.box[2] + left, face.box[3] + top),
                landmarks=None if face.landmarks is None else face.landmarks + moved,
            )
            for face in self.find(cut_out(image, view))
        ]


def _cut_by(view: Crop, face: Face, size: tuple[int, int]) -> bool:
    """Whether a face in a square touches an edge of the square that is not an edge of the picture."""
    edge = EDGE * view.side
    left, top, right, bottom = view.box
    return (
        (left > 0 and face.box[0] < left + edge)
        or (top > 0 and face.box[1] < top + edge)
        or (right < size[0] and face.box[2] > right - edge)
        or (bottom < size[1] and face.box[3] > bottom - edge)
    )


def _is_same(one: Face, other: Face) -> bool:
    """Whether two boxes show the same face: most of the smaller lies in the larger."""
    across = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    down = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    return across > 0 and down > 0 and across * down > OVERLAP * min(one.area, other.area)


class NoFaceError(UserError):
    """A subject's reference photograph shows no face; `subject` is the subject's id."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(
            f'No face is found in {subject.photographs[0]}, the reference photograph of "{subject.id}"; '
            "use one in which the face is visible."
        )
        self.subject = subject.id


class ReferenceFaces:
    """The largest face of each photograph of the subjects; each photograph is searched once.

    `unusable` maps photographs that `usable` could not use to the reason.
    """

    def __init__(self, models: FaceModels) -> None:
        self._models = models
        self._found: dict[tuple[str, int], Face | None] = {}
        self.unusable: dict[str, str] = {}

    def face(self, subject: Subject, number: int = 0) -> Face | None:
        """The largest face of photograph `number` (from 0); raises UserError when the file is unreadable."""
        key = (subject.id, number)
        if key not in self._found:
            faces = self._models.find(read_photograph(subject.photographs[number]))
            self._found[key] = faces[0] if faces else None
        return self._found[key]

    def embeddings(self, subjects: Sequence[Subject]) -> list[np.ndarray]:
        """The largest face of each subject's first photograph; raises NoFaceError if one shows no face."""
        found = []
        for subject in subjects:
            face = self.face(subject)
            if face is None:
                raise NoFaceError(subject)
            found.append(face.embedding)
        return found

    def usable(self, subject: Subject, number: int) -> Face | None:
        """As `face`, but None for an unusable photograph, whose reason is recorded."""
        try:
            face, reason = self.face(subject, number), "no face is found in it"
        except UserError as error:
            face, reason = None, str(error)
        if face is None:
            self.unusable[f"{subject.id}/{subject.photographs[number].name}"] = reason
        return face


def match_faces(references: Sequence[np.ndarray], faces: Sequence[Face]) -> dict[int, int]:
    """Reference -> its face in an image, one to one: as many of the largest faces as references, by largest cosine.

    `faces` are those of the image, largest first (FastComposer's evaluation, arXiv 2305.10431, section 5).
    """
    return greedy_matching(similarities(references, faces)[:, : len(references)])


def similarities(references: Sequence[np.ndarray], faces: Sequence[Face]) -> np.ndarray:
    """Cosines [references, faces] of unit-length embeddings."""
    if not faces:
        return np.zeros((len(references), 0), dtype=np.float32)
    return np.stack(references) @ np.stack([face.embedding for face in faces]).T


def _landmarks(found: Any) -> np.ndarray | None:
    points = getattr(found, "kps", None)
    return None if points is None else np.asarray(points, dtype=np.float64)
