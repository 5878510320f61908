"""Image similarity: how similar the image is to the subjects' photographs, beyond identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from PIL import Image

from fc_bench.errors import UserError
from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.scoring.anchors import anchors_of
from fc_bench.scoring.clip import ClipScorer
from fc_bench.scoring.faces import Face, FaceModels, ReferenceFaces, match_faces
from fc_bench.scoring.image_features import ImageFeatures
from fc_bench.suites.photographs import read_photograph


@dataclass(frozen=True)
class _Looks:
    """Unit-length embeddings of a picture by column, and of its face (None: no face)."""

    whole: Mapping[str, Any]
    face: Any


class ImageSimilarity:
    """Cosines of image embeddings of the generated image and the subjects' first photographs.

    `clip_i` and `dino` are the subject fidelity measures of DreamBooth (arXiv 2208.12242, section 4.2; there against
    all photographs of a subject, here against the one that every method gets). For things and animals they say how well
    the subject is kept. For people they also rise when the photograph is copied, with its background, pose and light:
    beside an equal identity the higher one is the copy, so no direction is better. `face_clip_i` looks at faces alone.
    """

    description: ClassVar[str] = "similarity of the image and its faces to the subjects' photographs (CLIP-I, DINO)"
    scorers: ClassVar[tuple[str, ...]] = ("image_features",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "clip_i",
            "CLIP-I",
            None,
            "CLIP cosine of the whole image and the subject's first photograph, mean over the subjects: fidelity of "
            "things and animals; for people a high one also means a copied photograph, so neither direction is better",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "dino",
            "DINO",
            None,
            "the same with the class-token features of a self-supervised vision transformer, which tell apart what "
            "has the same name; missing where the backbone declares no image_features",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "face_clip_i",
            "CLIP-I of faces",
            None,
            "CLIP cosine of the cut-out face and the face of the subject's first photograph, faces matched as for "
            "identity, mean over the subjects that have one: near the ceiling or above it, pose, light and look are "
            "copied, too; missing without a face",
            bounds=(-1.0, 1.0),
        ),
    )

    def __init__(self, setting: Setting) -> None:
        backbone, device = setting.backbone, setting.device
        self._clip_folder = backbone.path("clip")
        self._clip = ClipScorer.shared(self._clip_folder, device)
        self._features: ImageFeatures | None = None
        self._provenance: dict[str, Any] = {"model": self._clip_folder.name, "dtype": "float32"}
        if backbone.image_features:
            folder = backbone.path("image_features")
            self._features = ImageFeatures(folder, device)
            self._provenance["image_features"] = backbone.image_features.removeprefix("hub:")
        else:
            reason = f'the backbone "{backbone.name}" declares no image_features'
            self._provenance["missing_columns"] = {"dino": reason}
        self._models = FaceModels.shared(backbone, device)
        self._faces = ReferenceFaces(self._models)
        self._photographs: dict[tuple[str, int], _Looks] = {}
        self._unusable: dict[str, str] = {}

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Embed every reference; a face is not required."""
        for subject in subjects:
            self._looks(subject)

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Embed the next images and their faces together."""
        images = [sample.image for sample in samples]
        self._models.look_ahead(images)
        crops = [face_crop(sample.image, face) for sample in samples for face in self._matched(sample).values()]
        self._clip.look_ahead([*images, *crops])
        if self._features is not None:
            self._features.look_ahead(images)

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        references = [self._looks(subject) for subject in sample.subjects]
        image = _Looks(self._whole(sample.image), None)
        faces = self._matched(sample)
        cosines = [
            float(self._clip.image(face_crop(sample.image, faces[subject.id])) @ reference.face)
            for subject, reference in zip(sample.subjects, references, strict=True)
            if subject.id in faces
        ]
        boxes = {name: [round(x, 2) for x in face.box] for name, face in faces.items()}
        return Score(_values(references, [image] * len(references), cosines), {"faces": boxes})

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """`ceiling`: the other photographs of each subject; `floor`: another person in place of each subject.

        Each photograph stands for the image of its own subject. An unreadable photograph is left out, and the
        provenance names it.
        """
        rows: dict[str, list[Score]] = {}
        references = [self._looks(subject) for subject in subjects]
        for anchor in anchors_of(subjects, others):
            looks = [self._usable(person, anchor.number) for person in anchor.people]
            found = [one for one in looks if one is not None]
            if len(found) == len(subjects):
                cosines = [
                    float(one.face @ reference.face)
                    for one, reference in zip(found, references, strict=True)
                    if one.face is not None and reference.face is not None
                ]
                rows.setdefault(anchor.row, []).append(Score(_values(references, found, cosines)))
        return rows

    def provenance(self) -> Mapping[str, Any]:
        """The models' folders and number format, and the reasons for missing columns and photographs."""
        left_out = {"photographs_left_out": dict(self._unusable)} if self._unusable else {}
        return {**self._provenance, **left_out}

    def _whole(self, image: Image.Image) -> dict[str, Any]:
        """The embeddings of a whole picture."""
        features = {"dino": self._features.image(image)} if self._features is not None else {}
        return {"clip_i": self._clip.image(image), **features}

    def _looks(self, subject: Subject, number: int = 0) -> _Looks:
        """The embeddings of a photograph, computed once."""
        key = (subject.id, number)
        if key not in self._photographs:
            photograph, face = read_photograph(subject.photographs[number]), self._faces.face(subject, number)
            crop = self._clip.image(face_crop(photograph, face)) if face is not None else None
            self._photographs[key] = _Looks(self._whole(photograph), crop)
        return self._photographs[key]

    def _usable(self, subject: Subject, number: int) -> _Looks | None:
        """The embeddings of a photograph; None if it is unreadable, which the provenance then names."""
        try:
            return self._looks(subject, number)
        except UserError as error:
            self._unusable[f"{subject.id}/{subject.photographs[number].name}"] = str(error)
            return None

    def _matched(self, sample: ScoredSample) -> dict[str, Face]:
        """Subject's id -> its face in the image; a subject whose photograph shows no face is not matched."""
        shown = {subject.id: face for subject in sample.subjects if (face := self._faces.face(subject)) is not None}
        found = self._models.find(sample.image)
        matched = match_faces([face.embedding for face in shown.values()], found) if shown else {}
        return {list(shown)[row]: found[column] for row, column in sorted(matched.items())}


def _values(references: Sequence[_Looks], images: Sequence[_Looks], faces: Sequence[float]) -> dict[str, float | None]:
    """All columns: each reference with the image in its place, and the cosines of the faces."""
    values: dict[str, float | None] = {"clip_i": None, "dino": None}
    for name in references[0].whole:
        pairs = zip(references, images, strict=True)
        values[name] = fmean(float(image.whole[name] @ reference.whole[name]) for reference, image in pairs)
    return {**values, "face_clip_i": fmean(faces) if faces else None}


def face_crop(image: Image.Image, face: Face) -> Image.Image:
    """The crop of a face: the square around its box, clipped to the picture."""
    left, top, right, bottom = face.box
    half = max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    box = (
        max(0, min(round(x - half), image.width - 1)),
        max(0, min(round(y - half), image.height - 1)),
        min(image.width, max(round(x + half), 1)),
        min(image.height, max(round(y + half), 1)),
    )
    return image.crop((box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)))
