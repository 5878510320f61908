"""Face packs that insightface reads: a folder of ONNX files with a detector and a recognizer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Faces
from fc_bench.scoring.recognizers import DeclaredRecognizer, Found, PackRecognizer


class InsightFacePack:
    """Detector and recognizer of a folder; raises UserError if its files are not such a pair."""

    needs = "a detector and a recognizer that insightface reads"

    def __init__(self, pack: Path, settings: Faces, device: str, where: str) -> None:
        import onnxruntime
        from insightface.app import FaceAnalysis

        number = int(device.partition(":")[2] or 0) if device.startswith("cuda") else -1
        providers, settings_of_providers = ["CPUExecutionProvider"], [{}]
        if number >= 0:
            providers.insert(0, "CUDAExecutionProvider")
            settings_of_providers.insert(0, {"device_id": str(number)})
        # The cores work on several images at once instead: idle threads of a session spin and slow down all others.
        one_thread: Any = onnxruntime.SessionOptions()
        one_thread.intra_op_num_threads = 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._app = FaceAnalysis(
                    name=str(pack),
                    allowed_modules=["detection"] if settings.recognizer else ["detection", "recognition"],
                    providers=providers,
                    provider_options=settings_of_providers,
                    sess_options=one_thread,
                )
                self._app.prepare(
                    ctx_id=number,
                    det_size=settings.det_size,
                    det_thresh=settings.det_thresh,
                )
                self._recognizer = (
                    DeclaredRecognizer(pack / settings.recognizer.file, settings.recognizer, providers, one_thread)
                    if settings.recognizer
                    else PackRecognizer(self._app.models.get("recognition"))
                )
        except Exception as error:
            raise UserError(
                f"{where} cannot be loaded ({type(error).__name__}: {error}); it needs {self.needs}."
            ) from error
        if not settings.recognizer and "recognition" not in self._app.models:
            raise UserError(f"{where} has no recognizer; add its ONNX file.")

    def detect(self, pixels: np.ndarray) -> list[Any]:
        """insightface's faces in BGR pixels [height, width, 3], without embeddings."""
        from insightface.app.common import Face as Detected

        detector: Any = self._app.det_model
        boxes, landmarks = detector.detect(pixels, max_num=0, metric="default")
        every = [None] * len(boxes) if landmarks is None else landmarks
        return [Detected(bbox=box[:4], kps=own, det_score=box[4]) for box, own in zip(boxes, every, strict=True)]

    def embed(self, faces: Sequence[Found]) -> list[np.ndarray]:
        """The embedding of each face."""
        return self._recognizer.embed(faces)

    def embed_empty(self) -> np.ndarray:
        """The embedding of an all-zero input, a crop of mean grey."""
        return self._recognizer.embed_empty()

    def provenance(self) -> dict[str, Any]:
        """The files and the onnxruntime providers in use (insightface hides a fallback to the CPU)."""
        import onnxruntime

        models = {
            task: {"file": Path(model.model_file).name, "providers": model.session.get_providers()}
            for task, model in self._app.models.items()
        }
        if isinstance(self._recognizer, DeclaredRecognizer):
            models["recognition"] = self._recognizer.provenance()
        return {"onnxruntime": onnxruntime.__version__, "models": models}
