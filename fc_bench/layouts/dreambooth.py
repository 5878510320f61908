"""DreamBooth's data set (google/dreambooth): a folder for each subject, and `prompts_and_classes.txt`."""

from __future__ import annotations

import re
from pathlib import Path

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import THINGS, Benchmark, BenchmarkPrompt, BenchmarkSubject, first_file
from fc_bench.model.pictures import image_files

CITATION = (
    "Ruiz et al., DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven Generation, CVPR 2023"
)
LICENSE = "CC BY 4.0 (photographs by DreamBooth's authors), Unsplash License (references_and_licenses.txt)"
_LIVE = ("cat", "dog")
"""Classes of live subjects; the authors count nine, which these are."""
_PROMPT = re.compile(r"^'(?P<text>[^'\n]*\{0\} \{1\}[^'\n]*)'\.format\(", re.MULTILINE)


def read_benchmark(folder: Path, subset: str | None) -> Benchmark:
    """The benchmark in a clone of its repository, or in its folder `dataset`; it has no parts."""
    if subset is not None:
        raise UserError("DreamBooth's data set has no parts; leave --subset out.")
    file = first_file(folder, "dataset/prompts_and_classes.txt", "prompts_and_classes.txt")
    classes = classes_in(file)
    things, live = prompts_in(file)
    subjects, prompts = [], []
    for name, noun in classes.items():
        place = file.parent / name
        photographs = (
            sorted(path.relative_to(folder).as_posix() for path in image_files(place)) if place.is_dir() else []
        )
        if not photographs:
            raise UserError(f"{place} has no photographs; clone the repository whole.")
        subjects.append(BenchmarkSubject(name, noun, tuple(photographs), attributes={"class": noun}))
        kind = "live" if noun in _LIVE else "object"
        prompts += [BenchmarkPrompt((name,), kind, text) for text in (live if kind == "live" else things)]
    return Benchmark(
        name="dreambooth",
        description="DreamBooth's data set: thirty animals and objects with twenty-five prompts each.",
        license=LICENSE,
        source="github.com/google/dreambooth",
        citation=CITATION,
        seed=0,
        metrics=("all-photographs", *THINGS),
        subjects=subjects,
        prompts=prompts,
        images_per_prompt=4,
    )


def classes_in(file: Path) -> dict[str, str]:
    """Subject -> class in `prompts_and_classes.txt`."""
    text = _text(file)
    _, _, after = text.partition("subject_name,class")
    rows = re.findall(r"^([\w-]+),([A-Za-z][A-Za-z -]*)\s*$", after, re.MULTILINE)
    if not rows:
        raise UserError(f"{file} has no rows subject_name,class; restore it.")
    return dict(rows)


def prompts_in(file: Path) -> tuple[list[str], list[str]]:
    """The templates of objects and of live subjects in `prompts_and_classes.txt`."""
    things, found, live = _text(file).partition("Live Subject Prompts")
    parts = [[one["text"].replace("{0} {1}", "{subject}") for one in _PROMPT.finditer(part)] for part in (things, live)]
    if not found or not all(parts):
        raise UserError(f"{file} has no prompts of objects or of live subjects; restore it.")
    return parts[0], parts[1]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); restore it.") from None
