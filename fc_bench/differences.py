"""Paired differences between methods: same subjects, same prompts, same noise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from fc_bench.aggregate import Row, columns_of, sample_rows, units_of_rows
from fc_bench.errors import UserError
from fc_bench.model.yaml_file import nearest
from fc_bench.protocols import Column
from fc_bench.records import RunFolder
from fc_bench.statistics import Estimate, cluster_bootstrap, holm, paired_differences, sign_flip_test


def method_differences(folder: RunFolder, against: str) -> list[Row]:
    """Each method of a run minus its method `against`; raises UserError when the run has no such method."""
    return paired_rows(sample_rows(folder), columns_of(folder), against)


def paired_rows(samples: Sequence[Row], columns: Sequence[Column], against: str) -> list[Row]:
    """Each method minus the method `against`, by number of subjects and quality column with a direction.

    `samples` as of `aggregate.sample_rows`; those of several runs may stand together where no two runs share a
    method's name or an image's.

    Rows: method, against, subjects, column, mean, low, high (cluster bootstrap, 95 %), n_sets, n_pairs, p, p_holm.
    `p` is the sign-flip test's over the subject sets; it needs independent ones and is None where sets share subjects
    or images. `p_holm` is adjusted over the methods. Raises UserError when there is no such method.
    """
    labels = list(dict.fromkeys(row["method"] for row in samples))
    if against not in labels:
        raise UserError(f'The run has no method "{against}" to compare with, {nearest(against, labels)}')
    rows: list[Row] = []
    for subjects in sorted({row["subjects"] for row in samples}):
        own = {
            label: [row for row in samples if row["method"] == label and row["subjects"] == subjects]
            for label in labels
        }
        for column in columns:
            if column.higher_is_better is None:
                continue
            family = [
                row
                for label in labels
                if label != against
                for row in _difference(own[against], own[label], column, label, against, subjects)
            ]
            adjusted = holm({row["method"]: row["p"] for row in family if row["p"] is not None})
            rows += [{**row, "p_holm": adjusted.get(row["method"])} for row in family]
    return rows


def paired_estimate(base: Sequence[Row], other: Sequence[Row], column: Column) -> Estimate | None:
    """What `other` is more than `base` in a column, over their common subjects, prompts and images.

    The samples are those of one method and number of subjects each. None where they have no pair of values.
    """
    differences, resting = _pairs(base, other, column)
    return cluster_bootstrap(differences, resting) if differences else None


def _pairs(
    base: Sequence[Row], other: Sequence[Row], column: Column
) -> tuple[dict[str, list[float]], dict[str, Sequence[str]]]:
    """The differences by subject set, and the units each set rests on."""
    values = [
        {
            (row["set"], row["template"], row["index"]): row[column.name]
            for row in rows
            if row.get(column.name) is not None
        }
        for rows in (base, other)
    ]
    differences = paired_differences(*values)
    if not differences:
        return {}, {}
    units = units_of_rows([*base, *other], column)
    return differences, {name: units[name] for name in differences}


def _difference(
    base: Sequence[Row], other: Sequence[Row], column: Column, label: str, against: str, subjects: int
) -> list[Row]:
    """One row, or none where the two have no pair of values."""
    differences, resting = _pairs(base, other, column)
    if not differences:
        return []
    estimate = cluster_bootstrap(differences, resting)
    independent = len({unit for own in resting.values() for unit in own}) == len(resting) and all(
        len(own) == 1 for own in resting.values()
    )
    return [
        {
            "method": label,
            "against": against,
            "subjects": subjects,
            "column": column.name,
            "mean": estimate.mean,
            "low": estimate.low,
            "high": estimate.high,
            "n_sets": estimate.clusters,
            "n_pairs": sum(map(len, differences.values())),
            "p": sign_flip_test([fmean(own) for own in differences.values()]) if independent else None,
        }
    ]
