"""Pictures of one's own people, without a suite.

    composed/<prompt>-<hash>/1.png ...      the pictures
                             sheet.png      references and pictures on one page
                             compose.json   the request, its provenance, and the scores
                             references/    the photographs as the method got them
                             jobs.jsonl     one line per customization, as in a run
                             artefacts/     what a method that tunes keeps

The folder's name has a hash of everything that determines the pictures except their number. The same command therefore
continues an interrupted one, and a larger number adds pictures. Methods, customization, seeds and scores are those of a
run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from fc_bench import registry
from fc_bench.analysis.states import doubts
from fc_bench.commands.portraits import Portrait, person_of, portraits_in
from fc_bench.errors import Failure, UserError, raise_if_disk_refuses
from fc_bench.generation.batches import Batches
from fc_bench.generation.customizer import Customizer
from fc_bench.generation.device import resolve_device
from fc_bench.generation.kernels import chosen_kernels
from fc_bench.generation.method_checks import refusal
from fc_bench.generation.plan import Job, MethodRow, components_of, resolve_method
from fc_bench.generation.prompt_checks import prompt_readers, unknown_words
from fc_bench.inspection.inspector import Inspector
from fc_bench.model.backbones.backbone import Backbone, read_backbone
from fc_bench.model.backbones.fingerprint import sha256_of
from fc_bench.model.contact_sheet import Tile, contact_sheet, in_rows
from fc_bench.model.errors import ModelInputError
from fc_bench.model.kernels import Kernels
from fc_bench.progress import Progress, progress, silence_loading_bars
from fc_bench.protocols import (
    AskedSet,
    Customization,
    Method,
    Metric,
    Request,
    Sampler,
    ScoredSample,
    Setting,
    Subject,
    seed_from,
    seed_of,
)
from fc_bench.run_folder.json_lines import LineWriter
from fc_bench.run_folder.lock import held
from fc_bench.run_folder.provenance import commit, hardware, now, versions
from fc_bench.run_folder.records import JOBS, RunFolder, write_json, write_png
from fc_bench.run_folder.settings import Provenance
from fc_bench.scoring.faces import FaceFinder
from fc_bench.suites.slots import OwnSubject, fill_slots, parse_slots
from fc_bench.suites.slugs import slug
from fc_bench.suites.suite import SubjectSet, digest

FORMAT = 1
RECORD, SHEET, REFERENCES = "compose.json", "sheet.png", "references"
SCORED_BY = ("identity", "prompt-consistency")


@dataclass(frozen=True)
class ComposeOptions:
    """The options of the command line; `crop` crops portraits around faces, `scores` measures the pictures.

    The prompt names each subject once, `{id}`. A sampler setting that is None takes the backbone's value.
    """

    prompt: str
    subjects: tuple[OwnSubject, ...]
    method: str = "fastcomposer"
    options: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = "pocket"
    images: int = 4
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    device: str = "auto"
    batch_size: int = 4
    out: Path | None = None
    crop: bool = True
    scores: bool = True


@dataclass(frozen=True)
class Made:
    """One picture: its number (from 1), seed, file and scores (None: not measured).

    `likeness` is each subject's cosine with its matched face (None: no face).
    """

    number: int
    seed: int
    file: Path
    scores: Mapping[str, float | None] | None = None
    likeness: Mapping[str, float | None] | None = None


@dataclass(frozen=True)
class Composed:
    """The result of a command: the folder, its pictures in order, and remarks."""

    folder: Path
    pictures: tuple[Made, ...]
    remarks: tuple[str, ...]


def shown_scores(picture: Made) -> list[str]:
    """Each subject's similarity and the prompt consistency, as text; empty if they are not measured."""
    if picture.scores is None:
        return []
    shown = {**(picture.likeness or {}), "prompt": picture.scores["prompt_consistency"]}
    return [f"{name} {'no face' if value is None else f'{value:.2f}'}" for name, value in shown.items()]


def compose(options: ComposeOptions, console: Console) -> Composed:
    """Generate the missing pictures, measure them, and write the contact sheet.

    Raises UserError or ModelInputError before anything is generated if the prompt, a photograph, the method, an option,
    the weights or the folder are unusable. Raises UserError if the method fails; earlier pictures stay.
    """
    subjects = parse_slots(options.prompt, options.subjects)
    backbone = read_backbone(options.backbone)
    faces, clip = options.crop or options.scores, options.scores
    setting = _setting(options, backbone)
    wanted = components_of(options.method, options.options, setting)
    scorers = [name for name, used in (("clip", clip), ("faces", faces)) if used]
    backbone.require(*dict.fromkeys(["pipeline", *scorers, *wanted]))
    kind, validated, row = resolve_method(options.method, options.options, setting)
    setting = replace(setting, kernels=chosen_kernels(setting))
    if len(subjects) > kind.max_subjects:
        raise UserError(
            f'The method "{row.name}" takes at most {kind.max_subjects} subject(s), the prompt names {len(subjects)}; '
            "leave some out or choose another --method."
        )
    plain = fill_slots(options.prompt, {subject.id: subject.noun for subject in subjects})
    for reader in prompt_readers(backbone, scored=options.scores):
        if message := reader.refusal(plain):
            raise UserError(message)
    silence_loading_bars()
    finder = FaceFinder(backbone, setting.device) if faces else None
    people = [_Person.read(subject, finder if options.crop else None) for subject in subjects]
    inspector = Inspector(finder, (0,) if options.crop else (), has_ceiling=False)
    inspection = inspector.inspect([person_of(person.subject.id, person.portraits) for person in people])
    inspection.refuse()
    requested = _requested(options, setting, row, people)
    _check(options, setting, kind, validated, row, people)
    folder = options.out or Path("composed") / f"{slug(plain, 'prompt')[:60].rstrip('-')}-{digest(requested)[:8]}"
    with held(folder, RECORD):
        done = _recorded(folder, requested)
        try:
            shown = [person.placed(folder / REFERENCES) for person in people]
            work = _Work(
                options, setting, row, plain, folder, requested, shown, console, _commands(folder, options, done)
            )
            # First: an interrupted command's folder is known by it.
            work.record([])
            for person in people:
                person.write(folder / REFERENCES)
            measures = work.measures(done)
            pictures = work.pictures(kind, validated, done)
            scored = work.scored(pictures, measures) if options.scores else pictures
            write_png(folder / SHEET, _sheet(options.prompt, row, shown, scored))
            work.record(scored)
        except OSError as error:
            raise UserError(
                f"Writing to {folder} failed ({error.strerror or error}); make room or name another folder with --out."
            ) from error
    unknown = unknown_words([plain], backbone)
    left_out = (remark for person in people for remark in person.remarks)
    differing = doubts({folder.name: {"commands": work.commands, "device": setting.device}})
    remarks = [unknown, measures.remark, *left_out, *inspection.remarks, *differing]
    return Composed(folder, tuple(scored), tuple(remark for remark in remarks if remark))


def _check(
    options: ComposeOptions,
    setting: Setting,
    kind: type[Method],
    validated: Any,
    row: MethodRow,
    people: Sequence[_Person],
) -> None:
    """Raise UserError if the method refuses the request."""
    subjects = tuple(person.placed(Path()) for person in people)

    def prompts(mentions: Sequence[str]) -> list[str]:
        mention_of = {subject.id: mention for subject, mention in zip(subjects, mentions, strict=True)}
        return [fill_slots(options.prompt, mention_of)]

    if message := refusal(kind, setting, validated, [AskedSet(subjects, prompts)]):
        raise UserError(f"{row.label}: {message}")


@dataclass(frozen=True)
class _Person:
    """A subject with its portraits, and remarks on the photographs left out."""

    subject: OwnSubject
    portraits: tuple[Portrait, ...]
    remarks: tuple[str, ...]

    @classmethod
    def read(cls, subject: OwnSubject, finder: FaceFinder | None) -> _Person:
        found, remarks = portraits_in(subject.path, finder, subject.id)
        return cls(subject, tuple(found), tuple(remarks))

    def named(self, folder: Path) -> list[tuple[Path, Portrait]]:
        """Each portrait with its file in a folder."""
        return [
            (folder / f"{self.subject.id}-{number}.png", portrait)
            for number, portrait in enumerate(self.portraits, start=1)
        ]

    def identity(self) -> dict[str, Any]:
        """The part of the person that determines the pictures, as plain data."""
        return {
            "id": self.subject.id,
            "noun": self.subject.noun,
            "photographs": [
                {"sha256": sha256_of(portrait.source), "crop": asdict(portrait.crop) if portrait.crop else None}
                for portrait in self.portraits
            ],
        }

    def placed(self, folder: Path) -> Subject:
        """The subject with its portraits as files of a folder."""
        return Subject(self.subject.id, self.subject.noun, tuple(file for file, _ in self.named(folder)))

    def write(self, folder: Path) -> None:
        """Write the missing portraits."""
        for file, portrait in self.named(folder):
            if not file.is_file():
                write_png(file, portrait.image)


@dataclass(frozen=True)
class _Measures:
    """The metrics by name, prepared for the subjects, and the reason why one is left out, in a sentence."""

    metrics: Mapping[str, Metric]
    remark: str = ""


@dataclass(frozen=True)
class _Work:
    """One composition in progress."""

    options: ComposeOptions
    setting: Setting
    row: MethodRow
    plain: str
    folder: Path
    requested: Mapping[str, Any]
    subjects: Sequence[Subject]
    console: Console
    commands: Sequence[Mapping[str, Any]]
    """Provenance of every command that generated or measured some of the pictures."""

    def pictures(self, kind: type[Method], validated: Any, done: Mapping[int, Made]) -> list[Made]:
        """All requested pictures, after the missing ones are generated."""
        seeds = {
            number: seed_of(self.options.seed, self.options.prompt, number - 1)
            for number in range(1, self.options.images + 1)
        }
        missing = [number for number in seeds if number not in done]
        if missing:
            self._make(kind, validated, {number: seeds[number] for number in missing})
        return [done.get(number, Made(number, seed, self._file(number))) for number, seed in seeds.items()]

    def measures(self, done: Mapping[int, Made]) -> _Measures:
        """The metrics for the pictures that are not measured yet; none if all are.

        Uncropped photographs may show no face; identity is left out then.
        """
        known = [done.get(number) for number in range(1, self.options.images + 1)]
        if not self.options.scores or all(picture is not None and picture.scores is not None for picture in known):
            return _Measures({})
        metrics: dict[str, Metric] = {}
        remark = ""
        for name in SCORED_BY:
            metric = registry.load("metrics", name)(self.setting)
            try:
                metric.prepare(self.subjects)
            except UserError as error:
                if self.options.crop or name != "identity":
                    raise
                remark = f"Identity is not measured: {error}"
            else:
                metrics[name] = metric
        return _Measures(metrics, remark)

    def scored(self, pictures: Sequence[Made], measures: _Measures) -> list[Made]:
        """The pictures with their scores; earlier scores are kept."""
        from PIL import Image

        measured = []
        for picture in pictures:
            if picture.scores is None:
                with Image.open(picture.file) as opened:
                    sample = ScoredSample(opened.convert("RGB"), self.plain, tuple(self.subjects))
                found = {name: metric.score(sample) for name, metric in measures.metrics.items()}
                scores = {column: value for score in found.values() for column, value in score.values.items()}
                likeness = self._likeness(found["identity"].details) if "identity" in found else {}
                picture = replace(picture, scores=scores, likeness=likeness)
            measured.append(picture)
        return measured

    def _likeness(self, details: Mapping[str, Any]) -> dict[str, float | None]:
        """Each subject's cosine with its matched face, from the details of the metric identity."""
        rows, matched = details["similarities"], details["matched"]
        return {
            subject.id: rows[row][matched[str(row)]] if str(row) in matched else None
            for row, subject in enumerate(self.subjects)
        }

    def record(self, pictures: Sequence[Made]) -> None:
        """Write compose.json; further pictures of an earlier command stay in it."""
        made = {picture.number: picture for picture in _recorded(self.folder, self.requested).values()}
        made |= {picture.number: picture for picture in pictures}
        images = [{**asdict(made[number]), "file": made[number].file.name} for number in sorted(made)]
        content = {
            "format": FORMAT,
            "asked": self.requested,
            "commands": self.commands,
            "device": self.setting.device,
            "written": now(),
        }
        write_json(self.folder / RECORD, {**content, "images": images})

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.png"

    def _make(self, kind: type[Method], validated: Any, seeds: Mapping[int, int]) -> None:
        method = _call(lambda: kind(self.setting, validated), f'The method "{self.row.name}" cannot be loaded')
        mentions = {subject.id: method.mention(subject, place) for place, subject in enumerate(self.subjects)}
        prompt = fill_slots(self.options.prompt, mentions)
        made: list[Made] = []
        with progress(self.console, "Composing", len(seeds)) as show:
            customized = self._customized(method, show)
            batches = Batches(method, customized, self.setting.device, self.options.batch_size)
            numbers = list(seeds)
            for start in range(0, len(numbers), self.options.batch_size):
                part = numbers[start : start + self.options.batch_size]
                requests = [Request(prompt, self.plain, seeds[number]) for number in part]
                for number, generated in zip(part, batches.generate(requests), strict=True):
                    if generated.image is None:
                        assert generated.failure is not None
                        raise UserError(_sentence(f"{self.row.name} made no picture {number}", generated.failure))
                    write_png(self._file(number), generated.image)
                    made.append(Made(number, seeds[number], self._file(number)))
                    self.record(made)
                    show.advance()

    def _customized(self, method: Method, show: Progress) -> Customization:
        """The customization, made or restored as in a run; raises UserError if it fails."""
        place, writer = RunFolder(self.folder), LineWriter(self.folder / JOBS)
        try:
            customizer = Customizer(
                method, self.row, place, writer.append, place.jobs(), self.setting.device, {}, show, keep_artefacts=True
            )
            customized = customizer.customize(self._job())
        finally:
            writer.close()
        if isinstance(customized, Failure):
            names = " and ".join(subject.id for subject in self.subjects)
            raise UserError(_sentence(f"{self.row.name} cannot be fitted to {names}", customized))
        return customized

    def _job(self) -> Job:
        """The job of the customization; each of several subjects is also a part."""
        subjects = tuple(self.subjects)
        sets = [SubjectSet(subjects), *(SubjectSet((subject,)) for subject in subjects if len(subjects) > 1)]
        whole, *parts = (
            Job(self.row, each, (), seed_from(f"{self.options.seed}\n{self.row.name}\n{each.key}")) for each in sets
        )
        return replace(whole, parts=tuple(parts))


def _setting(options: ComposeOptions, backbone: Backbone) -> Setting:
    device = resolve_device(options.device)
    defaults = backbone.sampler
    sampler = Sampler(
        scheduler=defaults.scheduler,
        steps=options.steps or defaults.steps,
        guidance_scale=defaults.guidance_scale if options.guidance_scale is None else options.guidance_scale,
        resolution=backbone.resolution,
    )
    return Setting(backbone, sampler, device, backbone.dtype.on(device))


def _requested(options: ComposeOptions, setting: Setting, row: MethodRow, people: Sequence[_Person]) -> dict[str, Any]:
    """Everything that determines the pictures except their number, as JSON."""
    requested = {
        "prompt": options.prompt,
        "seed": options.seed,
        "subjects": [person.identity() for person in people],
        "backbone": setting.backbone.name,
        "method": {"name": row.name, "options": dict(row.options), "weights": dict(row.weights)},
        "sampler": asdict(setting.sampler),
        "dtype": setting.dtype,
        **({} if setting.kernels == Kernels() else {"kernels": asdict(setting.kernels)}),
    }
    return json.loads(json.dumps(requested))


def _recorded(folder: Path, requested: Mapping[str, Any]) -> dict[int, Made]:
    """The existing pictures of an earlier command; raises UserError if the folder holds another request."""
    file = folder / RECORD
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        same = content["format"] == FORMAT and content["asked"] == requested
        made = [
            Made(
                int(image["number"]),
                int(image["seed"]),
                folder / f"{int(image['number'])}.png",
                image["scores"],
                image["likeness"],
            )
            for image in content["images"]
        ]
        for command in content.get("commands", []):
            Provenance.model_validate(command)
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{file} is damaged; delete the folder or name another with --out.") from None
    if not same:
        raise UserError(f"The folder {folder} holds pictures of another request; name another with --out.")
    return {picture.number: picture for picture in made if picture.file.is_file()}


def _commands(folder: Path, options: ComposeOptions, done: Mapping[int, Made]) -> list[dict[str, Any]]:
    """The earlier commands of the folder, and this one if a picture or its scores are missing."""
    file = folder / RECORD
    earlier = json.loads(file.read_text(encoding="utf-8")).get("commands", [{}]) if done else []
    requested = [done.get(number) for number in range(1, options.images + 1)]
    if all(picture is not None and (picture.scores is not None or not options.scores) for picture in requested):
        return earlier
    return [*earlier, {"started": now(), "code": commit(), "versions": versions(), "hardware": hardware()}]


def _call(work: Any, what: str) -> Any:
    """The result of `work`; an exception of a method becomes a sentence."""
    try:
        return work()
    except (UserError, ModelInputError):
        raise
    except Exception as error:
        raise_if_disk_refuses(error)
        raise UserError(_sentence(what, Failure.of(error))) from error


def _sentence(what: str, failure: Failure) -> str:
    return f"{what}: {failure.message.rstrip('.')}."


def _sheet(prompt: str, row: MethodRow, subjects: Sequence[Subject], pictures: Sequence[Made]) -> Any:
    """References first, then the pictures, four per row."""
    from fc_bench.suites.photographs import read_photograph

    references = [
        Tile(read_photograph(subject.photographs[0]), f"{subject.id}, {subject.noun}") for subject in subjects
    ]
    tiles = [Tile(read_photograph(picture.file, "picture"), _caption(picture)) for picture in pictures]
    return contact_sheet([references, *in_rows(tiles, 4)], title=f"{prompt} – {row.label}")


def _caption(picture: Made) -> str:
    if picture.scores is None:
        return f"{picture.number}.png"
    return f"{picture.number}.png: {', '.join(shown_scores(picture))}"
