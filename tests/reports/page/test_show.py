"""`fc-bench show` and `fc-bench report`: one sample in full, and the page beside the tables."""

from __future__ import annotations

import json
import shlex
import webbrowser

import pytest
from PIL import Image

from fc_bench.reports.escaping import visible
from fc_bench.reports.repetition import repeat_command

SNOW, BOAT = "a photo of a {subject} in the snow", "a photo of {subjects} on a boat"


@pytest.fixture
def browser(monkeypatch):
    """What is given to the browser to open; there is one unless `absent`."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    return opened


def test_everything_recorded_of_a_sample_is_printed(fc_bench, run):
    record = run.of("fastcomposer", "p1+p2", BOAT)
    done = fc_bench("show", run.path, record["id"])
    assert done.code == 0, done.err
    values = run.scores[record["id"]]
    for part in (
        "p1 (man), p2 (woman)",
        record["generated_prompt"],
        record["prompt"],
        str(record["seed"]),
        "finished",
        "0.25 s, one of 4 generated together",
        "1.00 GiB",
        str(run.path / record["image"]),
        "fc-bench run --workers 1 -m fastcomposer --out runs/again",
    ):
        assert part in done.out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if line.startswith("│")]
    assert ["identity preservation", f"{values['identity']:.3f}"] in [row[:2] for row in rows]
    assert ["prompt consistency", f"{values['prompt_consistency']:.3f}"] in [row[:2] for row in rows]
    identity = f"{values['identity']:.3f}"
    assert ["1", "2.0, 3.0, 14.0, 29.0", "0.88", identity, "0.125", "p1"] in rows
    assert ["2", "18.0, 3.0, 30.0, 29.0", "0.88", "0.125", identity, "p2"] in rows


def test_beginning_of_the_id_and_the_image_s_name_are_enough(fc_bench, run):
    record = run.of("dreambooth", "p1", SNOW)
    by_id = fc_bench("show", run.path, record["id"])
    assert fc_bench("show", run.path, record["id"][:5]).out == by_id.out
    assert fc_bench("show", run.path, run.path / record["image"]).out == by_id.out


def test_none_and_several_matches_are_one_sentence(fc_bench, run):
    none = fc_bench("show", run.path, "xyz")
    assert (none.code, none.out) == (2, "")
    assert none.err.count("\n") == 1
    assert 'no sample whose id begins with "xyz"' in none.err
    first = next(iter(run.samples))[:1]
    matching = [name for name in run.samples if name.startswith(first)]
    several = fc_bench("show", run.path, first)
    assert several.code == 2
    assert f"begins the ids of {len(matching)} samples" in several.err
    assert matching[0] in several.err
    assert several.err.count("\n") == 1
    assert fc_bench("show", run.path, "").code == 2


def test_failed_missing_and_unscored_samples_say_why(fc_bench, trouble):
    failed = fc_bench("show", trouble.path, trouble.of("dreambooth", "p2", SNOW)["id"])
    assert failed.code == 0
    assert "ValueError: no room" in failed.out
    assert 'File "x.py", line 3, in draw' in failed.out
    missing = fc_bench("show", trouble.path, trouble.of("fastcomposer", "p4", "a sketch of a {subject}")["id"])
    assert "not reached" in missing.out
    unscored = fc_bench("show", trouble.path, trouble.of("text-only", "p1", SNOW)["id"])
    assert "RuntimeError: odd prompt" in unscored.out


def test_open_draws_the_boxes_below_the_report(fc_bench, run, browser):
    record = run.of("fastcomposer", "p1+p2", BOAT)
    done = fc_bench("show", run.path, record["id"], "--open")
    assert done.code == 0, done.err
    file = run.path / "report" / "samples" / f"{record['id']}.png"
    assert browser == [file.as_uri()]
    with Image.open(file) as drawn, Image.open(run.path / record["image"]) as image:
        assert drawn.size == (768, 768)
        scale, plain = 24, image.convert("RGB").getpixel((16, 16))
        assert drawn.getpixel((8 * scale, 16 * scale)) == plain
        on_the_edges = {drawn.getpixel((x * scale, 16 * scale)) for x in (2, 14)}
        assert on_the_edges == {(45, 212, 191)}


def test_open_without_an_image_says_so(fc_bench, make_run, browser):
    run = make_run(images=False, failed={("dreambooth", "p1", SNOW): "no room"})
    for key, reason in (
        (("dreambooth", "p1", SNOW), "the sample failed"),
        (("dreambooth", "p2", SNOW), "does not lie"),
    ):
        done = fc_bench("show", run.path, run.of(*key)["id"], "--open")
        assert done.code == 2
        assert reason in done.err
    assert browser == []


def test_open_tells_a_damaged_image_in_one_sentence(fc_bench, make_run, browser):
    run = make_run(one_image=True)
    files = list(run.path.rglob("images/**/*.png"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:60])
    named = {record["image"]: record["id"] for record in map(json.loads, (run.path / "samples.jsonl").open())}
    done = fc_bench("show", run.path, named[str(files[0].relative_to(run.path))], "--open")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "cannot be read as an image" in done.err
    assert browser == []


def test_terminal_is_not_steered_by_what_is_recorded(fc_bench, make_run):
    hostile = "snow \x1b[2J\x07 \u202egnp.exe [red]no markup[/red]"
    run = make_run(single={f"a {{subject}} {hostile}": "context"}, failed={})
    done = fc_bench("show", run.path, run.of("dreambooth", "p1", f"a {{subject}} {hostile}")["id"])
    assert done.code == 0, done.err
    assert not set("\x1b\x07\u202e") & set(done.out)
    assert r"snow \u001b[2J\u0007 \u202egnp.exe [red]no markup[/red]" in done.out


def test_visible_text_keeps_what_is_written_and_spells_out_the_rest():
    assert visible("Ünïcödé 漢字 עברית 👩‍👧\tand\nlines") == "Ünïcödé 漢字 עברית 👩‍👧\tand\nlines"
    assert visible("a\x00b\x9bc\u2067d\ufeffe\ud800f\U000e0001") == r"a\u0000b\u009bc\u2067d\ufeffe\ud800f\U000e0001"


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ("fc-bench run", "fc-bench run -m lora --out runs/again"),
        (
            "fc-bench run my.yaml -m lora -m other --out runs/x --device cpu",
            "fc-bench run my.yaml --device cpu -m lora --out runs/again",
        ),
        (
            "fc-bench run --method=lora --option=lora.rank=4 -o other.alpha=1 -mother --out=x",
            "fc-bench run -m lora -o lora.rank=4 --out runs/again",
        ),
        (
            "fc-bench run 'my suite.yaml' -o 'lora.prompt=a b' --retry-errors",
            "fc-bench run 'my suite.yaml' --retry-errors -m lora -o 'lora.prompt=a b' --out runs/again",
        ),
        (
            "fc-bench sweep lora.rank 1,4 --out x -o lora.steps=9",
            "fc-bench sweep lora.rank 1,4 -o lora.steps=9 --out runs/again",
        ),
        ("fc-bench score images --suite my.yaml", None),
        ("python make.py", None),
    ],
)
def test_command_that_makes_a_method_again_leaves_the_others_out(given, again):
    methods = {"lora[rank=4]": {"name": "lora"}, "other": {"name": "other"}}
    settings = {"commands": [{"command": given, "started": "2026-01-01"}], "methods": methods}
    command = repeat_command(settings, "lora[rank=4]")
    assert (command and shlex.split(command)) == (again and shlex.split(again))


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ("fc-bench cost -m a --budget 1m -o a.x=1 --out=x", "fc-bench cost -m a --budget 1m -o a.x=1 --out runs/again"),
        ("fc-bench sweep a.x 0:1:0.5", "fc-bench sweep a.x 0:1:0.5 --out runs/again"),
        ("fc-bench score images --suite my.yaml", "fc-bench score images --suite my.yaml --out runs/again"),
        ("fc-bench compare a b", None),
        ("fc-bench", None),
    ],
)
def test_command_that_made_a_folder_is_repeated_into_another_one(given, again):
    command = repeat_command({"commands": [{"command": given, "started": "2026-01-01"}], "methods": {}})
    assert (command and shlex.split(command)) == (again and shlex.split(again))


def test_command_is_the_one_at_work_when_the_sample_was_finished():
    commands = [{"command": f"fc-bench run -m a --batch-size {n}", "started": f"2026-01-0{n}"} for n in (1, 2, 3)]
    settings = {"commands": commands, "methods": {"a": {"name": "a"}}}
    assert "--batch-size 2" in str(repeat_command(settings, "a", "2026-01-02T12:00:00"))
    assert "--batch-size 3" in str(repeat_command(settings, "a"))
    assert "--batch-size 1" in str(repeat_command(settings, "a", "2025-01-01"))


def test_report_writes_the_page_beside_the_tables_and_opens_it(fc_bench, make_run, browser):
    run = make_run()
    done = fc_bench("report", run.path, "--no-figures", "--open")
    assert done.code == 0, done.err
    assert f"wrote {run.page}" in done.out
    assert browser == [run.page.as_uri()]
    assert "../images/" in run.page.read_text()
    assert fc_bench("report", run.path, "--no-figures", "--images", "embed").code == 0
    assert "../images/" not in run.page.read_text()


def test_report_of_several_runs_has_one_page(fc_bench, make_run, tmp_path):
    one, other = make_run("one"), make_run("other")
    settings = json.loads((other.path / "run.json").read_text())
    settings["suite"]["version"] = "4"
    (other.path / "run.json").write_text(json.dumps(settings))
    done = fc_bench("report", one.path, other.path, "--no-figures", "--out", tmp_path / "both")
    assert done.code == 0, done.err
    text = (tmp_path / "both" / "index.html").read_text()
    assert text.count("<caption>One subject</caption>") == 2
    assert "../one/images/" in text
    assert "../other/images/" in text


def test_browser_that_does_not_start_is_said(fc_bench, make_run, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    run = make_run()
    done = fc_bench("report", run.path, "--no-figures", "--open")
    assert done.code == 0
    assert f"open {run.page} yourself" in done.out


def test_page_that_cannot_be_written_is_one_sentence_and_leaves_the_old_one(fc_bench, make_run, monkeypatch):
    import fc_bench.reports.page.page as page

    run = make_run()
    run.page.parent.mkdir()
    run.page.write_text("the old one")

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write_atomically", full)
    done = fc_bench("report", run.path, "--no-figures")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "index.html cannot be written" in done.err
    assert run.page.read_text() == "the old one"
