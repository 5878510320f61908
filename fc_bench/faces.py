"""Faces: finding and embedding them with insightface, and comparing them with references."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.backbone import Backbone
from fc_bench.model.matching import greedy_matching
from fc_bench.photographs import read_photograph
from fc_bench.protocols import Subject
from fc_bench.remembering import Remembering


@dataclass(frozen=True)
class Face:
    """A found face: box (x0, y0, x1, y1 in pixels), detection score, unit-length float32 embedding [dim]."""

    box: tuple[float, float, float, float]
    score: float
    embedding: np.ndarray

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])


class FaceModels:
    """Detector and recognizer of a backbone's face pack.

    Raises UserError when the folder's ONNX files are no such pair.
    """

    def __init__(self, backbone: Backbone, device: str) -> None:
        from insightface.app import FaceAnalysis

        pack = backbone.path("faces")
        number = int(device.partition(":")[2] or 0) if device.startswith("cuda") else -1
        providers, settings_of_providers = ["CPUExecutionProvider"], [{}]
        if number >= 0:
            providers.insert(0, "CUDAExecutionProvider")
            settings_of_providers.insert(0, {"device_id": str(number)})
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._app = FaceAnalysis(
                    name=str(pack),
                    allowed_modules=["detection", "recognition"],
                    providers=providers,
                    provider_options=settings_of_providers,
                )
                settings = backbone.faces
                self._app.prepare(
                    ctx_id=number,
                    det_size=settings.det_size,
                    det_thresh=settings.det_thresh,
                )
        except Exception as error:
            raise UserError(
                f'The face pack {pack} of the backbone "{backbone.name}" cannot be loaded '
                f"({type(error).__name__}: {error}); it needs a detector and a recognizer that insightface reads."
            ) from error
        if "recognition" not in self._app.models:
            raise UserError(
                f'The face pack {pack} of the backbone "{backbone.name}" has no recognizer; add its ONNX file.'
            )
        self._remembered = Remembering(self._find)

    @classmethod
    def shared(cls, backbone: Backbone, device: str) -> FaceModels:
        """The backbone's face models, loaded once as long as any metric holds them."""
        key = (backbone.path("faces"), backbone.fingerprint("faces"), backbone.faces, device)
        models = _SHARED.get(key)
        if models is None:
            models = _SHARED[key] = cls(backbone, device)
        return models

    def find(self, image: Image.Image) -> list[Face]:
        """All faces in an RGB image, largest first (ties: from left to right)."""
        return list(self._remembered(image))

    def _find(self, image: Image.Image) -> list[Face]:
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
        faces = [
            Face(
                box=(float(found.bbox[0]), float(found.bbox[1]), float(found.bbox[2]), float(found.bbox[3])),
                score=float(found.det_score),
                embedding=_unit(found.embedding),
            )
            for found in self._app.get(pixels)
        ]
        return sorted(faces, key=lambda face: (-face.area, face.box))

    def empty_crop(self) -> np.ndarray:
        """Unit-length embedding of the recognizer's all-zero input, a crop of the mean grey."""
        recognizer: Any = self._app.models["recognition"]
        width, height = recognizer.input_size
        crop = np.full((height, width, 3), recognizer.input_mean, dtype=np.float32)
        return _unit(recognizer.get_feat(crop))

    def provenance(self) -> dict[str, Any]:
        """The files used and the onnxruntime providers that really run them (insightface hides a fallback to CPU)."""
        import onnxruntime

        return {
            "onnxruntime": onnxruntime.__version__,
            "models": {
                task: {"file": Path(model.model_file).name, "providers": model.session.get_providers()}
                for task, model in self._app.models.items()
            },
        }


_SHARED: WeakValueDictionary[Any, FaceModels] = WeakValueDictionary()


class ReferenceFaces:
    """The largest face of each photograph of the subjects, looked for once.

    `unusable` says which photographs `usable` could not use, and why.
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
        """Of each subject's first photograph; raises UserError when one shows no face."""
        found = []
        for subject in subjects:
            face = self.face(subject)
            if face is None:
                raise UserError(
                    f'No face is found in {subject.photographs[0]}, the reference photograph of "{subject.id}"; '
                    "use one in which the face is visible."
                )
            found.append(face.embedding)
        return found

    def usable(self, subject: Subject, number: int) -> Face | None:
        """As `face`, None for an unreadable photograph, too; what cannot be used is remembered with its reason."""
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


def _unit(vector: np.ndarray) -> np.ndarray:
    vector = np.asarray(vector, dtype=np.float32).ravel()
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 0 else vector
