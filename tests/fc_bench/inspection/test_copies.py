"""Copies of a picture are found whatever became of the file; different photographs of a person are none."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageOps

from fc_bench.inspection.inspector import Inspection, Inspector


def copies(inspection: Inspection) -> list[tuple[bool, str]]:
    """Whether it is refused, and the sentence, of each finding on copies."""
    return [(finding.blocks, finding.text) for finding in inspection.findings if finding.kind == "copies"]


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        return image.convert("RGB")


CHANGES = {
    "saved as JPEG": lambda picture: as_jpeg(picture, 60),
    "smaller": lambda picture: picture.resize((80, 80), Image.Resampling.BICUBIC),
    "larger": lambda picture: picture.resize((301, 301), Image.Resampling.BILINEAR),
    "mirrored": ImageOps.mirror,
    "smaller, mirrored, saved as JPEG": lambda picture: as_jpeg(ImageOps.mirror(picture.resize((96, 96))), 80),
}


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff"])
def test_equal_pictures_in_any_format_are_the_same_picture(people, shot, ending):
    pictures = {"ada": [shot("p01", 1), shot("p01", 2), shot("p01", 2)]}
    ((blocks, text),) = copies(Inspector(None, (0,)).inspect(people(pictures, {"ada/3": ending})))
    assert not blocks
    assert text == f'ada/2.png and ada/3{ending} of "ada" are the same picture; replace all but one.'


def test_a_copy_of_the_reference_is_said_to_be_one(people, shot):
    ((_, text),) = copies(Inspector(None).inspect(people({"ada": [shot("p01", 1), shot("p01", 1)]})))
    assert "the reference among them" in text


def test_a_picture_that_is_turned_by_its_exif_orientation_is_the_same(people, shot, tmp_path):
    family = people({"ada": [shot("p01", 1), shot("p01", 2)]}, {"ada/2": ".tiff"})
    exif = Image.Exif()
    exif[0x0112] = 6
    shot("p01", 1).rotate(90, expand=True).save(tmp_path / "ada" / "2.tiff", exif=exif)
    assert "are the same picture;" in copies(Inspector(None).inspect(family))[0][1].replace(
        ", the reference among them", ""
    )


@pytest.mark.parametrize("change", CHANGES)
def test_copies_that_were_changed_are_found_without_any_model(people, shot, change):
    pictures = {"ada": [shot("p01", 1), shot("p01", 2)], "bo": [shot("p02", 1), CHANGES[change](shot("p01", 2))]}
    ((blocks, text),) = copies(Inspector(None, (0,)).inspect(people(pictures)))
    assert blocks
    assert 'ada/2.png of "ada" and bo/2.png of "bo" are the same picture, re-saved, resized or mirrored' in text


def test_another_crop_of_a_shot_is_found_by_the_face(people, shot, finder):
    pictures = {"ada": [shot("p06", 2), shot("p06", 3), shot("p06", 2).crop((6, 6, 122, 122))]}
    ((blocks, text),) = copies(Inspector(finder, (0,)).inspect(people(pictures)))
    assert not blocks
    assert 'ada/1.png and ada/3.png of "ada" are the same shot, cropped differently' in text


@pytest.mark.parametrize(("place", "measured", "refused"), [(0, (0,), True), (1, (0,), False), (0, (), False)])
def test_another_crop_of_a_shot_is_refused_as_the_reference_of_two(people, shot, finder, place, measured, refused):
    pictures = {"ada": [shot("p06", 2)], "bo": [shot("p02", 1), shot("p02", 2)]}
    pictures["bo"][place] = shot("p06", 2).crop((6, 6, 122, 122))
    ((blocks, text),) = copies(Inspector(finder, measured).inspect(people(pictures)))
    assert blocks is refused
    assert f'bo/{place + 1}.png of "bo" are the same shot, cropped differently; give each person' in text


def test_photographs_of_the_shipped_people_are_no_copies(people, shots, finder):
    pictures = {f"p{number:02d}": shots(f"p{number:02d}") for number in range(1, 17)}
    inspection = Inspector(finder, (0,)).inspect(people(pictures))
    assert inspection.findings == ()


def test_pictures_without_anything_in_them_are_no_copies(people):
    gray = Image.new("RGB", (64, 64), "gray")
    assert Inspector(None).inspect(people({"ada": [gray, gray], "bo": [gray]})).findings == ()


@pytest.mark.parametrize(
    ("places", "measured", "refused"),
    [((1, 1), (), True), ((1, 2), (), False), ((2, 2), (), False), ((1, 2), (0,), True), ((2, 2), (0,), True)],
)
def test_one_picture_of_two_subjects_is_refused_where_it_makes_numbers_wrong(people, shot, places, measured, refused):
    pictures = {"cup": [shot("p01", 1), shot("p01", 2)], "mug": [shot("p02", 1), shot("p02", 2)]}
    pictures["mug"][places[1] - 1] = pictures["cup"][places[0] - 1]
    ((blocks, text),) = copies(Inspector(None, measured).inspect(people(pictures)))
    assert blocks is refused
    assert f'cup/{places[0]}.png of "cup" and mug/{places[1]}.png of "mug" are the same picture; give each' in text


def test_of_many_copies_the_first_are_named_and_the_others_counted(people, shot):
    ((_, text),) = copies(Inspector(None).inspect(people({"ada": [shot("p01", 1)] * 7})))
    assert 'ada/1.png, ada/2.png, ada/3.png and 4 more of "ada"' in text


def test_a_file_that_is_listed_twice_is_named_once(people, shot):
    (ada,) = people({"ada": [shot("p01", 1)]})
    twice = type(ada)("ada", ada.photographs * 2)
    ((_, text),) = copies(Inspector(None).inspect([twice]))
    assert text.startswith('ada/1.png (listed 2 times) of "ada"')
