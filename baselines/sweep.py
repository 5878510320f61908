"""Choosing a method's settings: a grid of options over a suite made for it, recorded as a table.

    python -m fc_bench.baselines.sweep baselines/sweeps/pocket/dreambooth.yaml

runs every combination into one run folder (interrupted, the same command continues) and writes the table beside the
sweep file. Settings belong to a backbone; they are chosen on people that no result is reported on.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from fc_bench.aggregate import OVERALL, result_rows
from fc_bench.errors import UserError
from fc_bench.model.backbone import read_backbone
from fc_bench.model.errors import ModelInputError
from fc_bench.model.yaml_file import read_yaml
from fc_bench.plan import resolve_method
from fc_bench.registry import suite_file
from fc_bench.run import RunOptions, resolve_device, resolve_sampler, run
from fc_bench.suite import read_suite

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


def run_sweep(file: Path, out: Path, only: list[str], console: Console) -> Path:
    """Run what is missing of a sweep into `out`; returns the table written beside the sweep file."""
    sweep = read_yaml(file, Sweep)
    tried: list[tuple[str, Mapping[str, Any]]] = [("text-only", {})]
    tried += [(name, options) for name, grids in sweep.grids.items() for options in combinations(grids)]
    labels = []
    for name, options in tried:
        if only and name not in (*only, "text-only"):
            continue
        asked = RunOptions(
            suite=sweep.suite,
            methods=(name,),
            backbone=sweep.backbone,
            out=out,
            options={name: options} if options else {},
            limit_subjects=sweep.limit_subjects,
        )
        labels.append((name, options, _label(asked, name, options)))
        outcome = run(asked, console)
    rows = [
        {"method": name, "options": " ".join(f"{key}={value}" for key, value in options.items()), **values}
        for name, options, label in labels
        for values in _values(result_rows(outcome.folder), label)
    ]
    table = file.with_suffix(".csv")
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def _label(asked: RunOptions, name: str, options: Mapping[str, Any]) -> str:
    """The row's name in the run."""
    from fc_bench.protocols import Setting

    backbone = read_backbone(asked.backbone)
    device = resolve_device(asked.device)
    sampler = resolve_sampler(read_suite(suite_file(asked.suite)), backbone)
    dtype = backbone.dtype.cuda if device.startswith("cuda") else backbone.dtype.cpu
    return resolve_method(name, options, Setting(backbone, sampler, device, dtype))[2].label


def _values(results: list[dict[str, Any]], label: str) -> Iterator[dict[str, Any]]:
    """One line per number of subjects: the columns' means, and samples measured of those planned."""
    own = [row for row in results if row["method"] == label and row["category"] == OVERALL]
    for subjects in sorted({row["subjects"] for row in own}):
        found = {row["column"]: row for row in own if row["subjects"] == subjects}
        means = {name: found[name]["mean"] if name in found else None for name in COLUMNS}
        rounded = {name: None if value is None else round(value, 4) for name, value in means.items()}
        identity = found["identity"]
        yield {"subjects": subjects, **rounded, "n": f"{identity['n_ok']}/{identity['n_total']}"}


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser("python -m fc_bench.baselines.sweep", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sweep", type=Path, help="sweep file (YAML)")
    parser.add_argument("--out", type=Path, help="run folder; runs/sweep-<folder>-<name> if not given")
    parser.add_argument("--method", action="append", default=[], help="only this method (repeatable)")
    options = parser.parse_args()
    out = options.out or Path("runs") / f"sweep-{options.sweep.parent.name}-{options.sweep.stem}"
    try:
        print(f"wrote {run_sweep(options.sweep, out, options.method, Console())}")
    except (UserError, ModelInputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
