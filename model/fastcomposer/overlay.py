"""An overlay: a folder with the weights that FastComposer's training changed in a base pipeline, and what it fits."""

import json
from pathlib import Path
from typing import Any

from fc_bench.model.errors import ModelInputError
from fc_bench.model.families.detection import INDEX, family_of
from fc_bench.model.families.sd1 import StableDiffusion1

PARTS = ("unet", "image_encoder", "postfuse_module")
"""The trained parts, which are the overlay's folders."""
FEATURES = {
    "unet": "cross_attention_dim",
    "image_encoder": "projection_dim",
    "postfuse_module": "features",
}
"""The field of a part's configuration with the number of features of a text token."""
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
        needed = _field(base / "unet" / "config.json", "cross_attention_dim")
        trained = {_field(checkpoint / part / "config.json", field) for part, field in FEATURES.items()}
        others = sorted(trained - {needed, None})
        fits = needed is None or not others
        found = f"for text of {' and '.join(map(str, others))} features in place of {needed}"
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
