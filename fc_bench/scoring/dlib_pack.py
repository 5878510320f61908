"""dlib's face models (extra `dlib`): frontal detector, five landmarks, embedding of 128 numbers.

They were trained on photographs of real people and know nothing of the pocket world. The detector is part of dlib
(histograms of gradients); the weights of the others are in the public domain (dlib-models, CC0). The five landmarks lie
at eyes and nose, none at the mouth, so these faces have no landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Faces
from fc_bench.model.backbones.layouts import DLIB_LANDMARKS, DLIB_RECOGNIZER
from fc_bench.scoring.recognizers import Found

CHIP = 150
"""Side in pixels of the aligned crop that is embedded."""


class DlibPack:
    """Detector and recognizer of dlib; raises UserError if they cannot be loaded.

    As insightface does, it scales an image to fit into `det_size` before it searches faces; the smallest has 80 pixels
    there. `det_thresh` is the least score of the detector's support vector machine: dlib's own is 0, plain faces have
    more than 1, and with a negative one the detector takes more for faces.
    """

    needs = "dlib's files for five landmarks and for recognition"

    def __init__(self, pack: Path, settings: Faces, device: str, where: str) -> None:
        del device  # the packages' wheels compute on the CPU
        try:
            import dlib

            self._dlib: Any = dlib
            self._detector = self._dlib.get_frontal_face_detector()
            self._landmarks = self._dlib.shape_predictor(str(pack / DLIB_LANDMARKS))
            self._recognizer = self._dlib.face_recognition_model_v1(str(pack / DLIB_RECOGNIZER))
        except Exception as error:
            raise UserError(
                f"{where} cannot be loaded ({type(error).__name__}: {error}); it needs {self.needs}."
            ) from error
        self._size, self._threshold = settings.det_size, settings.det_thresh
        self._lock = Lock()
        """dlib's models keep intermediate results, and images are searched in several threads."""

    def detect(self, pixels: np.ndarray) -> list[Any]:
        """The faces in BGR pixels [height, width, 3]: box, score, no landmarks."""
        height, width = pixels.shape[:2]
        scale = min(self._size[0] / width, self._size[1] / height)
        size = max(1, round(scale * width)), max(1, round(scale * height))
        searched = np.asarray(Image.fromarray(pixels[..., ::-1]).resize(size, Image.Resampling.BICUBIC))
        with self._lock:
            boxes, scores, _ = self._detector.run(searched, 0, self._threshold)
        sides = [np.array([box.left(), box.top(), box.right(), box.bottom()]) / scale for box in boxes]
        return [SimpleNamespace(bbox=own, kps=None, det_score=score) for own, score in zip(sides, scores, strict=True)]

    def embed(self, faces: Sequence[Found]) -> list[np.ndarray]:
        """The embedding of each face, computed alone."""
        found = []
        for pixels, face in faces:
            colors = np.ascontiguousarray(pixels[..., ::-1])
            box = self._dlib.rectangle(*(round(float(side)) for side in face.bbox))
            with self._lock:
                shape = self._landmarks(colors, box)
                found.append(np.asarray(self._recognizer.compute_face_descriptor(colors, shape)))
        return found

    def embed_empty(self) -> np.ndarray:
        """The embedding of a crop of mean grey."""
        with self._lock:
            return np.asarray(self._recognizer.compute_face_descriptor(np.full((CHIP, CHIP, 3), 128, dtype=np.uint8)))

    def provenance(self) -> dict[str, Any]:
        """The version of dlib and the files; dlib computes without onnxruntime."""
        models = {"detection": "get_frontal_face_detector", "landmarks": DLIB_LANDMARKS, "recognition": DLIB_RECOGNIZER}
        return {
            "dlib": self._dlib.__version__,
            "models": {task: {"file": file, "providers": ["dlib"]} for task, file in models.items()},
        }
