"""The effect of a method's option on identity and prompt consistency, and the two against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from fc_bench.analysis.aggregate import Row
from fc_bench.reports.escaping import file_name
from fc_bench.reports.figures.material import MEASURES, Material
from fc_bench.reports.figures.style import COLORS, GREY, INK, Drawing, Look, error, legend_below, new_figure
from fc_bench.reports.figures.tradeoff import points_of
from fc_bench.reports.frame import requested_samples, who
from fc_bench.reports.literature import published_alpha_sweep

FEWEST = 3
"""Smallest number of values of a sweep."""
PUBLISHED = "published (Xiao et al. 2023, Fig. 5, digitised)"
_PATH = Look(COLORS[0], "o")
_BEHIND: dict[str, Any] = {"color": GREY, "linestyle": (0, (4, 2)), "marker": "s", "markersize": 3.5, "linewidth": 1.1}


@dataclass(frozen=True)
class Sweep:
    """Rows of one method that differ in one numeric option alone: label -> its value, ascending."""

    method: str
    option: str
    values: Mapping[str, float]

    @property
    def name(self) -> str:
        """METHOD.OPTION, as on the command line."""
        return f"{self.method}.{self.option}"


def draw_sweeps(material: Material) -> list[Drawing]:
    """A drawing for each swept option and number of subjects."""
    drawings = []
    for sweep in sweeps_of(material):
        for subjects in material.sizes:
            rows = {name: _swept(sweep, material.part(subjects, name)) for name in MEASURES}
            if all(len(own) >= FEWEST for own in rows.values()):
                drawings.append(_drawing(material, sweep, rows, subjects))
    return drawings


def sweeps_of(material: Material) -> list[Sweep]:
    """The options with at least `FEWEST` values in the runs, with the same samples and all else equal."""
    labels = {(run, method): label for run, method, label in material.methods}
    samples = requested_samples(material.runs)
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for run in material.runs:
        for method, row in run.settings["methods"].items():
            for option, value in row["options"].items():
                if isinstance(value, (int, float)) and not isinstance(value, bool) and (run.name, method) in labels:
                    others = {key: own for key, own in row["options"].items() if key != option}
                    label = labels[run.name, method]
                    questions = [own.get(label) for own in samples.values()]
                    same = repr((sorted(others.items()), sorted(row["weights"].items()), questions))
                    found.setdefault((row["name"], option, same), {})[label] = float(value)
    return [
        Sweep(method, option, dict(sorted(values.items(), key=lambda item: item[1])))
        for (method, option, _), values in found.items()
        if len(set(values.values())) >= FEWEST
    ]


def is_published_protocol(material: Material) -> bool:
    """Whether measured values have the published curve's scale: its suite, and identity by FaceNet."""
    suite = material.runs[0].settings["suite"]["name"]
    return suite == "fastcomposer-single" and "facenet" in str(material.embedder).lower()


def _swept(sweep: Sweep, rows: Sequence[Row]) -> list[Row]:
    """The sweep's rows in the order of its values."""
    own = {row["label"]: row for row in rows}
    return [own[label] for label in sweep.values if label in own]


def _drawing(material: Material, sweep: Sweep, rows: Mapping[str, list[Row]], subjects: int) -> Drawing:
    published = published_alpha_sweep() if sweep.name == "fastcomposer.alpha" and subjects == 1 else []
    same = is_published_protocol(material)
    separate = bool(published) and not same
    figure = new_figure(7.2, 4.3 if separate else 2.65 if published else 2.4)
    titles = {name: column for name in MEASURES if (column := material.column(name))}
    handles: dict[str, Any] = {}
    for place, name in enumerate(MEASURES):
        axes = figure.add_subplot(2 if separate else 1, 3, place + 1)
        handles["this run"] = plot_against(axes, sweep, rows[name])
        if published and same:
            across, up = ([row[key] for row in published] for key in ("alpha", name))
            (behind,) = axes.plot(across, up, **_BEHIND, zorder=1)
            handles["published"] = behind
        axes.set_xlabel(sweep.option)
        axes.set_ylabel(material.title(titles[name]))
    axes = figure.add_subplot(2 if separate else 1, 3, 3)
    _plot_path(axes, sweep, rows)
    if published and same:
        _plot_published_path(axes, published)
        legend_below(figure, handles)
    axes.set_xlabel(material.title(titles["prompt_consistency"]))
    axes.set_ylabel(material.title(titles["identity"]))
    if separate:
        _published_row(figure, published)
    return Drawing(
        file_name(f"sweep-{sweep.method}-{sweep.option}-{subjects}".replace("_", "-")),
        f"{sweep.name}, {who(subjects)}",
        _caption(sweep, published, same, material.embedder) + material.warning(subjects),
        figure,
    )


def plot_against(axes: Axes, sweep: Sweep, rows: Sequence[Row]) -> Any:
    """A measure with its intervals against the option's value; returns the line."""
    values = [sweep.values[row["label"]] for row in rows]
    for value, row in zip(values, rows, strict=True):
        axes.errorbar(value, row["mean"], error(row), fmt="none", ecolor=_PATH.color, elinewidth=0.9)
    (line,) = axes.plot(values, [row["mean"] for row in rows], **_PATH.line())
    axes.grid(True)
    return line


def _plot_path(axes: Axes, sweep: Sweep, rows: Mapping[str, list[Row]]) -> None:
    points = points_of(rows["prompt_consistency"], rows["identity"])
    across, up = ([row[place]["mean"] for row in points.values()] for place in (0, 1))
    axes.plot(across, up, **_PATH.line())
    for label, x, y in zip(points, across, up, strict=True):
        axes.annotate(
            f"{sweep.values[label]:g}", (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6.5, color=INK
        )
    axes.margins(0.12)
    axes.grid(True)


def _plot_published_path(axes: Axes, published: Sequence[Mapping[str, float]]) -> None:
    across, up = ([row[name] for row in published] for name in ("prompt_consistency", "identity"))
    axes.plot(across, up, **_BEHIND, zorder=1)
    for row, x, y in zip(published, across, up, strict=True):
        axes.annotate(
            f"{row['alpha']:g}", (x, y), xytext=(-4, -8), textcoords="offset points", ha="right", fontsize=6, color=GREY
        )


def _published_row(figure: Any, published: Sequence[Mapping[str, float]]) -> None:
    """The published curve in separate panels: other people, prompts and scorers have another scale."""
    scorers = {"identity": "identity (FaceNet)", "prompt_consistency": "prompt consistency (ViT-L/14)"}
    for place, name in enumerate(MEASURES):
        axes = figure.add_subplot(2, 3, 4 + place)
        axes.plot([row["alpha"] for row in published], [row[name] for row in published], **_BEHIND)
        axes.set_xlabel("alpha")
        axes.set_ylabel(scorers[name])
        axes.set_title("published", color=GREY)
        axes.grid(True)
    axes = figure.add_subplot(2, 3, 6)
    _plot_published_path(axes, published)
    axes.set_xlabel(scorers["prompt_consistency"])
    axes.set_ylabel(scorers["identity"])
    axes.set_title("published", color=GREY)
    axes.margins(0.15)
    axes.grid(True)


def _caption(sweep: Sweep, published: Sequence[object], same: bool, embedder: str | None) -> str:
    caption = (
        f"Identity and prompt consistency of {sweep.method} against its option {sweep.option}, and against each other "
        f"(numbers: {sweep.option}); means over the subjects (or sets of subjects) with their 95 % intervals."
    )
    if not published:
        return caption
    if same:
        return f"{caption} Grey, dashed: {PUBLISHED}, measured with FaceNet and CLIP ViT-L/14."
    return (
        f"{caption} Below, grey, dashed: {PUBLISHED}, measured with FaceNet and CLIP ViT-L/14 on other people and "
        f"prompts. Its scale is not this run's ({embedder or 'other face models'}): shapes compare, heights do not."
    )
