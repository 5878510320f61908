"""Every reader on many damaged files, and what became of each: a result, one sentence, or a crash.

    python tests/benchmarks/fuzz.py --cases 10000

runs the tests of `tests/properties/test_fuzz*.py`, which hold the cases, with so many cases each (of whole reports a
few hundred, of whole conversions a hundredth), one after the other, and writes the table, with processor seconds, to
tests/benchmarks/fuzz.txt. The exit code is 1 upon a crash, whose smallest example pytest shows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent / "properties"
TARGETS = {
    "test_suite_with_anything_anywhere_is_read_or_refused": "suite loader, values",
    "test_suite_file_with_damaged_bytes_is_read_or_refused": "suite loader, bytes",
    "test_manifest_is_read_or_refused": "manifest reader",
    "test_records_damaged_anywhere_are_read_or_refused_and_can_be_gone_on_with": "record reader, bytes, gone on with",
    "test_lines_with_damaged_bytes_are_the_same_to_all_readers": "record reader, bytes, singly and in blocks",
    "test_record_with_anything_in_any_place_is_read_or_refused_by_file_and_line[resumed]": "record reader of resuming",
    "test_record_with_anything_in_any_place_is_read_or_refused_by_file_and_line[measured]": "record reader of reports",
    "test_checkpoint_with_damaged_bytes_is_read_or_refused": "checkpoint converter, bytes",
    "test_checkpoint_with_other_weights_is_loaded_or_refused": "checkpoint converter, weights",
    "test_checkpoint_is_converted_whole_or_refused": "whole conversions",
    "test_run_with_anything_in_any_place_is_reported_or_refused_by_file[report]": "whole reports",
    "test_run_with_anything_in_any_place_is_reported_or_refused_by_file[drawn]": "figures' material",
    "test_run_with_anything_in_any_place_is_reported_or_refused_by_file[compared]": "whole comparisons",
    "test_run_with_anything_in_any_place_is_reported_or_refused_by_file[shown]": "single samples shown",
    "test_cost_run_with_anything_in_any_place_is_read_or_refused": "cost runs",
}
"""Of each test, what it fuzzes; in the order of the table."""


class Table:
    """A pytest plug-in that keeps what each test counted."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._crashed: set[str] = set()
        self._counts: dict[str, dict[str, int]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        begun = time.process_time()
        try:
            return (yield)
        finally:
            self._seconds[item.name] = time.process_time() - begun

    def pytest_runtest_logreport(self, report) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            self._crashed.add(name)
        if report.when == "teardown":
            self._counts[name] = dict(report.user_properties)

    @property
    def missing(self) -> list[str]:
        """Targets that were not run."""
        return [target for name, target in TARGETS.items() if name not in self._seconds]

    def lines(self) -> list[str]:
        """The table."""
        columns = f"{'cases':>7} {'results':>8} {'sentences':>10} {'crashes':>8} {'cpu s':>8}"
        made = [f"{'target':<44} {columns}"]
        for name in [name for name in TARGETS if name in self._seconds]:
            results, sentences = (self._counts[name][key] for key in ("results", "sentences"))
            crashes = int(name in self._crashed)
            cases = results + sentences + crashes
            made.append(
                f"{TARGETS[name]:<44} {cases:7d} {results:8d} {sentences:10d} {crashes:8d} {self._seconds[name]:8.1f}"
            )
        return made


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, help="of each reader")
    parser.add_argument("--only", help="tests to run, as pytest's -k")
    parser.add_argument("--table", type=Path, default=HERE / "fuzz.txt", help="file that the table is written to")
    options = parser.parse_args()
    os.environ["FC_BENCH_FUZZ_CASES"] = str(options.cases)  # before the tests are imported
    table = Table()
    chosen = [str(TESTS / name) for name in ("test_fuzz.py", "test_fuzz_records.py")]
    only = options.only or "is_read or are_read or are_the_same or is_loaded or is_converted or is_reported"
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", "-k", only, *chosen], plugins=[table]))
    text = "\n".join([f"python tests/benchmarks/fuzz.py --cases {options.cases}", "", *table.lines()]) + "\n"
    print(text)
    if not options.only:
        if table.missing:
            print(f"not run: {', '.join(table.missing)}", file=sys.stderr)
        options.table.write_text(text)
    return int(code != 0 or bool(table.missing and not options.only))


if __name__ == "__main__":
    sys.exit(main())
