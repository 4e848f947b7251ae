"""Draw terminal.svg: a run of a small synthesised catalog, and a look at its result, as a terminal showed them.

Needs Linux (`unshare` and `mount` show the temporary folder as /srv) and the extra `pictures`; `make pictures` runs it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import pexpect
from terminal_svg import draw, play

from sep_batch.jobs.demo import demo
from sep_batch.pipeline import storage

PICTURE = Path(__file__).parent / "terminal.svg"
COLUMNS, ROWS = 100, 27
QUERY = "SELECT s.uri, s.lufs FROM 'catalog.stems/index.parquet', unnest(stems) t(s) LIMIT 8"
COMMANDS = (
    "sep-batch run catalog",
    "sep-batch status catalog.stems",
    "sep-batch failures catalog.stems",
    f'duckdb -c "{QUERY}"',
)
PROMPT = "\x1b[1;32m$\x1b[0m "
KEY_S, WORD_S = 0.04, 0.09  # pauses after a key, and after a blank
READ_S = 1.5  # pause before each command, and the longest without a change in the picture
LIMIT_S = 180.0  # for one command
SONGS = (
    *(song._replace(seconds=seconds) for song, seconds in zip(demo.SONGS, (71, 64, 69, 58, 70, 62), strict=True)),
    demo.Song("red-balloon.opus", "The Sines", 9, 71, demo.OPUS, rate_hz=48_000, bitrate=128_000),
    demo.Song("tin-roof.m4a", "Ada Formant", 7, 66, demo.M4A, bitrate=160_000),
)
PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"
DESCRIPTION = (
    "A recording of a terminal, made from a real run. sep-batch run catalog separates eight songs and shows its progress; a ninth"
    " file, a web page named not-found.mp3, fails without stopping the others. sep-batch status and sep-batch failures show the"
    " result and the failed file with advice. A DuckDB query reads the loudness of the stems from the index."
)
BACKGROUND_QUERY = "\x1b]11;?\x07\x1b[c"  # DuckDB asks for the terminal's colour and kind
BACKGROUND = "\x1b]11;rgb:1515/1b1b/2626\x07\x1b[?62c"


class Recorder:
    """File that records the times of what is written to it."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str]] = []

    def write(self, text: str) -> None:
        """Record a text with its time."""
        self.events.append((time.monotonic(), text))

    def flush(self) -> None:
        """Do nothing: all is recorded."""


def write_catalog(folder: Path) -> None:
    """Synthesise the songs, and write the file that is none."""
    for song in SONGS:
        storage.put(f"{folder}/{song.file}", demo.render(song))
    storage.put(f"{folder}/not-found.mp3", PAGE)


def record(folder: Path) -> list[tuple[float, str]]:
    """Type the commands into a shell on a terminal, and return what it showed, with times.

    Args:
        folder: Folder that the shell sees as /srv; it has a folder `music`, in which the commands run.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "ENV", "NO_COLOR")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "PS1": PROMPT}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    inside = ["sh", "-c", 'mount --bind "$0" /srv && cd /srv/music && exec sh -i', str(folder)]
    recorder = Recorder()
    shell = pexpect.spawn(
        "unshare",
        ["--mount", *as_root, "--", *inside],
        dimensions=(ROWS, COLUMNS),
        encoding="utf-8",
        env=environment,
        timeout=LIMIT_S,
    )
    shell.logfile_read = recorder
    shell.delaybeforesend = None
    shell.expect_exact(PROMPT)
    for command in COMMANDS:
        _pass(shell, READ_S)
        for key in command:
            shell.send(key)
            _pass(shell, WORD_S if key == " " else KEY_S)
        _pass(shell, 5 * KEY_S)
        shell.send("\r")
        while shell.expect_exact([PROMPT, BACKGROUND_QUERY]):
            shell.send(BACKGROUND)
    _pass(shell, KEY_S)
    shell.logfile_read = None
    shell.sendeof()
    shell.expect(pexpect.EOF)
    return recorder.events


def _pass(shell: pexpect.spawn, seconds: float) -> None:
    """Read what the shell writes in some seconds."""
    shell.expect_exact(pexpect.TIMEOUT, timeout=seconds)


def check(recording: list[tuple[float, str]], folder: Path) -> None:
    """Refuse a recording that names this machine or its folders."""
    text = "".join(text for _, text in recording)
    if private := [name for name in (str(Path.home()), str(folder), tempfile.gettempdir(), socket.gethostname()) if name in text]:
        raise SystemExit(f"the recording shows {', '.join(private)}")


def main() -> None:
    """Record, and draw."""
    for program in ("sep-batch", "duckdb"):
        if not shutil.which(program, path=str(Path(sys.executable).parent)):
            raise SystemExit(f"{program} is not installed beside {sys.executable}: pip install -e '.[pictures]'")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_catalog(folder / "music" / "catalog")
        recording = record(folder)
        check(recording, folder)
    frames = play(recording, COLUMNS, ROWS, READ_S)
    picture = draw(frames, "sep-batch", DESCRIPTION).encode()
    storage.put(str(PICTURE), picture)
    print(f"{PICTURE}: {len(picture):,} bytes, {len(frames)} frames in {frames[-1].start_s:.1f} s")


if __name__ == "__main__":
    main()
