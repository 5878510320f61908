"""IP-Adapter FaceID: the embedding of a face recognizer in the place of an image's, with a LoRA of the attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel

from fc_bench.baselines.ip_adapter import AdapterOptions, IPAdapter
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.protocols import AskedSet, Setting, Subject
from fc_bench.suites.photographs import read_photograph

if TYPE_CHECKING:
    import torch

    from fc_bench.model.ip_adapter import Kind


class IPAdapterFaceID(IPAdapter):
    """IP-Adapter on the embedding that the backbone's first face pack computes of the reference photograph."""

    description: ClassVar[str] = "attends to the embedding of a face recognizer; one photograph each, nothing is tuned"
    Options: ClassVar[type[BaseModel]] = AdapterOptions
    component: ClassVar[str] = "ip_adapter_faceid"
    kinds: ClassVar[Mapping[Kind, str]] = {
        **dict.fromkeys(("plain", "plus", "full"), "it takes an image: run it as the method ip-adapter"),
        "faceid": "",
        "faceid-plus": IPAdapter.kinds["faceid-plus"],
    }

    @classmethod
    def remark(cls, options: AdapterOptions, subjects: int) -> str | None:
        """What scores it, and what it is given of a pair."""
        seen = "sees a face through the same kind of recognizer that scores identity"
        layout = super().remark(options, subjects)
        return seen if layout is None else f"{seen}; {layout}"

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The pipeline, the adapter and the face models."""
        return {**cls._adapter_weights(backbone, options), "faces": backbone.path(backbone.faces_component(0))}

    @classmethod
    def check(cls, setting: Setting, options: AdapterOptions, asked: Sequence[AskedSet]) -> None:
        """Raise UserError or ModelInputError for an adapter that does not fit, and photographs without a face."""
        from fc_bench.model.ip_adapter import unet_outline

        parts = cls.weights(setting.backbone, options)
        adapter = cls._read(parts["adapter"])
        adapter.check_fits(unet_outline(parts["pipeline"]))
        faces = _FaceEmbedder(setting, parts["faces"])
        for subject in {subject.id: subject for one in asked for subject in one.subjects}.values():
            found = len(faces(subject))
            if found != adapter.features:
                raise UserError(
                    f"{adapter.where} takes {adapter.features} numbers of a face, but the face pack {parts['faces']} "
                    f"gives {found}; use a backbone whose first face pack is the one that it was trained with."
                )

    def _prepare_encoder(self, parts: Mapping[str, Path]) -> None:
        self._faces = _FaceEmbedder(self.base.setting, parts["faces"])

    def _embeddings(self, subjects: Sequence[Subject]) -> list[torch.Tensor]:
        import torch

        faces = torch.from_numpy(np.stack([self._faces(subject) for subject in subjects]))[None]
        both = [torch.zeros_like(faces), faces] if self._guided else [faces]
        return [torch.cat(both).to(self.base.device, self.base.dtype)]


class _FaceEmbedder:
    """The embedding of the largest face in a subject's reference photograph, by insightface, of unit length."""

    def __init__(self, setting: Setting, pack: Path) -> None:
        from insightface.app import FaceAnalysis

        settings = setting.backbone.faces[0]
        if settings.kind is not None or settings.recognizer is not None:
            raise UserError(
                f'The first face models of the backbone "{setting.backbone.name}", {settings.name}, are no pack of '
                "insightface, whose embeddings ip-adapter-faceid takes; put such a pack first."
            )
        with redirect_stdout(StringIO()):
            self._app: Any = FaceAnalysis(
                name=str(pack), allowed_modules=["detection", "recognition"], providers=["CPUExecutionProvider"]
            )
            self._app.prepare(ctx_id=-1, det_size=settings.det_size, det_thresh=settings.det_thresh)

    def __call__(self, subject: Subject) -> np.ndarray:
        photograph = subject.photographs[0]
        faces = self._app.get(np.ascontiguousarray(np.asarray(read_photograph(photograph))[..., ::-1]))
        if not faces:
            raise UserError(
                f'No face is found in {photograph}, the reference photograph of "{subject.id}"; use one in which the '
                "face is visible."
            )
        largest = max(faces, key=lambda face: (face.bbox[2] - face.bbox[0]) * (face.bbox[3] - face.bbox[1]))
        return largest.normed_embedding
