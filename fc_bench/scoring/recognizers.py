"""Recognizers of a face pack: embeddings of detected faces, several at a time where that changes none of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fc_bench.model.backbones.backbone import Recognizer

TOGETHER = 8
"""Faces that are embedded together, and images whose faces are; larger batches leave a CPU's cache and take longer."""
EQUAL = 1e-6
"""Largest difference of a unit-length embedding computed together and alone."""

Found = tuple[np.ndarray, Any]
"""BGR pixels [height, width, 3] and a face of insightface in them."""


class _Batched(ABC):
    """A recognizer of crops, float or uint8 BGR [height, width, 3]."""

    def __init__(self) -> None:
        self._equal: bool | None = None
        """Whether embeddings computed together equal those computed alone; None before the first ones."""

    def embed(self, faces: Sequence[Found]) -> list[np.ndarray]:
        """The embedding of each face."""
        crops = [self._crop(pixels, found) for pixels, found in faces]
        parts = [crops[start : start + TOGETHER] for start in range(0, len(crops), TOGETHER)]
        return [embedding for part in parts for embedding in self._embedded(part)]

    @abstractmethod
    def _crop(self, pixels: np.ndarray, found: Any) -> np.ndarray: ...

    @abstractmethod
    def _run(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """The embeddings [n, dim] of crops."""

    def _embedded(self, crops: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if len(crops) > 1 and self._equal is not False:
            if self._equal:
                return list(self._run(crops))
            self._equal = self._same(crops)
        return [self._run([crop])[0] for crop in crops]

    def _same(self, crops: Sequence[np.ndarray]) -> bool:
        """Whether these crops have the same embeddings together as alone; some models take only one."""
        try:
            together = self._run(crops)
        except Exception:
            return False
        alone = [self._run([crop]) for crop in crops]
        return together.shape == (len(crops), *alone[0].shape[1:]) and all(
            float(np.abs(unit(one) - unit(other[0])).max()) <= EQUAL for one, other in zip(together, alone, strict=True)
        )


class PackRecognizer(_Batched):
    """The recognizer that insightface found in a pack."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def embed(self, faces: Sequence[Found]) -> list[np.ndarray]:
        """The embedding of each face; a recognizer with a preprocessing of its own embeds one at a time."""
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX

        if isinstance(self._model, ArcFaceONNX):
            return super().embed(faces)
        return [np.asarray(self._model.get(pixels, found)).ravel() for pixels, found in faces]

    def embed_empty(self) -> np.ndarray:
        """The embedding of an all-zero input, a crop of mean grey."""
        width, height = self._model.input_size
        return self._run([np.full((height, width, 3), self._model.input_mean, dtype=np.float32)])[0]

    def _crop(self, pixels: np.ndarray, found: Any) -> np.ndarray:
        from insightface.utils import face_align

        return face_align.norm_crop(pixels, landmark=found.kps, image_size=self._model.input_size[0])

    def _run(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(self._model.get_feat(list(crops)))


class DeclaredRecognizer(_Batched):
    """A recognizer whose input format is given in the backbone's file."""

    def __init__(self, file: Path, settings: Recognizer, providers: Sequence[str], options: Any) -> None:
        import onnxruntime

        if not file.is_file():
            raise FileNotFoundError(f"the recognizer {file.name} is not in the pack")
        super().__init__()
        self._file = file
        self._settings = settings
        self._session = onnxruntime.InferenceSession(str(file), options, providers=list(providers))
        self._input = self._session.get_inputs()[0].name

    def embed_empty(self) -> np.ndarray:
        """The embedding of an all-zero input, a crop of mean grey."""
        size = self._settings.size
        return self._run([np.full((size, size, 3), self._settings.mean, dtype=np.float32)])[0]

    def provenance(self) -> dict[str, Any]:
        """The file's name and the onnxruntime providers in use."""
        return {"file": self._file.name, "providers": list(self._session.get_providers())}

    def _crop(self, pixels: np.ndarray, found: Any) -> np.ndarray:
        size, settings = self._settings.size, self._settings
        if settings.crop == "aligned":
            from insightface.utils import face_align

            aligned, _ = face_align.norm_crop2(pixels, found.kps, size)
            return np.asarray(aligned, dtype=np.float32)
        left, top, right, bottom = (float(side) for side in found.bbox)
        # facenet-pytorch's extract_face: the margin counts in pixels of the resized crop.
        wider = settings.margin * (right - left) / (size - settings.margin) / 2
        taller = settings.margin * (bottom - top) / (size - settings.margin) / 2
        height, width = pixels.shape[:2]
        box = (
            int(max(left - wider, 0)),
            int(max(top - taller, 0)),
            int(min(right + wider, width)),
            int(min(bottom + taller, height)),
        )
        face = Image.fromarray(pixels).crop(box)
        return np.asarray(face.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)

    def _run(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        settings, shown = self._settings, np.stack(crops)
        shown = shown[..., ::-1] if settings.channels == "rgb" else shown
        inputs = ((shown - settings.mean) / settings.std).transpose(0, 3, 1, 2).astype(np.float32)
        outputs: Any = self._session.run(None, {self._input: np.ascontiguousarray(inputs)})
        return np.asarray(outputs[0])


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector [dim] with length 1, float32; a vector of zeros stays one."""
    vector = np.asarray(vector, dtype=np.float32).ravel()
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 0 else vector
