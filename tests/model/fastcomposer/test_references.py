"""Reference pictures: what is accepted and what it becomes."""

import numpy as np
import pytest
import torch
from PIL import Image

from fc_bench.model.errors import ModelInputError
from fc_bench.model.fastcomposer.references import reference_pixels


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        ("face.png", "not a PIL image"),
        (np.zeros((20, 20, 3)), "not a PIL image"),
        (Image.new("RGB", (40, 15)), "40 x 15"),
    ],
)
def test_unusable_reference_is_one_sentence(picture: object, reason: str) -> None:
    with pytest.raises(ModelInputError, match=reason):
        reference_pixels(picture, 32)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_every_image_mode_is_read(mode: str) -> None:
    pixels = reference_pixels(Image.new("RGB", (32, 32), "white").convert(mode), 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels.min() > 0.99


def test_sixteen_bits_become_eight_and_transparent_parts_white() -> None:
    deep = Image.fromarray(np.full((32, 32), 100 * 257, dtype=np.uint16))
    assert torch.all(reference_pixels(deep, 32) == 100 / 255)
    assert torch.all(reference_pixels(Image.new("RGBA", (32, 32), (10, 10, 10, 0)), 32) == 1)


def test_narrow_picture_is_centered_on_black() -> None:
    pixels = reference_pixels(Image.new("RGB", (16, 32), "white"), 32)
    assert torch.all(pixels[:, :, 9:23] == 1)
    assert torch.all(pixels[:, :, :7] == 0)
    assert torch.all(pixels[:, :, 25:] == 0)


def test_rotated_photograph_is_turned_upright() -> None:
    picture = Image.new("RGB", (32, 16), "black")
    picture.paste("white", (0, 0, 16, 16))
    exif = picture.getexif()
    exif[0x0112] = 3  # upside down
    turned = Image.new("RGB", picture.size)
    turned.paste(picture)
    turned.info["exif"] = exif.tobytes()
    turned._exif = exif
    pixels = reference_pixels(turned, 32)
    assert pixels[:, 16, :12].max() == 0
    assert pixels[:, 16, 20:].min() == 1
