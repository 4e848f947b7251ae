from __future__ import annotations

import io

from rich.console import Console

from sep_batch.jobs.progress import file_counter
from sep_batch.jobs.progress.file_counter import FileCounter, line


def test_a_line_says_how_many_how_fast_and_how_long():
    assert line("probed", 1200, 4000, 10.0) == "1,200 of 4,000 files probed, 120/s, ETA 0:00:23"
    assert line("found", 1200, None, 10.0) == "1,200 files found, 120/s"
    assert line("probed", 0, 5, 0.0) == "0 of 5 files probed, 0/s"


def test_where_there_is_no_terminal_a_plain_line_comes_now_and_then(monkeypatch):
    now = iter([0.0, 4.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr(file_counter.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    with FileCounter(Console(file=out)).step("probed", 40) as seen:
        for _ in range(4):
            seen(10)
    assert out.getvalue().splitlines() == ["20 of 40 files probed, 2/s, ETA 0:00:11", "40 of 40 files probed, 2/s, ETA 0:00:00"]


def test_on_a_terminal_the_line_is_live_and_gone_at_the_end():
    out = io.StringIO()
    with FileCounter(Console(file=out, force_terminal=True, width=100)).step("probed", 40) as seen:
        seen(10)
    assert "10 of 40 files probed" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")


def test_a_tally_without_a_console_says_nothing():
    with FileCounter().step("found") as seen:
        seen(10)
