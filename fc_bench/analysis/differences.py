"""Paired differences between methods: same subjects, same prompts, same noise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import pandas as pd

from fc_bench.analysis.aggregate import by_method, columns_of, units_of_rows, values_by_set
from fc_bench.analysis.measurements import Row, read_measurements
from fc_bench.analysis.statistics import Estimate, Units, cluster_bootstrap, holm, sign_flip_test
from fc_bench.errors import UserError
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import Column
from fc_bench.run_folder.records import RunFolder

SAMPLE_KEY = ["set", "template", "index"]
"""Columns that identify a sample of two methods or runs."""


def method_differences(folder: RunFolder, against: str) -> list[Row]:
    """Each method of a run minus its method `against`; raises UserError if the run has no such method."""
    return paired_rows(read_measurements(folder).samples, columns_of(folder), against)


def paired_rows(samples: pd.DataFrame, columns: Sequence[Column], against: str) -> list[Row]:
    """Each method minus the method `against`, by number of subjects and quality column with a direction.

    `samples` are those of `read_measurements`. Samples of several runs may be combined if no two runs share a method's
    name or an image's name. Rows: method, against, subjects, column, mean, low, high (cluster bootstrap, 95 %), n_sets,
    n_pairs, p, p_holm. `p` is the p-value of the sign-flip test over the subject sets; it needs independent sets and is
    None if sets share subjects or images. `p_holm` is adjusted over the methods. Raises UserError if there is no such
    method.
    """
    labels = samples["method"].unique().tolist()
    if against not in labels:
        raise UserError(f'The run has no method "{against}" to compare with, {nearest(against, labels)}')
    judged = [column for column in columns if column.higher_is_better is not None]
    names = [column.name for column in judged]
    needed = samples.loc[:, ["method", "subjects", *SAMPLE_KEY, "image", *names]]
    rows: list[Row] = []
    for subjects in sorted(samples["subjects"].unique().tolist()):
        own = dict(by_method(needed, subjects))
        base = own.pop(against, needed.head(0))
        families: dict[str, list[Row]] = {name: [] for name in names}
        for label in (label for label in labels if label in own):
            pairs = sample_differences(base, own[label], names)
            sharing = _sharing(base, own[label])
            head = {"method": label, "against": against, "subjects": subjects}
            for column in judged:
                families[column.name] += [{**head, **row} for row in _difference(pairs, sharing, column)]
        for family in families.values():
            adjusted = holm({row["method"]: row["p"] for row in family if row["p"] is not None})
            rows += [{**row, "p_holm": adjusted.get(row["method"])} for row in family]
    return rows


def paired_estimate(base: pd.DataFrame, other: pd.DataFrame, column: Column) -> Estimate | None:
    """`other` minus `base` in a column, over their common subjects, prompts and images.

    The samples are those of one method and number of subjects each. None if no pair has both values.
    """
    base, other = (samples.loc[:, [*SAMPLE_KEY, "image", column.name]] for samples in (base, other))
    differences, resting = _resting(sample_differences(base, other, [column.name]), _sharing(base, other), column)
    return cluster_bootstrap(differences, resting) if differences else None


def _sharing(base: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([samples.loc[:, ["set", "image"]] for samples in (base, other)])


def sample_differences(base: pd.DataFrame, other: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Other minus base in each column, over their common samples (set, prompt, index), with and sorted by these."""
    # As plain texts: categories are hashed as UTF-8, which half a surrogate in a prompt has none of.
    base, other = (samples.astype({name: object for name in ("set", "template")}) for samples in (base, other))
    both = base.merge(other, on=SAMPLE_KEY, suffixes=("", "/other")).sort_values(SAMPLE_KEY)
    return both[SAMPLE_KEY].assign(**{name: both[f"{name}/other"] - both[name] for name in columns})


def _resting(
    pairs: pd.DataFrame, sharing: pd.DataFrame, column: Column
) -> tuple[dict[str, np.ndarray], dict[str, Sequence[str]]]:
    """The differences by subject set, and the independent units of each set; `sharing` are both methods' samples."""
    differences = values_by_set(pairs, column.name)
    units = units_of_rows(sharing, column) if differences else {}
    return differences, {name: units[name] for name in differences}


def _difference(pairs: pd.DataFrame, sharing: pd.DataFrame, column: Column) -> list[Row]:
    """One row; None if no pair has both values."""
    differences, resting = _resting(pairs, sharing, column)
    if not differences:
        return []
    estimate = cluster_bootstrap(differences, resting)
    return [
        {
            "column": column.name,
            "mean": estimate.mean,
            "low": estimate.low,
            "high": estimate.high,
            "n_sets": estimate.clusters,
            "n_pairs": sum(map(len, differences.values())),
            "p": sign_flip_test([fmean(own) for own in differences.values()]) if independent(resting) else None,
        }
    ]


def independent(units: Units) -> bool:
    """Whether sets share neither subjects nor images, so that each is an observation by itself."""
    return len({unit for own in units.values() for unit in own}) == len(units) and all(
        len(own) == 1 for own in units.values()
    )
