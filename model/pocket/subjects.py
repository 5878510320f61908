"""The photographs of the suites `pocket` and `pocket-full`: sixteen drawn people, five photographs each.

python -m fc_bench.model.pocket.subjects datasets/pocket/subjects
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from fc_bench.model.pocket.people import EVALUATION_PEOPLE, Person, make_person
from fc_bench.model.pocket.render import render_photograph
from fc_bench.model.pocket.vocabulary import CLASS_NOUNS

SUBJECTS = 16
PHOTOGRAPHS = 5


def suite_people() -> dict[str, Person]:
    """Subject id -> person: men have odd numbers, women even ones."""
    return {
        f"p{number:02d}": make_person(EVALUATION_PEOPLE.start + number, CLASS_NOUNS[(number + 1) % 2])
        for number in range(1, SUBJECTS + 1)
    }


def write_photographs(folder: Path) -> None:
    """Draw `<folder>/<subject>/<1..5>.png`; the same pictures every time."""
    for subject, person in suite_people().items():
        (folder / subject).mkdir(parents=True, exist_ok=True)
        for number in range(PHOTOGRAPHS):
            picture = render_photograph(person, number)
            Image.fromarray(picture.image).save(folder / subject / f"{number + 1}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m fc_bench.model.pocket.subjects", description="Draw the photographs.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("datasets/pocket/subjects"))
    write_photographs(parser.parse_args().folder)
