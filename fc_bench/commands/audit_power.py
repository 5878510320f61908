"""`fc-bench audit power`: how many people, prompts and images a prompt a difference needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from fc_bench.analysis.aggregate import columns_of
from fc_bench.analysis.measurements import read_measurements
from fc_bench.analysis.sample_size import Study, study
from fc_bench.analysis.statistics import LEVEL
from fc_bench.errors import UserError, writing_to
from fc_bench.model.yaml_file import nearest
from fc_bench.reports.audit.power import show, write_study
from fc_bench.reports.state import REPORT
from fc_bench.run_folder.records import QUALITY, RunFolder


@dataclass(frozen=True)
class PowerOptions:
    """The options of the command line."""

    run: Path
    column: str = "identity"
    difference: float = 0.02
    power: float = 0.8
    method: str | None = None
    against: str | None = None
    subjects: int | None = None
    out: Path | None = None


def audit_power(options: PowerOptions, console: Console) -> Study:
    """Plan with the run as a pilot, print the tables and write them; raises UserError if an input is unusable."""
    difference, power = options.difference, options.power
    if not 0 < difference < float("inf"):
        raise UserError(f"--difference {difference:g} cannot be planned for; give one above 0, such as 0.02.")
    if not 1 - LEVEL < power < 1:
        raise UserError(f"--power {power:g} is out of range; give one between {1 - LEVEL:g} and 1, such as 0.8.")
    folder = RunFolder(options.run)
    if folder.kind() != QUALITY:
        raise UserError(f"{options.run} is a cost run, which has no scores; give the folder of a quality run.")
    columns = {column.name: column for column in columns_of(folder)}
    if options.column not in columns:
        raise UserError(f'The run has no column "{options.column}", {nearest(options.column, columns)}')
    made = study(
        read_measurements(folder).samples,
        columns[options.column],
        difference,
        power,
        options.method,
        options.against,
        options.subjects,
    )
    show(made, console)
    out = options.out or options.run / REPORT
    with writing_to(out):
        files = write_study(made, out)
    console.print(f"wrote {files[0].with_suffix('')}.md, .csv", markup=False, highlight=False, soft_wrap=True)
    return made
