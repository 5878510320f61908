"""What makes fc-bench fast, each beside the plain way of doing it, as ratios measured in turns within one run.

    python tests/benchmarks/speed.py                       # all of it, about ten minutes, into reports/benchmarks.md
    python tests/benchmarks/speed.py --only prefixes ray   # some of it, printed
    python tests/benchmarks/speed.py --turns 1 --subjects 1 --out /tmp/benchmarks.md    # a rehearsal

- prefixes: a run of FastComposer (alpha 0.5) with shared text-only prefixes, beside one without
- adapters: a training step of the tuned methods, beside diffusers' example scripts, where they are (`tuning_speed.py`)
- scoring: identity and prompt consistency of 1,000 images, beside a loop that opens each image and embeds its
  reference, its prompt and itself, with insightface's and transformers' own classes
- harness: a whole job, planned and recorded, beside the method's bare generate
- share: of a default run of two subjects, sampling and customization beside all that follows loading, scoring included
- ray: two workers beside one, on jobs that sleep; how many records a second the driver writes
- authors: a UNet call, a VAE decoding and a training step beside the authors' code, if installed (`authors.py`)
- startup: `fc-bench --help` and `import fc_bench`, beside `import torch`
- idle: `fc-bench run` on a finished run, beside `import torch`
- report: of the kept reference run, with and without figures and up to date, beside `import torch`; CPU seconds

`large_runs.py` holds planning, resuming and reporting a million samples against a tenth of them.
"""

from __future__ import annotations

import argparse
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from fc_bench.model.families.detection import family_of
from fc_bench.progress import silence_loading_bars
from fc_bench.quiet_libraries import quiet_libraries

ROOT = Path(__file__).parents[2]
TABLE = "reports/benchmarks.md"
IMPORT_TORCH = (sys.executable, "-c", "import torch")
HEAD = """# Benchmarks

Written by `python tests/benchmarks/speed.py`; what each is stands in that file. Planning, resuming, reporting and
comparing a million samples: [large_runs.txt](../tests/benchmarks/large_runs.txt).

"""


@dataclass(frozen=True)
class Ratio:
    """Values of ours and of the other way, a pair a turn; ratios are ours to the other's."""

    what: str
    beside: str
    unit: str
    ours: Sequence[float]
    other: Sequence[float]

    def line(self) -> str:
        ratios = sorted(one / two for one, two in zip(self.ours, self.other, strict=True))
        values = [f"{statistics.median(found):.3g} {self.unit}" for found in (self.ours, self.other)]
        spread = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        return f"| {self.what} | {values[0]} | {self.beside} | {values[1]} | {spread} | {len(ratios)} |"


@dataclass(frozen=True)
class Asked:
    """How often each is measured, and on how many subjects where a run is made for it."""

    turns: int
    subjects: int


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def command_of(folder: Path, **options: Any) -> dict[str, Any]:
    """What a run of the suite pocket in one process recorded of itself."""
    from fc_bench.commands.run import RunOptions, run

    with (folder / "log").open("w") as log:
        outcome = run(RunOptions(out=folder / "run", device="cpu", workers=1, **options), Console(file=log))
    return outcome.folder.settings()["commands"][-1]


def sampling_seconds(folder: Path, **options: Any) -> dict[str, float]:
    """What generating took in a run of the suite pocket."""
    return command_of(folder, **options)["generation"]


def prefixes(asked: Asked) -> Iterator[Ratio]:
    values: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(asked.turns):
        for shared in (True, False) if turn % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                run: Any = {"methods": ("fastcomposer",), "options": {"fastcomposer": {"alpha": 0.5}}}
                took = sampling_seconds(Path(folder), share_prefixes=shared, limit_subjects=asked.subjects, **run)
                values[shared].append(took["sampling_seconds"] / took["samples"])
    yield Ratio("image, prefixes shared", "without sharing", "s", values[True], values[False])


def adapters(asked: Asked) -> Iterator[Ratio]:
    import tuning_speed as tuning

    from fc_bench.commands.run import setting_of
    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.registry import suite_file
    from fc_bench.suites.suite import read_suite

    suite, examples = read_suite(suite_file("pocket-tuning")), tuning.examples_folder()
    setting = setting_of(suite, read_backbone("pocket"), "cpu")
    family = family_of(setting.backbone.path("pipeline"))
    for name, example in tuning.EXAMPLES.items():
        lack = tuning.missing(examples, example.scripts.get(family.name))
        if examples is None or lack:
            print(f"{name}: skipped, {lack}.")
            continue
        method = tuning.made(name, setting, 20)
        found = list(tuning.pairs(example, method, suite.subjects[:1], asked.turns, examples))
        seconds = [[turn.step for turn in column] for column in list(zip(*found, strict=True))[:2]]
        yield Ratio(f"{name}, training step", "diffusers' example script", "s", *seconds)


SCORED, LOOPED = 1000, 200
"""Images that are scored, all different (photographs of the suite, moved by some pixels), and of the plain loop."""


def scoring(asked: Asked) -> Iterator[Ratio]:
    """Both on as many threads as this process may use; their values are compared."""
    import onnxruntime
    import torch
    from insightface.app import FaceAnalysis
    from transformers import CLIPModel, CLIPProcessor

    from fc_bench.commands.run import setting_of
    from fc_bench.metrics.identity import Identity
    from fc_bench.metrics.prompt_consistency import PromptConsistency
    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.progress import progress
    from fc_bench.registry import suite_file
    from fc_bench.run_folder.provenance import usable_cores
    from fc_bench.run_folder.records import PLAN, SAMPLES, SCORES, RunFolder, write_lines
    from fc_bench.scoring import clip, faces
    from fc_bench.scoring.score import PendingScores, score
    from fc_bench.suites.photographs import read_photograph
    from fc_bench.suites.suite import read_suite

    suite = read_suite(suite_file("pocket"))
    backbone = read_backbone("pocket")
    setting, folder = setting_of(suite, backbone, "cpu"), backbone.path("clip")
    shots = [(subject, read_photograph(file)) for subject in suite.subjects for file in subject.photographs[1:]]
    references = {subject.id: subject.photographs[0] for subject in suite.subjects}
    scenes = [prompt.template for _, prompts in suite.subject_sets(1) for prompt in prompts]

    def ours(run: RunFolder) -> dict[tuple[str, str], dict[str, float]]:
        for kept in (clip._SHARED, faces._SHARED):
            kept.clear()  # what an earlier turn remembers of these images
        (run.path / SCORES).unlink(missing_ok=True)
        metrics: Any = {"identity": Identity(setting), "prompt-consistency": PromptConsistency(setting)}
        pending = PendingScores(run, metrics)
        with progress(Console(file=sys.stderr), "Scoring", len(pending)) as show:
            score(suite, run, metrics, show, pending)
        return {key: one["values"] for key, one in run.scores().items() if not key[0].startswith("anchor")}

    def plain(run: RunFolder, models: tuple[Any, Any, Any]) -> dict[str, tuple[float, float]]:
        app, model, processor = models
        values = {}

        def face(file: Path) -> Any:
            found = app.get(np.asarray(Image.open(file).convert("RGB"))[..., ::-1])
            return max(
                found, key=lambda one: (one.bbox[2] - one.bbox[0]) * (one.bbox[3] - one.bbox[1])
            ).normed_embedding

        for record in list(run.samples().values())[:LOOPED]:
            file = run.image(record)
            identity = float(face(references[record["subjects"][0]]) @ face(file))
            texts: Any = {"text": [record["prompt"]], "padding": "max_length", "truncation": True}
            inputs = processor(images=Image.open(file), return_tensors="pt", **texts)
            with torch.no_grad():
                output = model(**inputs)
            values[record["id"]] = identity, float((output.image_embeds @ output.text_embeds.T)[0, 0])
        return values

    with tempfile.TemporaryDirectory() as place:
        run, records = RunFolder(Path(place)), []
        (run.path / "images").mkdir()
        for number in range(SCORED):
            subject, shot = shots[number % len(shots)]
            moved = np.roll(np.asarray(shot), number // len(shots), axis=1)
            Image.fromarray(moved).save(run.path / "images" / f"{number}.png")
            prompt = scenes[number % len(scenes)].replace("{subject}", subject.noun)
            sample = {"id": str(number), "method": "m", "subjects": [subject.id], "category": "c", "template": prompt}
            sample |= {"prompt": prompt, "index": number, "seed": None, "shared_key": str(number)}
            records.append({**sample, "status": "ok", "image": f"images/{number}.png", "seconds": None})
        write_lines(run.path / PLAN, records)
        write_lines(run.path / SAMPLES, records)
        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()  # its own number ignores that a process may use fewer
        packs: Any = {"allowed_modules": ["detection", "recognition"], "providers": ["CPUExecutionProvider"]}
        app = FaceAnalysis(name=str(backbone.path("faces")), sess_options=options, **packs)
        app.prepare(ctx_id=-1, det_size=(128, 128), det_thresh=backbone.faces[0].det_thresh)
        model: Any = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        processor = CLIPProcessor.from_pretrained(folder)
        models = app, model, processor
        found, expected = ours(run), plain(run, models)
        for name, (identity, consistency) in expected.items():
            assert abs(found[name, "identity"]["identity"] - max(identity, 0)) < 1e-5, name
            assert abs(found[name, "prompt-consistency"]["prompt_consistency"] - consistency) < 1e-5, name
        pairs = [(timed(lambda: ours(run)), timed(lambda: plain(run, models))) for _ in range(asked.turns)]
    ratios = [(one / SCORED, two / LOOPED) for one, two in pairs]
    yield Ratio("image scored, of 1,000", "plain loop", "s", *zip(*ratios, strict=True))


def harness(asked: Asked) -> Iterator[Ratio]:
    from fc_bench.commands.run import RunOptions, prepare
    from fc_bench.generation.plan import resolve_method
    from fc_bench.protocols import Customization, Request

    run: Any = {"methods": ("fastcomposer",), "limit_subjects": asked.subjects}
    prepared = prepare(RunOptions(device="cpu", **run))
    kind, options, _ = resolve_method("fastcomposer", {}, prepared.setting)
    method: Any = kind(prepared.setting, options)

    def bare() -> float:
        spent, count = 0.0, 0
        for job in prepared.plan.jobs:
            from fc_bench.generation.worker import _request

            mentions = [method.mention(subject, place) for place, subject in enumerate(job.subject_set.subjects)]
            requests: list[Request] = [_request(sample, mentions) for sample in job.samples]
            customized: Customization = method.customize(job.subject_set.subjects, 0, Path(), None)
            spent += timed(lambda: list(method.generate(customized, requests)))  # noqa: B023
            count += len(requests)
        return spent / count

    pairs = []
    for _ in range(asked.turns):
        with tempfile.TemporaryDirectory() as folder:
            took = sampling_seconds(Path(folder), share_prefixes=False, **run)
        pairs.append(((took["seconds"] - took["loading_seconds"]) / took["samples"], bare()))
    yield Ratio("image, all the harness does included", "bare generate", "s", *zip(*pairs, strict=True))


def share(asked: Asked) -> Iterator[Ratio]:
    """Once, whatever the turns: it takes minutes, and is a share of itself."""
    with tempfile.TemporaryDirectory() as folder:
        took = command_of(Path(folder), limit_subjects=min(asked.subjects, 2))
    spent, seconds = took["generation"], took["seconds"]
    working = spent["customizing_seconds"] + spent["sampling_seconds"]
    since = seconds["generating"] + seconds["scoring"] - spent["loading_seconds"]
    yield Ratio("sampling and customization, all methods", "all that follows loading", "s", [working], [since])


class SleepingOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sleeping:
    """A method whose images take half a second of nothing."""

    description: ClassVar[str] = "sleeps"
    max_subjects: ClassVar[int] = 1
    uses_photographs: ClassVar[bool] = True
    Options: ClassVar[type[BaseModel]] = SleepingOptions
    seconds: ClassVar[float] = 0.5

    def __init__(self, setting: Any, options: Any) -> None: ...

    @classmethod
    def weights(cls, backbone: Any, options: Any) -> Mapping[str, Path]:
        return {}

    def mention(self, subject: Any, position: int) -> str:
        return subject.noun

    def customize(self, subjects: Any, seed: int, artefact_folder: Path, checkpoints: Any) -> Any:
        from fc_bench.protocols import Customization

        return Customization(tuple(subjects))

    def generate(self, customization: Any, requests: Sequence[Any]) -> Iterator[Image.Image]:
        for _ in requests:
            time.sleep(self.seconds)
            yield Image.new("RGB", (128, 128), (200, 10, 10))


def ray(asked: Asked) -> Iterator[Ratio]:
    from fc_bench.commands.run import MethodMaker, setting_of
    from fc_bench.generation.executor import Loaded, Options
    from fc_bench.generation.plan import MethodRow, make_plan
    from fc_bench.generation.ray_cluster import Cluster, Connection
    from fc_bench.generation.ray_executor import RayExecutor
    from fc_bench.generation.recorder import Recorder, pending_units
    from fc_bench.model.backbones.backbone import read_backbone
    from fc_bench.progress import progress
    from fc_bench.registry import suite_file
    from fc_bench.run_folder.records import RunFolder
    from fc_bench.suites.suite import read_suite

    suite = read_suite(suite_file("pocket"))
    setting = setting_of(suite, read_backbone("pocket"), "cpu")
    row = MethodRow("sleeping", "sleeping", {}, {})
    plan = make_plan(suite, setting, [(Sleeping, SleepingOptions(), row)])
    make = MethodMaker(setting, {"sleeping": (Sleeping, SleepingOptions(), row)})

    def seconds(workers: int) -> float:
        """From the first worker that is ready to the last event."""
        with tempfile.TemporaryDirectory() as place, progress(Console(file=sys.stderr), "", len(plan.jobs) * 5) as show:
            folder = RunFolder(Path(place))
            recorder = Recorder(folder, show, {}, False)
            connection = Connection(Cluster(workers=workers, cpus_per_job=0.5))
            executor = RayExecutor(connection, folder.path, setting, make, Options())
            begun = 0.0
            for unit, event in executor.events(pending_units(plan, recorder, {}), recorder.current):
                if isinstance(event, Loaded) and not begun:
                    begun = time.perf_counter()
                recorder.take(unit, event)
            ended = time.perf_counter()
            recorder.close()
        return ended - begun

    pairs = [(seconds(2), seconds(1)) for _ in range(asked.turns)]
    yield Ratio("40 sleeping images on two workers", "on one", "s", *zip(*pairs, strict=True))
    yield from driver(asked.turns, plan, row)


def driver(turns: int, plan: Any, row: Any) -> Iterator[Ratio]:
    """Records a second of the single writer: images of noise, which compress least."""
    from fc_bench.generation.executor import Made
    from fc_bench.generation.recorder import Recorder
    from fc_bench.generation.units import Generated, Unit
    from fc_bench.progress import progress
    from fc_bench.run_folder.records import RunFolder, png_of

    noise = np.random.default_rng(0)
    sizes: dict[int, list[float]] = {128: [], 512: []}
    samples = list(plan.samples())
    for _ in range(turns):
        for side, found in sizes.items():
            png = png_of(Image.fromarray(noise.integers(0, 255, (side, side, 3), dtype=np.uint8)))
            with tempfile.TemporaryDirectory() as place, progress(Console(file=sys.stderr), "", 1 << 30) as show:
                recorder = Recorder(RunFolder(Path(place)), show, {}, False)
                unit = Unit(row, (), "")

                def write(recorder: Any = recorder, unit: Any = unit, png: bytes = png) -> None:
                    for _ in range(5):
                        for sample in samples:
                            recorder.take(unit, Made(sample, ["man"], Generated(None, None, 1.0, 1, 8), png))

                found.append(5 * len(samples) / timed(write))
                recorder.close()
    yield Ratio("driver, records of 512-pixel noise", "of 128-pixel noise", "records/s", sizes[512], sizes[128])


def authors(asked: Asked) -> Iterator[Ratio]:
    import authors as beside

    python = beside.interpreter()
    if python is None:
        print(beside.MISSING, flush=True)
        return
    for what, unit, pairs in beside.table(python, list(beside.CASES), asked.turns):
        yield Ratio(what, "the authors' code", unit, *zip(*pairs, strict=True))


def startup(asked: Asked) -> Iterator[Ratio]:
    command = str(Path(sys.executable).with_name("fc-bench"))

    def seconds(*arguments: str) -> float:
        return timed(lambda: subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL))

    for name, arguments in (
        ("fc-bench --help", [command, "--help"]),
        ("import fc_bench", [sys.executable, "-c", "import fc_bench"]),
    ):
        pairs = [(seconds(*arguments), seconds(sys.executable, "-c", "import torch")) for _ in range(asked.turns)]
        yield Ratio(name, "import torch", "s", *zip(*pairs, strict=True))


def cpu_seconds(*arguments: str | Path) -> float:
    """User and system seconds of a command and its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(list(map(str, arguments)), check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def idle(asked: Asked) -> Iterator[Ratio]:
    command = str(Path(sys.executable).with_name("fc-bench"))
    with tempfile.TemporaryDirectory() as place:
        again = (command, "run", "--limit-subjects", "1", "-m", "text-only", "--out", Path(place) / "run")
        cpu_seconds(*again)
        pairs = [(cpu_seconds(*again), cpu_seconds(*IMPORT_TORCH)) for _ in range(asked.turns)]
    yield Ratio("fc-bench run on a finished run", "import torch", "CPU s", *zip(*pairs, strict=True))


def report(asked: Asked) -> Iterator[Ratio]:
    command, run = str(Path(sys.executable).with_name("fc-bench")), ROOT / "reports" / "reference" / "pocket"
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "report"
        for name, options, removed in (
            ("report of the reference run", (), True),
            ("the same, up to date", (), False),
            ("the same without figures", ("--no-figures",), True),
        ):
            pairs = []
            for _ in range(asked.turns):
                if removed:
                    shutil.rmtree(out, ignore_errors=True)
                ours = cpu_seconds(command, "report", run, "--out", out, *options)
                pairs.append((ours, cpu_seconds(*IMPORT_TORCH)))
            yield Ratio(name, "import torch", "CPU s", *zip(*pairs, strict=True))


BENCHMARKS: dict[str, Callable[[Asked], Iterator[Ratio]]] = {
    "prefixes": prefixes,
    "adapters": adapters,
    "scoring": scoring,
    "harness": harness,
    "share": share,
    "ray": ray,
    "authors": authors,
    "startup": startup,
    "idle": idle,
    "report": report,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    sys.path.insert(0, str(Path(__file__).parent))  # for its neighbor
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="some of them, printed alone")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, help=f"Markdown file to write to; {TABLE} where all are measured")
    parser.add_argument("--subjects", type=int, default=4, help="of runs; fewer for a rehearsal")
    asked = parser.parse_args()
    quiet_libraries()
    silence_loading_bars()
    import torch

    from fc_bench.run_folder.provenance import commit, hardware

    machine = hardware()
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['torch_threads']} threads, torch "
        f"{torch.__version__}, Python {platform.python_version()}, commit {str(commit()['commit'])[:10]}; median over "
        "turns, ratio of each turn with its range; below 1 ours takes less (of records a second: above is better).",
        "",
        "| what | value | beside | value | ratio | turns |",
        "|---|---:|---|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    begun = time.perf_counter()
    for name in asked.only or BENCHMARKS:
        for found in BENCHMARKS[name](Asked(asked.turns, asked.subjects)):
            lines.append(found.line())
            print(lines[-1], flush=True)
    print(f"{time.perf_counter() - begun:.0f} s in all", flush=True)
    out = asked.out or (None if asked.only else ROOT / TABLE)
    if out is not None:
        out.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
