"""Images made elsewhere: found by their names or a manifest, placed into a run folder, and measured like our own."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

from rich.console import Console

from fc_bench import registry
from fc_bench.errors import Failure, UserError
from fc_bench.generating import finished_images
from fc_bench.json_lines import LineWriter
from fc_bench.model.backbone import read_backbone, sha256_of
from fc_bench.model.pictures import OTHER_SUFFIXES, image_files
from fc_bench.model.text_file import encoding_of
from fc_bench.model.yaml_file import nearest
from fc_bench.named_files import named_file
from fc_bench.naming import id_of
from fc_bench.photographs import read_photograph
from fc_bench.plan import Job, MethodRow, Plan, Sample
from fc_bench.portraits import CONVERT, left_out
from fc_bench.protocols import fill
from fc_bench.provenance import now
from fc_bench.records import SAMPLES, write_png
from fc_bench.run import setting_of
from fc_bench.session import Outcome, Session, session
from fc_bench.suite import Prompt, SubjectSet, Suite, digest, read_suite

Layout = Literal["fastcomposer"]

COLUMNS = ("image", "subjects", "prompt")
"""Those that a manifest needs."""
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
    contents = {file: _content(file) for file in dict.fromkeys(found.values())}
    plan = _plan(suite, asked, found, contents)
    path = options.out or Path("runs") / f"{suite.file.name}-{plan.jobs[0].row.folder}"
    with session(path, suite, setting, plan, console, made_elsewhere=True) as opened:
        planned = sum(len(job.samples) for job in plan.jobs)
        left = f"; {strangers} other files left out" if strangers else ""
        console.print(
            f"{suite.file.name} scored on {backbone.name}: {len(found)} of {planned} images are there{left}, in {path}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        for told in [*left_out(options.images, OTHER_SUFFIXES, CONVERT), *_copies(found, contents)]:
            console.print(told, highlight=False, markup=False, soft_wrap=True)
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
    """Images that a table assigns: columns `image` (below the folder), `subjects` (ids joined by +), `prompt`.

    A prompt is the suite's template or what it says with the class nouns filled in. Optional columns: `index` (from 0;
    without it the rows of a prompt count on) and `method`. One file stands for several rows of a method only
    where these ask for the same text and index, as of one that sees no photograph; raises UserError for any other.
    """
    sets = {subject_set.key: (subject_set, prompts) for subject_set, prompts in asked.sets}
    found: dict[Slot, Path] = {}
    counted: dict[tuple[str, str, str], int] = {}
    first: dict[tuple[Path, str], tuple[str, tuple[str, int]]] = {}
    root = folder.resolve()
    for where, row in _manifest_rows(manifest):
        for needed in COLUMNS:
            if not row[needed]:
                raise UserError(f'{where}: the column "{needed}" is empty; fill it in or delete the row.')
        key = "+".join(id_of(name) for name in row["subjects"].split("+"))
        if key not in sets:
            raise UserError(f'{where}: the suite asks for no subjects "{key}", {nearest(key, sets)}')
        subject_set, prompts = sets[key]
        template = _template(row["prompt"], subject_set, prompts, where)
        method = _label(row.get("method") or label, where)
        number = counted.get((method, key, template), 0)
        index = _whole(row["index"], where) if row.get("index") else number
        counted[method, key, template] = number + 1
        file = named_file(root, row["image"], f"{where}: the image")
        text = fill(template, [subject.noun for subject in subject_set.subjects])
        before, same = first.setdefault((file, method), (where, (text, index)))
        if same != (text, index):
            raise UserError(
                f"{where}: the image {file.name} is that of {before} already, for another prompt or index; name each "
                "file once."
            )
        _claim(found, (method, key, template, index), file, asked, where)
    if not found:
        raise UserError(f"{manifest} lists no image; give one row for each.")
    return found


def _manifest_rows(manifest: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Rows with where they stand, blanks around values removed and empty rows left out.

    Spreadsheets write commas, semicolons or tabs: the separator is the one that the header's columns show. Raises
    UserError for a file that is no such table.
    """
    try:
        if manifest.stat().st_size > LARGEST_MANIFEST:
            raise UserError(f"{manifest} is larger than {LARGEST_MANIFEST >> 20} MiB; split it.")
        with manifest.open(encoding=encoding_of(manifest), newline="") as file:
            header, separator, skipped = _header(file)
            names = _columns(header, f"{manifest}:{skipped + 1}")
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            for fields in reader:
                where = f"{manifest}:{skipped + 1 + reader.line_num}"
                values = [field.strip() for field in fields]
                if not any(values):
                    continue
                if any(value for place, value in enumerate(values) if place >= len(names) or not names[place]):
                    raise UserError(
                        f"{where}: the row has more fields than the header; quote fields that hold a separator."
                    )
                values += [""] * (len(names) - len(values))
                yield where, {name: value for name, value in zip(names, values, strict=False) if name}
    except UnicodeError as error:
        reason = f"{error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UserError(f"{manifest} is not UTF-8 text ({reason}); save the table as CSV in UTF-8.") from None
    except csv.Error as error:
        raise UserError(f"{manifest} is no CSV file ({error}); correct it.") from None
    except OSError as error:
        raise UserError(f"{manifest} cannot be read ({error.strerror}); correct --manifest.") from None


def _header(file: TextIO) -> tuple[list[str], str, int]:
    """The names of the columns, the separator that gives most of those needed, and the number of lines before."""
    separators = ",;\t"
    for skipped, line in enumerate(file):
        if said := re.fullmatch(r"sep=(.)", line.rstrip("\r\n"), re.IGNORECASE):
            separators = said[1]
        elif line.strip(f'{separators} \r\n"'):
            rows = {
                separator: next(csv.reader([line], delimiter=separator, skipinitialspace=True))
                for separator in separators
            }
            split = {separator: [_column(name) for name in row] for separator, row in rows.items()}
            best = max(split, key=lambda separator: sum(name in COLUMNS for name in split[separator]))
            return split[best], best, skipped
    return [], ",", 0


def _column(name: str) -> str:
    """A column's name as other programs may have written it: blanks around it, in capitals."""
    return name.strip().lower()


def _columns(names: Sequence[str], where: str) -> Sequence[str]:
    """The names, each there once and none missing."""
    for needed in COLUMNS:
        if needed not in names:
            shown = ", ".join(name for name in names if name)
            raise UserError(f'{where}: the column "{needed}" is missing; found: {shown or "none"}.')
    for name, count in Counter(names).items():
        if name and count > 1:
            raise UserError(f'{where}: the column "{name}" is there {count} times; keep one.')
    return names


def _template(prompt: str, subject_set: SubjectSet, prompts: Sequence[Prompt], where: str) -> str:
    """The suite's template that a manifest's prompt means."""
    nouns = [subject.noun for subject in subject_set.subjects]
    texts = {fill(item.template, nouns): item.template for item in prompts}
    templates = [item.template for item in prompts]
    known = {_even(text): template for text, template in [*texts.items(), *zip(templates, templates, strict=True)]}
    if _even(prompt) in known:
        return known[_even(prompt)]
    raise UserError(f'{where}: the suite has no prompt "{prompt}" for {subject_set.key}, {nearest(prompt, templates)}')


def _even(text: str) -> str:
    """A text without regard to how its blanks and accents are encoded."""
    return " ".join(unicodedata.normalize("NFC", text).split())


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


def _plan(suite: Suite, asked: Asked, found: Mapping[Slot, Path], contents: Mapping[Path, str | None]) -> Plan:
    """Everything the suite asks for, for each method that has an image; ids hash the images' files.

    A method's images of one text that are the same file, or copies of it, are one image, which several samples share.
    """
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
                    content = contents[file] if file else None
                    name = [suite.file.name, suite.file.version, label, who, prompt.template, index, content]
                    identity = digest(["made elsewhere", *name])[:20]
                    ids = tuple(subject.id for subject in subjects)
                    shared = digest(["made elsewhere", label, text, content])[:20] if content else identity
                    samples.append(
                        Sample(identity, label, ids, prompt.category, prompt.template, text, index, None, shared)
                    )
            jobs.append(Job(row, subject_set, tuple(samples), 0))
    return Plan(tuple(jobs), (), (), {})


def _content(file: Path) -> str | None:
    """The sha256 of a file; None of one that is not here, which then fails as a sample."""
    try:
        return sha256_of(file)
    except OSError:
        return None


def _copies(found: Mapping[Slot, Path], contents: Mapping[Path, str | None]) -> list[str]:
    """A sentence on images that stand for several samples; none when there are none."""
    by_content: dict[str, list[Path]] = {}
    for file in found.values():
        if content := contents[file]:
            by_content.setdefault(content, []).append(file)
    several = [files for files in by_content.values() if len(files) > 1]
    if not several:
        return []
    names = " and ".join(dict.fromkeys(file.name for file in several[0]))
    return [
        f"{sum(map(len, several))} samples have an image that another sample has, too, such as {names}; check that "
        "this is meant."
    ]


def _place(opened: Session, found: Mapping[Slot, Path]) -> None:
    """Copy each image into the run folder, as it is in pixels, and record it."""
    folder = opened.folder
    done = {name for name, status in folder.statuses().items() if status == "ok"}
    origins = finished_images(folder, opened.plan.jobs)
    writer = LineWriter(folder.path / SAMPLES)
    try:
        for job in opened.plan.jobs:
            for sample in job.samples:
                file = found.get((sample.method, job.subject_set.key, sample.template, sample.index))
                if file is None or sample.id in done:
                    continue
                record = {**asdict(sample), "subjects": list(sample.subjects), "generated_prompt": None}
                record["made_elsewhere"] = file.name
                if origin := origins.get(sample.shared_key):
                    shared = {"image": origin["image"], "same_image_as": origin["id"]}
                    writer.append({**record, **shared, "status": "ok", "seconds": None, "finished": now()})
                    continue
                try:
                    image = read_photograph(file, "image")
                except UserError as error:
                    record |= Failure.of(error).record()
                    opened.console.print(str(error), markup=False, highlight=False, soft_wrap=True)
                else:
                    name = f"images/{job.row.folder}/{job.subject_set.key}/{sample.id}.png"
                    write_png(folder.path / name, image)
                    record |= {"status": "ok", "image": name, "seconds": None, "peak_memory_bytes": None}
                    origins[sample.shared_key] = {"id": sample.id, "image": name}
                writer.append({**record, "finished": now()})
    finally:
        writer.close()


def _images_in(folder: Path) -> list[Path]:
    try:
        return sorted(image_files(folder))
    except OSError as error:
        raise UserError(f"The folder of images {folder} cannot be read ({error.strerror}).") from None


def _label(name: str, where: str = "") -> str:
    if not _LABEL.fullmatch(name):
        prefix = f"{where}: " if where else ""
        raise UserError(
            f"{prefix}the method's name {name!r} is not usable; give one of up to 100 letters, digits, spaces and "
            ". _ - + = , ( ) [ ] with --method."
        )
    return name


def _whole(text: str, where: str) -> int:
    """The number, also with the zero decimals of a spreadsheet: 1.0 or 1,0."""
    match = re.fullmatch(r"(\d{1,9})([.,]0*)?", text, re.ASCII)
    if not match:
        raise UserError(f'{where}: the index "{text}" is no whole number from 0 on.')
    return int(match[1])
