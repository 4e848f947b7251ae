"""A run on a terminal, as a person sees it."""

from __future__ import annotations

import os
import signal
import sys

from catalogs import write_tone
from terminals import OnTerminal, Screen

from sep_batch.pipeline import failures, index

CTRL_C = b"\x03"
COLUMNS = 80


def test_the_display_fits_80_columns_and_ctrl_c_ends_it_cleanly_and_says_how_to_resume(tiny, tmp_path):
    for number in range(60):
        write_tone(tmp_path / "in" / f"{number:02d}.wav", 300 + 20 * number, 6)
    (tmp_path / "in" / "00.wav").write_bytes(b"no audio")
    command = [sys.executable, "-m", "sep_batch.jobs", "run", "in", "-o", "out", "-p", tiny, "--gpus", "0"]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")} | {"TERM": "xterm-256color"}
    run = OnTerminal(command, COLUMNS, cwd=tmp_path, env=environment)
    try:
        before = run.wait_for("x real time", limit_s=120)
        run.press(CTRL_C)
        code = run.end(limit_s=60)
    finally:
        if run.popen.poll() is None:
            os.killpg(run.popen.pid, signal.SIGKILL)
    for words in ("starting Ray", "loading the model", "0/60 tracks, 0 failed"):
        assert words in before
    screen = run.screen
    assert code == failures.STOPPED
    assert screen.is_cursor_visible
    assert 40 <= screen.widest <= COLUMNS
    shown = [line.rstrip() for line in screen.lines if line.strip()]
    assert shown[-1] == "stopped by SIGINT; run the same command again to resume"
    assert f"stems and index: {tmp_path / 'out'}" in shown
    expected = (
        "failed: 00-",
        "unsupported_format",
        "^C",
        "stopped by",
        "Separate busy",
        "failed: 1 ",
        "stems and index",
        "next: ",
    )
    for line in shown:  # nothing of the display is left, and Ray said nothing
        assert any(words in line for words in expected) or "tracks separated, 1 failed" in line or line.startswith(": "), shown
    done = index.read(str(tmp_path / "out")).num_rows
    assert 0 < done < 60


def test_the_terminal_of_these_tests_sees_what_is_too_wide_and_a_cursor_that_is_gone():
    screen = Screen(COLUMNS)
    screen.feed("\x1b[?25lone\ntwo\r\x1b[2K\x1b[1A\x1b[2K" + "x" * 90 + "\r\x1b[2Kend\r\n")
    assert (screen.lines, screen.widest, screen.is_cursor_visible) == (["end", "", ""][:2], 90, False)
