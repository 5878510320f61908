"""Answers of judges about a run's images: read from a file, or given by a local model; stored, and scored."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from pydantic import Field, create_model
from rich.console import Console

from fc_bench.commands.judge_answers import Images, read_rows, whole
from fc_bench.errors import UserError
from fc_bench.generation.device import resolve_device
from fc_bench.metrics.judged import PROTOCOLS, Judged, Question, Rating, marked
from fc_bench.model.settings import Settings
from fc_bench.model.yaml_file import line_of, nearest, read_yaml
from fc_bench.progress import Progress, progress, silence_loading_bars
from fc_bench.run_folder.json_lines import LineWriter, records_at, stream_blocks, stream_fields
from fc_bench.run_folder.provenance import commit, hardware, now, versions
from fc_bench.run_folder.record_shapes import Answered, Measured, Sampled
from fc_bench.run_folder.records import ANSWERS, RUN, SCORES, RunFolder, opened_for_writing, write_json
from fc_bench.scoring.vision_language import VisionLanguageModel
from fc_bench.suites.photographs import read_photograph
from fc_bench.suites.slugs import name_of

PROMPT = "{prompt}"
"""What stands for the image's prompt in the wording of a question."""
OWN_WORDING = "fc-bench's wording, not the benchmark's"


@dataclass(frozen=True)
class JudgeOptions:
    """The options of the command line; either `answers` or `model` is given, `prompts` and the others go with a model.

    `longest_answer` is in tokens.
    """

    run: Path
    protocol: str
    answers: Path | None = None
    model: Path | None = None
    judge: str | None = None
    prompts: Path | None = None
    device: str = "auto"
    longest_answer: int = 512


@dataclass(frozen=True)
class Judgement:
    """The state of a judge's answers: images with an answer, planned images, answers, unreadable ones, new ones."""

    folder: RunFolder
    metric: str
    judged: int
    planned: int
    answers: int
    unreadable: int
    added: int


@dataclass(frozen=True)
class Judge:
    """A judge of a protocol: its name, whose answers they are in words, and what they depend on (None: not known)."""

    protocol: type[Judged]
    name: str
    about: str
    made_by: Mapping[str, Any] | None = None

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return marked(self.protocol.name, self.name)


Key = tuple[str, str, int]
"""(sample, question, repetition) of an answer."""


def judge(options: JudgeOptions, console: Console) -> Judgement:
    """Store the answers about a run's images and compute their scores; the same command continues an interrupted one.

    Answers that are stored are neither asked nor stored again. Raises UserError before anything is written if the
    folder, the file of answers, the model or an option is unusable.
    """
    RunFolder(options.run).settings()
    protocol = PROTOCOLS.get(options.protocol)
    if protocol is None:
        raise UserError(f'Unknown protocol "{options.protocol}", {nearest(options.protocol, PROTOCOLS)}')
    if (options.answers is None) == (options.model is None):
        raise UserError("Answers come from a file or from a model; give either --answers FILE or --model FOLDER.")
    if options.model is None and options.prompts is not None:
        raise UserError("--prompts are the questions that a model is asked; add --model, or leave it out.")
    name = _judge_name(options)
    with opened_for_writing(options.run) as folder:
        images = Images(folder)
        if not images.finished:
            raise UserError(f"{options.run} has no finished image; generate or score images first.")
        try:
            if options.answers is not None:
                return _read(Judge(protocol, name, f"answers of {name}, read from a file"), options.answers, images)
            return _ask(protocol, name, options, images, console)
        except OSError as error:
            raise UserError(
                f"Writing to the run folder {options.run} failed ({error}); make room or make it writable, then repeat "
                "the command: no answer that is stored is lost."
            ) from error


def _judge_name(options: JudgeOptions) -> str:
    """The name given, else that of the file or of the model's folder; raises UserError for one that is not usable."""
    if options.judge is None:
        return name_of(options.model.resolve().name if options.model else options.answers.stem, "judge")  # type: ignore
    usable = name_of(options.judge, "")
    if usable != options.judge:
        such = f', such as "{usable}"' if usable else ""
        raise UserError(
            f'The judge\'s name {options.judge[:80]!r} is not usable; give up to 64 letters, digits, ".", "_" and '
            f'"-" with --judge{such}.'
        )
    return options.judge


def _read(who: Judge, file: Path, images: Images) -> Judgement:
    """Store the answers in a file; raises UserError, before anything is written, for a row that cannot be used."""
    stored = _stored(images.folder, who)
    given: dict[Key, tuple[str, dict[str, Any]]] = {}
    for where, row in read_rows(file):
        for key, record in _answers(who, row, where, images):
            sample, question, repetition = key
            what = f"{question} of the sample {sample}, repetition {repetition},"
            if key in given:
                raise UserError(
                    f"{where}: {what} was already answered in {given[key][0]}; keep one, or number them in the column "
                    '"repetition".'
                )
            before = stored.get(key)
            if before is not None and (before.answer, before.numbers) != (record["answer"], record["numbers"]):
                raise UserError(
                    f"{where}: {what} has another answer of {who.name} in {images.folder.path / ANSWERS}; name another "
                    "judge with --judge to keep both."
                )
            given[key] = where, record
    if not given:
        raise UserError(f"{file} holds no answer; give one row for each.")
    added = _store(images.folder, who, (record for key, (_, record) in given.items() if key not in stored), sync=False)
    return _concluded(who, images, added, {"file": file.name})


def _answers(who: Judge, row: Mapping[str, Any], where: str, images: Images) -> Iterator[tuple[Key, dict[str, Any]]]:
    """The records of a row, one for each sample that it is about."""
    named = {question.name: question for question in who.protocol.questions}
    question = named.get(str(row["question"]).strip())
    if question is None:
        asked = str(row["question"])[:80]
        raise UserError(f'{where}: {who.protocol.name} has no question "{asked}", {nearest(asked, named)}')
    if not isinstance(row["answer"], str):
        raise UserError(f"{where}: the answer is not text; give the judge's answer as it was, or leave the row out.")
    repetition = whole(row.get("repetition") or 1, "repetition", 1, where)
    numbers = whole(row["numbers"], "numbers", 1, where) if row.get("numbers") else None
    for sample in images.of_row(row, question, where):
        record = _record(who, sample, question, repetition, row["answer"], numbers)
        yield (sample, question.name, repetition), record


def _record(
    who: Judge, sample: str, question: Question, repetition: int, answer: str, numbers: int | None
) -> dict[str, Any]:
    return {
        "sample": sample,
        "protocol": who.protocol.name,
        "judge": who.name,
        "question": question.name,
        "repetition": repetition,
        "answer": answer,
        "numbers": numbers,
        "finished": now(),
    }


def _ask(protocol: type[Judged], name: str, options: JudgeOptions, images: Images, console: Console) -> Judgement:
    """Ask a local model what is not answered yet; each answer is stored before the next question."""
    assert options.model is not None
    wordings, whose = _wordings(protocol, options.prompts)
    _refuse_lost_images(images, protocol)
    silence_loading_bars()
    model = VisionLanguageModel.load(options.model, resolve_device(options.device), options.longest_answer)
    made_by = {"model": dict(model.provenance()), "prompts": {"whose": whose, "wordings": wordings}}
    about = (
        f"answers of {name} (weights {made_by['model']['sha256'][:12]}, {made_by['model']['dtype']}) to {whose} (with "
        f"its settings {_sha256(made_by)[:12]})"
    )
    who = Judge(protocol, name, about, {**made_by, "sha256": _sha256(made_by)})
    stored = _stored(images.folder, who)
    known: dict[tuple[Any, ...], tuple[str, str]] = {}
    pending: list[tuple[Sampled, Question]] = []
    for one in images.finished.values():
        for question in protocol.questions_about(one.category):
            before = stored.get((one.id, question.name, 1))
            if before is None:
                pending.append((one, question))
            else:
                known[_seen(one, question)] = one.id, before.answer
    line = f"{len(pending)} questions to {name} in {whose}; {len(stored)} answers are stored."
    console.print(line, highlight=False, markup=False, soft_wrap=True)
    begun = time.perf_counter()
    with progress(console, "Asking", len(pending)) as show:
        added = _store(images.folder, who, _asked(who, model, wordings, images, pending, known, show), sync=True)
    spent = {"device": str(model.model.device), "seconds": round(time.perf_counter() - begun, 3)}
    return _concluded(who, images, added, {"model": options.model.resolve().name, **spent})


def _asked(
    who: Judge,
    model: VisionLanguageModel,
    wordings: Mapping[str, str],
    images: Images,
    pending: Sequence[tuple[Sampled, Question]],
    known: dict[tuple[Any, ...], tuple[str, str]],
    show: Progress,
) -> Iterator[dict[str, Any]]:
    """The records of the model's answers, one at a time; what it sees twice it is asked once (`known`)."""
    for one, question in pending:
        seen, since = _seen(one, question), time.perf_counter()
        if seen in known:
            origin, text = known[seen]
            how: dict[str, Any] = {"same_answer_as": origin}
        else:
            wording = wordings[question.name].replace(PROMPT, one.prompt)
            text = model.answer(_shown(images.folder, one, question), wording)
            known[seen] = one.id, text
            how = {"seconds": round(time.perf_counter() - since, 3)}
        yield {**_record(who, one.id, question, 1, text, who.protocol.numbers), **how}
        show.advance()


def _seen(one: Sampled, question: Question) -> tuple[Any, ...]:
    """What the judge sees: equal questions about equal images get equal answers."""
    return one.image, question.name, one.prompt, tuple(one.subjects) if question.shows_references else ()


def _files(folder: RunFolder, one: Sampled, question: Question) -> list[Path]:
    """The images that a question is about, the generated one last."""
    references = [folder.reference(subject) for subject in one.subjects] if question.shows_references else []
    return [*references, folder.image({"image": one.image})]


def _shown(folder: RunFolder, one: Sampled, question: Question) -> list[Image.Image]:
    return [read_photograph(file, "image") for file in _files(folder, one, question)]


def _refuse_lost_images(images: Images, protocol: type[Judged]) -> None:
    """Raise UserError if an image or a reference that a question shows is not in the run folder."""
    for one in images.finished.values():
        for question in protocol.questions_about(one.category):
            for file in _files(images.folder, one, question):
                if not file.is_file():
                    raise UserError(f"The image {file} is not in the run folder; restore it, or make the run again.")


def _wordings(protocol: type[Judged], prompts: Path | None) -> tuple[dict[str, str], str]:
    """The wording of each question, and whose it is: fc-bench's, or that of a file with a text for each question."""
    if prompts is None:
        return {question.name: question.wording for question in protocol.questions}, OWN_WORDING
    text = Annotated[str, Field(min_length=1, max_length=20_000)]
    fields: dict[str, Any] = {question.name: (text, ...) for question in protocol.questions}
    schema = create_model("Prompts", __base__=Settings, **fields)
    found: dict[str, str] = read_yaml(prompts, schema).model_dump()
    for question in protocol.questions:
        if PROMPT in question.wording and PROMPT not in found[question.name]:
            raise UserError(
                f"{prompts}:{line_of(prompts, (question.name,))}: the wording of {question.name} has no {PROMPT}; "
                "write it where the image's prompt belongs, in the place of <instruction> or another mark of theirs."
            )
    return found, f"the wording of {prompts.name}"


def _stored(folder: RunFolder, who: Judge) -> dict[Key, Answered]:
    """The stored answers of a judge to its protocol's questions; raises UserError if another one has its name."""
    earlier = folder.settings().get("judged", {}).get(who.metric)
    if earlier is not None and earlier["made_by"] != who.made_by:
        before = earlier["made_by"]
        if before is None:
            what = "that were read from a file"
        elif who.made_by is None:
            what = "that a model gave"
        elif before["model"] == who.made_by["model"]:
            what = "to questions of another wording"
        else:
            what = "from other weights or settings"
        raise UserError(
            f"{folder.path} has answers of {who.name} {what}; name another judge with --judge to keep both."
        )
    return {
        (one.sample, one.question, one.repetition): one
        for one in stream_fields(folder.path / ANSWERS, Answered)
        if (one.protocol, one.judge) == (who.protocol.name, who.name)
    }


def _store(folder: RunFolder, who: Judge, records: Iterable[Mapping[str, Any]], sync: bool) -> int:
    """Append answers, each synced with `sync`; the judge is declared before its first one. Returns their number."""
    writer, count = None, 0
    try:
        for record in records:
            if writer is None:
                _declare(folder, who)
                writer = LineWriter(folder.path / ANSWERS)
            writer.append(record, sync)
            count += 1
    finally:
        if writer is not None:
            writer.sync()
            writer.close()
    return count


def _declare(folder: RunFolder, who: Judge) -> None:
    """Record the judge and its columns in run.json, beside the suite's metrics."""
    settings = folder.settings()
    if who.metric in settings.get("judged", {}):
        return
    settings["columns"][who.metric] = [asdict(column) for column in who.protocol.columns(who.name, who.about)]
    entry = {"protocol": who.protocol.name, "judge": who.name, "arithmetic": who.protocol.source}
    entry |= {"made_by": who.made_by, "answers": 0, "unreadable": 0, "commands": []}
    settings["judged"] = {**settings.get("judged", {}), who.metric: entry}
    write_json(folder.path / RUN, settings)


def _concluded(who: Judge, images: Images, added: int, about: Mapping[str, Any]) -> Judgement:
    """Record the scores that follow from all stored answers, and the command; returns the state."""
    folder = images.folder
    ratings: dict[str, list[Rating]] = {}
    for one in _stored(folder, who).values():
        if one.sample in images.finished:
            numbers = who.protocol.read(one.answer, one.numbers)
            ratings.setdefault(one.sample, []).append(Rating(one.question, one.repetition, numbers))
    for own in ratings.values():
        own.sort(key=lambda one: (one.question, one.repetition))
    _write_scores(folder, who, ratings)
    answers = [one for own in ratings.values() for one in own]
    unreadable = sum(one.numbers is None for one in answers)
    settings = folder.settings()
    entry = settings["judged"][who.metric]
    entry |= {"answers": len(answers), "unreadable": unreadable}
    if added:
        provenance = {"code": commit(), "versions": versions(), "hardware": hardware()}
        command = {"command": shlex.join(["fc-bench", *sys.argv[1:]]), "finished": now(), "added": added}
        entry["commands"] = [*entry["commands"], {**command, **about, **provenance}]
    if settings != folder.settings():
        write_json(folder.path / RUN, settings)
    return Judgement(folder, who.metric, len(ratings), images.planned, len(answers), unreadable, added)


def _write_scores(folder: RunFolder, who: Judge, ratings: Mapping[str, Sequence[Rating]]) -> None:
    """Append the score of each sample whose last recorded one is another."""
    file = folder.path / SCORES
    places: dict[str, int] = {}
    for starts, records in stream_blocks(file, Measured):
        places |= {one.sample: place for place, one in zip(starts, records, strict=True) if one.metric == who.metric}
    last = list(records_at(file, places.values())) if places else []
    recorded = {record["sample"]: (record["values"], record["details"]) for record in last}
    writer = LineWriter(file)
    try:
        for sample, own in ratings.items():
            score = who.protocol.score(who.name, own)
            values, details = dict(score.values), dict(score.details)
            if recorded.get(sample) != (values, details):
                entry = {"sample": sample, "metric": who.metric, "status": "ok", "values": values, "details": details}
                writer.append(entry, sync=False)
        writer.sync()
    finally:
        writer.close()


def _sha256(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
