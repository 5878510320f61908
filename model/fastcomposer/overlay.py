"""An overlay: a folder with the weights that FastComposer's training changed in a base pipeline, and what it fits."""

import json
from pathlib import Path
from typing import Any

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.detection import INDEX, family_of
from fc_bench.model.families.sd1 import StableDiffusion1

PARTS = ("unet", "image_encoder", "postfuse_module")
"""The trained parts, which are the overlay's folders."""
TRAINED_LAYERS = "trained_layers.safetensors"
"""An image encoder, stored as the layers that training changed in a CLIP model."""
UNET_DIFFERENCE = "difference.safetensors"
"""A UNet, stored as its difference to the base model's UNet."""


def check_family(checkpoint: Path, base: Path) -> None:
    """Raise ModelInputError for a checkpoint, in any form, of another family than that of the pipeline in a folder."""
    family = family_of(base)
    if checkpoint.is_file():
        fits, found = family.name == StableDiffusion1.name, f"a file, as published for {StableDiffusion1.title} alone"
    elif (checkpoint / INDEX).is_file():
        own = family_of(checkpoint)
        fits, found = own is family, f"a pipeline of {own.title}"
    else:
        trained = _field(checkpoint / "postfuse_module" / "config.json", "features")
        needed = _field(base / "unet" / "config.json", "cross_attention_dim")
        fits, found = (
            None in (trained, needed) or trained == needed,
            f"for text of {trained} features in place of {needed}",
        )
    if not fits:
        raise ModelInputError(
            f"the FastComposer weights {checkpoint} are {found}, but the pipeline {base} is {family.title}: use "
            "weights and a pipeline that fit together"
        )


def _field(file: Path, name: str) -> Any:
    """A field of a model's configuration; None where it cannot be read, which loading reports."""
    try:
        return json.loads(file.read_text(encoding="utf-8")).get(name)
    except (OSError, ValueError, AttributeError):
        return None
