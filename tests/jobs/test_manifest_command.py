"""The manifest command: every flag changes something, every mistake is one clear line, a signal leaves nothing half-written."""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
import subprocess
import sys

import pyarrow.parquet
import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.cli.manifest import manifest
from sep_batch.pipeline import storage

SECONDS = 0.5
SLOW_S = 60


def call(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(app, ["manifest", *map(str, arguments)])


def made(out, *arguments):
    """Return the manifest that the command makes, and what it says."""
    told = call(*arguments, "-o", out)
    assert told.exit_code == 0, told.output
    return pyarrow.parquet.read_table(out), told


@pytest.fixture
def songs(tmp_path):
    for name, hz in (("300.wav", 300), ("500.wav", 500), ("copy.wav", 300)):
        write_tone(tmp_path / "songs" / name, hz, SECONDS)
    return tmp_path / "songs"


def names(table):
    return [uri.rpartition("/")[2] for uri in table.column("uri").to_pylist()]


def test_folders_globs_and_lists_become_one_manifest(songs, tmp_path):
    (tmp_path / "l.txt").write_text("songs/copy.wav\n")
    table, told = made(tmp_path / "all.parquet", tmp_path / "l.txt", songs / "3*.wav", songs)
    assert table.column_names == ["uri", "id", "size", "source_etag"]
    assert names(table) == ["copy.wav", "300.wav", "500.wav"]
    assert told.stdout == f"3 tracks in {tmp_path}/all.parquet; next: sep-batch run {tmp_path}/all.parquet\n"
    assert call(songs / "3*.wav", "-o", tmp_path / "some.csv").exit_code == 0
    assert len((tmp_path / "some.csv").read_text().splitlines()) == 2


def check_out(songs, out):
    assert call(songs, "--out", out.with_suffix(".jsonl")).exit_code == 0
    assert len(out.with_suffix(".jsonl").read_text().splitlines()) == 3


def check_probe(songs, out):
    (songs / "bad.mp3").write_bytes(b"no audio")
    table, told = made(out, songs, "--probe")
    assert table.column("probed_s").to_pylist() == [SECONDS, SECONDS, None, SECONDS]
    assert told.stdout.startswith("1.5 s of audio, 264.7 kB\n")
    assert told.stderr.startswith(f"warning: 1 file could not be probed (listed anyway): {songs}/bad.mp3: ")


def check_dedup(songs, out):
    table, told = made(out, songs, "--dedup", "sha256")
    assert names(table) == ["300.wav", "500.wav"]
    assert f"{songs}/copy.wav is {songs}/300.wav" in told.stderr


def check_limit(songs, out):
    assert names(made(out, songs, "--limit", 2)[0]) == ["300.wav", "500.wav"]


def check_uri_column(songs, out):
    (songs / "l.csv").write_text("uri,where\nx.wav,500.wav\n")
    assert names(made(out, songs / "l.csv", "--uri-column", "where")[0]) == ["500.wav"]


def check_id_column(songs, out):
    (songs / "l.csv").write_text("uri,key\n500.wav,bee\n")
    assert made(out, songs / "l.csv", "--id-column", "key")[0].column("id").to_pylist() == ["bee"]


def check_input_root(songs, out):
    (songs / "l.txt").write_text("500.wav\n../out.wav\n")
    refused = call(songs / "l.txt", "--input-root", songs)
    assert (refused.exit_code, "lies outside --input-root" in refused.output) == (5, True)


def check_allow_http(songs, out):
    (songs / "l.txt").write_text("https://host/a.wav\n")
    assert "--allow-http" in call(songs / "l.txt").output
    assert names(made(out, songs / "l.txt", "--allow-http")[0]) == ["a.wav"]


def check_include(songs, out):
    (songs / "notes.txt").write_text("x")
    table, told = made(out, songs, "--include", "*.txt", "--include", "5*")
    assert names(table) == ["500.wav", "notes.txt"]
    assert told.stderr == f"warning: {songs}: left out: 2 files by --include\n"
    refused = call(songs / "notes.txt", "--include", "*")
    assert (refused.exit_code, "is a manifest, which names its tracks itself" in refused.output) == (2, True)


def check_exclude(songs, out):
    table, told = made(out, songs, songs / "*.wav", "--exclude", "copy*", "--exclude", "*.flac")
    assert names(table) == ["300.wav", "500.wav"]
    assert told.stderr.splitlines() == [
        f"warning: {songs}: left out: 1 file by --exclude",
        f"warning: {songs}/*.wav: left out: 1 file by --exclude",
        "warning: --exclude *.flac: matches no file",
    ]
    assert call(songs, "--include", "x", "--exclude", "x").exit_code == 2


def check_endpoint_url(songs, out):
    refused = call("s3://songs/x", "--endpoint-url", "fish")
    assert (refused.exit_code, refused.output) == (2, "error: --endpoint-url fish: expected http://... or https://...\n")


def check_storage_options(songs, out):
    (songs / "options.json").write_text("[]")
    refused = call(songs, "--storage-options", songs / "options.json")
    assert (refused.exit_code, "expected an object of options by URI prefix" in refused.output) == (2, True)


@pytest.fixture(autouse=True)
def usual_storage():
    yield
    storage.use({})


@pytest.mark.parametrize("option", [name for name in inspect.signature(manifest).parameters if name != "sources"])
def test_every_option_changes_something(option, songs, tmp_path):
    globals()[f"check_{option}"](songs, tmp_path / "m.parquet")


MISTAKES = {
    "no such source": (["absent"], 5, "absent: not found"),
    "nothing in it": (["*.flac"], 5, "found no audio in"),
    "a list without lines": (["empty.txt"], 5, "empty.txt: holds no rows"),
    "a list without rows": (["empty.csv"], 5, "empty.csv: holds no rows"),
    "no pattern": ([".", "--exclude", "[a"], 2, "--exclude '[a': not a pattern"),
    "another extension": ([".", "-o", "m.xlsx"], 2, "expected .parquet, .pq, .csv"),
    "another comparison": ([".", "--dedup", "md5"], 2, "--dedup md5: expected etag or sha256"),
    "no etags": ([".", "--dedup", "etag"], 2, "use --dedup sha256"),
    "no place to write": ([".", "-o", "300.wav/m.parquet"], 5, "could not be written"),
    "no such column": (["l.csv", "--uri-column", "x"], 5, "no uri column; found uri, expected x"),
    "no such root": ([".", "l.csv", "--input-root", "absent"], 2, "--input-root absent: expected a folder"),
    "no inventory": (["l.json"], 5, "not the manifest.json of an S3 Inventory"),
    "no such options": ([".", "--storage-options", "absent.json"], 2, "not readable as JSON"),
    "a scheme": (["ftp://host/songs"], 5, "scheme 'ftp'"),
    "a secret": (["s3://key:hush@songs/x"], 5, "s3://...: credentials"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_one_clear_line_and_its_exit_code(mistake, songs, monkeypatch):
    arguments, code, words = MISTAKES[mistake]
    monkeypatch.chdir(songs)
    (songs / "l.csv").write_text("uri\n500.wav\n")
    (songs / "empty.txt").write_text("\n")
    (songs / "empty.csv").write_text("uri\n")
    (songs / "l.json").write_text(json.dumps({"fileFormat": "CSV"}))
    before = sorted(os.listdir(songs))
    told = call(*arguments)
    assert told.exit_code == code, told.output
    assert words in told.output
    assert len(told.output.strip().splitlines()) == 1
    assert sorted(os.listdir(songs)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_nothing_is_written(number, songs):
    server = socket.create_server(("127.0.0.1", 0))  # who asks it waits, since it never answers
    server.settimeout(SLOW_S)
    (songs / "silent.txt").write_text(f"http://127.0.0.1:{server.getsockname()[1]}/a.wav")
    command = [sys.executable, "-m", "sep_batch.jobs", "manifest", "silent.txt", "--allow-http", "--probe", "-o", "m.parquet"]
    before = sorted(os.listdir(songs))
    running = subprocess.Popen(command, cwd=songs, stderr=subprocess.PIPE, text=True)
    try:
        with server, server.accept()[0]:
            running.send_signal(number)
            _, told = running.communicate(timeout=SLOW_S)
    finally:
        running.kill()
    *counts, last = told.splitlines()
    assert (running.returncode, last) == (7, "stopped by a signal; run the same command again to resume"), told
    assert all("files found" in count for count in counts)  # on a slow machine
    assert sorted(os.listdir(songs)) == before
