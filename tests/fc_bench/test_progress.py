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


def test_what_takes_long_has_a_line_and_what_does_not_has_none(clock, monkeypatch):
    timers = []

    class Timer:
        def __init__(self, seconds, call, arguments):
            assert seconds == module.LINE_EVERY
            self.fire, self.cancelled = lambda: call(*arguments), False
            timers.append(self)

        def start(self):
            pass

        def cancel(self):
            self.cancelled = True

    monkeypatch.setattr(module.threading, "Timer", Timer)
    out = io.StringIO()
    with module.progress(Console(file=out, width=80), "Generating", 4) as show:
        with show.during("collage[apart=True] ann: customizing"):
            pass
        with show.during("collage bob: customizing"):
            timers[-1].fire()
    assert out.getvalue().splitlines() == ["collage bob: customizing"]
    assert all(timer.cancelled for timer in timers)


def test_on_a_terminal_the_bar_says_what_is_being_done(clock):
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    with module.progress(console, "Generating", 4) as show:
        with show.during("collage[apart=True] ann: customizing"):
            show._bar.refresh()
            assert "collage[apart=True] ann: customizing" in out.getvalue()
        out.truncate(0)
        show._bar.refresh()
        assert "Generating" in out.getvalue()
        assert "customizing" not in out.getvalue()
