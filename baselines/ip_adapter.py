"""IP-Adapter (arXiv 2308.06721): attention to a photograph beside the prompt, without tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from pydantic import BaseModel, Field

from fc_bench.baselines.pipeline_method import MethodOptions, PipelineMethod, existing
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.model.user_cache import expanded
from fc_bench.protocols import AskedSet, Customization, Request, Setting, Subject
from fc_bench.suites.photographs import read_photograph

if TYPE_CHECKING:
    import torch

    from fc_bench.model.ip_adapter import Adapter, Kind


class AdapterOptions(MethodOptions):
    """Options of an adapter that diffusers loads."""

    adapter: str | None = None
    """Name of one of the backbone's adapters, or a .safetensors or .bin file; None: the backbone's default."""
    scale: float = Field(default=0.6, ge=0, le=1)
    """Weight of the photograph beside the prompt."""


class IPAdapterOptions(AdapterOptions):
    """Options of IP-Adapter."""

    image_encoder: Path | None = None
    """Folder of the image encoder that a file's adapter was trained with; None: that of the backbone's adapters."""


class IPAdapter(PipelineMethod):
    """The backbone's pipeline with attention to one photograph of each subject; of two, each has its half of the image.

    diffusers loads the adapter and makes the embeddings, also those of no photograph for guidance.
    """

    description: ClassVar[str] = "attends to a photograph beside the prompt; one photograph each, nothing is tuned"
    max_subjects: ClassVar[int] = 2
    Options: ClassVar[type[BaseModel]] = IPAdapterOptions
    component: ClassVar[str] = "ip_adapter"
    kinds: ClassVar[Mapping[Kind, str]] = {
        "plain": "",
        "plus": "",
        "full": "",
        "faceid": "it takes the embedding of a face: run it as the method ip-adapter-faceid",
        "faceid-plus": "it takes a face and patches together, which no method here gives: choose another one",
    }
    """Kind of an adapter -> why the method does not take it; "" if it does."""

    def __init__(self, setting: Setting, options: AdapterOptions) -> None:
        super().__init__(setting, options)
        parts = self.weights(setting.backbone, options)
        adapter = self._read(parts["adapter"])
        adapter.check_fits(self.pipeline.unet)
        self._prepare_encoder(parts)
        pipeline: Any = self.pipeline  # the declared types leave out weights in memory
        pipeline.load_ip_adapter(adapter.parts, "", None, image_encoder_folder=None)
        pipeline.set_ip_adapter_scale(options.scale)

    @classmethod
    def complete_options(cls, backbone: Backbone, options: AdapterOptions) -> AdapterOptions:
        """The options with the adapter's name filled in, so that naming the default gives the same method."""
        if _file(options) is not None:
            return options
        variant = backbone.variant(options.adapter, cls.component).removeprefix(f"{cls.component}/")
        return options.model_copy(update={"adapter": variant})

    @classmethod
    def remark(cls, options: AdapterOptions, subjects: int) -> str | None:
        """What the method is given of a pair that others are not."""
        layout = "gives each of two subjects its half of the image, from left to right: a layout that others do not get"
        return layout if subjects > 1 else None

    @classmethod
    def weights(cls, backbone: Backbone, options: Any) -> Mapping[str, Path]:
        """The pipeline, the adapter, and the image encoder that it was trained with."""
        own = "ip_adapter_encoder" if "ip_adapter_encoder" in backbone.components() else "clip"
        encoder = existing("image_encoder", options.image_encoder) if options.image_encoder else backbone.path(own)
        return {**cls._adapter_weights(backbone, options), "image_encoder": encoder}

    @classmethod
    def check(cls, setting: Setting, options: AdapterOptions, asked: Sequence[AskedSet]) -> None:
        """Raise UserError or ModelInputError for an adapter of another kind, pipeline or image encoder."""
        from fc_bench.model.ip_adapter import encoder_features, unet_outline

        parts = cls.weights(setting.backbone, options)
        adapter = cls._read(parts["adapter"])
        adapter.check_fits(unet_outline(parts["pipeline"]))
        found = encoder_features(parts["image_encoder"], adapter.kind)
        if found != adapter.features:
            raise UserError(
                f"{adapter.where} takes {adapter.features} features of an image, but the image encoder "
                f"{parts['image_encoder']} gives {found}; name the encoder that it was trained with."
            )

    def inputs(self, subjects: Sequence[Subject]) -> Mapping[str, Any]:
        """The embeddings of the photographs, after those of nothing where the sampler guides."""
        return {"ip_adapter_image_embeds": self._embeddings(subjects)}

    def generate(self, customization: Customization, requests: Sequence[Request]) -> Iterator[Image.Image]:
        """The images of one batch; all belong to the same subjects, as diffusers demands."""
        from fc_bench.baselines.base_pipeline import image_size
        from fc_bench.model.ip_adapter import side_by_side

        inputs = dict(customization.state)
        if len(customization.subjects) > 1:
            masks = side_by_side(len(customization.subjects), *image_size(self.base.setting.sampler, requests))
            inputs["cross_attention_kwargs"] = {"ip_adapter_masks": [masks.to(self.base.device, self.base.dtype)]}
        yield from self.base.sample(self.pipeline, requests, **inputs)

    def _prepare_encoder(self, parts: Mapping[str, Path]) -> None:
        """Load what embeds photographs."""
        from fc_bench.model.fastcomposer.references import load_image_encoder

        encoder = self.base.placed(load_image_encoder(parts["image_encoder"], self.base.dtype))
        self.pipeline.register_modules(image_encoder=encoder)

    def _embeddings(self, subjects: Sequence[Subject]) -> list[torch.Tensor]:
        """One tensor, without guidance [1, subjects, ...], with it [2, subjects, ...]."""
        from fc_bench.model.ip_adapter import embed_photographs

        photographs = [read_photograph(subject.photographs[0]) for subject in subjects]
        return embed_photographs(self.pipeline, photographs, self._guided)

    @property
    def _guided(self) -> bool:
        return self.base.setting.sampler.guidance_scale > 1

    @classmethod
    def _adapter_weights(cls, backbone: Backbone, options: AdapterOptions) -> dict[str, Path]:
        if (file := _file(options)) is not None:
            adapter = existing("adapter", file)
        else:
            adapter = backbone.path(backbone.variant(options.adapter, cls.component))
        return {"pipeline": backbone.path("pipeline"), "adapter": adapter}

    @classmethod
    def _read(cls, file: Path) -> Adapter:
        from fc_bench.model.ip_adapter import read_adapter

        adapter = read_adapter(file)
        if reason := cls.kinds[adapter.kind]:
            raise UserError(f"{adapter.where} is of another kind: {reason}.")
        return adapter


def _file(options: AdapterOptions) -> Path | None:
    """The file that the option names; None where it names one of the backbone's adapters."""
    named = options.adapter is not None and Path(options.adapter).suffix in (".safetensors", ".bin")
    return expanded(str(options.adapter)) if named else None
