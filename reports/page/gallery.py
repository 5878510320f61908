"""The samples as data for the page's script, every text and picture once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from fc_bench.reports import frame
from fc_bench.reports.frame import Run
from fc_bench.reports.page.pictures import Gallery, Images
from fc_bench.reports.repetition import repeat_command
from fc_bench.reports.samples import FoundFace, SampleFailure, SampleView, has_image

Key = TypeVar("Key", bound=Hashable)
DIGITS = 6
"""Significant digits of values in the page; the records have all digits."""


@dataclass(frozen=True)
class PageRun:
    """A run of the page; `names` maps its methods' labels to their names on the page."""

    run: Run
    names: Mapping[str, str]
    _commands: dict[tuple[str, int], str | None] = field(default_factory=dict, compare=False)
    """Method and number of the run's command -> the command that generates its samples again."""

    def command(self, view: SampleView) -> str | None:
        """The command that generates the sample's method again."""
        settings, finished = self.run.settings, view.finished
        begun = [finished is None or entry["started"] <= finished for entry in settings["commands"]]
        key = view.method, max((number for number, before in enumerate(begun) if before), default=0)
        if key not in self._commands:
            self._commands[key] = repeat_command(settings, view.method, finished)
        return self._commands[key]

    def key(self, view: SampleView, alone: bool) -> str:
        """The key of a sample in the page's address: its id, with the run's name if there are several runs."""
        return view.id if alone else f"{self.run.name}/{view.id}"


def page_runs(groups: Sequence[Sequence[Run]]) -> list[PageRun]:
    """The runs of all groups (each of comparable runs), with distinct names for their methods."""
    made = []
    for group in groups:
        names = frame.labels(group)
        for run in group:
            own = {method: names[run.name, method] for method in run.settings["methods"]}
            made.append(PageRun(run, own))
    uses = Counter(name for page_run in made for name in page_run.names.values())
    return [
        replace(
            page_run,
            names={
                method: name if uses[name] == 1 else f"{name} ({page_run.run.name})"
                for method, name in page_run.names.items()
            },
        )
        for page_run in made
    ]


class _Once(Generic[Key]):
    """Things numbered in the order they first appear."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}

    def __call__(self, thing: Key) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def __iter__(self) -> Any:
        return iter(self._numbers)


class _Lists:
    """The lists that samples refer to."""

    def __init__(self) -> None:
        self.methods: _Once[str] = _Once()
        self.texts: _Once[str] = _Once()
        self.commands: _Once[str] = _Once()
        self.groups: _Once[tuple[Any, ...]] = _Once()
        self.files: _Once[Path] = _Once()
        self.people: dict[tuple[str, str | None], dict[str, Any]] = {}

    def failure(self, failure: SampleFailure) -> list[int]:
        """The numbers of its sentence and its traceback."""
        return [self.texts(failure.message), self.texts(failure.traceback)]


def gallery_data(
    runs: Sequence[PageRun],
    shown: Sequence[Sequence[SampleView]],
    pictures: Callable[[Sequence[Path | None]], Gallery],
) -> dict[str, Any]:
    """Methods, subjects, columns, pictures and the samples `shown` of each run, as the script reads them.

    Samples refer to lists of texts and pictures by number; missing fields are left out. Samples of the same suite,
    subjects, prompt, index and seed have the same `group`, whatever method made them.
    """
    columns = frame.columns([run.run for run in runs])
    names = [column.name for column in columns]
    lists = _Lists()
    samples = []
    for run, views in zip(runs, shown, strict=True):
        people = _people(run.run, lists)
        samples += [_sample(run, view, names, people, lists, len(runs) == 1) for view in views]
    found = pictures(list(lists.files))
    keys = ("name", "title", "description", "digits", "significant", "headline", "higher_is_better")
    return {
        "columns": [{key: getattr(column, key) for key in keys} for column in columns],
        "methods": list(lists.methods),
        "people": list(lists.people.values()),
        "texts": list(lists.texts),
        "commands": list(lists.commands),
        "pictures": [[picture.address, picture.width, picture.height] for picture in found.pictures],
        "side": found.side,
        "samples": samples,
    }


def _people(run: Run, lists: _Lists) -> dict[str, int]:
    """Subject -> its number; equal names with the same photographs share one number over all runs."""
    suite = run.settings["suite"]
    keys = {
        subject["id"]: (subject["id"], suite["photograph_digests"].get(subject["id"])) for subject in suite["subjects"]
    }
    for subject in suite["subjects"]:
        key, photograph = keys[subject["id"]], run.folder.reference(subject["id"])
        if key not in lists.people:
            lists.people[key] = {"id": subject["id"], "noun": subject["noun"]}
        if photograph.is_file():
            lists.people[key].setdefault("picture", lists.files(photograph))
    numbers = {key: number for number, key in enumerate(lists.people)}
    return {name: numbers[key] for name, key in keys.items()}


def _sample(
    run: PageRun, view: SampleView, columns: Sequence[str], people: Mapping[str, int], lists: _Lists, alone: bool
) -> dict[str, Any]:
    """The page's data of a sample; empty fields are left out."""
    settings, folder = run.run.settings, run.run.folder
    command = run.command(view)
    sample = {
        "id": view.id,
        "key": run.key(view, alone),
        "method": lists.methods(run.names[view.method]),
        "people": [people[subject] for subject in view.subjects],
        "category": lists.texts(view.category),
        "prompt": lists.texts(view.prompt),
        "generated": None if view.generated_prompt is None else lists.texts(view.generated_prompt),
        "index": view.index,
        "seed": view.seed,
        "status": view.status,
        "group": lists.groups((settings["suite"]["name"], view.subjects, view.template, view.index, view.seed)),
        "values": [_rounded(view.values.get(column)) for column in columns],
        "picture": lists.files(folder.path / str(view.image)) if has_image(folder, view) else None,
        "file": view.image,
        "same": view.same_image_as,
        "seconds": _rounded(view.seconds),
        "batch": view.batch,
        "memory": view.peak_memory_bytes,
        "finished": view.finished,
        "command": None if command is None else lists.commands(command),
        "failure": None if view.failure is None else lists.failure(view.failure),
        "unscored": [[metric, *lists.failure(failure)] for metric, failure in view.score_failures.items()] or None,
        "faces": None if view.faces is None else [_face(face, view.subjects) for face in view.faces],
    }
    return {key: value for key, value in sample.items() if value is not None}


def _face(face: FoundFace, subjects: Sequence[str]) -> dict[str, Any]:
    similarities = [face.similarities.get(subject) for subject in subjects]
    return {"box": list(face.box), "score": face.score, "similarities": similarities, "matched": face.matched}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def filters(runs: Sequence[PageRun], shown: Sequence[Sequence[SampleView]]) -> dict[str, list[str]]:
    """The values of the gallery's filters, in the order of the plans."""
    views = [view for own in shown for view in own]
    named = [run.names[view.method] for run, own in zip(runs, shown, strict=True) for view in own]
    return {
        "methods": list(dict.fromkeys(named)),
        "subjects": list(dict.fromkeys(subject for view in views for subject in view.subjects)),
        "sets": list(dict.fromkeys("+".join(view.subjects) for view in views if len(view.subjects) > 1)),
        "categories": list(dict.fromkeys(view.category for view in views)),
        "statuses": [name for name in ("ok", "error", "missing") if any(view.status == name for view in views)],
    }


def picture_facts(data: Mapping[str, Any], images: Images) -> dict[str, Any]:
    """The kind of the pictures, and how many finished samples lack one."""
    finished = [sample for sample in data["samples"] if sample["status"] == "ok"]
    addresses = data["pictures"]
    shown = sum(1 for sample in finished if "picture" in sample and addresses[sample["picture"]][0] is not None)
    largest = max((max(width, height) for address, width, height in addresses if address is not None), default=0)
    return {
        "kind": images,
        "finished": len(finished),
        "shown": shown,
        "reduced": data["side"] if data["side"] is not None and data["side"] < largest else None,
    }
