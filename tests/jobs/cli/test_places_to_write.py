"""Empty path segments in a place to write to are refused by every command that takes one; keys of sources may have them."""

from __future__ import annotations

import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.doctor import check_storage
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index
from sep_batch.pipeline.storage import uris

ODD, EXPECTED = "memory://b//x//y", "memory://b/x/y"
COMMANDS = {
    "run": ("run", "SONGS", "-o", ODD),
    "plan": ("plan", "SONGS", "-o", ODD),
    "sync": ("sync", "SONGS", ODD),
    "status": ("status", ODD),
    "failures": ("failures", ODD),
    "verify": ("verify", ODD),
    "export of OUT": ("export", ODD, "DEST", "--to", "parquet"),
    "export to DEST": ("export", "OUT", ODD, "--to", "parquet"),
    "manifest": ("manifest", "SONGS", "-o", f"{ODD}.csv"),
    "bench": ("bench", "--out", ODD),
}


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_empty_segments_of_a_place_to_write_to_are_refused_with_what_is_expected(command, tiny, local, tmp_path):
    write_tone(tmp_path / "songs" / "a.wav", seconds=0.1)
    places = {"SONGS": tmp_path / "songs", "OUT": tmp_path / "out", "DEST": tmp_path / "dest"}
    model = ("--model", tiny) if command in ("run", "plan", "sync") else ()
    told = call(*(places.get(word, word) for word in COMMANDS[command]), *model)
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1), told.output
    assert f"{ODD}{'.csv' * (command == 'manifest')}: holds empty path segments (//), expected {EXPECTED}" in told.output
    assert not storage.is_folder("memory://b")


def test_doctor_notes_them_as_sources_may_have_them():
    found = next(check_storage.checks(ODD, {}))
    assert (found.state, "expected memory://b/x/y" in found.found) == ("note", True)


@pytest.mark.parametrize("source", ["odd//a", "odd", "odd//a//b.wav", "odd//a//list.csv"])
def test_sources_may_have_them(source, s3, tiny, local, tmp_path):
    storage.put(f"{s3}/odd//a//b.wav", write_tone(tmp_path / "a.wav", seconds=0.1).read_bytes())
    storage.put(f"{s3}/odd//a//list.csv", b"uri\nb.wav\n")
    told = call("run", f"{s3}/{source}", "-o", tmp_path / "out", "--model", tiny)
    assert told.exit_code == 0, told.output
    assert index.read(str(tmp_path / "out"))["uri"].to_pylist() == [f"{s3}/odd//a//b.wav"]


def test_beside_a_bucket_there_is_no_default_place(tiny, local, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage.put("memory://whole/a.wav", write_tone(tmp_path / "a.wav", seconds=0.1).read_bytes())
    told = call("run", "memory://whole", "--model", tiny)
    storage.remove("memory://whole")
    assert (told.exit_code, len(told.output.splitlines())) == (2, 1), told.output
    assert "--out: memory://whole is a whole bucket" in told.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_place_to_write_to_is_absolute_and_has_no_slash_at_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = {
        "out": f"{tmp_path}/out",
        "/a//b": "/a/b",
        "file:///a//b": "/a/b",
        "s3://b/x/": "s3://b/x",
        "s3://b/x//": "s3://b/x",
        "s3://b": "s3://b",
    }
    assert {uri: uris.target(uri) for uri in expected} == expected
    for uri in ("s3://b//x", "gs://b/x//y", "s3:///x", "s3://key:secret@b/x"):
        with pytest.raises(errors.BadUri):
            uris.target(uri)
