"""Images from another source: assigned to a suite, copied into a run folder, and scored like generated ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from fc_bench import registry
from fc_bench.commands.finished import NO_RECORDS, finished_outcome, input_files, remember_finished
from fc_bench.commands.image_assignment import read_manifest, read_run, usable_label
from fc_bench.commands.portraits import CONVERT
from fc_bench.commands.portraits import left_out as left_out_files
from fc_bench.commands.run import setting_of
from fc_bench.commands.session import Outcome, Session, session
from fc_bench.errors import Failure, UserError
from fc_bench.generation.plan import Job, MethodRow, Plan, Sample
from fc_bench.generation.recorder import finished_images
from fc_bench.inspection.inspector import cropped, inspector_of
from fc_bench.layouts.catalog import LAYOUTS
from fc_bench.layouts.reading import read_layout
from fc_bench.layouts.requested import ImageFile, ReportedCost, RequestedImages, Slot
from fc_bench.model.backbones.backbone import Backbone, read_backbone
from fc_bench.model.backbones.fingerprint import sha256_of
from fc_bench.model.pictures import OTHER_SUFFIXES
from fc_bench.protocols import fill
from fc_bench.run_folder.file_states import State, digest_below, states_of
from fc_bench.run_folder.json_lines import LineWriter
from fc_bench.run_folder.provenance import now
from fc_bench.run_folder.records import JOBS, RUN, SAMPLES, RunFolder, write_json, write_png
from fc_bench.scoring.clip import ClipScorer
from fc_bench.scoring.prompt_order import order_remarks
from fc_bench.suites.authors_order import in_authors_order
from fc_bench.suites.suite import Suite, digest, read_suite

SCORERS = ("clip", "faces", "image_features")
"""Components of a backbone that score images."""
PROMPT_CONSISTENCY = "prompt-consistency"
NUMBERING = "the images may be numbered in another prompt order than docs/scoring.md requires; renumber them"
NAMING = "the images may be assigned to the wrong prompts; correct their names or the manifest"
"""Likely causes of images that do not match their prompts, and the remedies."""


@dataclass(frozen=True)
class ScoreOptions:
    """The options of the command line; `layout` or `manifest` identifies the images, a run folder needs neither."""

    images: Path
    suite: str
    layout: str | None = None
    manifest: Path | None = None
    method: str | None = None
    backbone: str = "pocket"
    out: Path | None = None
    photographs: Path | None = None
    limit_subjects: int | None = None
    images_per_prompt: int | None = None
    device: str = "auto"
    retry_errors: bool = False


def score_elsewhere(options: ScoreOptions, console: Console) -> Outcome:
    """Copy the images into a run folder and score them; the same command continues an interrupted one.

    The scores are those that fc-bench gives to generated images. Requested images that are not in the folder are
    planned and missing, so every table reports them; an unreadable image is a failed sample. Raises UserError before
    anything is written if an image cannot be assigned or two images are assigned to the same sample.
    """
    if not options.images.is_dir():
        raise UserError(f"The folder of images {options.images} does not exist; correct it.")
    given = [value for value in (options.layout, options.manifest) if value is not None]
    of_run = not given and (options.images / RUN).is_file()
    if len(given) != 1 and not of_run:
        raise UserError("The images are not identified; give either --layout NAME or --manifest FILE.csv.")
    suite = read_suite(registry.suite_file(options.suite), options.photographs)
    backbone = read_backbone(options.backbone)
    requested = RequestedImages(
        suite.requested_sets(options.limit_subjects),
        in_authors_order(suite),
        options.images_per_prompt or suite.file.images_per_prompt,
        fewer_images=options.images_per_prompt is not None,
    )
    if of_run:
        found, left_out = read_run(RunFolder(options.images), requested, options.method)
    else:
        label = usable_label(options.method or options.images.resolve().name)
        found, left_out = (
            read_manifest(options.manifest, options.images, requested, label)
            if options.layout is None and options.manifest is not None
            else read_layout(LAYOUTS[str(options.layout)], options.images, suite, requested, label)
        )
    first = next(iter(found))[0]
    path = options.out or Path("runs") / f"{suite.file.name}-{MethodRow(first, first, {}, {}).folder}"
    images = digest_below(options.images, [name for name in NO_RECORDS if name != "images"])
    if (finished := finished_outcome(path, "score", options, console, images)) is not None:
        return finished
    setting = setting_of(suite, backbone, options.device)
    inputs = _inputs(options, suite, backbone)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    inspector = inspector_of(suite, backbone, setting.device)
    suite = cropped(suite, inspector, path)
    requested = replace(requested, sets=suite.subject_sets(options.limit_subjects))
    contents = _contents(dict.fromkeys(found.values()))
    plan = _plan(suite, requested, found, contents)
    with session(path, suite, setting, plan, inspector, console, made_elsewhere=True) as opened:
        planned = sum(len(job.samples) for job in plan.jobs)
        say(
            f"{suite.file.name} scored on {backbone.name}: {len(found)} of {planned} images found, in {path}"
            f"{left_out.summary()}"
        )
        if not of_run:
            for remark in [*left_out_files(options.images, OTHER_SUFFIXES, CONVERT), *_copies(found, contents)]:
                say(remark)
        _place(opened, found)
        _record_costs(opened, found)
        outcome = opened.score(options.retry_errors)
        if PROMPT_CONSISTENCY in opened.metrics:
            scorer = ClipScorer.shared(backbone.path("clip"), setting.device)
            for remark in _order_remarks(opened, scorer, NUMBERING if options.layout else NAMING):
                say(f"{remark['method']}: {remark['text']}.")
    findings = [finding["text"] for finding in outcome.folder.settings()["photographs"]["findings"]]
    kinds = map(type, opened.metrics.values())
    remember_finished(outcome, "score", options, inputs, kinds, [*findings, *lines], images)
    return outcome


def _inputs(options: ScoreOptions, suite: Suite, backbone: Backbone) -> dict[str, State]:
    """The states of what scoring reads besides the images: their manifest, suite, photographs, models."""
    models = [name for name in backbone.components() if name.partition("/")[0] in SCORERS]
    parts = [path for name in models if (path := backbone.found_path(name)) is not None]
    files = [*input_files(suite, options.backbone), *([options.manifest] if options.manifest else []), *parts]
    return states_of(dict.fromkeys(files))


def _order_remarks(opened: Session, scorer: ClipScorer, cause: str) -> list[dict[str, Any]]:
    """Remarks on the order of prompts, recorded as remarks of the rows; updated if images changed."""
    folder = opened.folder
    settings = folder.settings()
    done = folder.statuses()
    looked_at = digest([name for job in opened.plan.jobs for name in job.ids if done.get(name) == "ok"])
    if settings.get("prompt_order") != looked_at:
        settings["prompt_order"] = looked_at
        settings["remarks"] = [asdict(remark) for remark in order_remarks(opened.plan, folder, scorer, cause)]
        write_json(folder.path / RUN, settings)
    return settings.get("remarks", [])


def _plan(
    suite: Suite, requested: RequestedImages, found: Mapping[Slot, ImageFile], contents: Mapping[ImageFile, str | None]
) -> Plan:
    """All images that the suite requires, for each method with an image; ids hash the images' files.

    Equal files of a method and text are one image, which several samples share.
    """
    digests = suite.photograph_digests()
    jobs = []
    for label in dict.fromkeys(slot[0] for slot in found):
        row = MethodRow(label, label, {}, {})
        for subject_set, prompts in requested.sets:
            subjects = subject_set.subjects
            who = [[subject.id, subject.noun, digests[subject.id]] for subject in subjects]
            samples = []
            for prompt in prompts:
                text = fill(prompt.template, [subject.noun for subject in subjects])
                for index in range(requested.images):
                    file = found.get((label, subject_set.key, prompt.template, index))
                    content = contents[file] if file else None
                    name = [suite.file.name, suite.file.version, label, who, prompt.template, index, content]
                    identity = digest(["made elsewhere", *name])[:20]
                    ids = tuple(subject.id for subject in subjects)
                    shared = digest(["made elsewhere", label, text, content])[:20] if content else identity
                    asked = prompt.conditions
                    samples.append(
                        Sample(identity, label, ids, prompt.category, prompt.template, text, index, None, shared, asked)
                    )
            jobs.append(Job(row, subject_set, tuple(samples), 0))
    return Plan(tuple(jobs), (), (), {})


def _contents(files: Iterable[ImageFile]) -> dict[ImageFile, str | None]:
    """What identifies each image: the sha256 of its file, and its cell; None if the file is missing.

    A missing file makes a failed sample.
    """
    found: dict[ImageFile, str | None] = {}
    last: tuple[Path, str | None] | None = None
    for file in files:
        if last is None or last[0] != file.path:
            last = (file.path, _sha256(file.path))
        found[file] = last[1] if file.cell is None or last[1] is None else f"{last[1]}:{file.cell}"
    return found


def _sha256(file: Path) -> str | None:
    try:
        return sha256_of(file)
    except OSError:
        return None


def _copies(found: Mapping[Slot, ImageFile], contents: Mapping[ImageFile, str | None]) -> list[str]:
    """A sentence on images that several samples share; empty if there are none."""
    by_content: dict[str, list[ImageFile]] = {}
    for file in found.values():
        if content := contents[file]:
            by_content.setdefault(content, []).append(file)
    several = [files for files in by_content.values() if len(files) > 1]
    if not several:
        return []
    names = " and ".join(dict.fromkeys(file.name for file in several[0]))
    return [
        f"{sum(map(len, several))} samples share their image with another sample, such as {names}; check that "
        "this is intended."
    ]


def _place(opened: Session, found: Mapping[Slot, ImageFile]) -> None:
    """Copy each image into the run folder with unchanged pixels, and record it."""
    folder = opened.folder
    done = {name for name, status in folder.statuses().items() if status == "ok"}
    reported = any(file.cost != ReportedCost() for file in found.values())
    earlier = folder.samples() if reported else {}
    origins = finished_images(folder, opened.plan.jobs)
    writer = LineWriter(folder.path / SAMPLES)
    try:
        for job in opened.plan.jobs:
            for sample in job.samples:
                file = found.get((sample.method, job.subject_set.key, sample.template, sample.index))
                if file is None:
                    continue
                cost = {"seconds": file.cost.seconds, "peak_memory_bytes": file.cost.peak_memory_bytes}
                if sample.id in done:
                    before = earlier.get(sample.id, cost)
                    if any(before.get(name) != value for name, value in cost.items()):
                        writer.append({**before, **cost, "finished": now()})
                    continue
                record = {**sample.record(), "generated_prompt": None}
                record["made_elsewhere"] = file.name
                if origin := origins.get(sample.shared_key):
                    shared = {"image": origin["image"], "same_image_as": origin["id"]}
                    writer.append({**record, **shared, "status": "ok", **cost, "finished": now()})
                    continue
                try:
                    image = file.read()
                except UserError as error:
                    record |= Failure.of(error).record()
                    opened.console.print(str(error), markup=False, highlight=False, soft_wrap=True)
                else:
                    name = f"images/{job.row.folder}/{job.subject_set.key}/{sample.id}.png"
                    write_png(folder.path / name, image)
                    record |= {"status": "ok", "image": name, **cost}
                    origins[sample.shared_key] = {"id": sample.id, "image": name}
                writer.append({**record, "finished": now()})
    finally:
        writer.close()


def _record_costs(opened: Session, found: Mapping[Slot, ImageFile]) -> None:
    """Record what a manifest reports of customizations, and whose costs it reports."""
    folder = opened.folder
    reported: dict[str, None] = {}
    jobs: dict[tuple[str, str], dict[str, Any]] = {}
    for (label, key, _, _), file in found.items():
        if file.cost == ReportedCost():
            continue
        reported[label] = None
        given = {"seconds": file.cost.customization_seconds, "artefact_bytes": file.cost.storage_bytes}
        known = {name: value for name, value in given.items() if value is not None}
        if known:
            empty = {"seconds": None, "steps": None, "peak_memory_bytes": None, "artefact_bytes": None}
            job = jobs.setdefault(
                (label, key), {"method": label, "set": key, "status": "ok", "reported": True, **empty}
            )
            job |= known
    if not reported:
        return
    earlier = folder.jobs()
    writer = LineWriter(folder.path / JOBS)
    try:
        for place, job in jobs.items():
            if {name: earlier.get(place, {}).get(name) for name in job} != job:
                writer.append(job)
    finally:
        writer.close()
    settings = folder.settings()
    settings["reported_costs"] = list(reported)
    write_json(folder.path / RUN, settings)
