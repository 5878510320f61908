"""A run's images in the folder that a benchmark's own scripts expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fc_bench import registry
from fc_bench.commands.image_assignment import image_of
from fc_bench.errors import UserError
from fc_bench.layouts.catalog import LAYOUTS
from fc_bench.layouts.layout import Photographs
from fc_bench.layouts.writing import Exported, Place, write_layout
from fc_bench.model.yaml_file import nearest, sentence
from fc_bench.protocols import Subject
from fc_bench.run_folder.json_lines import stream_fields
from fc_bench.run_folder.record_shapes import Planned, Sampled
from fc_bench.run_folder.records import PLAN, RUN, SAMPLES, RunFolder
from fc_bench.suites.suite import DIGESTS, Suite, read_suite
from fc_bench.suites.suite_file import PromptEntry, SuiteFile


@dataclass(frozen=True)
class ExportOptions:
    """The options of the command line; `method` is the row whose images are written.

    `suite` and `photographs` are those of the run, for layouts that put targets beside the images.
    """

    run: Path
    layout: str
    out: Path
    method: str | None = None
    suite: str | None = None
    photographs: Path | None = None


class RecordedSuite(Suite):
    """The suite that run.json records, without its photographs."""

    @cached_property
    def sources(self) -> tuple[Subject, ...]:
        """All subjects in the file's order."""
        return tuple(Subject(entry.id, entry.noun, ()) for entry in self.file.subjects)

    def _target(self, entry: PromptEntry, where: tuple[str | int, ...]) -> Path | None:
        return None if entry.target is None else Path(entry.target)


def export_images(options: ExportOptions) -> Exported:
    """Write the images of one method; raises UserError before anything is written if they have no place."""
    run = RunFolder(options.run)
    settings = run.settings()
    method = _method(options, list(settings["methods"]))
    content = {key: value for key, value in settings["suite"].items() if key not in DIGESTS}
    try:
        file = SuiteFile.model_validate(content)
    except ValidationError as error:
        message = sentence(error, SuiteFile).rstrip(".")
        raise UserError(f"{run.path / RUN} is damaged (suite: {message}); restore it.") from None
    suite = RecordedSuite(file, run.path / RUN)
    targets = {} if options.suite is None else _targets(options, options.suite, settings["suite"])
    references = {subject.id: path for subject in suite.sources if (path := run.reference(subject.id)).is_file()}
    return write_layout(
        LAYOUTS[options.layout], suite, _images(run, method), Photographs(references, targets), options.out
    )


def _targets(options: ExportOptions, name: str, recorded: Mapping[str, Any]) -> Mapping[tuple[str, str], Path]:
    """The targets of the run's suite; raises UserError if the suite is another one."""
    suite = read_suite(registry.suite_file(name), options.photographs)
    if any(recorded.get(key) != suite.content().get(key) for key in ("name", "version", "sets", "target_digests")):
        raise UserError(f"{options.run} is a run of another suite than {name}; give the suite of the run.")
    return suite.targets


def _method(options: ExportOptions, methods: list[str]) -> str:
    """The row to write; raises UserError if it is unknown or one of several has to be named."""
    if options.method is None:
        if len(methods) == 1:
            return methods[0]
        raise UserError(
            f"{options.run} holds the rows {', '.join(methods)}, and a folder holds the images of one; name it with "
            "--method."
        )
    if options.method not in methods:
        raise UserError(f'{options.run} has no row "{options.method}", {nearest(options.method, methods)}')
    return options.method


def _images(run: RunFolder, method: str) -> dict[Place, Path | None]:
    """The planned images of a method in the plan's order; None: the run does not have the image."""
    files: dict[str, Path | None] = {}
    for record in stream_fields(run.path / SAMPLES, Sampled):
        if record.method == method:
            files[record.id] = image_of(run, record)
    return {
        ("+".join(one.subjects), one.template, one.index): files.get(one.id)
        for one in stream_fields(run.path / PLAN, Planned)
        if one.method == method
    }
