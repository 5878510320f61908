"""People of the pocket world whose photographs are what a test makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fc_bench.builtin import DATASETS
from fc_bench.inspection.looks import Person, Photograph
from fc_bench.model.backbones.backbone import read_backbone
from fc_bench.scoring.faces import FaceFinder
from fc_bench.suites.photographs import read_photograph

Pictures = Mapping[str, Sequence[Image.Image]]


@pytest.fixture(scope="session")
def finder() -> FaceFinder:
    """The pocket world's face models."""
    return FaceFinder(read_backbone("pocket"), "cpu")


@pytest.fixture(scope="session")
def shot() -> Callable[[str, int], Image.Image]:
    """A photograph of a person of the suite pocket, by its number from 1."""
    return lambda person, number: read_photograph(DATASETS / "pocket" / "subjects" / person / f"{number}.png")


@pytest.fixture
def shots(shot) -> Callable[[str], list[Image.Image]]:
    """All five photographs of a person of the suite pocket."""
    return lambda person: [shot(person, number) for number in range(1, 6)]


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes a suite of people with these photographs; returns its file."""

    def written(
        pictures: Pictures, noun: str = "man", endings: Mapping[str, str] | None = None, **further: Any
    ) -> Path:
        folder = tmp_path / "family"
        subjects = []
        for person, own in pictures.items():
            names = []
            for number, picture in enumerate(own, start=1):
                name = f"{person}/{number}{(endings or {}).get(f'{person}/{number}', '.png')}"
                (folder / person).mkdir(parents=True, exist_ok=True)
                picture.save(folder / name)
                names.append(name)
            subjects.append({"id": person, "noun": noun, "photographs": names})
        data = {
            "name": "family",
            "version": "1",
            "description": "people",
            "license": "MIT",
            "source": "drawn",
            "sampler": {"steps": 1},
            "subjects": subjects,
            "single": {"prompts": {"context": ["a photo of a {subject} in the snow"]}},
        }
        (folder / "suite.yaml").write_text(yaml.safe_dump(data | further))
        return folder / "suite.yaml"

    return written


@pytest.fixture
def people(tmp_path) -> Callable[..., list[Person]]:
    """People with these photographs, as an inspector gets them; names of files end as `endings` says."""

    def made(pictures: Pictures, endings: Mapping[str, str] | None = None) -> list[Person]:
        found = []
        for person, own in pictures.items():
            (tmp_path / person).mkdir(exist_ok=True)
            photographs = []
            for number, picture in enumerate(own, start=1):
                name = f"{person}/{number}"
                name += (endings or {}).get(name, ".png")
                picture.save(tmp_path / name)
                photographs.append(Photograph(tmp_path / name, name))
            found.append(Person(person, tuple(photographs)))
        return found

    return made


def beside(*pictures: Image.Image) -> Image.Image:
    """Pictures side by side, on a gray wall as high as the highest."""
    wall = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)), (150, 150, 150))
    left = 0
    for one in pictures:
        wall.paste(one, (left, wall.height - one.height))
        left += one.width
    return wall


@pytest.fixture(name="beside")
def beside_fixture() -> Callable[..., Image.Image]:
    """Puts pictures side by side."""
    return beside


@pytest.fixture
def larger() -> Callable[[Image.Image], Image.Image]:
    """A picture of 176 pixels a side instead of 128."""
    return lambda picture: picture.resize((176, 176), Image.Resampling.BICUBIC)


@pytest.fixture
def tall() -> Callable[[Image.Image], Image.Image]:
    """A picture with a long floor below it, so that the center square cuts off the head."""

    def stretched(picture: Image.Image) -> Image.Image:
        last = picture.crop((0, picture.height - 1, picture.width, picture.height))
        floor = last.resize((picture.width, picture.height * 3 // 4))
        whole = Image.new("RGB", (picture.width, picture.height + floor.height))
        whole.paste(picture, (0, 0))
        whole.paste(floor, (0, picture.height))
        return whole

    return stretched
