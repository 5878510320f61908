"""Images made elsewhere: found by their names or a manifest, placed into a run folder, and measured like our own."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from fc_bench import registry
from fc_bench.errors import Failure, UserError
from fc_bench.inspection.inspector import cropped, inspector_of
from fc_bench.json_lines import LineWriter
from fc_bench.model.backbone import read_backbone, sha256_of
from fc_bench.model.yaml_file import nearest
from fc_bench.photographs import read_photograph
from fc_bench.plan import Job, MethodRow, Plan, Sample
from fc_bench.protocols import fill
from fc_bench.provenance import now
from fc_bench.records import SAMPLES, write_png
from fc_bench.run import setting_of
from fc_bench.session import Outcome, Session, session
from fc_bench.suite import Prompt, SubjectSet, Suite, digest, read_suite

Layout = Literal["fastcomposer"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LARGEST_MANIFEST = 1 << 30
"""Bytes."""
_FASTCOMPOSER_NAME = re.compile(r"subject_(\d{4,9})_prompt_(\d{4,9})_instance_(\d{4,9})", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ +()=,\[\]-]{0,99}", re.ASCII)

Slot = tuple[str, str, str, int]
"""Which image of a suite: method, subject set, prompt template, index."""


@dataclass(frozen=True)
class ScoreOptions:
    """What the command line asks for; exactly one of `layout` and `manifest` says which image is which."""

    images: Path
    suite: str
    layout: Layout | None = None
    manifest: Path | None = None
    method: str | None = None
    backbone: str = "pocket"
    out: Path | None = None
    photographs: Path | None = None
    limit_subjects: int | None = None
    images_per_prompt: int | None = None
    device: str = "auto"
    retry_errors: bool = False


@dataclass(frozen=True)
class Asked:
    """What a suite asks for: its subject sets with their prompts, and how many images of each."""

    sets: Sequence[tuple[SubjectSet, list[Prompt]]]
    images: int


def score_elsewhere(options: ScoreOptions, console: Console) -> Outcome:
    """Place the images into a run folder and measure them; the same command goes on where it was interrupted.

    The numbers are those that fc-bench would give the same images had it made them. What the suite asks for and the
    folder does not hold is planned and missing, so that every table says so; a file that is no readable image is a
    failed sample. Raises UserError before anything is written when an image cannot be assigned or two claim a place.
    """
    if (options.layout is None) == (options.manifest is None):
        raise UserError("Say which image is which with either --layout fastcomposer or --manifest FILE.csv.")
    if not options.images.is_dir():
        raise UserError(f"The folder of images {options.images} does not exist; correct it.")
    suite = read_suite(registry.suite_file(options.suite), options.photographs)
    backbone = read_backbone(options.backbone)
    setting = setting_of(suite, backbone, options.device)
    asked = Asked(suite.subject_sets(options.limit_subjects), options.images_per_prompt or suite.file.images_per_prompt)
    label = _label(options.method or options.images.resolve().name)
    found, strangers = (
        read_names(options.images, asked, label)
        if options.manifest is None
        else (read_manifest(options.manifest, options.images, asked, label), 0)
    )
    first = next(iter(found))[0]
    path = options.out or Path("runs") / f"{suite.file.name}-{MethodRow(first, first, {}, {}).folder}"
    inspector = inspector_of(suite, backbone, setting.device)
    suite = cropped(suite, inspector, path)
    asked = Asked(suite.subject_sets(options.limit_subjects), asked.images)
    plan = _plan(suite, asked, found)
    with session(path, suite, setting, plan, inspector, console, made_elsewhere=True) as opened:
        planned = sum(len(job.samples) for job in plan.jobs)
        left = f"; {strangers} other files left out" if strangers else ""
        console.print(
            f"{suite.file.name} scored on {backbone.name}: {len(found)} of {planned} images are there{left}, in {path}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        _place(opened, found)
        outcome = opened.score(options.retry_errors)
    return outcome


def read_names(folder: Path, asked: Asked, label: str) -> tuple[dict[Slot, Path], int]:
    """Images named as FastComposer's authors do, and how many other images there are.

    `subject_SSSS_prompt_PPPP_instance_IIII.jpg` (mit-han-lab/fastcomposer, evaluation/single_object/run.py): the
    subject set and the prompt by their places in the suite, from 0, and the image of that prompt.
    """
    found: dict[Slot, Path] = {}
    strangers = 0
    for file in _images_in(folder):
        match = _FASTCOMPOSER_NAME.fullmatch(file.stem)
        if match is None:
            strangers += 1
            continue
        number, prompt, index = (int(part) for part in match.groups())
        if number >= len(asked.sets):
            raise UserError(
                f"{file.name} is of subject set {number}, the suite has {len(asked.sets)} (from 0); choose the suite "
                "that the images were made for."
            )
        subject_set, prompts = asked.sets[number]
        if prompt >= len(prompts):
            raise UserError(
                f"{file.name} is of prompt {prompt}, the suite has {len(prompts)} for {subject_set.key} (from 0); "
                "choose the suite that the images were made for."
            )
        _claim(found, (label, subject_set.key, prompts[prompt].template, index), file, asked)
    if not found:
        raise UserError(
            f"No image in {folder} has a name like subject_0000_prompt_0000_instance_0000.jpg; rename them or describe "
            "them in a file for --manifest."
        )
    return found, strangers


def read_manifest(manifest: Path, folder: Path, asked: Asked, label: str) -> dict[Slot, Path]:
    """Images that a CSV file assigns: columns `image` (below the folder), `subjects` (ids joined by +), `prompt`.

    A prompt is the suite's template or what it says with the class nouns filled in. Optional columns: `index` (from 0;
    without it the rows of a prompt count on) and `method`.
    """
    sets = {subject_set.key: (subject_set, prompts) for subject_set, prompts in asked.sets}
    found: dict[Slot, Path] = {}
    counted: dict[tuple[str, str, str], int] = {}
    root = folder.resolve()
    for where, row in _manifest_rows(manifest):
        key = row["subjects"].strip()
        if key not in sets:
            raise UserError(f'{where}: the suite asks for no subjects "{key}", {nearest(key, sets)}')
        subject_set, prompts = sets[key]
        template = _template(row["prompt"].strip(), subject_set, prompts, where)
        method = _label(row.get("method") or label, where)
        number = counted.get((method, key, template), 0)
        index = _whole(row["index"], where) if row.get("index") else number
        counted[method, key, template] = number + 1
        name = row["image"]
        file = root / name
        try:
            outside = Path(name).is_absolute() or not file.resolve().is_relative_to(root)
            absent = not outside and not file.is_file()
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{where}: {name[:100]!r} is no usable file name ({type(error).__name__}).") from None
        if outside:
            raise UserError(f'{where}: the image "{name}" lies outside {folder}; put it there.')
        if absent:
            raise UserError(f"{where}: the image {file} does not exist; put it there or correct the manifest.")
        _claim(found, (method, key, template, index), file, asked, where)
    if not found:
        raise UserError(f"{manifest} lists no image; give one row for each.")
    return found


def _manifest_rows(manifest: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Rows with where they stand; raises UserError for a file that is no such table."""
    try:
        if manifest.stat().st_size > LARGEST_MANIFEST:
            raise UserError(f"{manifest} is larger than {LARGEST_MANIFEST >> 20} MiB; split it.")
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, restkey="_more", restval="")
            names = reader.fieldnames or []
            for needed in ("image", "subjects", "prompt"):
                if needed not in names:
                    raise UserError(f'{manifest}:1: the column "{needed}" is missing; found: {", ".join(names)}.')
            for row in reader:
                where = f"{manifest}:{reader.line_num}"
                if "_more" in row:
                    raise UserError(f"{where}: the row has more fields than the header; quote fields with commas.")
                yield where, row
    except UnicodeDecodeError as error:
        raise UserError(f"{manifest} is not UTF-8 text ({error.reason} at byte {error.start}); convert it.") from None
    except csv.Error as error:
        raise UserError(f"{manifest} is no CSV file ({error}); correct it.") from None
    except OSError as error:
        raise UserError(f"{manifest} cannot be read ({error.strerror}); correct --manifest.") from None


def _template(prompt: str, subject_set: SubjectSet, prompts: Sequence[Prompt], where: str) -> str:
    """The suite's template that a manifest's prompt means."""
    nouns = [subject.noun for subject in subject_set.subjects]
    texts = {fill(item.template, nouns): item.template for item in prompts}
    templates = [item.template for item in prompts]
    if prompt in templates:
        return prompt
    if prompt in texts:
        return texts[prompt]
    raise UserError(f'{where}: the suite has no prompt "{prompt}" for {subject_set.key}, {nearest(prompt, templates)}')


def _claim(found: dict[Slot, Path], slot: Slot, file: Path, asked: Asked, where: str = "") -> None:
    """Give a place in the suite to a file; raises UserError when it is taken or beyond what is asked."""
    prefix = f"{where}: " if where else ""
    if slot[3] >= asked.images:
        raise UserError(
            f"{prefix}{file.name} is image {slot[3]} of its prompt, {asked.images} are asked for (from 0); raise "
            "--images-per-prompt."
        )
    if slot in found:
        raise UserError(
            f"{prefix}{found[slot].name} and {file.name} are both image {slot[3]} of {slot[1]}, "
            f'"{slot[2]}"; remove or renumber one.'
        )
    found[slot] = file


def _plan(suite: Suite, asked: Asked, found: Mapping[Slot, Path]) -> Plan:
    """Everything the suite asks for, for each method that has an image; ids hash the images' files."""
    digests = suite.photograph_digests()
    jobs = []
    for label in dict.fromkeys(slot[0] for slot in found):
        row = MethodRow(label, label, {}, {})
        for subject_set, prompts in asked.sets:
            subjects = subject_set.subjects
            who = [[subject.id, subject.noun, digests[subject.id]] for subject in subjects]
            samples = []
            for prompt in prompts:
                text = fill(prompt.template, [subject.noun for subject in subjects])
                for index in range(asked.images):
                    file = found.get((label, subject_set.key, prompt.template, index))
                    content = sha256_of(file) if file else None
                    name = [suite.file.name, suite.file.version, label, who, prompt.template, index, content]
                    identity = digest(["made elsewhere", *name])[:20]
                    ids = tuple(subject.id for subject in subjects)
                    samples.append(
                        Sample(identity, label, ids, prompt.category, prompt.template, text, index, None, identity)
                    )
            jobs.append(Job(row, subject_set, tuple(samples), 0))
    return Plan(tuple(jobs), (), (), {})


def _place(opened: Session, found: Mapping[Slot, Path]) -> None:
    """Copy each image into the run folder, as it is in pixels, and record it."""
    folder = opened.folder
    done = {name for name, status in folder.statuses().items() if status == "ok"}
    writer = LineWriter(folder.path / SAMPLES)
    try:
        for job in opened.plan.jobs:
            for sample in job.samples:
                file = found.get((sample.method, job.subject_set.key, sample.template, sample.index))
                if file is None or sample.id in done:
                    continue
                record = {**asdict(sample), "subjects": list(sample.subjects), "generated_prompt": None}
                record["made_elsewhere"] = file.name
                try:
                    image = read_photograph(file, "image")
                except UserError as error:
                    record |= Failure.of(error).record()
                    opened.console.print(str(error), markup=False, highlight=False, soft_wrap=True)
                else:
                    name = f"images/{job.row.folder}/{job.subject_set.key}/{sample.id}.png"
                    write_png(folder.path / name, image)
                    record |= {"status": "ok", "image": name, "seconds": None, "peak_memory_bytes": None}
                writer.append({**record, "finished": now()})
    finally:
        writer.close()


def _images_in(folder: Path) -> list[Path]:
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    except OSError as error:
        raise UserError(f"The folder of images {folder} cannot be read ({error.strerror}).") from None
    return files


def _label(name: str, where: str = "") -> str:
    if not _LABEL.fullmatch(name):
        prefix = f"{where}: " if where else ""
        raise UserError(
            f"{prefix}the method's name {name!r} is not usable; give one of up to 100 letters, digits, spaces and "
            ". _ - + = , ( ) [ ] with --method."
        )
    return name


def _whole(text: str, where: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII):
        raise UserError(f'{where}: the index "{text}" is no whole number from 0 on.')
    return int(text)
