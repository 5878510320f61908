"""Subject fidelity against all photographs of a subject: DreamBooth, CustomConcept101, MuDI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar

import numpy as np

from fc_bench.errors import UserError
from fc_bench.protocols import Column, Score, ScoredSample, Setting, Subject
from fc_bench.published import mudi
from fc_bench.published.all_photographs import image_alignment, text_alignment
from fc_bench.scoring.clip import ClipScorer
from fc_bench.scoring.faces import FaceModels, ReferenceFaces
from fc_bench.scoring.image_features import ImageFeatures
from fc_bench.suites.photographs import read_photograph


class AllPhotographs:
    """CLIP-I and DINO of DreamBooth (arXiv 2208.12242, section 4.2), alignments of CustomConcept101, MuDI's score.

    Each compares the image with all photographs of a subject, those included that a method was tuned on. The
    arithmetic is that of the publications, the models are the backbone's.
    """

    description: ClassVar[str] = "CLIP-I and DINO over all photographs, CustomConcept101's text alignment, MuDI's score"
    scorers: ClassVar[tuple[str, ...]] = ("image_features",)
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "clip_i_all",
            "CLIP-I, all photographs",
            None,
            "mean CLIP cosine of the image with every photograph of a subject, mean over the subjects (DreamBooth's "
            "CLIP-I, CustomConcept101's image alignment); for people a high one also means a copied photograph",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "dino_all",
            "DINO, all photographs",
            None,
            "the same with the class-token features of a self-supervised vision transformer; missing where the "
            "backbone declares no image_features",
            bounds=(-1.0, 1.0),
        ),
        Column(
            "customconcept101_text",
            "CustomConcept101 text alignment",
            True,
            "2.5 times the CLIP cosine of image and prompt, a negative one counts 0",
            bounds=(0.0, 2.5),
        ),
        Column(
            "mudi_detect_and_compare",
            "MuDI Detect-and-Compare",
            True,
            "1 minus the spectral distance between two matrices of mean face cosines: of the image's faces with the "
            "subjects' photographs, and of these with each other; 0 if there are not as many faces as subjects",
            bounds=(None, 1.0),
        ),
    )

    def __init__(self, setting: Setting) -> None:
        backbone, device = setting.backbone, setting.device
        self._clip = ClipScorer.shared(backbone.path("clip"), device)
        self._features = ImageFeatures(backbone.path("image_features"), device) if backbone.image_features else None
        self._models = FaceModels.shared(backbone, device)
        self._faces = ReferenceFaces(self._models)
        self._whole: dict[str, dict[str, np.ndarray]] = {}
        self._unusable: dict[str, str] = {}
        self._provenance: dict[str, Any] = {
            "model": backbone.path("clip").name,
            "embedder": backbone.faces[0].name,
            **self._models.provenance(),
        }
        if self._features is None:
            reason = f'the backbone "{backbone.name}" declares no image_features'
            self._provenance["missing_columns"] = {"dino_all": reason}

    def prepare(self, subjects: Sequence[Subject]) -> None:
        """Embed all photographs; raises UserError if a subject's first one is unreadable."""
        for subject in subjects:
            read_photograph(subject.photographs[0])
            self._photographs(subject)

    def look_ahead(self, samples: Sequence[ScoredSample]) -> None:
        """Embed the next images and prompts together."""
        images = [sample.image for sample in samples]
        self._models.look_ahead(images)
        self._clip.look_ahead(images, [sample.prompt for sample in samples])
        if self._features is not None:
            self._features.look_ahead(images)

    def score(self, sample: ScoredSample) -> Score:
        """Measure one image."""
        image = self._embedded(sample.image)
        values: dict[str, float | None] = {"clip_i_all": None, "dino_all": None}
        for name in image:
            values[name] = fmean(
                image_alignment(image[name][None], self._photographs(subject)[name]) for subject in sample.subjects
            )
        cosine = float(self._clip.image(sample.image) @ self._clip.text(sample.prompt))
        values["customconcept101_text"] = text_alignment(cosine)
        values["mudi_detect_and_compare"] = self._detect_and_compare(sample)
        return Score(values)

    def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
        """None: every photograph is compared with itself here, so that photographs give no scale."""
        return {}

    def provenance(self) -> Mapping[str, Any]:
        """The models, and the reasons for missing columns and photographs."""
        unusable = {**self._unusable, **self._faces.unusable}
        return {**self._provenance, **({"photographs_left_out": unusable} if unusable else {})}

    def _detect_and_compare(self, sample: ScoredSample) -> float | None:
        """MuDI's score on faces; None if a subject has no photograph with a face."""
        embeddings = [
            np.stack(found)
            for subject in sample.subjects
            if (
                found := [
                    face.embedding
                    for number in range(len(subject.photographs))
                    if (face := self._faces.usable(subject, number)) is not None
                ]
            )
        ]
        if len(embeddings) < len(sample.subjects):
            return None
        faces = self._models.find(sample.image)
        crops = np.array([[float((own @ face.embedding).mean()) for own in embeddings] for face in faces])
        return mudi.detect_and_compare(crops, mudi.subject_matrix(embeddings))

    def _photographs(self, subject: Subject) -> dict[str, np.ndarray]:
        """The features of a subject's usable photographs [photographs, dim] by column, computed once."""
        if subject.id not in self._whole:
            found: dict[str, list[np.ndarray]] = {}
            for photograph in subject.photographs:
                try:
                    embedded = self._embedded(read_photograph(photograph))
                except UserError as error:
                    self._unusable[f"{subject.id}/{photograph.name}"] = str(error)
                    continue
                for name, value in embedded.items():
                    found.setdefault(name, []).append(value)
            self._whole[subject.id] = {name: np.stack(own) for name, own in found.items()}
        return self._whole[subject.id]

    def _embedded(self, image: Any) -> dict[str, np.ndarray]:
        """The features [dim] of a whole picture by column."""
        found = {"clip_i_all": self._clip.image(image)}
        if self._features is not None:
            found["dino_all"] = self._features.image(image)
        return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}
