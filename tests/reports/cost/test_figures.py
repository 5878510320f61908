"""Figures of cost show what was measured: lines, bands, marks and levels are looked up in the drawn figure."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from fc_bench.cost.amortisation import break_even, seconds_per_image, speed_up
from fc_bench.cost.figures import Figure
from fc_bench.cost.results import MethodCost
from fc_bench.reports.cost.cells import in_bytes
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.figures import draw, draw_cost
from fc_bench.reports.figures.amortised import amortised, recorded_costs
from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.speed_up import speed_ups
from fc_bench.reports.figures.storage import storage
from fc_bench.reports.figures.style import looks, styled
from fc_bench.reports.frame import read_runs, rows
from fc_bench.run_folder.records import RunFolder

FREE = MethodCost("free", "free", True, load=Figure(1.0), customize=Figure(0.0), image=Figure(0.5, 0.45, 0.55))
TUNED = MethodCost(
    "tuned",
    "tuned",
    True,
    load=Figure(1.0),
    customize=Figure(1000.0, 900.0, 1100.0, 3, True),
    training_step=Figure(1.0),
    image=Figure(0.25, 0.2, 0.3),
)


def drawn(*costs: MethodCost):
    with styled():
        return amortised(costs, looks({cost.method: cost.name for cost in costs}))


def lines_of(axes):
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2]


def dots_of(axes):
    dots = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in dots]


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_recorded_costs_are_loading_and_customizing_once_and_the_median_image(pocket):
    (found,) = [cost for cost in recorded_costs(Material([pocket]), 1) if cost.method == "dreambooth"]
    jobs = [job for (label, name), job in pocket.folder.jobs().items() if label == "dreambooth" and "+" not in name]
    assert found.load == Figure(pytest.approx(fmean(job["load_seconds"] for job in jobs)))
    assert found.customize == Figure(pytest.approx(fmean(job["seconds"] for job in jobs)))
    (image,) = [
        row["mean"]
        for row in rows([pocket])
        if (row["label"], row["column"], row["subjects"]) == ("dreambooth", "image_seconds", 1)
    ]
    assert found.image == Figure(image)


def test_lines_and_bands_are_the_seconds_per_image_with_their_intervals():
    drawing = drawn(FREE, TUNED)
    (axes,) = drawing.figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert legend_of(drawing.figure) == ["free", "tuned"]
    for line, band, cost in zip(lines_of(axes), axes.collections, (FREE, TUNED), strict=True):
        figures = [seconds_per_image(cost, float(n)) for n in line.get_xdata()]
        np.testing.assert_allclose(line.get_ydata(), [figure.value for figure in figures])
        assert line.get_xdata()[-1] >= 4000
        corners = band.get_paths()[0].vertices
        for figure, n in zip(figures, line.get_xdata(), strict=True):
            ends = corners[np.isclose(corners[:, 0], n), 1]
            assert (ends.min(), ends.max()) == (pytest.approx(figure.low), pytest.approx(figure.high))


def test_break_even_is_marked_where_both_cost_the_same_over_its_interval():
    drawing = drawn(FREE, TUNED)
    (axes,) = drawing.figure.axes
    mark = break_even(FREE, TUNED)
    seconds = seconds_per_image(FREE, mark.images).value
    assert dots_of(axes) == [(pytest.approx(4000), pytest.approx(seconds))]
    assert seconds == pytest.approx(seconds_per_image(TUNED, 4000.0).value)
    (interval,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert list(interval.get_xdata()) == [pytest.approx(mark.low), pytest.approx(mark.high)]
    assert [text.get_text() for text in axes.texts] == ["4,000"]
    assert f"tuned from 4,000 [{mark.low:,.0f}, {mark.high:,.0f}] images on" in drawing.caption


def test_interval_without_an_end_reaches_the_edge_and_says_never():
    drawing = drawn(FREE, replace(TUNED, image=Figure(0.4, 0.3, 0.5)))
    (axes,) = drawing.figure.axes
    (interval,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert interval.get_xdata()[-1] == lines_of(axes)[0].get_xdata()[-1]
    assert ", never] images on" in drawing.caption


def test_no_break_even_is_said():
    drawing = drawn(FREE, replace(TUNED, image=Figure(0.6)))
    assert "No method gets cheaper than free" in drawing.caption
    assert dots_of(drawing.figure.axes[0]) == []


def test_class_images_have_a_panel_of_their_own():
    needy = replace(TUNED, method="needy", class_images=Figure(500.0))
    drawing = drawn(FREE, TUNED, needy)
    alone, shared = drawing.figure.axes
    assert (alone.get_title(), shared.get_title()) == ("without class images", "with class images")
    for axes, more in ((alone, 0), (shared, 500)):
        line = lines_of(axes)[2]
        assert line.get_ydata()[0] == pytest.approx(1 + 1000 + more + 0.25)
    assert "(right): where a method gets cheaper than free" in drawing.caption


def test_times_of_different_machines_are_not_drawn_together(copied):
    def slower(run):
        hardware = {**run["commands"][0]["hardware"], "processor": "another"}
        return {**run, "commands": [{**run["commands"][0], "hardware": hardware}]}

    few = {"methods": ("fastcomposer", "dreambooth"), "sets": ("p01", "p02")}
    runs = read_runs([copied("one", **few), copied("two", **few, settings=slower)])
    told = []
    assert draw(runs, told.append, families=["amortised"]) == []
    assert "The amortised cost is left out: times do not compare (one and two: different hardware" in told[0]
    assert [drawing.name for drawing in draw(runs, families=["storage"])] == ["storage"]


@pytest.mark.parametrize("claimed", [True, False])
def test_speed_up_is_drawn_over_the_published_range_where_that_is_of_the_backbone(claimed):
    with styled():
        drawing = speed_ups(FREE, [TUNED], looks({"tuned": "tuned"}), "sd15" if claimed else "pocket")
    (axes,) = drawing.figure.axes
    found = [speed_up(FREE, TUNED, images) for images in (1, 10)]
    assert [x for x, _ in dots_of(axes)] == [pytest.approx(figure.value) for figure in found]
    bars = [list(line.get_xdata()) for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert bars == [[pytest.approx(figure.low), pytest.approx(figure.high)] for figure in found]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["tuned"]
    behind = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert behind == ([(300, 2500)] if claimed else [])
    assert ("does not apply to this backbone" in drawing.caption) != claimed
    assert "300x to 2,500x" in drawing.caption


def test_storage_grows_with_the_subjects_and_names_who_keeps_nothing():
    sizes = {"none": 0.0, "small": 4096.0, "large": 2.0**20}
    with styled():
        drawing = storage(sizes, looks({name: name for name in sizes}), shared={"small": 2**30, "large": 2**30})
    (axes,) = drawing.figure.axes
    assert legend_of(drawing.figure) == ["large: 1 MiB", "small: 4 KiB"]
    for line, size in zip(lines_of(axes), (2.0**20, 4096.0), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.asarray(line.get_xdata()) * size)
        assert line.get_xdata()[-1] == pytest.approx(1_000_000)
    assert [line.get_ydata()[0] for line in axes.get_lines() if list(line.get_xdata()) == [0, 1]] == [2**30]
    assert "Nothing is kept by none." in drawing.caption
    assert "the weights that all subjects share (1 GiB)" in drawing.caption


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0"), (512, "512 B"), (1536, "1.50 KiB"), (24 * 2**20 + 5e5, "24.5 MiB"), (3e12, "2.73 TiB"),
        (2e18, "1,776 PiB"),
    ],
)  # fmt: skip
def test_bytes_have_binary_units(size, shown):
    assert in_bytes(size) == shown


def test_cost_run_gives_all_its_figures_in_the_looks_of_other_reports(made_cost, pocket):
    found = {drawing.name: drawing for drawing in draw_cost(CostRun(RunFolder(made_cost()), "cost"))}
    assert list(found) == ["amortised-cost", "speed-up", "storage"]
    quality, _ = draw([pocket], families=["tradeoff"])
    known: dict[str, tuple] = {}
    for drawing in (quality, found["amortised-cost"]):
        (legend,) = drawing.figure.legends
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True):
            look = (line.get_color(), line.get_marker(), line.get_markerfacecolor())
            assert known.setdefault(text.get_text(), look) == look
    alone, shared = found["amortised-cost"].figure.axes
    assert [line.get_ydata()[0] for line in lines_of(alone)] == pytest.approx([3.0, 3.75, 65.0, 65.5])
    assert lines_of(shared)[3].get_ydata()[0] == pytest.approx(65.5 + 16 * 1.1)


def test_what_was_not_measured_is_not_drawn(made_cost):
    def lacking(line):
        return None if line["method"] == "dreambooth" and line["phase"] == "customize" else line

    found = {drawing.name: drawing for drawing in draw_cost(CostRun(RunFolder(made_cost(record=lacking)), "cost"))}
    assert "dreambooth" not in legend_of(found["amortised-cost"].figure)
    assert legend_of(found["storage"].figure) == ["custom-diffusion: 3 MiB"]
