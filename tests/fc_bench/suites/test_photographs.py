"""A photograph of any kind is read as a viewer shows it, or refused in one sentence."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fc_bench.errors import UserError
from fc_bench.model.pictures import image_files
from fc_bench.suites.photographs import Crop, center_square, cut_out, face_square, holds, read_photograph, shows_face

SIZE = (40, 48)


@pytest.fixture
def ramp() -> np.ndarray:
    """A picture whose four corners differ, uint8 [48, 40, 3]."""
    rows, columns = np.mgrid[0:48, 0:40]
    return np.stack([rows * 5, columns * 6, 255 - rows * 5], axis=-1).astype(np.uint8)


def close(image: Image.Image, expected: np.ndarray, within: int = 1) -> bool:
    seen = np.asarray(image, dtype=int)
    return image.mode == "RGB" and seen.shape == expected.shape and int(np.abs(seen - expected).max()) <= within


def test_sixteen_bits_become_eight_and_not_white(tmp_path, ramp):
    grey = ramp[..., 1].astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert close(read_photograph(tmp_path / "x.png"), np.repeat(ramp[..., 1:2], 3, axis=-1))


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "RGBA"])
def test_other_color_modes_look_the_same(tmp_path, mode):
    flat = Image.new("RGB", SIZE, (200, 60, 30))
    file = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    (flat.quantize(8) if mode == "P" else flat.convert(mode)).save(file)
    expected = np.asarray(flat.convert("L").convert("RGB") if mode == "L" else flat)
    assert close(read_photograph(file), expected, within=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(tmp_path, mode):
    image = Image.new("RGBA", SIZE, (10, 10, 10, 255))
    image.paste((10, 10, 10, 0), (0, 0, 20, 48))
    image.convert(mode).save(tmp_path / "x.png")
    seen = np.asarray(read_photograph(tmp_path / "x.png"))
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[0, 30].max() < 20


def test_orientation_of_the_camera_is_followed(tmp_path, ramp):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp).save(tmp_path / "x.png", exif=exif)
    assert close(read_photograph(tmp_path / "x.png"), np.rot90(ramp, -1))


def test_animation_is_its_first_picture(tmp_path):
    first, second = Image.new("RGB", SIZE, "red"), Image.new("RGB", SIZE, "blue")
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    assert close(read_photograph(tmp_path / "x.gif"), np.asarray(first))


def bomb(path: Path, width: int, height: int) -> None:
    """A small PNG that says it is that large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 12_000), (20_000, 40)])
def test_image_that_unpacks_to_far_more_is_refused_by_its_header(tmp_path, size):
    bomb(tmp_path / "bomb.png", *size)
    with pytest.raises(UserError, match=r"bomb\.png"):
        read_photograph(tmp_path / "bomb.png")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(UserError, match="is not a file"):
            read_photograph(tmp_path / name)
    with pytest.raises(UserError, match="does not exist"):
        read_photograph(tmp_path / "absent.png")


@pytest.mark.parametrize("name", ["-rf.png", "a\nb.png", "ä ö.png", "'; rm -x.png", "a*?.png"])
def test_strange_file_names_are_only_names(tmp_path, ramp, name):
    Image.fromarray(ramp).save(tmp_path / name)
    assert close(read_photograph(tmp_path / name), ramp)


SIDES = st.integers(32, 400)
SHARES = st.floats(0, 1)


@given(SIDES, SIDES, SHARES, SHARES, SHARES, SHARES)
def test_a_square_is_the_largest_and_shows_the_face_wherever_one_can(width, height, left, top, wide, high):
    face = (
        left * width,
        top * height,
        left * width + wide * (1 - left) * width,
        top * height + high * (1 - top) * height,
    )
    square, side = face_square((width, height), face), min(width, height)
    assert square.side == side
    assert holds(Crop((width / 2, height / 2), max(width, height)), square.box)
    assert square.center == square.inside((width, height)).center
    if max(face[2] - face[0], face[3] - face[1]) < side - 1 - side // 16:
        assert shows_face((width, height), square, face)  # rounding may put an edge beyond the photograph


@given(SIDES, SIDES, SHARES, SHARES)
def test_a_square_is_the_center_square_where_that_shows_the_head_and_without_a_face(width, height, size, place):
    middle = center_square((width, height))
    high = size * middle.side / 1.5
    room = middle.side - 1.5 * high
    left, top = (edge + 0.25 * high + place * room for edge in middle.box[:2])
    assert face_square((width, height), (left, top, left + high, top + high * 0.999)) == middle
    assert face_square((width, height), None) == middle


def test_a_face_beyond_the_center_square_is_in_the_middle_as_far_as_the_photograph_reaches():
    assert face_square((128, 400), (40, 250, 90, 310)).center == (64, 280)
    assert face_square((128, 400), (40, 10, 90, 80)).center == (64, 64)
    assert face_square((400, 128), (360, 30, 400, 80)).center == (336, 64)


def test_a_face_that_no_square_holds_is_in_the_middle_of_one():
    assert face_square((100, 300), (0, 20, 100, 180)).center == (50, pytest.approx(100, abs=3))


def test_what_is_cut_out_is_what_the_photograph_shows_there():
    pixels = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)
    square = face_square((60, 40), (0, 5, 12, 20))
    assert np.array_equal(np.asarray(cut_out(Image.fromarray(pixels), square)), pixels[:, :40])


STAND_INS = {
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s9--0.jpg\n", "git annex get"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC .*convert it to JPEG or PNG"),
    "mac": (b"\0\5\x16\7\0\2\0\0Mac OS X", "delete it"),
    "page": (b"<!DOCTYPE html><html>", "save the image itself"),
    "empty": (b"", "it is empty"),
}


@pytest.mark.parametrize("kind", STAND_INS)
def test_what_is_there_in_an_image_s_place_is_named(tmp_path, kind):
    content, told = STAND_INS[kind]
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_photograph(tmp_path / "x.jpg")


def test_link_to_a_file_that_is_not_here_is_named(tmp_path):
    (tmp_path / "x.jpg").symlink_to("../.git/annex/objects/gone")
    with pytest.raises(UserError, match=r"a link to a file that is not here\); fetch that \(git annex get, dvc pull\)"):
        read_photograph(tmp_path / "x.jpg")


def test_images_of_a_folder_are_those_that_somebody_put_there(tmp_path):
    for name in ("1.JPG", "2.jpeg", "3.png", "._1.JPG", ".DS_Store", "Thumbs.db", "notes.txt", "__MACOSX/1.JPG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "4.png").symlink_to("gone")
    assert {path.name for path in image_files(tmp_path)} == {"1.JPG", "2.jpeg", "3.png"}
    assert {path.name for path in image_files(tmp_path, below=True)} == {"1.JPG", "2.jpeg", "3.png", "4.png"}
