"""Several face embedders: each one measures in its own columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fc_bench import registry
from fc_bench.model.backbones.backbone import Backbone
from fc_bench.protocols import Metric, Score, ScoredSample, Subject, derived_from
from fc_bench.suites.slugs import slug


def metric_classes(names: Iterable[str], backbone: Backbone) -> dict[str, type[Metric]]:
    """The metrics of these names; metrics of faces are repeated for each of the backbone's embedders."""
    classes: dict[str, type[Metric]] = {}
    for name in names:
        classes |= for_each_embedder(name, registry.load("metrics", name), backbone)
    return classes


def for_each_embedder(name: str, metric: type[Metric], backbone: Backbone) -> dict[str, type[Metric]]:
    """The metric under its name and, if it has an `embedder`, again for each further embedder of the backbone.

    A further one is called `name@embedder`, its columns `column@embedder`; their titles name the embedder as well.
    """
    classes: dict[str, type[Metric]] = {name: metric}
    if getattr(metric, "embedder", None) is None:
        return classes
    for number, faces in enumerate(backbone.faces[1:], start=1):
        mark = slug(faces.name, str(number))
        if f"{name}@{mark}" in classes:
            mark = f"{mark}-{number}"
        classes[f"{name}@{mark}"] = _beside(metric, number, mark, faces.name)
    return classes


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
