"""What the fuzzed readers did with each case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fc_bench.errors import UserError
from fc_bench.model.errors import ModelInputError


class Outcomes:
    """Counts the cases that ended with a result and those that ended with one sentence; anything else is a crash."""

    def __init__(self) -> None:
        self.results = self.sentences = 0

    @contextmanager
    def told(self, where: str = "") -> Iterator[None]:
        """One case: `where` has to stand in the sentence."""
        try:
            yield
        except (UserError, ModelInputError) as error:
            text = " ".join(str(error).split())  # as the command line prints it
            assert text
            assert where in text, text
            assert len(text) < 4000
            self.sentences += 1
        else:
            self.results += 1


@pytest.fixture
def outcomes(record_property: Callable[[str, object], None]) -> Iterator[Outcomes]:
    """Of one test; its report has the counts (`tests/benchmarks/fuzz.py` makes a table of them)."""
    counted = Outcomes()
    yield counted
    record_property("results", counted.results)
    record_property("sentences", counted.sentences)
