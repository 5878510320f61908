"""Reference pictures: preprocessing and embedding by the CLIP image encoder."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate, pad
from transformers import CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.fastcomposer.overlay import TRAINED_LAYERS
from fc_bench.model.pictures import UNREADABLE, in_rgb

MIN_SIDE = 16
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def load_image_encoder(
    folder: Path | str, dtype: torch.dtype = torch.float32, starting_from: Path | str | None = None
) -> CLIPVisionModelWithProjection:
    """The vision tower and projection of a CLIPModel or CLIPVisionModelWithProjection folder.

    A folder with `trained_layers.safetensors` holds what training changed; the rest comes from the CLIP model
    `starting_from` that it began with. Raises ModelInputError if not all weights are found.
    """
    trained = Path(folder) / TRAINED_LAYERS
    if not trained.is_file():
        return _whole_image_encoder(folder, dtype)
    if starting_from is None:
        raise ModelInputError(
            f"the image encoder {folder} holds the trained layers alone: name the CLIP model that it was trained from "
            "as the image encoder"
        )
    model = _whole_image_encoder(starting_from, dtype)
    with loading(f"the trained layers {trained}"):
        layers = load_file(trained)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    if unfit := sorted(key for key, value in layers.items() if value.shape != shapes.get(key)):
        raise ModelInputError(
            f"the trained layers {trained} do not fit the CLIP model {starting_from}, among them {unfit[0]}: name the "
            "one that they were trained from"
        )
    model.load_state_dict({key: value.to(dtype) for key, value in layers.items()}, strict=False)
    return model


def keep_trained_layers(folder: Path, starting_from: Path) -> None:
    """Reduce an image encoder's folder to the layers in which it differs from the CLIP model it was trained from.

    Both are compared in the trained weights' own number format; `load_image_encoder` puts them together again.
    """
    trained = load_file(folder / "model.safetensors")
    dtype = next(iter(trained.values())).dtype
    start = _whole_image_encoder(starting_from, dtype).state_dict()
    state = _whole_image_encoder(folder, dtype).state_dict()
    changed = {key: value.contiguous() for key, value in state.items() if not torch.equal(value, start[key])}
    save_file(changed, folder / TRAINED_LAYERS)
    for name in ("model.safetensors", "config.json"):
        (folder / name).unlink()


def _whole_image_encoder(folder: Path | str, dtype: torch.dtype) -> CLIPVisionModelWithProjection:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a CLIPModel's text tower is left out on purpose
    try:
        with loading(f"the image encoder {folder}"):
            loaded: Any = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    finally:
        transformers_logging.set_verbosity(verbosity)
    model, report = loaded
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelInputError(
            f"the image encoder {folder} lacks {len(missing)} weights, among them {missing[0]}: name the "
            "folder of a CLIP model with a vision tower"
        )
    return model


def reference_size(image_encoder: CLIPVisionModelWithProjection) -> int:
    """Height and width of the pictures that the image encoder reads."""
    return cast(int, image_encoder.config.image_size)


def reference_pixels(image: Image.Image, size: int) -> Tensor:
    """A reference picture padded with black to a square and resized, [3, size, size] in 0..1.

    Transparent parts are white. Raises ModelInputError if it is not a picture or a side has fewer than 16 pixels.
    """
    if not isinstance(image, Image.Image):
        raise ModelInputError(
            f"a reference picture is a {type(image).__name__}, not a PIL image: open it with PIL.Image.open"
        )
    if min(image.size) < MIN_SIDE:
        raise ModelInputError(
            f"a reference picture has {image.width} x {image.height} pixels, fewer than {MIN_SIDE} on a side: "
            "give a larger one"
        )
    try:
        array = np.asarray(in_rgb(ImageOps.exif_transpose(image)))
    except UNREADABLE as error:
        raise ModelInputError(f"a reference picture cannot be shown in RGB ({error}): convert it first") from error
    return square(torch.from_numpy(array.copy()).permute(2, 0, 1), size).float() / 255


def square(pixels: Tensor, size: int) -> Tensor:
    """A picture, uint8 [3, height, width], padded with black to a square and resized, uint8 [3, size, size]."""
    return resize(pad_to_square(pixels)[None].float(), size)[0].round().to(torch.uint8)


def pad_to_square(pixels: Tensor) -> Tensor:
    """A picture [channels, height, width] with zeros on both sides of the shorter axis (one row short if odd)."""
    height, width = pixels.shape[-2:]
    border = abs(height - width) // 2
    return pad(pixels, (border, border, 0, 0) if height > width else (0, 0, border, border))


def resize(pixels: Tensor, size: int) -> Tensor:
    """Antialiased bilinear resize of a batch [n, channels, height, width] to a square."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    return interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)


def normalize(pixels: Tensor) -> Tensor:
    """CLIP's normalization of a batch [n, 3, height, width] in 0..1."""
    mean = torch.tensor(CLIP_MEAN, device=pixels.device, dtype=pixels.dtype).view(1, 3, 1, 1)
    std = torch.tensor(CLIP_STD, device=pixels.device, dtype=pixels.dtype).view(1, 3, 1, 1)
    return (pixels - mean) / std


def embed_references(image_encoder: CLIPVisionModelWithProjection, pixels: Tensor) -> Tensor:
    """One embedding for each reference: pixels [n, 3, height, width] in 0..1 -> [n, features]."""
    return image_encoder(normalize(resize(pixels, reference_size(image_encoder))).to(image_encoder.dtype)).image_embeds


def lower_hidden_states(image_encoder: CLIPVisionModelWithProjection, pixels: Tensor, upper_layers: int) -> Tensor:
    """Hidden states below the last `upper_layers` layers, [n, tokens, width]: what freezing allows to compute once."""
    vision = image_encoder.vision_model
    hidden = normalize(resize(pixels, reference_size(image_encoder))).to(image_encoder.dtype)
    hidden = vision.pre_layrnorm(vision.embeddings(hidden))
    for layer in vision.encoder.layers[: len(vision.encoder.layers) - upper_layers]:
        hidden = layer(hidden, None)
    return hidden


def embed_hidden_states(image_encoder: CLIPVisionModelWithProjection, hidden: Tensor, upper_layers: int) -> Tensor:
    """The rest of the image encoder after `lower_hidden_states`: [n, tokens, width] -> [n, features]."""
    vision = image_encoder.vision_model
    for layer in vision.encoder.layers[len(vision.encoder.layers) - upper_layers :]:
        hidden = layer(hidden, None)
    return image_encoder.visual_projection(vision.post_layernorm(hidden[:, 0]))
