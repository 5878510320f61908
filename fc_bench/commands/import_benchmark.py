"""A suite of a published benchmark, from the user's own copy of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fc_bench.errors import UserError
from fc_bench.layouts.benchmark import Benchmark, BenchmarkPrompt
from fc_bench.layouts.catalog import READERS
from fc_bench.model.yaml_file import sentence
from fc_bench.suites.named_files import named_file
from fc_bench.suites.suite import read_suite
from fc_bench.suites.suite_file import SuiteFile


@dataclass(frozen=True)
class ImportOptions:
    """The options of the command line."""

    benchmark: str
    folder: Path
    out: Path
    subset: str | None = None
    copy: bool = False


@dataclass(frozen=True)
class Imported:
    """The suite's file, its counts, the folder to give with --photographs (None: not needed), and remarks."""

    file: Path
    subjects: int
    prompts: int
    photographs: Path | None
    remarks: tuple[str, ...]


def import_benchmark(options: ImportOptions) -> Imported:
    """Write the suite; raises UserError or ModelInputError before anything is written if the copy is unusable.

    Photographs stay where they are: below the suite's folder they are part of the suite, elsewhere the suite is run
    with --photographs. With `copy` they are copied into a folder beside the suite.
    """
    out, folder = options.out, options.folder
    copied = out.with_name(f"{out.stem}-photographs")
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; name the one that holds your copy of the benchmark.")
    for path in (out, *((copied,) if options.copy else ())):
        if os.path.lexists(path):
            raise UserError(f"{path} already exists; delete it or name another file with --out.")
    benchmark = READERS[options.benchmark](folder, options.subset)
    files = _found(benchmark, folder)
    given = None
    if options.copy:
        names = {name: f"{copied.name}/{file.relative_to(folder.resolve())}" for name, file in files.items()}
    elif folder.resolve().is_relative_to(out.parent.resolve()):
        below = folder.resolve().relative_to(out.parent.resolve())
        names = {name: (below / file.relative_to(folder.resolve())).as_posix() for name, file in files.items()}
    else:
        given = folder
        names = {name: file.relative_to(folder.resolve()).as_posix() for name, file in files.items()}
    content = _content(_renamed(benchmark, names), given is not None)
    try:
        SuiteFile.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{folder} does not make a valid suite: {sentence(error, SuiteFile)}") from None
    _write(options, content, files, copied, given)
    return Imported(out, len(benchmark.subjects), len(benchmark.prompts), given, benchmark.remarks)


def _found(benchmark: Benchmark, folder: Path) -> dict[str, Path]:
    """Every photograph and target with its file; raises UserError if some are missing or outside the folder."""
    root = folder.resolve()
    names = [name for subject in benchmark.subjects for name in subject.photographs]
    names += [prompt.target for prompt in benchmark.prompts if prompt.target is not None]
    files: dict[str, Path] = {}
    missing: list[str] = []
    for name in dict.fromkeys(names):
        if os.path.lexists(root / name) or ".." in Path(name).parts or Path(name).is_absolute():
            files[name] = named_file(root, name, "the photograph")
        else:
            missing.append(name)
    if len(missing) == 1:
        named_file(root, missing[0], "the photograph")
    if missing:
        raise UserError(
            f"{len(missing)} of {len(missing) + len(files)} photographs are not in {folder}, such as {missing[0]}; "
            "download them as the benchmark's authors describe."
        )
    return files


def _renamed(benchmark: Benchmark, names: Mapping[str, str]) -> Benchmark:
    """The benchmark with the photographs' names in the suite."""
    return replace(
        benchmark,
        subjects=[
            replace(subject, photographs=tuple(names[name] for name in subject.photographs))
            for subject in benchmark.subjects
        ],
        prompts=[
            replace(prompt, target=None if prompt.target is None else names[prompt.target])
            for prompt in benchmark.prompts
        ],
    )


def _content(benchmark: Benchmark, given: bool) -> dict[str, Any]:
    """The suite as plain data; prompts in the benchmark's order, those of a set that follow each other together."""
    sets: list[dict[str, Any]] = []
    last: BenchmarkPrompt | None = None
    for prompt in benchmark.prompts:
        follows = last is not None and last.subjects == prompt.subjects
        if not follows or (
            last is not None and last.category != prompt.category and prompt.category in sets[-1]["prompts"]
        ):
            sets.append({"subjects": list(prompt.subjects), "prompts": {}})
        asked = {"name": prompt.name, "target": prompt.target}
        beside = {key: value for key, value in asked.items() if value is not None}
        entry = {"text": prompt.template, **beside} if beside else prompt.template
        sets[-1]["prompts"].setdefault(prompt.category, []).append(entry)
        last = prompt
    content: dict[str, Any] = {
        "name": benchmark.name,
        "format": 2,
        "version": "1",
        "description": benchmark.description,
        "license": benchmark.license,
        "source": benchmark.source,
        "citation": benchmark.citation,
        "seed": benchmark.seed,
        "images_per_prompt": benchmark.images_per_prompt,
    }
    if benchmark.resolution is not None:
        content["sampler"] = {"resolution": benchmark.resolution}
    content["metrics"] = list(benchmark.metrics)
    if given:
        content["photographs"] = {"folder": "given"}
    content["photograph_crop"] = "published"
    content["subjects"] = [
        {
            "id": subject.id,
            "noun": subject.noun,
            "photographs": list(subject.photographs),
            **({"attributes": dict(subject.attributes)} if subject.attributes else {}),
        }
        for subject in benchmark.subjects
    ]
    content["sets"] = sets
    return content


def _write(
    options: ImportOptions, content: Mapping[str, Any], files: Mapping[str, Path], copied: Path, given: Path | None
) -> None:
    """Write the suite's file, read it once as a command would, and only then give it its name."""
    out = options.out
    partial, place = out.with_name(f".{out.name}.partial"), copied.with_name(f".{copied.name}.partial")
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(dict(content), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
    head = (
        f"# Written by `fc-bench import {options.benchmark}`; edit it as you like, but keep the order of the prompts.\n"
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(head + text, encoding="utf-8")
        if options.copy:
            root = options.folder.resolve()
            for file in dict.fromkeys(files.values()):
                target = place / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            place.rename(copied)
        read_suite(partial, given)
        partial.rename(out)
    except OSError as error:
        shutil.rmtree(copied if options.copy else place, ignore_errors=True)
        raise UserError(f"{out} cannot be written ({error.strerror or error}); name another file with --out.") from None
    except BaseException:
        if options.copy:
            shutil.rmtree(copied, ignore_errors=True)
        raise
    finally:
        partial.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
