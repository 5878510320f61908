"""Image files as a viewer shows them: what a damaged one raises, and any color mode in 8 bits RGB."""

import numpy as np
from PIL import Image, UnidentifiedImageError

UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are no images, are damaged or cut off, or unpack to far too much."""


def in_rgb(image: Image.Image) -> Image.Image:
    """8 bits a channel, three channels: 16 bits become 8, transparent parts are white.

    Raises one of UNREADABLE when the file cannot be decoded, ValueError for real numbers of unknown range.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, dtype=np.float64) / 257
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its values are real numbers of unknown range")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")
