"""Runs as records of known content, without a model; a real Chromium that opens their pages from disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fc_bench.metrics.identity import Identity
from fc_bench.metrics.prompt_consistency import PromptConsistency
from fc_bench.reports.frame import alike, read_runs
from fc_bench.reports.page.page import write_page
from fc_bench.reports.quality.output import Tables

REFERENCE = Path(__file__).parents[3] / "reports" / "reference" / "pocket" / "run.json"
SINGLE = {"a photo of a {subject} in the snow": "context", "a sketch of a {subject}": "style"}
TROUBLE = (
    ("dreambooth", "p2", "a photo of a {subject} in the snow"),
    ("fastcomposer", "p4", "a sketch of a {subject}"),
    ("text-only", "p1", "a photo of a {subject} in the snow"),
)
"""What failed, what was not reached and what has no score in the run `trouble`."""
MULTI = {"a photo of {subjects} on a boat": "context"}
FINISHED = "2027-01-02T03:04:05+00:00"
SIDE = 32
"""Pixels of the images."""
NO_CHROMIUM = (
    "The page's tests drive a real Chromium and none is found: install one (Debian: apt-get install chromium; "
    "elsewhere: python -m playwright install chromium), or name it in FC_BENCH_CHROMIUM. "
    'python -m pytest -m "not slow and not browser" leaves these tests out.'
)


@dataclass(frozen=True)
class Asked:
    """What a made-up run consists of; `failed` and `missing` are (method, subjects, template)."""

    methods: Sequence[str] = ("text-only", "fastcomposer", "dreambooth")
    nouns: Mapping[str, str] = field(default_factory=lambda: {"p1": "man", "p2": "woman", "p3": "man", "p4": "woman"})
    single: Mapping[str, str] = field(default_factory=lambda: SINGLE)
    multi: Mapping[str, str] = field(default_factory=lambda: MULTI)
    pairs: Sequence[tuple[str, str]] = (("p1", "p2"), ("p3", "p4"))
    images: bool = True
    one_image: bool = False
    failed: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    missing: Sequence[tuple[str, str, str]] = ()
    unscored: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    description: str = "people who do not exist"


@dataclass(frozen=True)
class Made:
    """A run folder with its records by sample id: `samples`, and `scores` as column -> value."""

    path: Path
    samples: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, float | None]]

    @property
    def page(self) -> Path:
        """The run's page, once it is written."""
        return self.path / "report" / "index.html"

    def of(self, method: str, subjects: str, template: str) -> dict[str, Any]:
        """The record of one sample."""
        wanted = (method, subjects.split("+"), template)
        return next(r for r in self.samples.values() if (r["method"], r["subjects"], r["template"]) == wanted)


def _identity(method: str, subject: int, prompt: int) -> float:
    """Text-only is worst and dreambooth best by far; people and prompts differ."""
    level = {"text-only": 0.05, "fastcomposer": 0.4, "dreambooth": 0.7}.get(method, 0.5)
    return round(level + 0.01 * ((7 * subject + 3 * prompt) % 11), 6)


def write_run(path: Path, asked: Asked) -> Made:
    """A finished run of what is asked, with images that differ."""
    settings = json.loads(REFERENCE.read_text())
    settings["suite"] |= {
        "name": "made-up",
        "version": "3",
        "description": asked.description,
        "subjects": [{"id": name, "noun": noun, "photographs": None} for name, noun in asked.nouns.items()],
        "photograph_digests": {name: f"digest of {name}" for name in asked.nouns},
    }
    settings["columns"] = {
        "identity": [asdict(column) for column in Identity.columns],
        "prompt-consistency": [asdict(column) for column in PromptConsistency.columns],
    }
    settings["methods"] = {name: {"label": name, "name": name, "options": {}, "weights": {}} for name in asked.methods}
    settings |= {"remarks": [], "left_out": [], "references": {"text-only": 0, "fastcomposer": 1}}
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(settings))
    if asked.images:
        (path / "references").mkdir()
        for number, name in enumerate(asked.nouns):
            Image.new("RGB", (SIDE, SIDE), (40 * number % 250, 200, 40)).save(path / "references" / f"{name}.png")
    sets: list[tuple[tuple[str, ...], Mapping[str, str]]] = [((name,), asked.single) for name in asked.nouns]
    sets += [(pair, asked.multi) for pair in asked.pairs]
    made = Made(path, {}, {})
    lines: dict[str, list[dict[str, Any]]] = {"plan": [], "samples": [], "scores": [], "jobs": []}
    for method in asked.methods:
        for place, (subjects, prompts) in enumerate(sets):
            lines["jobs"].append(_job(method, "+".join(subjects)))
            for number, (template, category) in enumerate(prompts.items()):
                key = (method, "+".join(subjects), template)
                planned = _planned(asked, method, subjects, template, category, len(made.samples))
                lines["plan"].append(planned)
                record = {
                    **planned,
                    "generated_prompt": f"{planned['prompt']} <|image|>",
                    "finished": FINISHED,
                }
                made.samples[planned["id"]] = record
                if key in asked.missing:
                    record["status"] = "missing"
                    continue
                lines["samples"].append(record)
                if key in asked.failed:
                    record |= {"status": "error", "error": _failure(asked.failed[key])}
                    continue
                folder = "".join(letter if letter.isalnum() or letter in "-._=" else "_" for letter in method)
                image = f"images/{folder}/{'+'.join(subjects)}/{planned['id']}.png"
                if asked.one_image:
                    image = "images/one.png"
                record |= {"status": "ok", "image": image, "seconds": 0.25, "batch": 4, "peak_memory_bytes": 2**30}
                if asked.images and not (path / image).exists():
                    (path / image).parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (SIDE, SIDE), (250, 10 * place, 60 * number)).save(path / image)
                lines["scores"] += _scores(made, record, _identity(method, place, number), asked.unscored.get(key))
    for row, value in (("ceiling", 0.9), ("floor", 0.02)):
        for name in asked.nouns:
            values = {"identity": value}
            anchor = {"sample": f"anchor:{row}:{name}:0", "row": row, "metric": "identity", "subjects": [name]}
            lines["scores"].append({**anchor, "status": "ok", "values": values, "details": {}})
    for name, records in lines.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return made


def _planned(
    asked: Asked, method: str, subjects: Sequence[str], template: str, category: str, number: int
) -> dict[str, Any]:
    nouns = [asked.nouns[name] for name in subjects]
    prompt = template.replace("{subject}", nouns[0]).replace("{subjects}", " and ".join(f"a {noun}" for noun in nouns))
    seed = sum(map(ord, template)) * 1001
    name = f"{number * 7919 + 1:x}".rjust(5, "0")[::-1].ljust(20, "0")
    return {
        "id": name,
        "method": method,
        "subjects": list(subjects),
        "category": category,
        "template": template,
        "prompt": prompt,
        "index": 0,
        "seed": seed,
        "shared_key": name,
    }


def _failure(message: str) -> dict[str, str]:
    trace = f'Traceback (most recent call last):\n  File "x.py", line 3, in draw\nValueError: {message}\n'
    return {"type": "ValueError", "message": f"ValueError: {message}", "traceback": trace}


def _scores(made: Made, record: dict[str, Any], identity: float, unscored: str | None) -> list[dict[str, Any]]:
    """A line a metric: faces side by side, one for each subject, each most like its own."""
    count = len(record["subjects"])
    names = [column.name for column in Identity.columns]
    values: dict[str, float | None] = dict.fromkeys(names, identity)
    values |= {"detection_rate": 1.0, "face_count": 1.0, "told_apart": 1.0 if count > 1 else None}
    width = SIDE / count
    faces = [{"box": [width * n + 2, 3.0, width * (n + 1) - 2, 29.0], "score": 0.875} for n in range(count)]
    similarities = [[identity if row == face else 0.125 for face in range(count)] for row in range(count)]
    details = {"faces": faces, "similarities": similarities, "matched": {str(n): n for n in range(count)}}
    consistency = round(1 - identity, 6)
    made.scores[record["id"]] = {**values, "prompt_consistency": consistency}
    head = {"sample": record["id"], "status": "ok"}
    second = {**head, "metric": "prompt-consistency", "values": {"prompt_consistency": consistency}, "details": {}}
    if unscored is not None:
        made.scores[record["id"]]["prompt_consistency"] = None
        trace = f"Traceback (most recent call last):\nRuntimeError: {unscored}\n"
        second = {"sample": record["id"], "metric": "prompt-consistency", "status": "error", "error": trace}
    return [{**head, "metric": "identity", "values": values, "details": details}, second]


def _job(method: str, subjects: str) -> dict[str, Any]:
    seconds = {"text-only": 0.0, "fastcomposer": 0.0, "ten": 10.5}.get(method, 6.5)
    return {
        "method": method,
        "set": subjects,
        "status": "ok",
        "seconds": seconds,
        "steps": 60 if seconds else 0,
        "seconds_per_step": 0.1 if seconds else None,
        "shared_seconds": 0.0,
        "peak_memory_bytes": 2**30,
        "artefact_bytes": 2**20 if seconds else 0,
        "load_seconds": 0.1,
    }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Made]:
    """Writes a run folder (`name`) of what is asked."""
    return lambda name="made-up", **asked: write_run(tmp_path / name, Asked(**asked))


@pytest.fixture(scope="session")
def page_of() -> Callable[..., Path]:
    """Writes the page of runs, without figures, into the first one's report/ or below `out`."""

    def write(*folders: Path, images: Any = "link", out: Path | None = None) -> Path:
        parts = [(Tables(group), ()) for group in alike(read_runs(folders))]
        return write_page(parts, (out or folders[0] / "report") / "index.html", images)

    return write


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, page_of: Callable[..., Path]) -> Made:
    """A finished run with its page, for all tests that only look at it."""
    made = write_run(tmp_path_factory.mktemp("runs") / "made-up", Asked())
    page_of(made.path)
    return made


@pytest.fixture(scope="session")
def trouble(tmp_path_factory: pytest.TempPathFactory, page_of: Callable[..., Path]) -> Made:
    """One in which a sample failed, one was not reached and one has no score, with its page."""
    failed, missing, unscored = TROUBLE
    asked = Asked(failed={failed: "no room"}, missing=[missing], unscored={unscored: "odd prompt"})
    made = write_run(tmp_path_factory.mktemp("runs") / "trouble", asked)
    page_of(made.path)
    return made


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright; without one the tests fail and say what to install."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail('The page\'s tests need Playwright: pip install -c constraints.txt -e ".[test]".', pytrace=False)
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        found = [os.environ.get("FC_BENCH_CHROMIUM"), *map(shutil.which, names), playwright.chromium.executable_path]
        program = next((path for path in found if path and Path(path).exists()), None)
        if program is None:
            pytest.fail(NO_CHROMIUM, pytrace=False)
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=["--no-sandbox", "--disable-gpu", *quiet]
        )
        yield browser
        browser.close()


@pytest.fixture
def look(chromium) -> Iterator[Callable[..., Any]]:
    """Opens a page from disk; at the end nothing was logged, nothing failed and nothing but files was asked for."""
    contexts, said = [], []

    def open_page(page: Path, hash: str = "", width: int = 1280, height: int = 900, **options: Any) -> Any:
        options = {"viewport": {"width": width, "height": height}, "reduced_motion": "reduce", **options}
        context = chromium.new_context(**options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(60_000)
        tab.on("console", lambda message: said.append(message.text) if "Autofocus" not in message.text else None)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        tab.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}") or dialog.dismiss())
        tab.on("request", lambda request: said.append(request.url) if not _is_local(request.url) else None)
        tab.goto(page.as_uri() + hash)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def _is_local(url: str) -> bool:
    return url.startswith(("file:", "data:"))
