"""Everything a run's records say about its samples, one view a sample: what the page and `fc-bench show` draw from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fc_bench.aggregate import columns_of
from fc_bench.errors import UserError
from fc_bench.records import RunFolder

SHOWN_MATCHES = 5


@dataclass(frozen=True)
class FoundFace:
    """A face in an image: its box (left, top, right, bottom, in pixels), the detector's score, and whom it resembles.

    `similarities` maps each subject to the cosine with its reference, `matched` is the subject it was counted for.
    """

    box: tuple[float, float, float, float]
    score: float | None
    similarities: Mapping[str, float]
    matched: str | None


@dataclass(frozen=True)
class SampleFailure:
    """Why there is no image, or no score: a sentence and the traceback."""

    message: str
    traceback: str


@dataclass(frozen=True)
class SampleView:
    """One planned sample with all that is recorded of it.

    `status` is ok, error or missing (never reached). `prompt` is the text as scored, with plain class nouns,
    `generated_prompt` as the method got it. `faces` is None where no metric looked for any. `image` is relative to the
    run folder. `score_failures` maps a metric to the reason it has no value.
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


def sample_views(folder: RunFolder) -> list[SampleView]:
    """All planned samples of a run, in the plan's order; raises UserError for a damaged record."""
    samples, scores, settings = folder.samples(), folder.scores(), folder.settings()
    metrics = list(settings["columns"])
    columns = [column.name for column in columns_of(folder)]
    views = []
    for name, planned in folder.planned().items():
        record = samples.get(name, {"status": "missing"})
        measured = {metric: scores[name, metric] for metric in metrics if (name, metric) in scores}
        if record["status"] != "ok":
            measured = {}
        values: dict[str, float | None] = dict.fromkeys(columns)
        for score in measured.values():
            values |= {key: value for key, value in score.get("values", {}).items() if key in values}
        views.append(
            SampleView(
                id=name,
                method=planned["method"],
                subjects=tuple(planned["subjects"]),
                category=planned["category"],
                template=planned["template"],
                prompt=planned["prompt"],
                generated_prompt=record.get("generated_prompt"),
                index=planned["index"],
                seed=planned["seed"],
                status=record["status"],
                failure=_failure(record.get("error")) if record["status"] == "error" else None,
                image=record.get("image"),
                same_image_as=record.get("same_image_as"),
                seconds=record.get("seconds"),
                batch=record.get("batch"),
                peak_memory_bytes=record.get("peak_memory_bytes"),
                finished=record.get("finished"),
                values=values,
                faces=_faces(measured.values(), planned["subjects"]),
                score_failures={
                    metric: failure
                    for metric, score in measured.items()
                    if score["status"] == "error" and (failure := _failure(score.get("error")))
                },
            )
        )
    return views


def find_sample(folder: RunFolder, name: str) -> SampleView:
    """The sample whose id begins with `name` (or that an image file is called after).

    Raises UserError when none does, or several do.
    """
    views = sample_views(folder)
    wanted = PurePath(name).stem
    found = [view for view in views if view.id == wanted] or [view for view in views if view.id.startswith(wanted)]
    if not found or not wanted:
        raise UserError(
            f'{folder.path} has no sample whose id begins with "{wanted}"; its report/index.html and samples.jsonl '
            "have the ids."
        )
    if len(found) > 1:
        shown = ", ".join(view.id for view in found[:SHOWN_MATCHES])
        more = ", ..." if len(found) > SHOWN_MATCHES else ""
        raise UserError(
            f'"{wanted}" begins the ids of {len(found)} samples of {folder.path} ({shown}{more}); give more of it.'
        )
    return found[0]


def has_image(folder: RunFolder, view: SampleView) -> bool:
    """Whether the sample's image lies in the run folder: records are also kept without their images.

    A record that names a file elsewhere has none: what is copied into a page must not come from outside the run.
    """
    if view.image is None or PurePath(view.image).is_absolute() or ".." in PurePath(view.image).parts:
        return False
    return (folder.path / view.image).is_file()


def _failure(error: Any) -> SampleFailure | None:
    """Of a sample (type, message, traceback) or of a score (the traceback alone)."""
    if isinstance(error, Mapping):
        return SampleFailure(str(error.get("message", "")), str(error.get("traceback", "")))
    if error is None:
        return None
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return SampleFailure(lines[-1].strip() if lines else "no reason is recorded", str(error))


def _faces(scores: Sequence[Mapping[str, Any]] | Any, subjects: Sequence[str]) -> tuple[FoundFace, ...] | None:
    """The faces of the first metric that recorded any, with its similarities [subject][face] and matching."""
    for score in scores:
        details = score.get("details") or {}
        if "faces" not in details:
            continue
        rows, matched = details.get("similarities") or [], details.get("matched") or {}
        counted = {face: subjects[int(subject)] for subject, face in matched.items()}
        return tuple(
            FoundFace(
                box=tuple(face["box"]),
                score=face.get("score"),
                similarities={who: row[number] for who, row in zip(subjects, rows, strict=False)},
                matched=counted.get(number),
            )
            for number, face in enumerate(details["faces"])
        )
    return None
