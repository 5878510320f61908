"""The photographs of the pocket suites, five for each drawn person.

Sixteen people of the evaluation range (`p01` ...) are for results, and six people of the training range (`t01` ...) are
for choosing a method's settings.

python -m fc_bench.model.pocket.subjects datasets/pocket/subjects
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from fc_bench.model.command_line import as_command
from fc_bench.model.pocket.people import EVALUATION_PEOPLE, TRAINING_PEOPLE, Person, make_person
from fc_bench.model.pocket.render import render_photograph
from fc_bench.model.pocket_vocabulary import CLASS_NOUNS

SUBJECTS = 16
TUNING_SUBJECTS = 6
PHOTOGRAPHS = 5


def suite_people() -> dict[str, Person]:
    """Subject id -> person of the evaluation range; men have odd numbers, women have even numbers."""
    return {
        f"p{number:02d}": make_person(EVALUATION_PEOPLE.start + number, CLASS_NOUNS[(number + 1) % 2])
        for number in range(1, SUBJECTS + 1)
    }


def tuning_people() -> dict[str, Person]:
    """Subject id -> person of the training range; men have odd numbers, women have even numbers."""
    chosen: dict[str, Person] = {}
    people = map(make_person, TRAINING_PEOPLE)
    for number in range(1, TUNING_SUBJECTS + 1):
        noun = CLASS_NOUNS[(number + 1) % 2]
        chosen[f"t{number:02d}"] = next(person for person in people if person.noun == noun)
    return chosen


def write_photographs(folder: Path) -> None:
    """Draw `<folder>/<subject>/<1..5>.png`; every call draws the same pictures."""
    for subject, person in {**suite_people(), **tuning_people()}.items():
        (folder / subject).mkdir(parents=True, exist_ok=True)
        for number in range(PHOTOGRAPHS):
            picture = render_photograph(person, number)
            Image.fromarray(picture.image).save(folder / subject / f"{number + 1}.png")


@as_command
def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser("python -m fc_bench.model.pocket.subjects", description="Draw the photographs.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("datasets/pocket/subjects"))
    write_photographs(parser.parse_args(arguments).folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
