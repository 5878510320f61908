"""The weights of IP-Adapters (arXiv 2308.06721) in the layout in which they are published.

    image_proj.*                          the projection of an image's embedding to tokens
    ip_adapter.<number>.to_k_ip.weight    new keys of a cross-attention layer, and `to_v_ip` its values
    ip_adapter.<number>.to_q_lora.*       of FaceID: LoRA of every attention layer

Numbers count all attention layers of the UNet, so that those of cross-attention are odd. The kind of an adapter follows
from the names in its projection, never from the name of its file: plus and plus-face have the same names and use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import init_empty_weights
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.families.detection import family_of
from fc_bench.model.stored_weights import read_checkpoint

Kind = Literal["plain", "plus", "full", "faceid", "faceid-plus"]
"""What a projection takes: the embedding of an image, its patches (plus, full), the embedding of a face, or both."""
PARTS = ("image_proj", "ip_adapter")
_PROJECTIONS: dict[str, tuple[Kind, str, str]] = {
    "proj.weight": ("plain", "proj.weight", "norm.weight"),
    "latents": ("plus", "proj_in.weight", "proj_out.weight"),
    "proj.3.weight": ("full", "proj.0.weight", "proj.3.weight"),
    "perceiver_resampler.proj_in.weight": ("faceid-plus", "proj.0.weight", "norm.weight"),
    "proj.2.weight": ("faceid", "proj.0.weight", "norm.weight"),
}
"""A name that only one kind has -> the kind, and the weights whose last and first axis are its input and output."""


@dataclass(frozen=True)
class Adapter:
    """The weights of an IP-Adapter, by part of the layout, without the part's name."""

    parts: dict[str, dict[str, Tensor]]
    where: str = "the IP-Adapter"

    @classmethod
    def of(cls, weights: dict[str, Tensor], where: str = "the IP-Adapter") -> Adapter:
        """The adapter of flat weights, `image_proj.*` and `ip_adapter.*`."""
        named = {part: f"{part}." for part in PARTS}
        parts = {
            part: {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
            for part, start in named.items()
        }
        return cls(parts, where)

    @property
    def kind(self) -> Kind:
        """What the projection takes."""
        return self._projection[0]

    @property
    def features(self) -> int:
        """Numbers in an embedding, or in that of a patch, that the projection takes."""
        return self.parts["image_proj"][self._projection[1]].shape[-1]

    @property
    def _projection(self) -> tuple[Kind, str, str]:
        own = self.parts["image_proj"]
        return next(projection for name, projection in _PROJECTIONS.items() if name in own)

    def check_fits(self, unet: Any) -> None:
        """Raise ModelInputError for an adapter of another UNet, for example of another family of models."""
        layers, width = numbered_layers(unet), int(unet.config["cross_attention_dim"])
        own = {key: value for key, value in self.parts["ip_adapter"].items() if key.endswith("to_k_ip.weight")}
        expected = {f"{number}.to_k_ip.weight": layer.to_k.weight.shape for number, layer in layers.items()}
        output = self.parts["image_proj"][self._projection[2]].shape[0]
        if output == width and {key: value.shape for key, value in own.items()} == expected:
            return
        raise ModelInputError(
            f"{self.where} is for a UNet with {len(own)} cross-attention layers over {output} text features, but that "
            f"of the pipeline has {len(layers)} over {width}: choose an adapter that was trained for this pipeline"
        )


def read_adapter(file: Path) -> Adapter:
    """The adapter in a .safetensors or .bin file; the latter is read weights-only.

    Raises ModelInputError when the file is unreadable or holds something else.
    """
    adapter = Adapter.of({name: value[...] for name, value in read_checkpoint(file).items()}, f"the IP-Adapter {file}")
    projection = adapter.parts["image_proj"]
    known = any(
        name in projection and all(weight in projection for weight in used) for name, (_, *used) in _PROJECTIONS.items()
    )
    if not known or not adapter.parts["ip_adapter"]:
        raise ModelInputError(
            f"{adapter.where} does not hold an image projection and attention layers in a published layout: choose a "
            "file like ip-adapter_sd15.safetensors"
        )
    return adapter


def unet_outline(pipeline: Path) -> Any:
    """The UNet of a pipeline's folder without its weights."""
    kind = family_of(pipeline).part("unet").load_class()
    with loading(f"the unet {pipeline / 'unet'}"), init_empty_weights():
        return kind.from_config(kind.load_config(pipeline / "unet"))


def numbered_layers(unet: Any) -> dict[int, Any]:
    """The cross-attention layers by their numbers in the published layout."""
    return {
        number: unet.get_submodule(name.removesuffix(".processor"))
        for number, name in enumerate(unet.attn_processors)
        if name.endswith("attn2.processor")
    }


def encoder_features(folder: Path, kind: Kind) -> int:
    """The features of an image encoder in a folder, as an adapter of a kind takes them, without its weights."""
    if not (folder / "config.json").is_file():
        raise ModelInputError(f"the image encoder {folder} has no config.json: name the folder of a CLIP image encoder")
    with loading(f"the image encoder {folder}"):
        config = CLIPVisionConfig.from_pretrained(folder)
    return config.projection_dim if kind == "plain" else config.hidden_size


def plus_shapes(
    unet: Any, features: int, hidden_size: int, num_hidden_layers: int, num_tokens: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of an IP-Adapter Plus for `unet` and patches of `features` numbers.

    Its projection is a resampler: `num_tokens` queries of `hidden_size` numbers attend to the patches.
    """
    width, wide = int(unet.config["cross_attention_dim"]), 4 * hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, num_tokens, hidden_size),
        **_linear("proj_in", features, hidden_size),
        **_linear("proj_out", hidden_size, width),
        **_norm("norm_out", width),
    }
    for number in range(num_hidden_layers):
        attention, forward = f"layers.{number}.0", f"layers.{number}.1"
        shapes |= _norm(f"{attention}.norm1", hidden_size) | _norm(f"{attention}.norm2", hidden_size)
        shapes |= {f"{attention}.{name}.weight": (hidden_size, hidden_size) for name in ("to_q", "to_out")}
        shapes |= {
            f"{attention}.to_kv.weight": (2 * hidden_size, hidden_size),
            **_norm(f"{forward}.0", hidden_size),
            f"{forward}.1.weight": (wide, hidden_size),
            f"{forward}.3.weight": (hidden_size, wide),
        }
    layers = {
        f"ip_adapter.{number}.{part}_ip.weight": (getattr(layer, part).out_features, width)
        for number, layer in numbered_layers(unet).items()
        for part in ("to_k", "to_v")
    }
    return {**{f"image_proj.{name}": shape for name, shape in shapes.items()}, **layers}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, features: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (features,), f"{name}.bias": (features,)}


@torch.no_grad()
def embed_photographs(pipeline: Any, photographs: Sequence[Image.Image], guided: bool) -> list[Tensor]:
    """What a pipeline with an adapter and its image encoder takes as `ip_adapter_image_embeds`.

    It has one row of the photographs' embeddings, and with guidance one of no photograph before it: diffusers gives
    every image of a batch the same photographs, so all images of a batch must show the same people.
    """
    return pipeline.prepare_ip_adapter_image_embeds([list(photographs)], None, pipeline.device, 1, guided)


def side_by_side(count: int, width: int, height: int) -> Tensor:
    """The part of an image for each of `count` people, from left to right: 0 or 1, [1, count, height, width]."""
    column = torch.arange(width) * count // width
    return (column == torch.arange(count)[:, None]).float()[None, :, None].expand(1, count, height, width)
