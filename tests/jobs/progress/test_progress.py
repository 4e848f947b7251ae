"""What a person sees of a run: a display that fits its terminal, lines elsewhere, the first failures."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import sys
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from catalogs import write_tone
from rich.console import Console
from rich.text import Text
from terminals import Screen

from sep_batch.jobs.progress import display, progress
from sep_batch.jobs.progress.display import Display, Lines, drawn
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline.flow.local_flow import LocalFlow


@pytest.fixture
def songs(tmp_path):
    """Two tones and a file that is no audio."""
    for hz in (300, 500):
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz)
    (tmp_path / "songs" / "broken.wav").write_bytes(b"no audio")
    return str(tmp_path / "songs")


def terminal(width, **options):
    """Return a console on a terminal of this width."""
    return Console(file=io.StringIO(), force_terminal=True, width=width, _environ={"TERM": "xterm-256color"} | options)


def big(stopping=None):
    """Return the progress of a run with large numbers."""
    told = Progress()
    told.plan(Summary("out", 10_000_000, run="r", audio_s=4e8, ok=1_234_567), pa.table({"duration_s": [200.0] * 1000}))
    told.standing.todo = 10_000_000
    told.start("sha")
    told.standing.stopping = stopping
    return told


@pytest.mark.parametrize("width", [120, 80, 40, 20])
@pytest.mark.parametrize("stopping", [None, "stopped by SIGINT"])
def test_the_display_fits_its_terminal(width, stopping):
    lines = terminal(width).render_lines(drawn(big(stopping).standing), pad=False)
    assert len(lines) >= 3
    assert max(sum(part.cell_length for part in line) for line in lines) <= width
    words = " ".join("".join(part.text for part in line).strip() for line in lines)
    assert "1234567/10000000" in words


def test_no_color_is_honoured_and_elsewhere_nothing_is_displayed(songs, tiny, local, tmp_path):
    for console in (terminal(80, NO_COLOR="1"), terminal(80)):
        console.print(drawn(big().standing))
        # of how many colours depends on what was drawn before: Rich keeps a style's codes
        assert bool(re.search(r"\x1b\[(3|9)\d", console.file.getvalue())) == (not console.no_color)
    plain = io.StringIO()
    run_job(songs, str(tmp_path / "out"), model=tiny, progress=Progress.on(Console(file=plain)))
    assert not plain.getvalue()


def test_the_display_refreshes_while_no_track_finishes_and_is_gone_at_the_end(songs, tiny, local, monkeypatch):
    whole = LocalFlow.rows

    def slow(flow):
        time.sleep(1.5)
        yield from whole(flow)

    monkeypatch.setattr(LocalFlow, "rows", slow)
    console = terminal(80)
    run_job(songs, model=tiny, progress=Progress(Display(console)))
    shown = console.file.getvalue()
    assert shown.count("0/3 tracks, 0 failed") >= 3
    assert "loading the model" in shown
    assert shown.index("\x1b[?25l") < shown.rindex("\x1b[?25h")
    assert shown.endswith("\x1b[2K")  # the last line is wiped


class Frame:
    """A display of four lines, of two once a line is printed above it; rendering it in the main thread awaits another refresh."""

    def __init__(self):
        self.is_printing, self.was_refreshed, self.refreshes = threading.Event(), threading.Event(), 0

    def drawn(self, _standing):
        self.refreshes += self.is_printing.is_set()
        if self.refreshes > 1:  # the first one is on the screen by now
            self.was_refreshed.set()
        return self

    def __rich_console__(self, console, options):
        if threading.current_thread() is threading.main_thread():
            self.is_printing.set()
            self.was_refreshed.wait(0.5)
        yield from (Text(f"frame {row}") for row in range(2 if self.is_printing.is_set() else 4))


def test_a_line_that_is_printed_while_the_display_shrinks_erases_no_line_above_it(monkeypatch):
    frame, console = Frame(), terminal(80)
    monkeypatch.setattr(display, "drawn", frame.drawn)
    monkeypatch.setattr(display, "REFRESHES_HZ", 50)
    console.print("before 0\nbefore 1")
    with Display(console).watching(Progress().standing):
        while "frame 3" not in console.file.getvalue():
            time.sleep(0.01)
        sys.stderr.write("failed: 000\n")
        sys.stdout.write("failed: 001\n")
    screen = Screen(80)
    screen.feed(console.file.getvalue().replace("\n", "\r\n"))
    assert [line for line in screen.lines if line] == ["before 0", "before 1", "failed: 000", "failed: 001"]


def test_ctrl_c_drops_no_output_that_is_on_its_way_to_the_terminal_and_the_terminal_is_left_as_it_was():
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    lines = [f"failed: {number:03d}" for number in range(1000)]  # more than is read ahead
    with open(theirs, "w", encoding="utf-8") as file, ThreadPoolExecutor(1) as pool:
        console = Console(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm-256color"})
        with Display(console).watching(Progress().standing):
            sys.stderr.write("\n".join([*lines, ""]))
            os.write(ours, b"\x03")
            time.sleep(0.2)  # until the driver has taken it
            reading = pool.submit(read_until, ours, b"\x1b[?25h")
        shown = reading.result(30)
        assert termios.tcgetattr(theirs) == before
    os.close(ours)
    assert b"^C" in shown
    assert [line for line in lines if line.encode() not in shown] == []


def read_until(descriptor, end):
    shown = b""
    while end not in shown:
        shown += os.read(descriptor, 1 << 16)
    return shown


def test_lines_come_by_the_clock_while_no_track_finishes_and_once_at_the_end(songs, tiny, local, monkeypatch, caplog):
    whole = LocalFlow.rows

    def slow(flow):
        time.sleep(1)
        yield from whole(flow)

    monkeypatch.setattr(LocalFlow, "rows", slow)
    monkeypatch.setattr(progress, "EVERY_S", 0.2)
    with caplog.at_level(logging.INFO, "sep_batch"):
        run_job(songs, model=tiny, progress=Progress(Lines(progress=True)))
    waiting = [line for line in caplog.messages if line.startswith("0/3 tracks, 0 failed; ")]
    assert len(waiting) >= 3
    assert "so far" in waiting[-1]
    assert caplog.messages[-1].startswith("3/3 tracks, 1 failed, 1.0 s of audio, ")
    assert "x real time, ETA 0:00:00; " in caplog.messages[-1]


def test_a_failed_track_is_told_with_its_class_and_message(songs, tiny, local, caplog):
    run_job(songs, model=tiny, progress=Progress(Lines(progress=False)))
    (told,) = caplog.messages
    assert told.startswith("failed: ")
    assert "broken.wav: unsupported_format: no supported audio container; looks like text: " in told
    assert caplog.records[0].track.startswith("broken-")


def test_of_many_failures_the_first_are_told_and_the_rest_only_counted(caplog):
    lines, standing = Lines(progress=False), Progress().standing
    for number in range(display.FAILED_SHOWN + 30):
        error = "Traceback\n  File x\nKeyError: 'planted'\n"
        lines.failed(standing, {"id": f"t{number}", "uri": None, "offset_s": None, "error_class": "bug", "error": error})
    assert caplog.messages[0] == "failed: t0: bug: KeyError: 'planted'"
    assert caplog.messages[display.FAILED_SHOWN :] == ["further failed tracks are only counted"]


def test_without_watchers_nothing_is_told(songs, tiny, local, caplog, capsys):
    run_job(songs, model=tiny)
    assert (caplog.messages, capsys.readouterr()) == ([], ("", ""))


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert [type(one) for one in Progress.on(dumb)._watchers] == [Lines]
    assert [type(one) for one in Progress.on(terminal(80))._watchers] == [Display, Lines]
    assert [type(one) for one in Progress.on(terminal(80), log_format="json")._watchers] == [Lines]
