"""Every built-in metric declares its columns so that tables, gates and intervals can rely on them."""

from __future__ import annotations

from pathlib import Path

from fc_bench.registry import load, registered

BUILT_IN = [name for name, item in registered("metrics").items() if item.distribution == "fc-bench"]


def test_names_of_columns_are_each_metric_s_own():
    names = [column.name for metric in BUILT_IN for column in load("metrics", metric).columns]
    assert len(names) == len(set(names))
    assert len(BUILT_IN) >= 6


def test_every_column_says_what_it_is_and_has_a_bound():
    for metric in BUILT_IN:
        for column in load("metrics", metric).columns:
            assert column.description
            assert column.bounds != (None, None), column.name
            directed = column.higher_is_better is not None
            assert not column.headline or directed, "a headline is gated, so it needs a direction"


def test_every_metric_has_a_known_answer():
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    modules = {load("metrics", name).__module__.rpartition(".")[2] for name in BUILT_IN}
    assert {f"test_{module}.py" for module in modules} <= here
