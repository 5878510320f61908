"""Sweeps: the effect of a method's options, over a range of one option or a grid of several.

    fc-bench sweep fastcomposer.alpha 0:1:0.1
    fc-bench sweep --grid baselines/sweeps/pocket/dreambooth.yaml

Either is one run with a row for each setting and one for text-only; the same command continues an interrupted one. A
range ends with the run's report and the option's figure. A grid serves the choice of a method's settings; its table is
written beside the grid file. Settings belong to a backbone and are chosen on people without reported results.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field
from rich.console import Console

from fc_bench.analysis.aggregate import OVERALL, result_rows
from fc_bench.analysis.states import doubts
from fc_bench.commands.run import RunOptions, row_labels, run
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError
from fc_bench.model.settings import LARGEST, Settings
from fc_bench.model.yaml_file import read_value, read_yaml
from fc_bench.run_folder.records import write_atomically

COLUMNS = ("identity", "prompt_consistency")
BASELINE = "text-only"
"""Reference method of every sweep."""
MOST_VALUES = 200


class Grid(Settings):
    """A file of settings to try: `grids` maps a method to combinations, each option a value or a list of values."""

    suite: str
    backbone: str
    limit_subjects: int | None = Field(default=None, ge=1)
    grids: dict[str, list[dict[str, Any]]] = Field(min_length=1)


def combinations(grids: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the listed values, grid after grid."""
    for grid in grids:
        values = [value if isinstance(value, list) else [value] for value in grid.values()]
        for chosen in itertools.product(*values):
            yield dict(zip(grid, chosen, strict=True))


def method_and_option(text: str) -> tuple[str, str]:
    """`fastcomposer.alpha` -> its two names; raises UserError for any other form."""
    method, dot, option = text.strip().rpartition(".")
    if not (dot and method and option) or "=" in text:
        raise UserError(f'"{text}" is not of the form METHOD.OPTION, e.g. fastcomposer.alpha.')
    return method, option


def values_in(text: str) -> list[Any]:
    """`0:1:0.25` (START:STOP:STEP, with the stop if a step reaches it) or `50,100,200` -> values, each once.

    Raises UserError for an invalid range or more than `MOST_VALUES` values.
    """
    if ":" in text:
        values = _range(text)
    else:
        try:
            values = [read_value(part) for part in text.split(",") if part.strip()]
        except ModelInputError:
            raise UserError(f'The values "{text}" cannot be read; give START:STOP:STEP or a list: 1,2,5.') from None
    values = [value for place, value in enumerate(values) if value not in values[:place]]
    if not values or len(values) > MOST_VALUES:
        raise UserError(f'The values "{text}" are {len(values)}; give one to {MOST_VALUES}.')
    return values


def range_options(option: str, values: str, requested: RunOptions) -> RunOptions:
    """The run of all values of `METHOD.OPTION`, with text-only; `requested` has all other options."""
    method, name = method_and_option(option)
    overrides = requested.options.get(method, {})
    if name in overrides:
        raise UserError(f"The option {option} is swept and cannot be given with --option as well; leave one out.")
    return RunOptions(
        **{
            **vars(requested),
            "methods": (BASELINE, method),
            "variants": {method: [{name: value} for value in values_in(values)]},
        }
    )


def run_grid(file: Path, out: Path, console: Console) -> Path:
    """Run the missing part of a grid into `out`; returns the table written beside the grid file.

    Raises UserError if a sample or a score failed.
    """
    grid = read_yaml(file, Grid)
    tried = {name: list(combinations(grids)) for name, grids in grid.grids.items()}
    requested = RunOptions(
        grid.suite, (BASELINE, *tried), grid.backbone, out, limit_subjects=grid.limit_subjects, variants=tried
    )
    outcome = run(requested, console)
    settings = list(zip(requested.rows(), row_labels(requested), strict=True))
    if not outcome.complete:
        samples = outcome.folder.samples().values()
        failed = {record["method"] for record in samples if record["status"] != "ok"}
        failures = [f"{name} with {options}" for (name, options), label in settings if label in failed]
        raise UserError(
            f"{failures[0] if failures else 'The sweep'} left failed samples or scores in {out}; no table is written."
        )
    for line in doubts({out.name: outcome.folder.settings()}):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    results = result_rows(outcome.folder)
    rows: list[dict[str, Any]] = []
    for (name, options), label in settings:
        setting = " ".join(f"{key}={value}" for key, value in options.items())
        rows += [{"method": name, "options": setting, **values} for values in _values(results, label)]
    table = file.with_suffix(".csv")
    write_atomically(table, pd.DataFrame(rows).to_csv(index=False).encode())
    return table


def _range(text: str) -> list[int | float]:
    try:
        start, stop, step = (Decimal(part.strip()) for part in text.split(":"))
    except (ValueError, InvalidOperation):
        raise UserError(f'The range "{text}" is not of the form START:STOP:STEP, e.g. 0:1:0.1.') from None
    numbers = (start, stop, step)
    if all(number.is_finite() for number in numbers) and max(map(abs, numbers)) > LARGEST:
        raise UserError(f'The range "{text}" has a number beyond {LARGEST:g}; give smaller ones.')
    if not all(number.is_finite() for number in numbers) or step == 0 or (stop - start) * step < 0:
        raise UserError(f'The range "{text}" never reaches its stop; correct the step.')
    if abs(stop - start) >= abs(step) * MOST_VALUES:
        raise UserError(f'The range "{text}" has more than {MOST_VALUES} values; widen the step.')
    count = int((stop - start) / step) + 1
    whole = all(re.fullmatch(r"[+-]?\d+", part.strip()) for part in text.split(":"))
    return [int(start + number * step) if whole else float(start + number * step) for number in range(count)]


def _values(results: list[dict[str, Any]], label: str) -> Iterator[dict[str, Any]]:
    """One row per number of subjects: the columns' means, and the numbers of measured and planned samples."""
    own = [row for row in results if row["method"] == label and row["category"] == OVERALL]
    for subjects in sorted({row["subjects"] for row in own}):
        found = {row["column"]: row for row in own if row["subjects"] == subjects}
        means = {name: found[name]["mean"] for name in COLUMNS}
        rounded = {name: None if value is None else round(value, 4) for name, value in means.items()}
        yield {"subjects": subjects, **rounded, "n": f"{found['identity']['n_ok']}/{found['identity']['n_total']}"}
