"""The terminal's recording is small, safe and true, and what draws it shows what a terminal would show."""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
import typer
from project_files import ROOT

from sep_batch.jobs.cli.main import app
from sep_batch.pipeline.rows import JOURNAL

PICTURES = ROOT / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"
CELL, LINE = 9, 19  # pixels


@pytest.fixture(scope="module")
def recorded():
    """The committed recording."""
    return (PICTURES / "terminal.svg").read_text()


@pytest.fixture
def terminal_svg(monkeypatch):
    """The module that draws."""
    pytest.importorskip("pyte")
    monkeypatch.syspath_prepend(PICTURES)
    import terminal_svg

    return terminal_svg


def texts(svg):
    """Return each piece of text: row, column, whether it stays to the end, and the text."""
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        for text in group.findall(f"{SVG}text"):
            row, column = int(text.get("y")) // LINE, int(text.get("x")) // CELL
            yield SimpleNamespace(row=row, column=column, stays=group.get("class")[0] == "k", text=text.text)


def lines(svg):
    """Return the lines of the last frame, scrolled off included."""
    rows = {}
    for piece in texts(svg):
        if piece.stays:
            line = rows.get(piece.row, "").ljust(piece.column)
            rows[piece.row] = line[: piece.column] + piece.text + line[piece.column + len(piece.text) :]
    return [rows.get(row, "") for row in range(max(rows) + 1)]


def screen(frame):
    """Return the lines on the screen in a frame, without blanks at their ends."""
    return ["".join(cell.text for cell in line).rstrip() for line in frame.lines]


def test_the_recording_runs_nothing_and_loads_nothing(recorded):
    assert len(recorded.encode()) < 200_000
    allowed = {"svg", "title", "desc", "style", "rect", "circle", "g", "path", "text"}
    for element in ET.fromstring(recorded).iter():
        assert element.tag.removeprefix(SVG) in allowed
        assert not [name for name in element.attrib if name.startswith("on") or "href" in name]
    text = recorded.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"://|url\(|@import|data:|<!", text)


def test_the_recording_takes_half_a_minute_and_stands_still_for_those_who_ask(recorded):
    (seconds,) = re.findall(r"animation-duration:([\d.]+)s", recorded)
    moved = re.search(r"@keyframes cursor\{(.*)\}", recorded)[1]
    last = max(float(percent) for percent in re.findall(r"([\d.]+)%", moved))
    assert 20 <= float(seconds) * last / 100 <= 30
    assert float(seconds) * (1 - last / 100) >= 5  # on the last frame
    assert "@media (prefers-reduced-motion:reduce){*{animation:none!important}}" in recorded


def test_the_recording_has_words_for_those_who_do_not_see_it(recorded):
    root = ET.fromstring(recorded)
    assert root.get("role") == "img"
    names = root.get("aria-labelledby").split()
    assert [root.find(f"{SVG}*[@id='{name}']").tag for name in names] == [f"{SVG}title", f"{SVG}desc"]
    assert "web page" in root.find(f"{SVG}desc").text


def test_the_recording_shows_no_folder_of_a_machine(recorded):
    shown = "\n".join([*lines(recorded), *(piece.text for piece in texts(recorded))])
    paths = re.findall(r"(?<![\w.])/[\w.-]+[\w./-]*", shown)
    assert paths
    assert {path for path in paths if not re.match(r"/srv/music/catalog\b", path)} == set()
    assert not re.search(r"\bpid\b|@", shown)  # with a process, its host would be named


def test_the_recording_shows_commands_and_flags_that_are_there(recorded):
    group, shown = typer.main.get_command(app), lines(recorded)
    typed = [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
    assert typed[:3] == ["sep-batch run catalog", "sep-batch status catalog.stems", "sep-batch failures catalog.stems"]
    assert len(typed) == 4
    named = re.findall(r"sep-batch ([a-z]+)", "\n".join(shown))
    assert set(named) <= set(group.commands)
    flags = {option for command in group.commands.values() for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"(?<!\S)--[a-z-]+", "\n".join(shown))) <= flags


def test_the_recordings_query_reads_an_index(recorded, tmp_path, monkeypatch):
    (query,) = (line[len('$ duckdb -c "') : -1] for line in lines(recorded) if line.startswith("$ duckdb"))
    row = dict.fromkeys(JOURNAL.names) | {"id": "x", "stems": [{"stem": "vocals", "uri": "x/vocals.flac", "lufs": -21}]}
    (tmp_path / "catalog.stems").mkdir()
    pyarrow.parquet.write_table(pa.Table.from_pylist([row], JOURNAL), tmp_path / "catalog.stems" / "index.parquet")
    monkeypatch.chdir(tmp_path)
    assert duckdb.sql(query).fetchall() == [("x/vocals.flac", -21.0)]


def test_the_recording_shows_progress_a_failure_and_the_result(recorded):
    replaced = [piece.text for piece in texts(recorded) if not piece.stays]
    done = [int(tracks) for text in replaced for tracks in re.findall(r"^(\d+)/9 tracks, .* x real time, ETA ", text)]
    assert done == sorted(done)
    assert len(set(done)) >= 5
    shown = "\n".join(lines(recorded))
    assert "failed: /srv/music/catalog/not-found.mp3: unsupported_format" in shown
    assert "8 tracks separated, 1 failed, 0 done before" in shown


def test_the_spectrograms_fit_a_readme():
    data = (PICTURES / "separation.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 1000 <= width <= 1400
    assert height < width / 2
    assert len(data) < 150_000


def test_a_frame_has_the_colours_and_the_cursor_of_its_time(terminal_svg):
    recording = [(3.0, "\x1b[1;32m$\x1b[0m "), (4.0, "l"), (4.1, "s"), (4.2, "\r\n\x1b[38;2;1;2;3mnew\x1b[0m \x1b[7mold\x1b[0m")]
    frames = terminal_svg.play(recording, columns=10, rows=3, longest_s=1.5)
    assert [screen(frame) for frame in frames] == [["$", "", ""], ["$ l", "", ""], ["$ ls", "", ""], ["$ ls", "new old", ""]]
    assert [round(frame.start_s, 3) for frame in frames] == [0, 1, 1.1, 1.2]
    assert [frame.cursor for frame in frames] == [(0, 2), (0, 3), (0, 4), (1, 7)]
    prompt, new, old = frames[3].lines[0][0].style, frames[3].lines[1][0].style, frames[3].lines[1][4].style
    assert (prompt.colour, prompt.is_bold) == (terminal_svg.PALETTE["green"], True)
    assert (new.colour, new.background) == ("#010203", None)
    assert (old.colour, old.background) == (terminal_svg.PAPER, terminal_svg.INK)


def test_a_hidden_cursor_is_in_no_frame(terminal_svg):
    frames = terminal_svg.play([(0, "a\x1b[?25l"), (1, "b"), (2, "\x1b[?25h")], columns=4, rows=2, longest_s=9)
    assert [frame.cursor for frame in frames] == [None, None, (0, 2)]


def test_a_line_written_over_replaces_the_old_one_and_waiting_is_cut(terminal_svg):
    recording = [(0, "1/3 tracks"), (5, "\r\x1b[2K2/3 tracks"), (6, "\r\x1b[2K2/3 tracks"), (6.5, "\r\x1b[2Kdone")]
    frames = terminal_svg.play(recording, columns=20, rows=2, longest_s=1.5)
    assert [(frame.start_s, screen(frame)[0]) for frame in frames] == [(0, "1/3 tracks"), (1.5, "2/3 tracks"), (3.0, "done")]
    pieces = terminal_svg.pieces(frames)
    assert [("".join(cell.text for cell in piece.cells), piece.start_s, piece.end_s) for piece in pieces] == [
        ("1/3 tracks", 0, 1.5),
        ("2/3 tracks", 1.5, 3.0),
        ("done", 3.0, None),
    ]


def test_a_display_redrawn_by_moving_the_cursor_up_changes_in_place(terminal_svg):
    recording = [(0, "bar\r\n1/2"), (1, "\r\x1b[2K\x1b[1A\x1b[2Kfailed: x\r\nbar\r\n2/2")]
    frames = terminal_svg.play(recording, columns=20, rows=4, longest_s=1.5)
    assert [screen(frame) for frame in frames] == [["bar", "1/2", "", ""], ["failed: x", "bar", "2/2", ""]]


def test_a_typed_character_adds_one_piece_and_ends_none(terminal_svg):
    frames = terminal_svg.play([(0.1 * number, key) for number, key in enumerate("a bc")], columns=9, rows=2, longest_s=1)
    pieces = terminal_svg.pieces(frames)
    assert [(piece.column, piece.cells[0].text, piece.end_s) for piece in pieces] == [
        (0, "a", None),
        (2, "b", None),
        (3, "c", None),
    ]


def test_output_of_one_moment_is_one_frame(terminal_svg):
    frames = terminal_svg.play([(0, "a"), (0.5, "b"), (0.51, "c"), (0.52, "d"), (0.6, "e")], columns=9, rows=2, longest_s=1)
    assert [screen(frame)[0] for frame in frames] == ["a", "abcd", "abcde"]


def test_scrolled_lines_keep_their_rows_and_the_screen_moves(terminal_svg):
    frames = terminal_svg.play([(0, "1\r\n2"), (1, "\r\n3\r\n4\r\n5")], columns=9, rows=3, longest_s=1.5)
    assert [(frame.scrolled, screen(frame)) for frame in frames] == [(0, ["1", "2", ""]), (2, ["3", "4", "5"])]
    svg = terminal_svg.draw(frames, "t", "d")
    assert "@keyframes lines{0%{transform:translate(0,0px)}14.29%{transform:translate(0,-38px)}}" in svg
    assert lines(svg)[:2] == ["1", "2"]
    assert lines(svg)[4] == "5"


def test_the_picture_shows_each_piece_in_its_time_and_the_last_frame_without_animation(terminal_svg):
    frames = terminal_svg.play([(0, "<a & b>"), (2, "\r\x1b[2K\x1b[31mnew")], columns=9, rows=2, longest_s=2)
    svg = terminal_svg.draw(frames, "a <title>", "words & more")
    assert ET.fromstring(svg).find(f"{SVG}title").text == "a <title>"
    assert [(piece.text, piece.stays) for piece in texts(svg)] == [("<a & b>", False), ("new", True)]
    assert ".e0{animation-name:e0;visibility:hidden}" in svg
    assert "@keyframes e0{0%{visibility:visible}25%{visibility:hidden}}" in svg
    assert ".k1{animation-name:k1}\n@keyframes k1{0%{visibility:hidden}25%{visibility:visible}}" in svg
    assert f".s1{{color:{terminal_svg.PALETTE['red']}}}" in svg


def test_bars_and_boxes_are_drawn_as_lines_that_meet(terminal_svg):
    frames = terminal_svg.play([(0, "━━╸\r\n┌─┐\r\n│x│")], columns=9, rows=3, longest_s=2)
    paths = re.findall(r'<path d="([^"]+)"( class="heavy")?/>', terminal_svg.draw(frames, "t", "d"))
    assert paths == [
        ("M0 9.5H22.5", ' class="heavy"'),
        ("M4.5 28.5V38M22.5 28.5V38M4.5 28.5H22.5", ""),
        ("M4.5 38V57", ""),
        ("M22.5 38V57", ""),
    ]
