"""What the page's script shows of the samples: plain data, every text and picture once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fc_bench.aggregate import columns_of
from fc_bench.protocols import Column
from fc_bench.records import RunFolder
from fc_bench.reports.page.pictures import Gallery
from fc_bench.reports.repeating import repeat_command
from fc_bench.reports.samples import SampleView, has_image

Key = TypeVar("Key", bound=Hashable)
DIGITS = 6
"""Significant digits of values in the page; the records have them all."""


@dataclass(frozen=True)
class PageRun:
    """A run of the page: its folder, the name it goes by and its samples."""

    folder: RunFolder
    name: str
    views: tuple[SampleView, ...]


class _Once(Generic[Key]):
    """Things numbered in the order they first appear."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}

    def __call__(self, thing: Key) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def __iter__(self) -> Any:
        return iter(self._numbers)


def columns_of_runs(runs: Sequence[PageRun]) -> list[Column]:
    """The quality columns that any run measures, the first run's first."""
    return list({column.name: column for run in reversed(runs) for column in reversed(columns_of(run.folder))}.values())[
        ::-1
    ]


def method_names(runs: Sequence[PageRun]) -> dict[tuple[str, str], str]:
    """(Run's name, method's label) -> how the page calls it: with the run's name where there are several."""
    pairs = dict.fromkeys((run.name, view.method) for run in runs for view in run.views)
    return {pair: pair[1] if len(runs) == 1 else f"{pair[0]}: {pair[1]}" for pair in pairs}


def gallery_data(runs: Sequence[PageRun], pictures: Callable[[Sequence[Path | None]], Gallery]) -> dict[str, Any]:
    """Methods, subjects, columns, pictures and samples as the script reads them.

    Texts and pictures are lists that samples point into by number; what a sample lacks is left out of it. Samples of
    the same suite, subjects, prompt, index and seed have the same `group`, whatever made them.
    """
    names = method_names(runs)
    columns = columns_of_runs(runs)
    methods: _Once[str] = _Once()
    texts: _Once[str] = _Once()
    files: _Once[Path] = _Once()
    groups: _Once[tuple[Any, ...]] = _Once()
    commands: _Once[str] = _Once()
    people: dict[tuple[str, str | None], dict[str, Any]] = {}
    samples = []
    for run in runs:
        settings = run.folder.settings()
        suite = settings["suite"]
        nouns = {subject["id"]: subject["noun"] for subject in suite["subjects"]}
        # The same person in several runs is shown once, an equal name with other photographs is somebody else.
        keys = {name: (name, suite["photograph_digests"].get(name)) for name in nouns}
        for name, key in keys.items():
            if key not in people:
                people[key] = {"id": name, "noun": nouns[name]}
                photograph = run.folder.reference(name)
                if photograph.is_file():
                    people[key]["picture"] = files(photograph)
        numbers = {key: number for number, key in enumerate(people)}
        for view in run.views:
            command = repeat_command(settings, view.method, view.finished)
            sample: dict[str, Any] = {
                "id": view.id,
                "key": view.id if len(runs) == 1 else f"{run.name}/{view.id}",
                "method": methods(names[run.name, view.method]),
                "people": [numbers[keys[subject]] for subject in view.subjects],
                "category": texts(view.category),
                "template": texts(view.template),
                "prompt": texts(view.prompt),
                "generated": None if view.generated_prompt is None else texts(view.generated_prompt),
                "index": view.index,
                "seed": view.seed,
                "status": view.status,
                "group": groups((suite["name"], view.subjects, view.template, view.index, view.seed)),
                "values": [_rounded(view.values.get(column.name)) for column in columns],
                "picture": files(run.folder.path / str(view.image)) if has_image(run.folder, view) else None,
                "file": view.image,
                "same": view.same_image_as,
                "seconds": _rounded(view.seconds),
                "batch": view.batch,
                "memory": view.peak_memory_bytes,
                "finished": view.finished,
                "command": None if command is None else commands(command),
                "failure": None if view.failure is None else _failure(view.failure.message, view.failure.traceback, texts),
                "unscored": [
                    [metric, *_failure(failure.message, failure.traceback, texts)]
                    for metric, failure in view.score_failures.items()
                ]
                or None,
                "faces": None
                if view.faces is None
                else [
                    {
                        "box": list(face.box),
                        "score": face.score,
                        "similarities": [face.similarities.get(subject) for subject in view.subjects],
                        "matched": face.matched,
                    }
                    for face in view.faces
                ],
            }
            samples.append({key: value for key, value in sample.items() if value is not None})
    shown = pictures(list(files))
    return {
        "columns": [
            {
                key: value
                for key, value in asdict(column).items()
                if key in ("name", "title", "description", "digits", "significant", "headline", "higher_is_better")
            }
            for column in columns
        ],
        "methods": list(methods),
        "people": list(people.values()),
        "texts": list(texts),
        "commands": list(commands),
        "pictures": [[picture.address, picture.width, picture.height] for picture in shown.pictures],
        "side": shown.side,
        "samples": samples,
    }


def _failure(message: str, traceback: str, texts: _Once[str]) -> list[int]:
    return [texts(message), texts(traceback)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
