"""Notes below the quality tables: footnotes, warnings and provenance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from fc_bench.analysis.aggregate import COST_COLUMNS, columns_of, shared_seconds
from fc_bench.analysis.comparability import Obstacles
from fc_bench.analysis.states import CODE, FC_BENCH, MACHINE, doubts, states, weight_doubts
from fc_bench.reports.frame import (
    RequestedSamples,
    Run,
    image_sizes,
    incomparable_costs,
    labels,
    requested_samples,
    who,
)
from fc_bench.reports.literature import EMBEDDER, published_rows
from fc_bench.reports.tables.model import Cell

_MEANING = (
    "Mean over subjects (or sets of subjects) with its 95 % interval (expanded percentile bootstrap over them, from "
    "three independent ones on), given the suite's prompts and seeds; n = samples measured / planned, in brackets "
    "behind a value where it rests on fewer; under Cost, customizations finished / begun."
)
_BEST = (
    "Bold: the best value among the methods that see the subject and have all values; the paired differences show "
    "whether it is significantly better."
)


def footnotes(runs: Sequence[Run]) -> dict[str, str]:
    """Number -> text of the remarks of all methods; rows with the same remark share it."""
    texts = dict.fromkeys(remark["text"] for run in runs for remark in run.settings.get("remarks", []))
    return {str(number): text for number, text in enumerate(texts, start=1)}


def footnote_marks(runs: Sequence[Run]) -> dict[tuple[str, int], str]:
    """The footnote of each row whose method has a remark."""
    numbers = {text: number for number, text in footnotes(runs).items()}
    names = labels(runs)
    return {
        (names[run.name, remark["method"]], remark["subjects"]): numbers[remark["text"]]
        for run in runs
        for remark in run.settings.get("remarks", [])
        if (run.name, remark["method"]) in names
    }


def notes(runs: Sequence[Run], options: bool = True, best: bool = True) -> list[str]:
    """One or two sentences each; a note about one of several runs begins with its name.

    Without `options`, the options of the methods are left out; without `best`, the meaning of bold values.
    """
    raised = {number: Cell("", mark=number).superscript for number in footnotes(runs)}
    lines = [f"{raised[number]} {text}" for number, text in footnotes(runs).items()]
    lines += [_MEANING, *([_BEST] if best else []), *_between(runs)]
    found = {run.name: list(_of_run(run, runs, options)) for run in runs}
    for line in dict.fromkeys(line for own in found.values() for line in own):
        having = [name for name, own in found.items() if line in own]
        lines.append(line if len(having) == len(runs) else f"{', '.join(having)}: {line}")
    return lines


def provenance(runs: Sequence[Run]) -> list[str]:
    """The provenance of each run, a line for each state: command, code, sampler, machine, versions."""
    return [("" if len(runs) == 1 else f"{run.name}: ") + line for run in runs for line in _provenance(run)]


def _between(runs: Sequence[Run]) -> Iterator[str]:
    """Reasons why rows of these runs, or of one run, are less comparable than they look."""
    for size, own in requested_samples(runs).items():
        groups: dict[RequestedSamples, list[str]] = {}
        for label, samples in own.items():
            groups.setdefault(samples, []).append(label)
        if len(groups) > 1:
            found = "; ".join(f"{len(samples)} of {', '.join(names)}" for samples, names in groups.items())
            yield (
                f"The rows of {who(size)} rest on different samples ({found}): their subjects and prompts may be what "
                "differs between them, and none is marked as the best."
            )
    reasons: dict[str, list[str]] = {}
    titles = {column.name: column.title for column in COST_COLUMNS}
    for column, reason in incomparable_costs(runs).items():
        reasons.setdefault(reason, []).append(titles[column])
    for reason, names in reasons.items():
        yield f"Of different runs, {', '.join(names)} do not compare ({reason})."
    for one, other in combinations(runs, 2):
        for line in Obstacles(one.settings, other.settings).notes():
            yield f"{one.name} and {other.name}: {line}"
    together = {run.name: run.settings for run in runs}
    yield from doubts(together)
    yield from weight_doubts(together)


def _of_run(run: Run, runs: Sequence[Run], options: bool) -> Iterator[str]:
    settings, names = run.settings, labels(runs)
    for name, made in settings["metrics"].items():
        if name.partition("@")[0] == "identity" and made.get("embedder"):
            models = made.get("models", {}).values()
            providers = dict.fromkeys(provider for model in models for provider in model["providers"])
            ran = f" (onnxruntime: {', '.join(providers)})" if providers else ""
            what = "Identity is measured" if name == "identity" else "Columns that name them are measured"
            yield f"{what} with the face models {made['embedder']}{ran}."
    if published_rows(str(settings["suite"]["name"])):
        yield EMBEDDER
    yield from _of_photographs(settings.get("photographs") or {})
    left_out: dict[str, str] = {}
    for made in settings["metrics"].values():
        for name, reason in made.get("missing_columns", {}).items():
            title = next((column.title for column in columns_of(run.folder) if column.name == name), name)
            yield f"{title} is missing: {reason}."
        left_out |= made.get("photographs_left_out", {})
    for judged in settings.get("judged", {}).values():
        yield (
            f"{judged['unreadable']} of {judged['answers']} answers of {judged['judge']} to {judged['protocol']} could "
            "not be read and are missing; answers.jsonl has them."
        )
    for photograph, reason in left_out.items():
        yield f"Ceiling and floor leave out the photograph {photograph}: {reason}"
    processes = [command.get("generation", {}).get("workers", 1) for command in settings["commands"]]
    if max(processes, default=1) > 1:
        yield (
            f"Up to {max(processes)} processes generated at the same time: seconds per image and for customization are "
            "those of a shared machine. `fc-bench cost` measures them alone."
        )
    samples = run.measured.samples
    sharing = samples["same_image_as"].notna()
    if shared := int(sharing.sum()):
        why = (
            "their files are the same"
            if samples.loc[sharing, "seed"].isna().all()
            else "their method sees no photograph, so prompt and seed decide the image"
        )
        yield (
            f"{shared} samples share the image of another sample: {why}. They count as one observation "
            "in what depends on the image alone."
        )
    watched = samples.loc[samples["attention"].notna(), "method"].unique()
    if watched:
        yield f"The attention of {', '.join(watched)} was recorded, which adds to its seconds and memory."
    found = {label for command in settings["commands"] for label in command.get("shared_prefixes", ())}
    for label in (label for label in settings["methods"] if label in found):
        yield (
            f"{names.get((run.name, label), label)} computed the text-only steps once for all subjects; "
            "each image's seconds include them in full."
        )
    if reported := settings.get("reported_costs"):
        rows = ", ".join(str(names.get((run.name, label), label)) for label in reported)
        yield f"Seconds, memory and storage of {rows} are as reported by the manifest; fc-bench did not measure them."
    failed = int((samples["status"] == "error").sum())
    if failed:
        yield f"{failed} samples failed; samples.jsonl has the reasons, --retry-errors tries them again."
    for method, seconds in shared_seconds(run.folder).items():
        label = names.get((run.name, method), method)
        yield (
            f"{label} spent {seconds:.1f} s in this run on what all subjects of a class share (class images), made "
            "once per class; its seconds to customize do not hold them."
        )
    for method, row in settings["methods"].items():
        if row["options"] and options:
            chosen = ", ".join(f"{key} = {value}" for key, value in row["options"].items())
            yield f"Options of {names[run.name, method]}: {chosen}."
    yield from settings["left_out"]


def _of_photographs(inspection: Mapping[str, Any]) -> Iterator[str]:
    """The findings about the photographs; runs of earlier versions have none."""
    if crops := len(inspection.get("crops", {})):
        yield (
            f"{crops} of the photographs {'is' if crops == 1 else 'are'} not square; every method got the same square "
            "of each (photograph_crop: face)."
        )
    yield from (finding["text"] for finding in inspection.get("findings", []))


def _provenance(run: Run) -> list[str]:
    settings = run.settings
    return [
        f"{command_text(state.commands)}, fc-bench {state.facts[FC_BENCH]} from {state.facts[CODE]}; "
        f"{_sampling(settings)} on {settings['device']} ({state.facts[MACHINE]}); {state.libraries}."
        for state in states(settings["commands"])
    ]


def command_text(commands: Sequence[Mapping[str, Any]]) -> str:
    """The last of the commands of one state, its start, and the number of the earlier ones."""
    last = commands[-1]
    earlier = f", after {len(commands) - 1} of the same state" if len(commands) > 1 else ""
    idle = "" if any(command.get("added_results", True) for command in commands) else ", which added no results"
    return f"{last['command']}, started {last['started']}{earlier}{idle}"


def _sampling(settings: Mapping[str, Any]) -> str:
    """The sampler settings of the images."""
    sampler = settings["sampler"]
    if sampler is None:
        return "images made elsewhere, scored"
    return (
        f"{sampler['scheduler']}, {sampler['steps']} steps, guidance scale {sampler['guidance_scale']}, "
        f"{image_sizes(settings)}, {settings['dtype']}"
    )
