"""A backbone with random weights in its true architecture, for cost measurements without a download.

Time, memory and storage do not depend on the values of the weights. The written files are ordinary diffusers and
transformers folders, so the measurements include loading. Only the images are meaningless.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fc_bench.model.backbones.backbone import Backbone, DtypeName, written_out
from fc_bench.model.backbones.prepared import read_configurations
from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.detection import family_of_architecture
from fc_bench.model.families.family import Family, Part
from fc_bench.model.user_cache import made_once, writing_to_cache
from fc_bench.model.whole import write_whole

if TYPE_CHECKING:
    from torch import Tensor

RANDOM = "random"
"""Name of the FastComposer checkpoint of a backbone that declares none."""
IMAGE_ENCODER = Part("image_encoder", "transformers", "CLIPVisionModelWithProjection")
ADAPTER, ADAPTER_ENCODER, PHOTOMAKER = "ip-adapter.safetensors", "ip_adapter_encoder", "photomaker.safetensors"
"""Files and a folder beside the pipeline's."""
RANDOM_PARTS = ("pipeline", "fastcomposer", "ip_adapter", "ip_adapter_encoder", "photomaker")
"""Components of the written backbone that are random."""
KIND = "random-weights"
"""Name of the folder in the cache."""
SEED = 20230510
FORMAT = 3
"""Version of the written files; another version is written again."""


def with_random_weights(backbone: Backbone, dtype: DtypeName) -> Path:
    """The file of a backbone with random weights in this number format; it is created in the user's cache if missing.

    All FastComposer checkpoints are one overlay of UNet, image encoder and post-fuse module. A backbone without one
    gets one if its architecture has these parts. All IP-Adapters are one IP-Adapter Plus; there is none of FaceID. CLIP
    and the face models stay those of the backbone. Raises ModelInputError when the backbone declares no architecture,
    its configurations are damaged, or the cache cannot be written.
    """
    configurations, family = read_architecture(backbone), family_of_architecture(_architecture(backbone))
    decides = [FORMAT, SEED, dtype, configurations]
    with writing_to_cache(KIND, "Random weights cannot be written to"):
        folder = made_once(
            KIND, f"{backbone.name}-{dtype}", decides, lambda part: _write_models(part, family, configurations, dtype)
        )
        return _write_backbone(folder, backbone)


def read_architecture(backbone: Backbone) -> dict[str, dict[str, Any]]:
    """The configuration of each part, see `read_configurations`; raises ModelInputError when one is damaged."""
    return read_configurations(_architecture(backbone))


def _architecture(backbone: Backbone) -> Path:
    folder = backbone.architecture_folder()
    if folder is None:
        raise ModelInputError(
            f'The backbone "{backbone.name}" declares no architecture for random weights; leave out '
            "--random-weights, or name a folder of configurations in its file (`architecture:`)."
        )
    return folder


def build_models(family: Family, configurations: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The family's models by name, and the further ones that are configured, with the libraries' initial weights.

    They have the default number format and are on the default device. One is built when it is asked for.
    """
    from fc_bench.model.fastcomposer.postfuse import PostfuseModule

    for part in family.parts:
        yield part.name, part.build(configurations[part.name])
    if "postfuse_module" in configurations:
        yield IMAGE_ENCODER.name, IMAGE_ENCODER.build(configurations[IMAGE_ENCODER.name])
        yield "postfuse_module", PostfuseModule.from_config(dict(configurations["postfuse_module"]))
    if ADAPTER_ENCODER in configurations:
        yield ADAPTER_ENCODER, IMAGE_ENCODER.build(configurations[ADAPTER_ENCODER])


def _write_models(
    folder: Path, family: Family, configurations: Mapping[str, Mapping[str, Any]], dtype: DtypeName
) -> None:
    """Write the pipeline, FastComposer's parts, which share one file with the UNet's weights, and the adapters.

    One model is in memory at a time, and no weight in a larger number format.
    """
    import torch
    from safetensors.torch import save_file

    _write_frame(folder / "pipeline", family, configurations)
    torch.manual_seed(SEED)
    usual, form = torch.get_default_dtype(), getattr(torch, dtype)
    torch.set_default_dtype(form)
    try:
        for name, model in build_models(family, configurations):
            torch.nn.Module.to(model, form)  # the library's own method would warn
            model.save_pretrained(folder / _place(name, family))
            del model  # before the next one is built
        for name, shapes in adapter_shapes(family, configurations).items():
            save_file({key: drawn(key, shape) for key, shape in shapes.items()}, folder / name)
    finally:
        torch.set_default_dtype(usual)
    if (folder / "fastcomposer").is_dir():
        shutil.copytree(folder / "pipeline" / "unet", folder / "fastcomposer" / "unet", copy_function=_linked)


def _place(name: str, family: Family) -> str:
    """A model's folder."""
    if name == ADAPTER_ENCODER:
        return name
    return f"pipeline/{name}" if any(part.name == name for part in family.parts) else f"fastcomposer/{name}"


def adapter_shapes(
    family: Family, configurations: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, tuple[int, ...]]]:
    """File of an IP-Adapter or PhotoMaker, where they are configured -> names and shapes of its weights."""
    from accelerate import init_empty_weights

    from fc_bench.model.fastcomposer.photomaker import photomaker_shapes
    from fc_bench.model.ip_adapter import plus_shapes

    found: dict[str, dict[str, tuple[int, ...]]] = {}
    if not {"ip_adapter", "photomaker"} & set(configurations):
        return found
    with init_empty_weights():
        outlines = dict(build_models(family, configurations))
    unet = outlines["unet"]
    if "ip_adapter" in configurations:
        features = configurations[ADAPTER_ENCODER]["hidden_size"]
        found[ADAPTER] = plus_shapes(unet, features, **configurations["ip_adapter"])
    if "photomaker" in configurations:
        text = [configurations[encoder.part]["hidden_size"] for encoder in family.encoders]
        parts = (outlines["image_encoder"], outlines["postfuse_module"], unet)
        found[PHOTOMAKER] = photomaker_shapes(*parts, text, **configurations["photomaker"])
    return found


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight of an adapter: random where it has inputs, otherwise that of a norm or a bias."""
    import torch

    if len(shape) > 1:
        return torch.randn(shape) / math.prod(shape[1:]) ** 0.5
    return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)


def _write_frame(folder: Path, family: Family, configurations: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what a pipeline's folder has beside the models: its index, the tokenizers and the scheduler."""
    import diffusers
    from accelerate import init_empty_weights

    from fc_bench.model.pocket_vocabulary import words
    from fc_bench.model.word_tokenizer import word_tokenizer

    others: dict[str, Any] = {}
    for encoder in family.encoders:
        settings = configurations[encoder.tokenizer]
        vocabulary = [*settings["words"], *words()]
        made = word_tokenizer(vocabulary, settings["model_max_length"], settings["vocab_size"])
        if encoder.padding is not None:
            made.pad_token = encoder.padding
        others[encoder.tokenizer] = made
    scheduler = dict(configurations["scheduler"])
    others["scheduler"] = getattr(diffusers, scheduler["_class_name"]).from_config(scheduler)
    with init_empty_weights():
        empty = {part.name: part.build(configurations[part.name]) for part in family.parts}
    family.pipeline({**empty, **others}).save_config(folder)
    for name, other in others.items():
        other.save_pretrained(folder / name)


def _write_backbone(folder: Path, backbone: Backbone) -> Path:
    """Write a backbone file beside the weights, named by its content; backbones of one architecture share weights."""
    import yaml

    data = written_out(backbone) | {
        "description": f"{backbone.name}'s architecture with random weights",
        "pipeline": "pipeline",
        "licenses": dict.fromkeys(RANDOM_PARTS, "none, random"),
        "how_to_get": "Delete the folder; the next use creates it again",
    }
    declared = backbone.fastcomposer
    if declared is not None:
        variants = dict.fromkeys(declared.variants, "fastcomposer")
        data["fastcomposer"] = {"default": declared.default, "variants": variants}
    elif (folder / "fastcomposer").is_dir():
        data["fastcomposer"] = {"default": RANDOM, "variants": {RANDOM: "fastcomposer"}}
    if (folder / ADAPTER).is_file() and backbone.ip_adapter is not None:
        variants = dict.fromkeys(backbone.ip_adapter.variants, ADAPTER)
        data["ip_adapter"] |= {"image_encoder": ADAPTER_ENCODER, "variants": variants}
    else:
        data.pop("ip_adapter", None)
    if (folder / PHOTOMAKER).is_file():
        data["photomaker"] = PHOTOMAKER
    else:
        data.pop("photomaker", None)
    for key in ("architecture", "ip_adapter_faceid"):
        data.pop(key, None)
    text = yaml.safe_dump(data, sort_keys=False)
    file = folder / f"{backbone.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
    if not file.is_file():
        write_whole(file, text.encode())
    return file


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
