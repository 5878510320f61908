"""The page in a real browser: sorting, choosing, looking at a sample, keyboard, phone, contrast, hostile text."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser

SNOW, SKETCH, BOAT = "a photo of a {subject} in the snow", "a sketch of a {subject}", "a photo of {subjects} on a boat"
FAILED, MISSING, UNSCORED = ("dreambooth", "p2", SNOW), ("fastcomposer", "p4", SKETCH), ("text-only", "p1", SNOW)
HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">" \' & \u202e\x1b[2J'
TEXTS = "() => [...document.querySelectorAll('#gallery .tile:not(.reference)')].map(tile => tile.dataset.key)"


def keys(tab: Any) -> list[str]:
    """The samples that the gallery shows, in order."""
    return tab.evaluate(TEXTS)


def names(tab: Any, table: str) -> list[str]:
    """The first cells of a table's rows, in order."""
    rows = tab.locator("table", has=tab.locator("caption", has_text=table)).first.locator("tbody th")
    return [text.strip() for text in rows.all_text_contents()]


def opened(tab: Any, record: dict[str, Any]) -> Any:
    """The dialog, once it shows this sample."""
    shows = "name => document.querySelector('dialog[open] .body')?.textContent.includes(name)"
    tab.wait_for_function(shows, arg=record["id"])
    return tab.locator("dialog[open]")


def seen(tab: Any, images: Any) -> None:
    """Wait until all these images are there, scrolling to them."""
    images.first.scroll_into_view_if_needed()
    tab.wait_for_function(
        "images => images.every(i => i.complete && i.naturalWidth === 32)", arg=images.element_handles()
    )


def pick(tab: Any, name: str, value: str) -> None:
    """Choose in one of the filters."""
    tab.locator(f".filters select[name={name}]").select_option(value)


def test_a_click_on_a_title_sorts_by_number_and_anchors_stay_below(look, make_run, page_of):
    run = make_run(methods=("text-only", "fastcomposer", "dreambooth", "ten"))
    tab = look(page_of(run.path))
    head = tab.locator("table").first.locator("thead th").nth(2)
    planned = ["text-only", "fastcomposer", "dreambooth", "ten"]
    anchors = ["ceiling (own photographs)", "floor (other person)"]
    assert names(tab, "One subject") == [*planned, *anchors]
    best_first = ["dreambooth", "ten", "fastcomposer", "text-only"]
    for sort, expected in (("descending", best_first), ("ascending", best_first[::-1]), (None, planned)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == sort
        assert names(tab, "One subject") == [*expected, *anchors]
    tab.locator("table").first.locator("thead button").first.click()
    assert names(tab, "One subject") == [*sorted(planned), *anchors]
    cost = tab.locator("table", has=tab.locator("caption", has_text="Cost"))
    cost.locator("thead button", has_text="s to customize").click()
    assert names(tab, "Cost")[-4:] == ["dreambooth", "dreambooth", "ten", "ten"]  # 6.50 before 10.50


def test_filters_show_the_samples_that_the_records_have(look, trouble):
    tab = look(trouble.page)
    tab.get_by_label("one by one").check()

    def expected(fits: Callable[[dict[str, Any]], bool]) -> list[str]:
        return [name for name, record in trouble.samples.items() if fits(record)]

    assert keys(tab) == expected(lambda record: True)
    tab.get_by_label("fastcomposer", exact=True).check()
    assert keys(tab) == expected(lambda record: record["method"] == "fastcomposer")
    tab.get_by_label("dreambooth", exact=True).check()
    assert keys(tab) == expected(lambda record: record["method"] != "text-only")
    pick(tab, "subject", "p1")
    assert keys(tab) == expected(lambda record: record["method"] != "text-only" and "p1" in record["subjects"])
    pick(tab, "subject", "p1+p2")
    assert keys(tab) == expected(lambda r: r["method"] != "text-only" and r["subjects"] == ["p1", "p2"])
    tab.locator("[type=reset]").click()
    pick(tab, "category", "style")
    assert keys(tab) == expected(lambda record: record["category"] == "style")
    tab.locator("[type=reset]").click()
    tab.locator("[name=q]").fill("Woman SNOW")
    assert keys(tab) == expected(lambda record: "woman" in record["prompt"] and "snow" in record["prompt"])
    assert tab.locator(".count").text_content().startswith("6 of 30 samples")
    named = next(iter(trouble.samples))
    tab.locator("[name=q]").fill(named[:8])
    assert keys(tab) == [named]
    tab.locator("[name=q]").fill("nothing like it")
    assert keys(tab) == []
    assert "No sample matches" in tab.locator("#gallery").text_content()


@pytest.mark.parametrize(("status", "key"), [("error", FAILED), ("missing", MISSING)])
def test_status_finds_what_failed_and_what_was_not_reached(look, trouble, status, key):
    tab = look(trouble.page)
    pick(tab, "status", status)
    assert keys(tab) == [trouble.of(*key)["id"]]


def test_worst_first_is_the_order_of_the_records_values(look, trouble):
    tab = look(trouble.page, "#view=single")
    pick(tab, "sort", "identity:worst")
    shown = keys(tab)
    values = [trouble.scores.get(name, {}).get("identity") for name in shown]
    measured = [value for value in values if value is not None]
    assert measured == sorted(measured)
    assert values[len(measured) :] == [None, None]
    pick(tab, "sort", "prompt_consistency:best")
    values = [trouble.scores.get(name, {}).get("prompt_consistency") for name in keys(tab)]
    measured = [value for value in values if value is not None]
    assert measured == sorted(measured, reverse=True)
    assert len(values) - len(measured) == 3
    first = tab.locator("#gallery .tile .value").first.text_content()
    assert first == f"{max(measured):.3f}"


def test_a_row_compares_the_methods_on_one_prompt_and_seed(look, run):
    tab = look(run.page)
    row = tab.locator(".row").first
    assert "a photo of a man in the snow" in row.locator("h3").text_content()
    records = [run.of(method, "p1", SNOW) for method in ("text-only", "fastcomposer", "dreambooth")]
    assert row.locator("a.tile").evaluate_all("tiles => tiles.map(t => t.dataset.key)") == [r["id"] for r in records]
    shown = row.locator("a.tile .value").all_text_contents()
    assert shown == [f"{run.scores[record['id']]['identity']:.3f}" for record in records]
    assert row.locator(".value.best").text_content() == shown[2]
    assert row.locator("img").count() == 4
    seen(tab, row.locator("img"))


def test_a_sample_opens_with_everything_recorded_of_it(look, run):
    record = run.of("fastcomposer", "p1+p2", BOAT)
    tab = look(run.page)
    tab.locator(f"[data-key='{record['id']}']").click()
    dialog = opened(tab, record)
    text = dialog.inner_text()
    values = run.scores[record["id"]]
    for part in (
        "fastcomposer",
        "p1+p2",
        record["generated_prompt"],
        record["prompt"],
        str(record["seed"]),
        record["image"],
        record["id"],
        "0.25 s, one of 4",
        f"{values['identity']:.3f}",
        f"{values['prompt_consistency']:.3f}",
        "fc-bench run --workers 1 -m fastcomposer --out runs/again",
    ):
        assert part in text
    assert dialog.locator(".faces tbody td.best").all_text_contents() == [f"{values['identity']:.3f} matched"] * 2
    assert dialog.locator(".faces tbody tr").first.locator("td").all_text_contents()[2] == "0.125"
    seen(tab, dialog.locator(".stage img, .person img"))
    assert dialog.locator(".person img").count() == 2
    boxes = dialog.locator("rect:not(.halo)").evaluate_all(
        "rects => rects.map(r => ['x', 'y', 'width', 'height'].map(name => Number(r.getAttribute(name))))"
    )
    assert boxes == [[2, 3, 12, 26], [18, 3, 12, 26]]
    labels = dialog.locator(".boxes text").all_text_contents()
    assert labels == [f"p1 {values['identity']:.3f}", f"p2 {values['identity']:.3f}"]
    drawn, image = (dialog.locator(part).first.bounding_box() for part in (".boxes rect:not(.halo)", ".stage img"))
    assert (drawn["x"] - image["x"]) / image["width"] == pytest.approx(2 / 32, abs=0.01)
    dialog.locator(".switch input").uncheck()
    assert not dialog.locator(".boxes").is_visible()


def test_arrow_keys_go_through_what_is_chosen_and_escape_leads_back(look, run):
    chosen = [name for name, record in run.samples.items() if record["method"] == "dreambooth"]
    tab = look(run.page, "#view=single&method=dreambooth")
    tab.locator(f"[data-key='{chosen[0]}']").focus()
    tab.keyboard.press("Enter")
    opened(tab, run.samples[chosen[0]])
    for step, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        tab.keyboard.press(step)
        opened(tab, run.samples[chosen[place]])
        assert tab.evaluate("location.hash") == f"#sample={chosen[place]}"
    tab.keyboard.press("Escape")
    tab.locator("dialog").wait_for(state="hidden")
    # The browser gives the focus back to where it was before; the page then moves it to the sample that was shown last.
    tab.wait_for_function(f"document.activeElement.dataset.key === '{chosen[1]}'")
    assert tab.evaluate("location.hash") == "#view=single&method=dreambooth"


def test_an_address_leads_to_its_sample_and_back_closes_it(look, run):
    record = run.of("text-only", "p3", SKETCH)
    tab = look(run.page, f"#sample={record['id']}")
    opened(tab, record)
    other = run.of("dreambooth", "p3", SKETCH)
    tab.locator(f"dialog [data-key='{other['id']}']").click()
    opened(tab, other)
    tab.go_back()
    opened(tab, record)
    tab.goto(run.page.as_uri() + "#sample=unknown")
    tab.locator("dialog").wait_for(state="hidden")
    assert len(keys(tab)) == len(run.samples)


def test_failures_give_reason_and_traceback_and_lead_to_their_samples(look, trouble):
    tab = look(trouble.page)
    failures = tab.locator("#failures")
    assert "1 sample without an image" in failures.inner_text()
    assert "1 sample without a value of prompt-consistency" in failures.inner_text()
    failures.locator("article", has_text="no room").locator("a").click()
    dialog = opened(tab, trouble.of(*FAILED))
    assert "ValueError: no room" in dialog.locator(".reason").inner_text()
    assert 'File "x.py", line 3, in draw' in dialog.locator("pre").first.inner_text()
    assert "This sample failed" in dialog.locator(".stage").inner_text()
    tab.goto(tab.url.split("#")[0] + f"#sample={trouble.of(*UNSCORED)['id']}")
    opened(tab, trouble.of(*UNSCORED))
    dialog.locator("summary", has_text="prompt-consistency: RuntimeError: odd prompt").click()
    assert "RuntimeError: odd prompt" in dialog.locator(".trace pre").inner_text()
    assert dialog.locator("dt", has_text="prompt consistency").locator("..").locator("dd").inner_text() == "–"


def test_hostile_text_is_shown_and_never_run(look, make_run, page_of):
    run = make_run(
        methods=("text-only", HOSTILE),
        nouns={"p1": HOSTILE, "p2": "man", "p3": "man", "p4": "man"},
        single={f"a {{subject}} {HOSTILE}": "context"},
        multi={f"{HOSTILE} {{subjects}}": HOSTILE},
        failed={(HOSTILE, "p2", f"a {{subject}} {HOSTILE}"): HOSTILE},
        description=HOSTILE,
    )
    tab = look(page_of(run.path))
    shown = HOSTILE.replace("\u202e\x1b", "\\u202e\\u001b")
    assert shown in tab.locator("body").inner_text()
    broken = run.of(HOSTILE, "p2", f"a {{subject}} {HOSTILE}")
    fine = run.of(HOSTILE, "p1+p2", f"{HOSTILE} {{subjects}}")
    for record in (broken, fine):
        tab.goto(tab.url.split("#")[0] + f"#sample={record['id']}")
        dialog = opened(tab, record)
        assert shown in dialog.inner_text()
    tab.keyboard.press("Escape")
    tab.locator("[name=q]").fill("</script>")
    pick(tab, "category", shown)
    assert len(keys(tab)) == 4
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img[src='x'], [onerror]").count() == 0
    assert tab.evaluate("document.scripts.length") == 2
    assert tab.evaluate("document.title") == "made-up – fc-bench report"


def test_policy_forbids_the_network_foreign_programs_and_markup_from_text(chromium, run):
    tab = chromium.new_page()
    tab.goto(run.page.as_uri())
    refused = """attempt => new Promise((done, late) => {
        document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective), { once: true });
        setTimeout(() => late(new Error('nothing was refused')), 30000);
        new Function(attempt)();
    })"""
    attempts = {
        "fetch('https://example.org').catch(() => {})": "connect-src",
        "new Image().src = 'https://example.org/x.png'": "img-src",
        "document.body.append(Object.assign(document.createElement('iframe'), {src: 'https://x.org'}))": "frame-src",
        "document.body.setAttribute('style', 'color: red')": "style-src-attr",
    }
    for attempt, directive in attempts.items():
        assert tab.evaluate(refused.replace("new Function(attempt)()", attempt), "") == directive
    for attempt in ("document.body.innerHTML = '<b>x</b>'", "document.createElement('script').text = 'hacked = 1'"):
        with pytest.raises(Exception, match="This document requires 'Trusted"):
            tab.evaluate(attempt)
    tab.close()


@pytest.mark.parametrize("prompts", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_thousands_of_samples_keep_the_document_small(look, make_run, page_of, prompts):
    nouns = {f"s{number}": "man" for number in range(20)}
    asked = {f"a photo of a {{subject}} number {number:04}": "context" for number in range(prompts)}
    run = make_run(methods=("fastcomposer", "dreambooth"), nouns=nouns, single=asked, pairs=(), one_image=True)
    total = 2 * 20 * prompts
    tab = look(page_of(run.path))
    assert tab.locator(".count").text_content().startswith(f"{total} samples")

    def attached() -> tuple[int, int]:
        return tab.evaluate("[document.querySelectorAll('*').length, document.querySelectorAll('#gallery img').length]")

    for view in ("by prompt", "one by one"):
        tab.get_by_label(view).check()
        nodes, images = attached()
        assert nodes < 3000
        assert images <= 12 * 3 + 60
        assert tab.locator("#gallery img[loading=lazy]").count() == images
    tab.locator("[name=q]").fill("photo 7")
    wanted = [name for name, record in run.samples.items() if "7" in record["prompt"]]
    assert tab.locator(".count").text_content().startswith(f"{len(wanted)} of {total} samples")
    tab.locator(".forth").click()
    assert tab.locator(".place").text_content() == f"61–120 of {len(wanted)}"
    assert keys(tab) == wanted[60:120]


def test_records_without_images_make_a_page_without_broken_ones(look, make_run, page_of):
    run = make_run(images=False)
    tab = look(page_of(run.path))
    assert tab.locator("img").count() == 0
    assert "The images of this run are missing" in tab.locator("#samples").inner_text()
    record = run.of("dreambooth", "p1", SNOW)
    assert f"{run.scores[record['id']]['identity']:.3f}" in tab.locator(".row").first.inner_text()
    tab.goto(tab.url.split("#")[0] + f"#sample={record['id']}")
    assert "The image is missing" in opened(tab, record).inner_text()


def test_embedded_page_shows_its_images_anywhere(look, make_run, tmp_path, page_of):
    run = make_run()
    page = page_of(run.path, images="embed")
    alone = tmp_path / "elsewhere" / "page.html"
    alone.parent.mkdir()
    shutil.move(page, alone)
    shutil.rmtree(run.path)
    tab = look(alone)
    assert tab.locator(".row").first.locator("img").count() == 4
    seen(tab, tab.locator(".row").first.locator("img"))


def test_images_of_folders_with_odd_names_are_found(look, make_run, page_of):
    name = "a method[x=0.5, y='50%'] #1?"
    run = make_run("run #1 100%?", methods=("text-only", name))
    tab = look(page_of(run.path, out=run.path.parent / "elsewhere"))
    images = tab.locator(".row").first.locator("img")
    assert images.count() == 3
    seen(tab, images)


@pytest.mark.parametrize("width", [390, 320])
def test_phone_scrolls_in_one_direction(look, trouble, width):
    tab = look(trouble.page, width=width, height=844, is_mobile=True, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    names_column = tab.locator("table tbody th").first.bounding_box()
    assert names_column["width"] > 80
    assert names_column["height"] < 140
    record = trouble.of("dreambooth", "p1+p2", BOAT)
    tab.goto(tab.url.split("#")[0] + f"#sample={record['id']}")
    opened(tab, record)
    assert tab.evaluate("document.getElementById('viewer').scrollWidth") <= width
    assert tab.locator("dialog .stage img").bounding_box()["width"] > 0.8 * width


CONTRAST = """
() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("script, noscript, svg, :disabled, option")) continue;
    if (!element.checkVisibility()) continue;
    const sides = [light(channels(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(...sides) + 0.05) / (Math.min(...sides) + 0.05);
    const words = walker.currentNode.data.trim().slice(0, 30);
    if (ratio < 4.5) weak.push(`${ratio.toFixed(2)} ${element.className} ${words}`);
  }
  return weak;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(look, trouble, scheme):
    tab = look(trouble.page, color_scheme=scheme)
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")
    tab.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert tab.evaluate(CONTRAST) == []
    for key in (FAILED, UNSCORED):
        tab.goto(tab.url.split("#")[0] + f"#sample={trouble.of(*key)['id']}")
        opened(tab, trouble.of(*key))
        assert tab.evaluate(CONTRAST) == []


def test_everything_has_a_name_and_a_place(look, trouble):
    tab = look(trouble.page, f"#sample={trouble.of('dreambooth', 'p1', SNOW)['id']}")
    for one in ("main", "h1", "body > footer", "title"):
        assert tab.locator(one).count() == 1
    nameless = """() => [...document.querySelectorAll(
        'button, input, select, a, img, nav, section, [role=region], dialog')].filter(element => !(
        element.getAttribute('aria-label') || element.getAttribute('aria-labelledby') || element.alt ||
        element.textContent.trim() || element.closest('label')?.textContent.trim()
      )).map(element => element.outerHTML)"""
    assert tab.evaluate(nameless) == []
    ids = tab.locator("[id]").evaluate_all("all => all.map(element => element.id)")
    assert len(ids) == len(set(ids))
    assert tab.locator("th:not([scope])").count() == 0
    assert tab.evaluate("document.documentElement.lang") == "en"


def test_keyboard_alone_sorts_and_opens_with_a_visible_focus(look, run):
    tab = look(run.page)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
    seen = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if tab.evaluate("document.activeElement.closest('.chips') !== null"):
            outline = tab.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle")
        seen.append((tab.evaluate("document.activeElement.outerHTML.slice(0, 60)"), outline))
        if tab.evaluate("document.activeElement.matches('a.tile')"):
            break
    assert [what for what, outline in seen if outline == "none"] == []
    tab.keyboard.press("Enter")
    tab.locator("dialog[open]").wait_for()
    tab.keyboard.press("Escape")
    tab.locator("table").first.locator("thead button").nth(2).focus()
    tab.keyboard.press("Enter")
    assert names(tab, "One subject")[0] == "dreambooth"


def test_without_javascript_the_tables_are_there(look, run):
    tab = look(run.page, java_script_enabled=False)
    assert names(tab, "One subject")[:2] == ["text-only", "fastcomposer"]
    assert "needs JavaScript" in tab.locator("#samples").inner_text()


def test_print_unfolds_and_leaves_the_controls_out(look, run):
    tab = look(run.page, color_scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert not tab.locator(".filters").is_visible()
    assert not tab.locator(".sections").is_visible()
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("caption", has_text="One subject: all measures").is_visible()
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details[open]").count() == 0
