"""Progress where there is no terminal: lines with what is done and what is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fc_bench import progress as module


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the module sees."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_comes_every_ten_seconds_and_at_the_end(clock):
    out = io.StringIO()
    with module.progress(Console(file=out, width=80), "Generating", 4) as show:
        for second in (4, 12, 16, 20):
            clock[0] = second
            show.advance()
    assert out.getvalue().splitlines() == [
        "Generating: 2 of 4, about 12 s left",
        "Generating: 4 of 4, about 0 s left",
    ]


def test_what_is_said_is_shown_as_it_is(clock):
    out = io.StringIO()
    with module.progress(Console(file=out, width=20), "Scoring", 1) as show:
        show.say("[bold]a long message[/bold] that does not fold")
    assert out.getvalue() == "[bold]a long message[/bold] that does not fold\n"
