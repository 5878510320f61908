"""Photographs become portraits: the largest face, upright, in a square of the photograph; what shows none is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fc_bench.commands.portraits import crop_of, photographs_in, portraits
from fc_bench.errors import UserError
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.scoring.faces import Face, FaceFinder
from fc_bench.suites.photographs import cut_out

EYES_AND_MOUTH = np.array([[-20, -15], [20, -15], [0, 0], [-15, 25], [15, 25]], dtype=float)


def face_at(x: float, y: float, size: float = 1.0, degrees: float = 0.0) -> Face:
    turn = math.radians(degrees)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    landmarks = size * EYES_AND_MOUTH @ rotation.T + [x, y]
    box = (x - 40 * size, y - 50 * size, x + 40 * size, y + 50 * size)
    return Face(box, 0.9, np.ones(4, dtype=np.float32) / 2, landmarks)


def test_a_portrait_stays_as_it_is():
    assert crop_of(face_at(120, 120), (256, 256)) is None
    assert crop_of(face_at(120, 120), (800, 256)) is None


@pytest.mark.parametrize("place", [(700, 500), (20, 30), (1270, 950)])
def test_a_small_face_is_cut_out_in_a_square_that_lies_in_the_photograph(place):
    image = Image.new("RGB", (1280, 960), "blue")
    ImageDraw.Draw(image).ellipse((place[0] - 8, place[1] - 8, place[0] + 8, place[1] + 8), fill="red")
    crop = crop_of(face_at(*place), image.size)
    assert crop is not None
    assert crop.degrees == 0
    portrait = cut_out(image, crop)
    assert portrait.width == portrait.height == round(crop.side) < 300
    colors = {color for _, color in portrait.getcolors() or []}
    assert colors == {(0, 0, 255), (255, 0, 0)}  # the face is in it, and nothing from beyond the edges


def test_hair_and_shoulders_have_room():
    face = face_at(700, 500)
    crop = crop_of(face, (1280, 960))
    assert crop is not None
    assert crop.side > 1.6 * (face.box[3] - face.box[1])


@pytest.mark.parametrize("degrees", [-40, 25, 170])
def test_a_head_that_leans_over_is_turned_upright(degrees):
    face = face_at(400, 300, degrees=degrees)
    assert face.landmarks is not None
    image = Image.new("RGB", (800, 600), "white")
    draw = ImageDraw.Draw(image)
    for (x, y), color in zip(face.landmarks[:2], ("red", "blue"), strict=True):
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=color)
    crop = crop_of(face, image.size)
    assert crop is not None
    pixels = np.asarray(cut_out(image, crop)).astype(int)
    left, right = (
        np.argwhere((pixels[..., channel] > 150) & (pixels.sum(axis=-1) < 400)).mean(axis=0) for channel in (0, 2)
    )
    assert left[0] == pytest.approx(right[0], abs=1.5)
    assert right[1] - left[1] == pytest.approx(40, abs=1.5)


def test_a_slight_lean_is_left_alone():
    crop = crop_of(face_at(400, 300, degrees=8), (800, 600))
    assert crop is not None
    assert crop.degrees == 0


def test_photographs_of_a_folder_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.png", "2.JPG", "1.png", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "more").mkdir()
    assert [path.name for path in photographs_in(tmp_path)] == ["1.png", "2.JPG", "10.png"]
    with pytest.raises(UserError, match="has no photograph"):
        photographs_in(tmp_path / "more")
    with pytest.raises(UserError, match="does not exist"):
        photographs_in(tmp_path / "nowhere.png")


def test_every_photograph_without_a_face_is_named(tiny_backbone, portrait, tmp_path):
    finder = FaceFinder(read_backbone(str(tiny_backbone)), "cpu")
    files = [tmp_path / f"{number}.png" for number in range(3)]
    portrait((250, 20, 20)).save(files[1])
    Image.new("RGB", (128, 128), "gray").save(files[0])
    files[2].write_bytes(b"no picture")
    found, unusable = portraits(files, finder, "ann")
    assert [item.source for item in found] == [files[1]]
    assert [str(file) in sentence for file, sentence in zip((files[0], files[2]), unusable, strict=True)] == [True] * 2
    with pytest.raises(UserError, match=r'"ann" has no usable photograph: No face is found in .*0\.png'):
        portraits([files[0], files[2]], finder, "ann")
    assert len(portraits(files[:2], None, "ann")[0]) == 2


def test_a_portrait_that_is_no_square_becomes_one_around_the_head(tiny_backbone, portrait, tmp_path):
    wide = Image.new("RGB", (200, 128), "gray")
    wide.paste(portrait((250, 20, 20)), (0, 0))
    wide.save(tmp_path / "wide.png")
    (found,), _ = portraits([tmp_path / "wide.png"], FaceFinder(read_backbone(str(tiny_backbone)), "cpu"), "ann")
    assert found.image.size == (128, 128)
    assert found.crop is not None
    assert found.crop.center == (64, 64)
