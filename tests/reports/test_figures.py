"""Figures show what the frame says: points, bars, lines and matrices are looked up in the drawn figure."""

from __future__ import annotations

import math
import subprocess
import sys
from statistics import fmean
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from fc_bench.reports.figures import FAMILIES, draw
from fc_bench.reports.figures.breakdown import subject_means
from fc_bench.reports.figures.material import Material
from fc_bench.reports.figures.mixing import mixing_of
from fc_bench.reports.figures.style import looks
from fc_bench.reports.figures.sweep import sweeps_of
from fc_bench.reports.frame import read_runs, rows
from fc_bench.reports.literature import published_alpha_sweep


@pytest.fixture(scope="module")
def drawings(pocket):
    """All drawings of the reference run by name."""
    return {drawing.name: drawing for drawing in draw([pocket])}


def row_of(run, label, column, subjects=1, category="all"):
    (found,) = [
        row
        for row in rows([run])
        if (row["label"], row["column"], row["subjects"], row["category"]) == (label, column, subjects, category)
    ]
    return found


def points(axes):
    """Every single point drawn with a marker."""
    lines = [
        line for line in axes.get_lines() if len(line.get_xdata()) == 1 and line.get_marker() not in ("None", "|", "_")
    ]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def segments(axes):
    """Both ends of every error bar."""
    found = [part for part in axes.collections if isinstance(part, LineCollection)]
    return [np.asarray(segment).round(9).tolist() for part in found for segment in part.get_segments()]


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_reference_run_gives_every_figure_that_needs_no_images(drawings):
    assert set(drawings) == {
        "tradeoff-1",
        "tradeoff-2",
        "by-category-1",
        "by-category-2",
        "by-subject-identity-1",
        "by-subject-identity-2",
        "by-subject-prompt-consistency-1",
        "by-subject-prompt-consistency-2",
        "mixing-2",
        "amortised-cost",
        "storage",
    }


@pytest.mark.parametrize("subjects", [1, 2])
def test_tradeoff_has_the_frame_s_means_and_intervals(pocket, drawings, subjects):
    figure = drawings[f"tradeoff-{subjects}"].figure
    (axes,) = figure.axes
    labels = list(pocket.settings["methods"])
    assert legend_of(figure) == labels
    expected = [
        tuple(row_of(pocket, label, column, subjects)["mean"] for column in ("prompt_consistency", "identity"))
        for label in labels
    ]
    np.testing.assert_allclose(points(axes), expected)
    found = segments(axes)
    for label, (x, y) in zip(labels, expected, strict=True):
        identity, consistency = (row_of(pocket, label, name, subjects) for name in ("identity", "prompt_consistency"))
        assert [[round(x, 9), round(identity["low"], 9)], [round(x, 9), round(identity["high"], 9)]] in found
        across = [[round(consistency[end] or 0, 9), round(y, 9)] for end in ("low", "high")]
        assert (across in found) == (consistency["low"] is not None), label


def test_incomplete_method_says_so_in_legend_and_caption(copied):
    lost = []

    def score(record):
        if record["metric"] == "identity" and not record["sample"].startswith("anchor:") and len(lost) < 2:
            lost.append(record["sample"])
            return None
        return record

    (run,) = read_runs([copied("run", score=score)])
    found = {drawing.name: drawing for drawing in draw([run], families=["tradeoff", "by-category"])}
    for name in ("tradeoff-1", "by-category-1"):
        assert legend_of(found[name].figure) == ["text-only (13 / 15)", "fastcomposer", "dreambooth"]
        assert "Not all samples are there, of these methods: text-only (13 / 15)." in found[name].caption
    assert "Not all samples" not in found["tradeoff-2"].caption


def test_tradeoff_names_the_face_models_and_shows_ceiling_and_floor(pocket, drawings):
    (axes,) = drawings["tradeoff-1"].figure.axes
    assert axes.get_ylabel() == "identity preservation (pocket-faces)"
    levels = {line.get_ydata()[0] for line in axes.get_lines() if list(line.get_xdata()) == [0, 1]}
    titles = ("ceiling (own photographs)", "floor (other person)")
    assert levels == {row_of(pocket, title, "identity")["mean"] for title in titles}
    assert {text.get_text() for text in axes.texts} == {"ceiling", "floor"}


def test_categories_have_a_point_a_method_each_with_its_interval(pocket, drawings):
    figure = drawings["by-category-1"].figure
    identity, consistency = figure.axes
    assert [text.get_text() for text in identity.get_yticklabels()] == ["accessory", "style", "context", "action"]
    for axes, column in ((identity, "identity"), (consistency, "prompt_consistency")):
        found = sorted(x for x, _ in points(axes))
        expected = [
            row
            for row in rows([pocket])
            if row["column"] == column and row["subjects"] == 1 and row["category"] != "all"
        ]
        assert found == pytest.approx(sorted(row["mean"] for row in expected))
        ends = {(low[0], high[0]) for low, high in segments(axes)}
        assert ends == {(round(row["low"], 9), round(row["high"], 9)) for row in expected if row["low"] is not None}
    labels = legend_of(figure)
    heights = dict(zip(labels, sorted(y for _, y in points(identity))[: len(labels)], strict=True))
    (point,) = [x for x, y in points(identity) if y == heights["dreambooth"]]
    assert point == pytest.approx(row_of(pocket, "dreambooth", "identity", 1, "accessory")["mean"])


def test_matrix_by_subject_holds_the_samples_means(pocket, drawings):
    axes = drawings["by-subject-identity-2"].figure.axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    sets = [text.get_text() for text in axes.get_xticklabels()]
    values = axes.images[0].get_array()
    for (line, place), value in np.ndenumerate(values):
        own = [
            row["identity"]
            for row in pocket.measured.rows()
            if (row["method"], row["set"]) == (labels[line], sets[place])
        ]
        assert value == pytest.approx(fmean(own))
    assert len(axes.texts) == values.size


def test_subject_without_a_value_is_crossed_out_and_not_zero(copied):
    (run,) = read_runs([copied("run", score=lambda record: None if record["metric"] == "identity" else record)])
    assert subject_means(Material([run]).samples, 1, "identity") == {}
    lost = {row["sample"] for row in run.measured.rows() if (row["method"], row["set"]) == ("dreambooth", "p02")}
    (run,) = read_runs([copied("less", score=lambda record: None if record["sample"] in lost else record)])
    found = {drawing.name: drawing for drawing in draw([run], families=["by-subject"])}
    values = found["by-subject-identity-1"].figure.axes[0].images[0].get_array()
    assert np.isnan(np.asarray(values[2, 1], dtype=float)) or values.mask[2, 1]


def test_mixing_is_the_mean_of_the_recorded_similarities(pocket, drawings):
    found = mixing_of(Material([pocket]), 2)
    scores = pocket.folder.scores()
    sets: dict[str, list[list[list[float]]]] = {}
    for row in pocket.measured.rows():
        if row["method"] == "fastcomposer" and row["subjects"] == 2:
            details = scores[row["sample"], "identity"]["details"]
            faces = [[details["similarities"][j][details["matched"][str(i)]] for j in (0, 1)] for i in (0, 1)]
            sets.setdefault(row["set"], []).append(faces)
    expected = np.mean([np.mean(own, axis=0) for own in sets.values()], axis=0)
    matrix, measured, planned = found["fastcomposer"]
    np.testing.assert_allclose(matrix, expected)
    assert (measured, planned) == (12, 12)
    axes = next(axes for axes in drawings["mixing-2"].figure.axes if axes.get_title().startswith("fastcomposer"))
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    assert axes.get_title() == "fastcomposer\n12 / 12 images"
    # Off the diagonal is what the metric calls the identity of others, where every image has all faces.
    other = row_of(pocket, "fastcomposer", "identity_other", 2)["mean"]
    assert fmean([expected[0][1], expected[1][0]]) == pytest.approx(other, abs=1e-5)


def test_images_without_faces_are_left_out_of_mixing_and_counted(copied):
    seen = []

    def score(record):
        pair = (
            record["metric"] == "identity" and record["status"] == "ok" and len(record["details"]["similarities"]) == 2
        )
        if pair and not record["sample"].startswith("anchor:") and not seen:
            seen.append(record["sample"])
            details = {"faces": [], "similarities": [[], []], "matched": {}}
            return {**record, "details": details}
        return record

    (run,) = read_runs([copied("run", score=score)])
    counts = {label: counts for label, (_, *counts) in mixing_of(Material([run]), 2).items()}
    assert sorted(counts.values()) == [[8, 9], [9, 9], [9, 9]]


def test_every_method_looks_the_same_in_every_figure_and_like_no_other(drawings):
    colors: dict[str, set[tuple]] = {}
    for name in ("tradeoff-1", "tradeoff-2", "by-category-1", "amortised-cost"):
        (legend,) = drawings[name].figure.legends
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True):
            look = (line.get_color(), line.get_marker(), line.get_markerfacecolor())
            colors.setdefault(text.get_text(), set()).add(look)
    assert {label: len(found) for label, found in colors.items()} == dict.fromkeys(colors, 1)
    assert len({look for found in colors.values() for look in found}) == len(colors) == 7


def test_a_hundred_methods_have_a_hundred_looks_and_known_ones_keep_theirs():
    many = {f"m{number}": f"m{number}" for number in range(100)}
    assert len(set(looks(many).values())) == 100
    known = {"fastcomposer": "fastcomposer"}
    assert looks(known)["fastcomposer"] == looks({**many, **known})["fastcomposer"]


def test_a_method_of_two_runs_keeps_its_color_and_marker_and_is_hollow_in_one():
    found = looks({"a (one)": "fastcomposer", "a (two)": "fastcomposer", "a (three)": "fastcomposer"})
    one, two, three = found.values()
    assert (one.color, one.marker, one.hollow) == (two.color, two.marker, not two.hollow)
    assert len({one, two, three}) == 3


def test_colors_differ_for_color_blind_readers_or_markers_do():
    names = ["text-only", "fastcomposer", "dreambooth", "dreambooth-lora", "textual-inversion", "custom-diffusion"]
    found = looks({name: name for name in names})
    assert len({look.marker for look in found.values() if not look.hollow}) == 5
    # Viénot, Brettel and Mollon (1999): what deuteranopes and protanopes see of linear RGB.
    see = {
        "deuteranope": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
        "protanope": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    }
    for matrix in see.values():
        seen = [
            np.clip(np.array(matrix) @ np.array(to_rgb(look.color)) ** 2.2, 0, 1) ** (1 / 2.2)
            for look in found.values()
        ]
        distances = [math.dist(one, other) for place, one in enumerate(seen) for other in seen[:place]]
        assert min(distances) > 0.08


def test_text_stays_text_and_nothing_of_it_is_markup(copied, hostile):
    labels = {"dreambooth": hostile, "fastcomposer": "_under$core$", "text-only": "$\\frac{1}{"}
    (run,) = read_runs([copied("run", relabel=labels)])
    told = []
    families = ["tradeoff", "by-subject", "amortised"]
    found = {drawing.name: drawing for drawing in draw([run], told.append, families=families)}
    assert "The fonts here lack characters of the figure tradeoff-1; its SVG has them as text." in told
    assert set(legend_of(found["tradeoff-1"].figure)) == set(labels.values())
    svg = found["tradeoff-1"].svg()
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert set(labels.values()) <= set(texts)
    assert b"<script" not in svg
    for drawing in found.values():
        assert ElementTree.fromstring(drawing.svg()).tag.endswith("svg")


def test_files_hold_fonts_and_are_the_same_each_time(drawings):
    drawing = drawings["storage"]
    pdf = drawing.pdf()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf
    assert b"CreationDate" not in pdf
    assert drawing.png().startswith(b"\x89PNG")
    assert drawing.pdf() == pdf
    assert drawing.svg() == drawing.svg()


def test_figures_rendered_in_processes_are_those_of_one_process_even_if_a_process_dies(copied):
    program = f"""
import os
from pathlib import Path
from fc_bench.reports.figures import draw, style
from fc_bench.reports.frame import read_runs
runs = read_runs([Path({str(copied("run"))!r})])
style.usable_cores = lambda: 2
task, here = style._render_task, os.getpid()
def counted(number):
    assert os.getpid() != here
    if number == 5 and dies:
        os._exit(1)
    return task(number)
style._render_task = counted
families = ["tradeoff", "by-subject"]
alone = draw(runs, families=families)
for dies in (False, True):
    together = draw(runs, families=families)
    style.render(together)
    print(sum(len(one.kept) for one in together), all(
        one._as(ending) == other._as(ending)
        for one, other in zip(alone, together, strict=True) for ending in style.ENDINGS
    ))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (first, same), (second, same_too) = (line.split() for line in done.stdout.splitlines())
    assert (same, same_too) == ("True", "True")
    assert int(second) < int(first) == 18


def test_drawing_leaves_matplotlib_s_settings_alone(pocket):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw([pocket], families=["storage"])[0].svg()
    assert dict(matplotlib.rcParams) == before


def alphas(copied, name="sweep", **options):
    """A run in which FastComposer, DreamBooth and LoRA are FastComposer at three values of alpha."""
    values = {"dreambooth": 0.0, "fastcomposer": 0.5, "dreambooth-lora": 1.0}
    labels = {key: f"fastcomposer[alpha={value}]" for key, value in values.items()}

    def settings(run):
        rows = run["methods"]
        for method, value in values.items():
            rows[labels[method]] = {
                **rows[labels["fastcomposer"]],
                "label": labels[method],
                "options": {"alpha": value, "checkpoint": "with-localization"},
            }
        return {**run, "methods": rows, **options}

    (run,) = read_runs([copied(name, methods=("text-only", *values), relabel=labels, settings=settings)])
    return run, {label: values[key] for key, label in labels.items()}


def test_sweep_shows_means_and_intervals_in_the_order_of_the_values(copied):
    run, values = alphas(copied)
    (sweep,) = sweeps_of(Material([run]))
    assert (sweep.name, list(sweep.values.values())) == ("fastcomposer.alpha", [0.0, 0.5, 1.0])
    found = {drawing.name: drawing for drawing in draw([run], families=["sweep"])}
    assert set(found) == {"sweep-fastcomposer-alpha-1", "sweep-fastcomposer-alpha-2"}
    figure = found["sweep-fastcomposer-alpha-2"].figure
    order = sorted(values, key=lambda label: values[label])
    for axes, column in zip(figure.axes, ("identity", "prompt_consistency"), strict=False):
        own = [row_of(run, label, column, 2) for label in order]
        (line,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]
        assert list(line.get_xdata()) == [0.0, 0.5, 1.0]
        assert list(line.get_ydata()) == pytest.approx([row["mean"] for row in own])
        ends = {tuple(round(end[1], 9) for end in segment) for segment in segments(axes)}
        assert ends == {(round(row["low"], 9), round(row["high"], 9)) for row in own}
    path = figure.axes[2].get_lines()[0]
    assert list(path.get_xdata()) == pytest.approx(
        [row_of(run, label, "prompt_consistency", 2)["mean"] for label in order]
    )
    assert [text.get_text() for text in figure.axes[2].texts] == ["0", "0.5", "1"]


def test_published_curve_stands_on_axes_of_its_own_unless_the_protocol_is_the_same(copied):
    run, _ = alphas(copied)
    (drawing, _) = draw([run], families=["sweep"])
    own, published = drawing.figure.axes[:3], drawing.figure.axes[3:]
    assert [axes.get_title() for axes in published] == ["published"] * 3
    assert published[0].get_ylabel() == "identity (FaceNet)"
    curve = [row["identity"] for row in published_alpha_sweep()]
    assert list(published[0].get_lines()[0].get_ydata()) == curve
    assert all(list(line.get_ydata()) != curve for axes in own for line in axes.get_lines())
    assert "heights do not" in drawing.caption
    suite = {**run.settings["suite"], "name": "fastcomposer-single"}
    metrics = {"identity": {"embedder": "FaceNet (VGGFace2)"}}
    same, _ = alphas(copied, "same", suite=suite, metrics=metrics)
    drawing = draw([same], families=["sweep"])[0]
    assert len(drawing.figure.axes) == 3
    assert any(list(line.get_ydata()) == curve for line in drawing.figure.axes[0].get_lines())
    assert legend_of(drawing.figure) == ["this run", "published"]
    assert "published (Xiao et al. 2023, Fig. 5, digitised)" in drawing.caption


def test_rows_over_other_samples_do_not_join_a_sweep(copied):
    run, _ = alphas(copied)
    other = read_runs([copied("other", methods=("fastcomposer",), sets=("p01", "p02"))])
    (sweep,) = sweeps_of(Material([run, *other]))
    assert list(sweep.values.values()) == [0.0, 0.5, 1.0]
    same = read_runs([copied("also", methods=("fastcomposer",))])
    (sweep,) = sweeps_of(Material([run, *same]))
    assert list(sweep.values.values()) == [0.0, 0.5, 0.9, 1.0]


def test_two_values_or_two_options_are_no_sweep(pocket, copied):
    assert sweeps_of(Material([pocket])) == []
    assert draw([pocket], families=["sweep"]) == []


def test_run_without_a_finished_sample_gives_no_figures_and_no_error(copied):
    (run,) = read_runs([copied("run", sample=lambda record: None, score=lambda record: None)])
    told = []
    assert draw([run], told.append, families=[name for name in FAMILIES if name not in ("amortised", "storage")]) == []
