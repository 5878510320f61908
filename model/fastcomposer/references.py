"""Reference pictures: preprocessing and embedding with the CLIP image encoder."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from transformers import CLIPVisionModelWithProjection

from fc_bench.model.errors import ModelInputError, loading
from fc_bench.model.fastcomposer.overlay import TRAINED_LAYERS
from fc_bench.model.pictures import UNREADABLE, in_rgb
from fc_bench.model.stored_weights import load_whole

MIN_SIDE = 16
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def load_image_encoder(
    folder: Path | str, dtype: torch.dtype = torch.float32, starting_from: Path | str | None = None
) -> CLIPVisionModelWithProjection:
    """The vision tower and projection in a CLIPModel or CLIPVisionModelWithProjection folder.

    A folder with `trained_layers.safetensors` has only the layers that training changed; the other layers come from the
    CLIP model `starting_from`, from which training started. Raises ModelInputError if weights are missing.
    """
    trained = Path(folder) / TRAINED_LAYERS
    if not trained.is_file():
        return _whole_image_encoder(folder, dtype)
    if starting_from is None:
        raise ModelInputError(
            f"the image encoder {folder} has only the trained layers: name the CLIP model that it was trained from as "
            "the image encoder"
        )
    model = _whole_image_encoder(starting_from, dtype)
    with loading(f"the trained layers {trained}"):
        layers = load_file(trained)
    projection = layers.get("visual_projection.weight")
    if projection is not None and len(projection) > model.config.projection_dim:
        extend_projection(model, len(projection))
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    if unfit := sorted(key for key, value in layers.items() if value.shape != shapes.get(key)):
        raise ModelInputError(
            f"the trained layers {trained} do not fit the CLIP model {starting_from}, for example {unfit[0]}: name the "
            "model that they were trained from"
        )
    model.load_state_dict({key: value.to(dtype) for key, value in layers.items()}, strict=False)
    return model


def keep_trained_layers(folder: Path, starting_from: Path) -> None:
    """Reduce an image encoder's folder to the layers that differ from the CLIP model `starting_from`.

    The comparison uses the number format of the trained weights. `load_image_encoder` reads the folder.
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
    advice = "name the folder of a CLIP model with a vision tower"
    return load_whole(CLIPVisionModelWithProjection, folder, dtype, "the image encoder", advice)


def extend_projection(image_encoder: CLIPVisionModelWithProjection, features: int) -> None:
    """Give an image encoder embeddings of `features` features, by new rows in its projection with initial weights.

    So one projection of Stable Diffusion XL holds that of CLIP, for the first text encoder, and a new one for the
    second, as PhotoMaker's two (arXiv 2312.04461).
    """
    old: nn.Linear = image_encoder.visual_projection
    new = nn.Linear(old.in_features, features, bias=False, device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight[: old.out_features] = old.weight
    image_encoder.visual_projection = new
    image_encoder.config.projection_dim = features


def reference_size(image_encoder: CLIPVisionModelWithProjection) -> int:
    """Height and width of the image encoder's input, in pixels."""
    return cast(int, image_encoder.config.image_size)


def reference_pixels(image: Image.Image, size: int) -> Tensor:
    """A reference picture padded with black to a square and resized, [3, size, size] in 0..1.

    Raises ModelInputError as `upright` does.
    """
    return square(torch.from_numpy(np.asarray(upright(image)).copy()).permute(2, 0, 1), size).float() / 255


def cropped_pixels(image: Image.Image, size: int) -> Tensor:
    """The central square of a reference picture, resized bicubically as for CLIP, [3, size, size] in 0..1.

    Raises ModelInputError as `upright` does.
    """
    picture = upright(image)
    width, height = (int(size * side / min(picture.size)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    picture = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255


def upright(image: Image.Image) -> Image.Image:
    """A reference picture in RGB, rotated as its EXIF says; transparent parts become white.

    Raises ModelInputError if it is not a PIL image, cannot be decoded, or has fewer than 16 pixels on a side.
    """
    if not isinstance(image, Image.Image):
        raise ModelInputError(
            f"a reference picture is a {type(image).__name__}, not a PIL image: open it with PIL.Image.open"
        )
    if min(image.size) < MIN_SIDE:
        raise ModelInputError(
            f"a reference picture has {image.width} x {image.height} pixels, but needs at least {MIN_SIDE} on each "
            "side: give a larger one"
        )
    try:
        picture = in_rgb(ImageOps.exif_transpose(image))
        picture.load()
    except UNREADABLE as error:
        raise ModelInputError(f"a reference picture cannot be converted to RGB ({error}): convert it first") from error
    return picture


def square(pixels: Tensor, size: int) -> Tensor:
    """A picture, uint8 [3, height, width], padded with black to a square and resized, uint8 [3, size, size]."""
    return resize(pad_to_square(pixels)[None].float(), size)[0].round().to(torch.uint8)


def pad_to_square(pixels: Tensor) -> Tensor:
    """A picture [channels, height, width] with zeros on both sides of its shorter axis.

    If the difference between the sides is odd, the shorter axis stays one pixel shorter.
    """
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
    """The embeddings [n, features] of references with pixels [n, 3, height, width] in 0..1."""
    return image_encoder(normalize(resize(pixels, reference_size(image_encoder))).to(image_encoder.dtype)).image_embeds


def lower_hidden_states(image_encoder: CLIPVisionModelWithProjection, pixels: Tensor, upper_layers: int) -> Tensor:
    """Hidden states below the last `upper_layers` layers, [n, tokens, width]; frozen layers make them constant."""
    vision = image_encoder.vision_model
    hidden = normalize(resize(pixels, reference_size(image_encoder))).to(image_encoder.dtype)
    hidden = vision.pre_layrnorm(vision.embeddings(hidden))
    for layer in vision.encoder.layers[: len(vision.encoder.layers) - upper_layers]:
        hidden = layer(hidden, None)
    return hidden


def embed_hidden_states(image_encoder: CLIPVisionModelWithProjection, hidden: Tensor, upper_layers: int) -> Tensor:
    """The embeddings [n, features] of hidden states [n, tokens, width] from `lower_hidden_states`."""
    vision = image_encoder.vision_model
    for layer in vision.encoder.layers[len(vision.encoder.layers) - upper_layers :]:
        hidden = layer(hidden, None)
    return image_encoder.visual_projection(vision.post_layernorm(hidden[:, 0]))
