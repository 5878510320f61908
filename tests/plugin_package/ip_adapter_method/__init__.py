"""IP-Adapter (Ye et al. 2023, arXiv 2308.06721) as a method of fc-bench: a complete plug-in, through diffusers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from fc_bench.baselines.pipeline_method import MethodOptions, PipelineMethod
from fc_bench.protocols import Setting, Subject
from fc_bench.suites.photographs import read_photograph


class IPAdapterOptions(MethodOptions):
    """Everything that `-o ip-adapter.NAME=VALUE` can set; paths must exist and enter the samples' ids."""

    adapter: Path
    """The adapter's file, e.g. ip-adapter_sd15.safetensors of the hub repository h94/IP-Adapter (Apache 2.0)."""
    image_encoder: Path
    """Folder of the CLIP image encoder that it was trained with (models/image_encoder there)."""
    scale: float = Field(default=0.6, ge=0, le=1)
    """Weight of the photograph beside the prompt."""


class IPAdapter(PipelineMethod):
    """The backbone's pipeline with attention to an embedding of one photograph; nothing is tuned."""

    description: ClassVar[str] = "decoupled cross-attention to one photograph, without tuning"
    Options: ClassVar[type[BaseModel]] = IPAdapterOptions

    def __init__(self, setting: Setting, options: IPAdapterOptions) -> None:
        """Load the adapter into the pipeline, once for all subjects."""
        from fc_bench.model.fastcomposer.references import load_image_encoder

        super().__init__(setting, options)
        folder, file = str(options.adapter.parent), options.adapter.name
        self.pipeline.load_ip_adapter(folder, subfolder="", weight_name=file, image_encoder_folder=None)
        self.pipeline.set_ip_adapter_scale(options.scale)
        self._encoder = self.base.placed(load_image_encoder(options.image_encoder, self.base.dtype))

    def inputs(self, subjects: Sequence[Subject]) -> Mapping[str, Any]:
        """The photograph's embedding after that of nothing, for guidance: [2, 1, features]."""
        import torch

        from fc_bench.model.fastcomposer.references import embed_references, reference_pixels, reference_size

        photograph = read_photograph(subjects[0].photographs[0])
        pixels = reference_pixels(photograph, reference_size(self._encoder))[None].to(self.base.device)
        with torch.no_grad():
            embedding = embed_references(self._encoder, pixels)
        return {"ip_adapter_image_embeds": [torch.stack([torch.zeros_like(embedding), embedding])]}
