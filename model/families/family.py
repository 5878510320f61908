"""A family: everything of a pipeline that depends on its architecture, in one object without weights.

Methods, training and the files of backbones ask the family instead of naming a class of a library. To add a family,
derive from `Family` in a module of its own and list it in `detection.FAMILIES`. The modules of families import no
heavy library before a model is needed.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.families.condition import Condition, Framing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fc_bench.model.families.diffusion import Diffusion
    from fc_bench.model.families.text import TextEncoders
    from fc_bench.model.families.text_memory import TextMemory


@dataclass(frozen=True)
class Part:
    """A model of a pipeline: the name of its folder, and its class in a library, which decides the names of files."""

    name: str
    library: Literal["diffusers", "transformers"]
    kind: str

    def load_class(self) -> Any:
        """The class, which is imported now."""
        return getattr(import_module(self.library), self.kind)

    def build(self, configuration: Mapping[str, Any]) -> Any:
        """A model with initial weights."""
        kind = self.load_class()
        if self.library == "diffusers":
            return kind.from_config(dict(configuration))
        return kind(kind.config_class(**configuration))


@dataclass(frozen=True)
class Encoder:
    """A text encoder: the names of its part and of its tokenizer's folder, and its key in files of new tokens.

    Its tokenizer pads with `padding`; None: as in the tokenizer's own files.
    """

    part: str
    tokenizer: str
    key: str
    padding: str | None = None


class Family(ABC):
    """The architecture of some backbones; it has no state."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What the architecture is called in sentences."""
    pipelines: ClassVar[tuple[str, ...]]
    """Values of `_class_name` in `model_index.json`; the first one is the stock text-to-image pipeline."""
    parts: ClassVar[tuple[Part, ...]]
    """The models of a pipeline, beside tokenizers and scheduler."""
    encoders: ClassVar[tuple[Encoder, ...]]
    """The text encoders, in the order in which their features are joined."""
    denoiser_adapters: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    encoder_adapters: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "out_proj")
    """The layers that have a low-rank adapter, as in the diffusers examples."""
    half_precision: ClassVar[bool] = False
    """Whether a download takes the published variant in half precision, because the whole weights are large."""
    token_note: ClassVar[str] = ""
    """What a stock pipeline needs beside the file of a new token, in sentences; empty where it needs nothing."""
    normalized: ClassVar[bool] = True
    """Whether the features of tokens leave the text encoders by a norm, which gives them one scale."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """Method -> why no backbone of this family can run it, as a sentence without its period."""

    def part(self, name: str) -> Part:
        """The part with this name."""
        return next(part for part in self.parts if part.name == name)

    def load_part(self, name: str, pipeline: Path, dtype: torch.dtype) -> Any:
        """A model of the pipeline in a folder; raises ModelInputError when its files do not fit."""
        from fc_bench.model.stored_weights import load_whole

        folder = pipeline / name
        if name == "vae":
            dtype = self.autoencoder_dtype(folder, dtype)
        return load_whole(self.part(name).load_class(), folder, dtype, f"the {name}")

    def load_tokenizers(self, pipeline: Path) -> tuple[Any, ...]:
        """The tokenizers of the pipeline in a folder; raises ModelInputError when one cannot be read."""
        return tuple(self.load_tokenizer(pipeline / encoder.tokenizer) for encoder in self.encoders)

    def load_tokenizer(self, folder: Path, padding: str | None = None) -> Any:
        """The tokenizer in a folder, with another padding if given; raises ModelInputError when it cannot be read."""
        from transformers import CLIPTokenizer

        special: dict[str, Any] = {} if padding is None else {"pad_token": padding}
        with loading(f"the tokenizer {folder}"):
            return CLIPTokenizer.from_pretrained(folder, **special)

    def load_text(self, pipeline: Path, dtype: torch.dtype) -> TextEncoders:
        """The text encoders of the pipeline in a folder; raises ModelInputError when one cannot be read."""
        from fc_bench.model.families.text import TextEncoders

        encoders = tuple(self.load_part(encoder.part, pipeline, dtype) for encoder in self.encoders)
        return TextEncoders(self.load_tokenizers(pipeline), encoders)

    def encoder_features(self, pipeline: Path) -> tuple[int, ...]:
        """Number of features of a token in each text encoder of the pipeline in a folder."""
        kinds = {encoder.part: self.part(encoder.part).load_class().config_class for encoder in self.encoders}
        return tuple(kind.from_pretrained(pipeline / part).hidden_size for part, kind in kinds.items())

    def text_features(self, pipeline: Path) -> int:
        """Number of features of a token in the conditions of the pipeline in a folder."""
        return sum(self.encoder_features(pipeline))

    def text_of(self, pipeline: Any) -> TextEncoders:
        """The text encoders of a loaded pipeline."""
        from fc_bench.model.families.text import TextEncoders

        tokenizers = tuple(getattr(pipeline, encoder.tokenizer) for encoder in self.encoders)
        return TextEncoders(tokenizers, tuple(getattr(pipeline, encoder.part) for encoder in self.encoders))

    def fit_new_tokens(self, text: TextEncoders) -> None:  # noqa: B027 -- nothing to do in most families
        """Prepare text encoders for tokens that are added to their tokenizers."""

    def pipeline_class(self) -> Any:
        """The class of the stock text-to-image pipeline."""
        return getattr(import_module("diffusers"), self.pipelines[0])

    @abstractmethod
    def has_denoiser(self, configuration: Mapping[str, Any]) -> bool:
        """Whether a denoiser with this configuration is of the family."""

    @abstractmethod
    def pipeline(self, parts: Mapping[str, Any]) -> Any:
        """The stock pipeline of its models, tokenizers and scheduler, given by name."""

    @abstractmethod
    def read(self, text_encoder: Any, input_ids: Tensor) -> Condition:
        """What one text encoder gives for token ids [prompts, length]."""

    @abstractmethod
    def join(self, parts: Sequence[Condition]) -> Condition:
        """The condition of prompts from what each encoder gives for them."""

    def encode_tokens(
        self,
        text_encoders: Sequence[Any],
        input_ids: Sequence[Tensor],
        memory: TextMemory | None = None,
        blank: Sequence[bool] = (),
    ) -> Condition:
        """The condition of token ids [prompts, length], given for each encoder.

        It has a gradient where the encoders have one. With a `memory`, each prompt is encoded alone and once. Rows that
        are `blank` are those of no prompt, which is not the empty prompt in every family.
        """
        parts = []
        for encoder, ids in zip(text_encoders, input_ids, strict=True):
            ids = ids.to(encoder.device)
            parts.append(self.read(encoder, ids) if memory is None else memory(self.read, encoder, ids))
        return self.join(parts)

    def encode(
        self,
        text: TextEncoders,
        prompts: Sequence[str],
        memory: TextMemory | None = None,
        blank: Sequence[bool] = (),
    ) -> Condition:
        """The condition of the prompts, see `encode_tokens`."""
        return self.encode_tokens(text.encoders, text.tokens(prompts), memory, blank)

    def time_ids(self, framings: Sequence[Framing]) -> Tensor | None:
        """The framing of each picture as the denoiser is conditioned on it, on the CPU; None in other families."""
        return None

    def framed(self, condition: Condition, framings: Sequence[Framing]) -> Condition:
        """The condition with the framing of each picture, in families that are conditioned on it."""
        ids = self.time_ids(framings)
        return condition if ids is None else replace(condition, time_ids=ids.to(condition.text))

    @abstractmethod
    def call_inputs(self, condition: Condition, negative: Condition) -> dict[str, Any]:
        """The arguments of the pipeline's call that replace prompts and negative prompts."""

    @abstractmethod
    def denoise(self, unet: Any, noisy: Tensor, timesteps: Any, condition: Condition) -> Tensor:
        """The denoiser's prediction for noisy latents, in their shape; `timesteps` is one, or one a picture."""

    def diffusion(self, pipeline: Path) -> Diffusion:
        """The forward process for training of the pipeline in a folder.

        Raises ModelInputError for a scheduler that cannot be read or has an unsupported prediction type.
        """
        from fc_bench.model.families.diffusion import Diffusion

        return Diffusion.of(pipeline)

    def autoencoder_dtype(self, folder: Path, dtype: torch.dtype) -> torch.dtype:
        """The number format of the autoencoder in a folder beside other models in `dtype`."""
        return dtype

    def latent_scale(self, vae: Any) -> float:
        """The factor between the autoencoder's latents and those of the denoiser."""
        return float(vae.config["scaling_factor"])

    def decode(self, vae: Any, latents: Tensor) -> Tensor:
        """Images [batch, 3, height, width] in about -1..1 of the denoiser's latents."""
        from fc_bench.model.autoencoder import decode

        return decode(vae, latents.to(vae.dtype) / vae.config["scaling_factor"])

    def cross_attention(self, unet: Any) -> list[str]:
        """Names of the layers that attend to the text, as in `attn_processors` without `.processor`.

        Each has `to_k` and `to_v`, which Custom Diffusion trains.
        """
        layers = (name.removesuffix(".processor") for name in unet.attn_processors)
        return [name for name in layers if name.endswith("attn2")]

    def save_adapters(self, folder: Path, denoiser: Mapping[str, Tensor], encoders: Mapping[str, Any]) -> None:
        """Write low-rank adapters in one file of diffusers; `encoders` has the layers of each text encoder by part."""
        layers = {f"{part}_lora_layers": own for part, own in encoders.items()}
        self.pipeline_class().save_lora_weights(folder, unet_lora_layers=denoiser, **layers)

    def size_step(self, pipeline: Path) -> int:
        """The pixels of which an image's sides are multiples, with the pipeline in a folder.

        It is the autoencoder's factor. The denoiser takes latents of any size.
        """
        blocks = self._configured(pipeline, "vae", "block_out_channels")
        return 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks else 1

    def check(self, pipeline: Path) -> None:
        """Raise ModelInputError for the pipeline in a folder that is of this family only by its name."""
        if (read := self._configured(pipeline, "unet", "_class_name")) is not None and not self.has_denoiser(
            {"addition_embed_type": self._configured(pipeline, "unet", "addition_embed_type")}
        ):
            raise ModelInputError(
                f"The pipeline {pipeline} is {self.title} by its index, but its {read} is of another architecture; "
                "choose a pipeline whose parts belong together."
            )
        if str(self._configured(pipeline, "scheduler", "_class_name", "scheduler_config.json")).startswith("FlowMatch"):
            raise ModelInputError(
                f"The pipeline {pipeline} was trained with flow matching, which {self.title} is not; choose a model of "
                "its noise schedule."
            )
        latents, seen = (
            self._configured(pipeline, "vae", "latent_channels"),
            self._configured(pipeline, "unet", "in_channels"),
        )
        if latents is not None and seen is not None and latents != seen:
            raise ModelInputError(
                f"The UNet of the pipeline {pipeline} reads {seen} channels in place of the {latents} of the latents, "
                "as models for inpainting and editing do; choose a text-to-image model."
            )

    @staticmethod
    def _configured(pipeline: Path, part: str, field: str, file: str = "config.json") -> Any:
        """A field of a part's configuration; None where it cannot be read, which loading reports."""
        try:
            return json.loads((pipeline / part / file).read_text(encoding="utf-8")).get(field)
        except (OSError, ValueError, AttributeError):
            return None

    def convert(
        self, state: Mapping[str, Any], configurations: Mapping[str, dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """The weights of each part in a file of the original implementation, under the names of the libraries.

        Raises LookupError, ValueError or AttributeError for another file, and ModelInputError where it is known.
        """
        from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

        return {
            "unet": convert_ldm_unet_checkpoint(dict(state), config=configurations["unet"]),
            "vae": convert_ldm_vae_checkpoint(dict(state), configurations["vae"]),
        }

    def token_keys(self, token: str) -> list[str]:
        """The key of each encoder's embeddings in the file of a new token."""
        return [token] if len(self.encoders) == 1 else [encoder.key for encoder in self.encoders]
