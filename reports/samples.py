"""The records of a run's samples, one view per sample, for the page and `fc-bench show`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from fc_bench.analysis.measurements import Measurements, Row, read_measurements, rows_of
from fc_bench.errors import UserError
from fc_bench.run_folder.records import SCORES, RunFolder

SHOWN_MATCHES = 5
_NUMBERS = {float, int}
BLOCK = 10_000
"""Samples whose columns are converted into rows at a time."""


@dataclass(frozen=True)
class FoundFace:
    """A face in an image: its box (left, top, right, bottom, in pixels), the detector's score, and its similarities.

    `similarities` maps each subject to the cosine with its reference; `matched` is the subject it was matched with.
    """

    box: tuple[float, float, float, float]
    score: float | None
    similarities: Mapping[str, float]
    matched: str | None


@dataclass(frozen=True)
class SampleFailure:
    """The reason for a missing image or score: a sentence and the traceback."""

    message: str
    traceback: str


@dataclass(frozen=True)
class SampleView:
    """One planned sample with everything recorded of it.

    `status` is ok, error or missing (never reached). `prompt` is the scored text with plain class nouns,
    `generated_prompt` the method's. `faces` is None if no metric detected any. `image` is relative to the run folder.
    `score_failures` maps a metric to the reason of its missing value.
    """

    id: str
    method: str
    subjects: tuple[str, ...]
    category: str
    template: str
    prompt: str
    generated_prompt: str | None
    index: int
    seed: int
    status: str
    failure: SampleFailure | None
    image: str | None
    same_image_as: str | None
    seconds: float | None
    batch: int | None
    peak_memory_bytes: int | None
    finished: str | None
    values: Mapping[str, float | None]
    faces: tuple[FoundFace, ...] | None
    score_failures: Mapping[str, SampleFailure]


def sample_views(measured: Measurements, rows: Sequence[int] | np.ndarray | None = None) -> Iterator[SampleView]:
    """Planned samples of a run, all or those of some rows, in the plan's order, one at a time.

    Raises UserError for a damaged record.
    """
    chosen = np.arange(len(measured.samples)) if rows is None else np.sort(np.asarray(rows, dtype=int))
    settings = measured.folder.settings()
    columns = [item["name"] for own in settings["columns"].values() for item in own]
    for start in range(0, len(chosen), BLOCK):
        block = chosen[start : start + BLOCK]
        records = measured.sample_records(block)
        scores = [(metric, measured.score_records(metric, block)) for metric in settings["columns"]]
        for row, record in zip(rows_of(measured.samples.iloc[block]), records, strict=True):
            own = {metric: found for metric, there in scores if (found := next(there)) is not None}
            yield _view(measured.folder, row, record or {}, own if row["status"] == "ok" else {}, columns)


def _view(folder: RunFolder, row: Row, record: Row, measured: Mapping[str, Row], columns: Sequence[str]) -> SampleView:
    subjects = tuple(row["set"].split("+"))
    return SampleView(
        id=row["sample"],
        method=row["method"],
        subjects=subjects,
        category=row["category"],
        template=row["template"],
        prompt=row["prompt"],
        generated_prompt=record.get("generated_prompt"),
        index=row["index"],
        seed=row["seed"],
        status=row["status"],
        failure=_failure(record.get("error")) if row["status"] == "error" else None,
        image=row["image"],
        same_image_as=row["same_image_as"],
        seconds=row["seconds"],
        batch=record.get("batch"),
        peak_memory_bytes=row["peak_memory_bytes"],
        finished=record.get("finished"),
        values={name: row[name] for name in columns},
        faces=_faces(measured.values(), subjects, folder.path / SCORES),
        score_failures={
            metric: failure
            for metric, score in measured.items()
            if score["status"] == "error" and (failure := _failure(score.get("error")))
        },
    )


def find_sample(folder: RunFolder, name: str) -> SampleView:
    """The sample whose id begins with `name` (the name of an image file also works).

    Raises UserError if none or several do.
    """
    measured = read_measurements(folder)
    ids = measured.samples["sample"].tolist()
    wanted = PurePath(name).stem
    found = [row for row, own in enumerate(ids) if own == wanted]
    found = found or [row for row, own in enumerate(ids) if own.startswith(wanted)]
    if not found or not wanted:
        raise UserError(
            f'{folder.path} has no sample whose id begins with "{wanted}"; its report/index.html and samples.jsonl '
            "have the ids."
        )
    if len(found) > 1:
        shown = ", ".join(ids[row] for row in found[:SHOWN_MATCHES])
        more = ", ..." if len(found) > SHOWN_MATCHES else ""
        raise UserError(
            f'"{wanted}" begins the ids of {len(found)} samples of {folder.path} ({shown}{more}); give more of it.'
        )
    return next(sample_views(measured, found))


def has_image(folder: RunFolder, view: SampleView) -> bool:
    """Whether the sample's image lies in the run folder; records may be kept without their images.

    A record that names a file elsewhere has no image, because the page must not copy files from outside the run.
    """
    if view.image is None:
        return False
    try:
        return folder.within(view.image).is_file()
    except ValueError:
        return False


def recorded_similarities(
    details: Mapping[str, Any], subjects: int, file: Path
) -> tuple[list[list[float]], dict[int, int]]:
    """The matching that the metric `identity` recorded: cosines [subject][face], and the face of each subject.

    Raises UserError, naming the file, if it fits neither the subjects nor the faces.
    """
    rows, matched = details.get("similarities"), details.get("matched")
    faces: dict[int, int] = {}
    try:
        faces = {int(subject): face for subject, face in (matched or {}).items()}
        (count,) = {len(row) for row in rows or []}
        fits = len(rows or []) == subjects and {type(value) for row in rows or [] for value in row} <= _NUMBERS
        for subject, face in faces.items():
            fits = fits and 0 <= subject < subjects and type(face) is int and 0 <= face < count
    except (TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise UserError(
            f"{file}: the details {str({'similarities': rows, 'matched': matched})[:200]} of a score do not fit "
            f"{subjects} subject(s); restore the file or remove the line to measure it again."
        )
    assert rows is not None
    return rows, faces


def _failure(error: Any) -> SampleFailure | None:
    """The failure of a sample (type, message, traceback) or of a score (the traceback alone)."""
    if isinstance(error, Mapping):
        return SampleFailure(str(error.get("message", "")), str(error.get("traceback", "")))
    if error is None:
        return None
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return SampleFailure(lines[-1].strip() if lines else "no reason is recorded", str(error))


def _faces(scores: Iterable[Mapping[str, Any]], subjects: Sequence[str], file: Path) -> tuple[FoundFace, ...] | None:
    """The faces of the first metric that recorded any, with its similarities [subject][face] and matching."""
    for score in scores:
        details = score.get("details") or {}
        if "faces" not in details:
            continue
        rows: list[list[float]] = []
        matched: dict[int, int] = {}
        if details.get("similarities"):
            rows, matched = recorded_similarities(details, len(subjects), file)
        counted = {face: subjects[subject] for subject, face in matched.items()}
        try:
            return tuple(
                FoundFace(
                    box=_box(face["box"]),
                    score=None if face.get("score") is None else float(face["score"]),
                    similarities={who: row[number] for who, row in zip(subjects, rows, strict=False)},
                    matched=counted.get(number),
                )
                for number, face in enumerate(details["faces"])
            )
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            raise UserError(
                f"{file}: the faces {str(details['faces'])[:200]} of a score have no boxes, scores and similarities; "
                "restore the file or remove the line to measure it again."
            ) from None
    return None


def _box(sides: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = map(float, sides)
    return left, top, right, bottom
