"""Choosing a method's settings: a grid of options over a suite made for it, recorded as a table.

    python -m fc_bench.sweep baselines/sweeps/pocket/dreambooth.yaml

runs every combination into one run folder (interrupted, the same command continues) and writes the table beside the
sweep file. Settings belong to a backbone; they are chosen on people that no result is reported on.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from fc_bench.aggregate import OVERALL, result_rows
from fc_bench.cli.app import EXIT_INTERRUPTED, EXIT_USAGE, quiet_libraries
from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError
from fc_bench.model.yaml_file import read_yaml
from fc_bench.records import write_atomically
from fc_bench.run import RunOptions, row_label, run

COLUMNS = ("identity", "prompt_consistency")


class Sweep(BaseModel):
    """A sweep file: `grids` maps a method to combinations, each option a value or a list of values to try."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


def run_sweep(file: Path, out: Path, console: Console) -> Path:
    """Run what is missing of a sweep into `out`; returns the table written beside the sweep file.

    Raises UserError when a sample or a score failed.
    """
    sweep = read_yaml(file, Sweep)
    tried: list[tuple[str, dict[str, Any]]] = [("text-only", {})]
    tried += [(name, options) for name, grids in sweep.grids.items() for options in combinations(grids)]
    rows: list[dict[str, Any]] = []
    for name, options in tried:
        asked = RunOptions(sweep.suite, (name,), sweep.backbone, out, {name: options} if options else {})
        outcome = run(replace(asked, limit_subjects=sweep.limit_subjects), console)
        if not outcome.complete:
            raise UserError(f"{name} with {options} left failed samples or scores in {out}; no table is written.")
        label = row_label(asked, name)
        told = " ".join(f"{key}={value}" for key, value in options.items())
        rows += [{"method": name, "options": told, **values} for values in _values(result_rows(outcome.folder), label)]
    table = file.with_suffix(".csv")
    write_atomically(table, pd.DataFrame(rows).to_csv(index=False).encode())
    return table


def _values(results: list[dict[str, Any]], label: str) -> Iterator[dict[str, Any]]:
    """One line per number of subjects: the columns' means, and samples measured of those planned."""
    own = [row for row in results if row["method"] == label and row["category"] == OVERALL]
    for subjects in sorted({row["subjects"] for row in own}):
        found = {row["column"]: row for row in own if row["subjects"] == subjects}
        means = {name: found[name]["mean"] for name in COLUMNS}
        rounded = {name: None if value is None else round(value, 4) for name, value in means.items()}
        yield {"subjects": subjects, **rounded, "n": f"{found['identity']['n_ok']}/{found['identity']['n_total']}"}


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m fc_bench.sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sweep", type=Path, help="sweep file (YAML)")
    parser.add_argument("--out", type=Path, help="run folder; runs/sweep-<folder>-<name> if not given")
    options = parser.parse_args()
    out = options.out or Path("runs") / f"sweep-{options.sweep.resolve().parent.name}-{options.sweep.stem}"
    quiet_libraries()
    try:
        print(f"wrote {run_sweep(options.sweep, out, Console())}")
    except (UserError, ModelInputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command continues.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
