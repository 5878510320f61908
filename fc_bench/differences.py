"""Paired differences between the methods of one run: same subjects, same prompts, same noise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from fc_bench.aggregate import by_method, columns_of, units_of_rows, values_by_set
from fc_bench.errors import UserError
from fc_bench.measurements import Row, read_measurements
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import Column
from fc_bench.records import RunFolder
from fc_bench.statistics import cluster_bootstrap, holm, sign_flip_test

_ASKED = ["set", "template", "index"]
"""What two methods were both asked."""


def method_differences(folder: RunFolder, against: str) -> list[Row]:
    """Each method of a run minus its method `against`; raises UserError when the run has no such method."""
    return paired_rows(read_measurements(folder).samples, columns_of(folder), against)


def paired_rows(samples: pd.DataFrame, columns: Sequence[Column], against: str) -> list[Row]:
    """Each method minus the method `against`, by number of subjects and quality column with a direction.

    `samples` as `read_measurements` has them.

    Rows: method, against, subjects, column, mean, low, high (cluster bootstrap, 95 %), n_sets, n_pairs, p, p_holm.
    `p` is the sign-flip test's over the subject sets; it needs independent ones and is None where sets share subjects
    or images. `p_holm` is adjusted over the methods. Raises UserError when there is no such method.
    """
    labels = samples["method"].unique().tolist()
    if against not in labels:
        raise UserError(f'The run has no method "{against}" to compare with, {nearest(against, labels)}')
    judged = [column for column in columns if column.higher_is_better is not None]
    names = [column.name for column in judged]
    needed = samples.loc[:, ["method", "subjects", *_ASKED, "image", *names]]
    rows: list[Row] = []
    for subjects in sorted(samples["subjects"].unique().tolist()):
        own = dict(by_method(needed, subjects))
        base = own.pop(against, needed.head(0))
        families: dict[str, list[Row]] = {name: [] for name in names}
        for label in (label for label in labels if label in own):
            pairs = _pairs(base, own[label], names)
            sharing = pd.concat([frame.loc[:, ["set", "image"]] for frame in (base, own[label])])
            head = {"method": label, "against": against, "subjects": subjects}
            for column in judged:
                families[column.name] += [{**head, **row} for row in _difference(pairs, sharing, column)]
        for family in families.values():
            adjusted = holm({row["method"]: row["p"] for row in family if row["p"] is not None})
            rows += [{**row, "p_holm": adjusted.get(row["method"])} for row in family]
    return rows


def _pairs(base: pd.DataFrame, other: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Other minus base in each column, for what both were asked (set, prompt, index), sorted by it."""
    both = base.merge(other, on=_ASKED, suffixes=("", "/other")).sort_values(_ASKED)
    return both[["set"]].assign(**{name: both[f"{name}/other"] - both[name] for name in columns})


def _difference(pairs: pd.DataFrame, sharing: pd.DataFrame, column: Column) -> list[Row]:
    """One row, or none where no pair has both values; `sharing` are both methods' samples for `units_of_rows`."""
    differences = values_by_set(pairs, column.name)
    if not differences:
        return []
    units = units_of_rows(sharing, column)
    resting = {name: units[name] for name in differences}
    estimate = cluster_bootstrap(differences, resting)
    independent = len({unit for own in resting.values() for unit in own}) == len(resting) and all(
        len(own) == 1 for own in resting.values()
    )
    return [
        {
            "column": column.name,
            "mean": estimate.mean,
            "low": estimate.low,
            "high": estimate.high,
            "n_sets": estimate.clusters,
            "n_pairs": sum(map(len, differences.values())),
            "p": sign_flip_test([fmean(own) for own in differences.values()]) if independent else None,
        }
    ]
