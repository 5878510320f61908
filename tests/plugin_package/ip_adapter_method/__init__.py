"""IP-Adapter (Ye et al. 2023, arXiv 2308.06721) as a method of fc-bench: a complete plug-in, through diffusers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from fc_bench.errors import UserError
from fc_bench.model.backbone import Backbone
from fc_bench.photographs import read_photograph
from fc_bench.protocols import Checkpoints, Customization, Request, Setting, Subject


class IPAdapterOptions(BaseModel):
    """Everything that `-o ip-adapter.NAME=VALUE` can set; the texts below a field are shown by `fc-bench list`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    adapter: Path
    """The adapter's file, e.g. ip-adapter_sd15.safetensors of the hub repository h94/IP-Adapter (Apache 2.0)."""
    image_encoder: Path
    """Folder of the CLIP image encoder that it was trained with (models/image_encoder there)."""
    scale: float = Field(default=0.6, ge=0, le=1)
    """Weight of the photograph beside the prompt."""


class IPAdapter:
    """The backbone's pipeline with attention to an embedding of one photograph; nothing is tuned."""

    description: ClassVar[str] = "decoupled cross-attention to one photograph, without tuning"
    max_subjects: ClassVar[int] = 1
    uses_photographs: ClassVar[bool] = True
    Options: ClassVar[type[BaseModel]] = IPAdapterOptions

    def __init__(self, setting: Setting, options: IPAdapterOptions) -> None:
        from fc_bench.baselines.tuning.base_pipeline import BasePipeline
        from fc_bench.model.references import load_image_encoder

        self._base = BasePipeline(setting)
        self._pipeline = self._base.pipeline(unet=self._base.fresh_unet())
        self._pipeline.load_ip_adapter(
            str(options.adapter.parent), subfolder="", weight_name=options.adapter.name, image_encoder_folder=None
        )
        self._pipeline.set_ip_adapter_scale(options.scale)
        self._encoder = self._base.placed(load_image_encoder(options.image_encoder, self._base.dtype))

    @classmethod
    def weights(cls, backbone: Backbone, options: IPAdapterOptions) -> Mapping[str, Path]:
        """What decides the images beside prompt and seed: their contents enter the samples' ids."""
        for path in (options.adapter, options.image_encoder):
            if not path.exists():
                raise UserError(f"IP-Adapter's weights {path} do not exist; download them or correct the option.")
        own = {"adapter": options.adapter, "image_encoder": options.image_encoder}
        return {"pipeline": backbone.path("pipeline"), **own}

    def mention(self, subject: Subject, position: int) -> str:
        """The class noun alone: the photograph says who it is."""
        return subject.noun

    def customize(
        self, subjects: Sequence[Subject], seed: int, artefact_folder: Path, checkpoints: Checkpoints | None
    ) -> Customization:
        """The photograph's embedding after that of nothing, for guidance: [2, 1, features]."""
        import torch

        from fc_bench.model.references import embed_references, reference_pixels, reference_size

        photograph = read_photograph(subjects[0].photographs[0])
        pixels = reference_pixels(photograph, reference_size(self._encoder))[None].to(self._base.device)
        with torch.no_grad():
            embedding = embed_references(self._encoder, pixels)
        return Customization(tuple(subjects), state=torch.stack([torch.zeros_like(embedding), embedding]))

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """One batch through the pipeline, each image with its own noise."""
        from fc_bench.baselines.tuning.base_pipeline import drawn

        embedded = {"ip_adapter_image_embeds": [customization.state]}
        yield from drawn(self._pipeline, self._base.setting.sampler, requests, **embedded)
