"""Hostile audio files: each becomes what the table says, in bounded memory, and none harms the tracks beside it."""

from __future__ import annotations

import io
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import stems_below, write_tone
from corpus import BAD, CUTS, references
from craft import FORMATS, whole
from signals import RATE_HZ
from witness import Bait, watching

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio import containers, reader
from sep_batch.pipeline.out import index

FOR_DECODER_ONLY = {
    "flac_20_minutes_of_silence.flac",
    *(name for name, (expected, _) in CUTS.items() if expected.startswith("ok")),
}  # the run has its like
GROWN_MB = 100  # more than any of the files that unpack may take

PEAK_OF_EACH = """
import io, sys
from pathlib import Path
import corpus, craft
from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio import containers, reader

def peak_mb():  # of this program: what getrusage says begins with its parent's
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10

def decode(content):
    try:
        return sum(piece.shape[1] for piece in audio.decode(io.BytesIO(content), rate_hz=44_100)[0]) / 44_100
    except errors.TrackError as error:
        return error.error_class

decode(craft.whole("flac"))
files = {name: corpus.BAD[name][1]() for name in sys.argv[1:]} | {"hours": craft.silent_flac(3 * 3600)}
begun = peak_mb()
for name, content in files.items():
    outcome = decode(content)
    print(name, outcome, peak_mb() - begun)
"""


@pytest.fixture
def bait(tmp_path):
    made = Bait(tmp_path / "bait.wav", whole("wav"))
    yield made
    made.close()


def outcome(content):
    """Return what becomes of a file, in the table's words."""
    try:
        pieces, found = audio.decode(io.BytesIO(content), rate_hz=RATE_HZ)
        for piece in pieces:
            assert np.isfinite(piece).all()
    except errors.TrackError as error:
        return error.error_class
    flags = {"truncated": found.truncated, "skipped": found.skipped_packets, "nonfinite": found.nonfinite_samples}
    return " ".join(["ok", *(flag for flag, is_set in flags.items() if is_set)])


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_file_becomes_what_the_table_says(name):
    expected, make = BAD[name]
    assert outcome(make()) == expected


@pytest.mark.parametrize("name", BAD)
def test_the_header_of_a_hostile_file_says_something_sensible_or_is_refused(name):
    try:
        header = audio.probe(io.BytesIO(BAD[name][1]()))
    except errors.TrackError:
        return
    assert header.codec in containers.DECODERS
    assert header.seconds is None or 0 < header.seconds < math.inf
    assert header.rate_hz is None or reader.MIN_RATE_HZ <= header.rate_hz <= reader.MAX_RATE_HZ
    assert header.channels is None or 1 <= header.channels <= reader.MAX_CHANNELS


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_that_lies_there_is_read_where_it_tells_the_truth(format):
    assert outcome(whole(format)) == "ok"


def test_the_witness_sees_what_is_opened_called_and_written(bait, tmp_path):
    assert not bait.was_opened()
    assert not bait.was_called()
    with watching() as seen:
        assert bait.path.read_bytes()
        socket.create_connection(("127.0.0.1", urlsplit(bait.url).port)).close()
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / "a.txt").write_text("x")
        shutil.rmtree(tmp_path / "made")
    assert bait.was_opened()
    assert bait.was_called()
    assert len(seen.connected) >= 1
    assert seen.outside() == {str(tmp_path / "made"), str(tmp_path / "made" / "a.txt")}
    assert seen.outside(tmp_path) == set()


def test_a_file_that_refers_to_others_opens_none_of_them(bait):
    for name, (expected, make) in references(str(bait.path), bait.url).items():
        assert outcome(make()) == expected, name
    assert not bait.was_opened()
    assert not bait.was_called()


def test_what_unpacks_to_hours_or_gigabytes_takes_no_memory():
    """In a process of its own, whose peak is its own."""
    names = [
        name for name in BAD if any(word in name for word in ("unpack", "declared", "huge", "many", "million", "lies", "absurd"))
    ]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run([sys.executable, "-c", PEAK_OF_EACH, *names], env=here, capture_output=True, text=True, check=True)
    lines = [line.split() for line in told.stdout.splitlines()]
    assert [name for name, *_ in lines] == [*names, "hours"]
    assert float(lines[-1][1]) == pytest.approx(3 * 3600, abs=2)
    assert {name: int(grown) for name, _, grown in lines if int(grown) > GROWN_MB} == {}


def write_catalog(folder, files, good):
    """Write files and their manifest, among them 20 good ones, and return it."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for number in range(20):
        write_tone(folder / good.format(number), 200 + 50 * number, seconds=0.2)
    uris = [*files, *(good.format(number) for number in range(20))]
    uris.sort(key=hash_of)  # good and bad mixed
    pyarrow.parquet.write_table(pa.table({"uri": uris, "id": uris}), folder / "all.parquet")
    chosen = [uri for uri in uris if uri not in files]
    pyarrow.parquet.write_table(pa.table({"uri": chosen, "id": chosen}), folder / "good.parquet")


def hash_of(text):
    return sum(ord(char) * 31**place for place, char in enumerate(text)) % 1009


def state_of(folder):
    """Return every file below a folder with what a write would change."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_hostile_files_harm_no_track_beside_them(tmp_path, tiny, local, bait, monkeypatch):
    songs, out, scratch = tmp_path / "songs", tmp_path / "out", tmp_path / "scratch"
    songs.mkdir()
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    table = {name: entry for name, entry in BAD.items() if name not in FOR_DECODER_ONLY} | references(str(bait.path), bait.url)
    write_catalog(songs, {name: make() for name, (_, make) in table.items()}, "good-{}.wav")
    before = state_of(songs)
    with watching() as seen:
        summary = run_job(str(songs / "all.parquet"), str(out), model=tiny, stems=("vocals",), max_failures="1000")
    assert summary.exit_code == 3
    assert seen.outside(out, scratch) == set()
    assert seen.connected == []
    assert not bait.was_opened()
    assert not bait.was_called()
    assert state_of(songs) == before
    assert list(scratch.iterdir()) == []

    check_rows(out, table)

    run_job(str(songs / "good.parquet"), str(tmp_path / "alone"), model=tiny, stems=("vocals",))
    alone, beside = stems_below(tmp_path / "alone"), stems_below(out)
    assert len(alone) == 20
    assert {path: beside[path] for path in alone} == alone


@pytest.mark.slow
def test_hostile_files_harm_no_worker_under_ray(tmp_path, tiny, one_ray, bait):
    songs, out = tmp_path / "songs", tmp_path / "out"
    songs.mkdir()
    table = {name: entry for name, entry in BAD.items() if name not in FOR_DECODER_ONLY} | references(str(bait.path), bait.url)
    write_catalog(songs, {name: make() for name, (_, make) in table.items()}, "good-{}.wav")
    summary = run_job(str(songs / "all.parquet"), str(out), model=tiny, gpus="0", stems=("vocals",), max_failures="1000")
    assert summary.exit_code == 3
    assert "worker_crash" not in summary.failed
    assert not bait.was_called()
    check_rows(out, table)
    run_job(str(songs / "good.parquet"), str(tmp_path / "alone"), model=tiny, gpus="0", stems=("vocals",))
    alone, beside = stems_below(tmp_path / "alone"), stems_below(out)
    assert {path: beside[path] for path in alone} == alone


def check_rows(out, table):
    """Hold the index against the table: one row each, every class as expected, every level a number."""
    rows = index.read(str(out)).to_pylist()
    assert len(rows) == len(table) + 20
    assert {row["id"]: said(row) for row in rows if row["id"] in table} == {name: wanted for name, (wanted, _) in table.items()}
    assert not [row["id"] for row in rows for stem in row["stems"] or () if not is_finite(stem)]


def said(row):
    """Return what a row says became of its track, in the table's words."""
    if row["status"] != "ok":
        return row["error_class"]
    flags = ("truncated", "skipped_packets", "nonfinite_samples")
    return " ".join(["ok", *(flag.partition("_")[0] for flag in flags if row[flag])])


def is_finite(stem):
    return all(stem[level] is None or math.isfinite(stem[level]) for level in ("peak_dbfs", "rms_dbfs", "lufs"))
