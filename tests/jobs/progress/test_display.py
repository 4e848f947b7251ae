"""A run on a terminal, as a person sees it."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest
from catalogs import write_tone
from terminals import OnTerminal, Screen

from sep_batch.pipeline import errors
from sep_batch.pipeline.out import index

CTRL_C = b"\x03"
COLUMNS = 80
MANY, FAIL_EVERY = 1000, 50  # tracks: many more than Ray has in flight when the first are done; some of each block of 64 fail
LEFT = r"""failed:(?:(?!\d+ tracks? separated)[^\n]*
)+\d+ tracks? separated, \d+ failed, 0 done before; .*
failed: \d+ unsupported_format
stems and index: {out}
(?:  {out}/.*
)*next: sep-batch failures {out}
stopped by SIGINT; run the same command again to resume"""
FAILED = r"in/(\d{4})[.]wav:unsupported_format"


@pytest.mark.parametrize(
    ("engine", "tracks", "fail_every"), [("local", 400, 25), pytest.param("ray", MANY, FAIL_EVERY, marks=pytest.mark.slow)]
)
def test_the_display_fits_80_columns_and_ctrl_c_ends_it_cleanly_and_says_how_to_resume(
    tiny, tmp_path, engine, tracks, fail_every
):
    for number in range(tracks):
        write_tone(tmp_path / "in" / f"{number:04d}.wav", 300 + number, seconds=0.1)
        if number % fail_every == 0:
            (tmp_path / "in" / f"{number:04d}.wav").write_bytes(b"no audio")
    command = [sys.executable, "-m", "sep_batch.jobs", "run", "in", "-o", "out", "-p", tiny, "--gpus", "0", "--engine", engine]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")} | {"TERM": "xterm-256color"}
    run = OnTerminal(command, COLUMNS, cwd=tmp_path, env=environment)
    try:
        before = run.wait_for("x real time", limit_s=150)
        run.wait_for("failed:", limit_s=60)
        run.press(CTRL_C)
        code = run.end(limit_s=90)
    finally:
        if run.popen.poll() is None:
            os.killpg(run.popen.pid, signal.SIGKILL)
    steps = ("starting Ray", "loading the model", "first tracks under way") if engine == "ray" else ("loading the model",)
    for waiting in (*steps, f"0/{tracks} tracks, 0 failed"):
        assert waiting in before
    assert "stopped by SIGINT: tracks in flight have" in run.shown
    screen = run.screen
    seen = "\n".join(line.rstrip() for line in screen.lines).strip()
    assert code == errors.STOPPED, seen
    assert screen.is_cursor_visible
    assert 40 <= screen.widest <= COLUMNS
    assert re.fullmatch(LEFT.format(out=re.escape(str(tmp_path / "out"))), seen), seen  # nothing of the display, nothing of Ray's
    left, shown = (re.findall(FAILED, re.sub(r"\s", "", text)) for text in (seen, run.shown))  # lines are wrapped, also in paths
    assert left == shown  # nothing that was shown is lost
    assert left
    assert 0 < index.read(str(tmp_path / "out")).num_rows < tracks


def test_the_terminal_of_these_tests_sees_what_is_too_wide_and_a_cursor_that_is_gone():
    screen = Screen(COLUMNS)
    screen.feed("\x1b[?25lone\ntwo\r\x1b[2K\x1b[1A\x1b[2K" + "x" * 90 + "\r\x1b[2Kend\r\n")
    assert (screen.lines, screen.widest, screen.is_cursor_visible) == (["end", "", ""][:2], 90, False)
