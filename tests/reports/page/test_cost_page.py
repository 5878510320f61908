"""The page of a cost run in a real browser, and beside a quality run: sorting by number, dark figures, phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fc_bench.reports.cost.output import CostTables
from fc_bench.reports.cost.run import CostRun
from fc_bench.reports.figures import draw_cost
from fc_bench.reports.frame import read_runs
from fc_bench.reports.page.page import write_page
from fc_bench.reports.quality.output import Tables
from fc_bench.run_folder.records import RunFolder

pytestmark = pytest.mark.browser
PIXEL = """async () => {
    const image = document.querySelector('.figures img');
    await image.decode();
    const canvas = Object.assign(document.createElement('canvas'), { width: image.width, height: image.height });
    canvas.getContext('2d').drawImage(image, 0, 0, image.width, image.height);
    return [...canvas.getContext('2d').getImageData(2, 2, 1, 1).data];
}"""


def page_of(cost: Path, page: Path, *quality: Path) -> Path:
    run = CostRun(RunFolder(cost), cost.name)
    parts: list[Any] = [(Tables(read_runs([path])), ()) for path in quality]
    return write_page([*parts, (CostTables(run), draw_cost(run))], page)


def column(tab: Any, table: str, head: str) -> Any:
    found = tab.locator("table", has=tab.locator("caption", has_text=table)).first
    found.locator("thead button", has_text=head).first.click()
    return [text.strip() for text in found.locator("tbody th").all_text_contents()]


def test_costs_sort_by_their_numbers_and_nothing_else_is_needed(look, made_cost, tmp_path, hostile):
    cost = made_cost(relabel={"dreambooth": hostile})
    tab = look(page_of(cost, tmp_path / "index.html"))
    assert column(tab, "Cost", "customize s") == ["text-only", "fastcomposer", hostile, "custom-diffusion"]
    assert column(tab, "Cost", "image s") == ["text-only", hostile, "fastcomposer", "custom-diffusion"]
    assert column(tab, "Seconds per image", "1")[-1] == "custom-diffusion"
    assert tab.locator("#samples, dialog, .filters").count() == 0
    assert tab.locator(".figures img").count() == 3
    assert tab.evaluate("document.scripts.length") == 1
    assert tab.evaluate("window.hacked") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_page_into_the_dark(look, made_cost, tmp_path, scheme):
    tab = look(page_of(made_cost(), tmp_path / "index.html"), color_scheme=scheme)
    assert (sum(tab.evaluate(PIXEL)[:3]) < 200) == (scheme == "dark")


def test_quality_and_cost_share_a_page_that_fits_a_phone(look, made_cost, make_run, tmp_path):
    page = page_of(made_cost(), tmp_path / "index.html", make_run().path)
    tab = look(page, width=390, height=844, is_mobile=True, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator("#results h3").all_text_contents() == ["made-up", "cost"]
    assert tab.locator("#gallery .tile").count() > 0
