"""Several face embedders: each one measures in its own columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fc_bench import registry
from fc_bench.errors import UserError
from fc_bench.metrics.verification import NAME as VERIFICATION
from fc_bench.metrics.verification import verification
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.protocols import Metric, Score, ScoredSample, Subject, derived_from
from fc_bench.suites.slugs import slug

IDENTITY = "identity"


def metric_classes(
    names: Iterable[str], backbone: Backbone, thresholds: Mapping[str, float] | None = None
) -> dict[str, type[Metric]]:
    """The metrics of these names; metrics of faces are repeated for each of the backbone's embedders.

    Beside `identity` there is `verification` for each embedder with a threshold: `thresholds` of a suite, by the
    embedders' names, come before those that the backbone declares. Raises UserError if the suite has some, but none
    for this backbone.
    """
    given = dict(thresholds or {})
    own = [faces.name for faces in backbone.faces]
    if given and not set(given) & set(own):
        raise UserError(
            f'The suite declares a threshold for {", ".join(given)}, but the backbone "{backbone.name}" measures '
            f"identity with {', '.join(own)}; add a threshold for it under verification, or remove verification."
        )
    classes: dict[str, type[Metric]] = {}
    for name in names:
        classes |= for_each_embedder(name, registry.load("metrics", name), backbone)
        if name == IDENTITY:
            classes |= _verifications(backbone, given)
    return classes


def for_each_embedder(name: str, metric: type[Metric], backbone: Backbone) -> dict[str, type[Metric]]:
    """The metric under its name and, if it has an `embedder`, again for each further embedder of the backbone.

    A further one is called `name@embedder`, its columns `column@embedder`; their titles name the embedder as well.
    """
    if getattr(metric, "embedder", None) is None:
        return {name: metric}
    return {_with(mark, name): _of_embedder(metric, number, mark, backbone) for number, mark in _marks(backbone)}


def _verifications(backbone: Backbone, thresholds: Mapping[str, float]) -> dict[str, type[Metric]]:
    """The metric `verification` of each embedder with a threshold."""
    found: dict[str, type[Metric]] = {}
    for number, mark in _marks(backbone):
        faces = backbone.faces[number]
        threshold = thresholds.get(faces.name, faces.threshold)
        if threshold is not None:
            found[_with(mark, VERIFICATION)] = _of_embedder(verification(threshold), number, mark, backbone)
    return found


def _marks(backbone: Backbone) -> list[tuple[int, str]]:
    """Index of each embedder and the mark of its metrics and columns; the main one has none."""
    marks = [""]
    for number, faces in enumerate(backbone.faces[1:], start=1):
        mark = slug(faces.name, str(number))
        marks.append(f"{mark}-{number}" if mark in marks else mark)
    return list(enumerate(marks))


def _with(mark: str, name: str) -> str:
    return f"{name}@{mark}" if mark else name


def _of_embedder(metric: type[Metric], number: int, mark: str, backbone: Backbone) -> type[Metric]:
    return _beside(metric, number, mark, backbone.faces[number].name) if mark else metric


def _beside(metric: Any, number: int, mark: str, embedder_name: str) -> type[Metric]:
    """The metric with another of the backbone's embedders, and columns that name it."""

    class Beside(metric):
        embedder = number
        columns = tuple(
            replace(column, name=f"{column.name}@{mark}", title=f"{column.title} ({embedder_name})")
            for column in metric.columns
        )
        if (source := derived_from(metric)) is not None:
            derived_from = f"{source}@{mark}"

            @classmethod
            def derive(cls, details: Mapping[str, Any]) -> Score:
                return _marked(super().derive(details), mark)

        def score(self, sample: ScoredSample) -> Score:
            return _marked(super().score(sample), mark)

        def anchors(self, subjects: Sequence[Subject], others: Sequence[Subject]) -> Mapping[str, Sequence[Score]]:
            rows = super().anchors(subjects, others)
            return {row: [_marked(score, mark) for score in scores] for row, scores in rows.items()}

    return Beside


def _marked(score: Score, mark: str) -> Score:
    return Score({f"{name}@{mark}": value for name, value in score.values.items()}, score.details)
