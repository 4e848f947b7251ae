"""An export whose disk is full ends with one line and exit code 5: no track failed of it, and the same command resumes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from export_outs import wave, write_out
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.pipeline.export import shards
from sep_batch.pipeline.export.formats import parquet, webdataset


def full(*_arguments, **_options):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_as_arrow_says_it(*_arguments, **_options):
    raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")


def full_for_shards(path, target, replace=Path.replace):
    return full() if str(target).endswith(".tar") else replace(path, target)


PLACES = {
    "the file of a shard": (shards, "writer", full, "webdataset"),
    "a tar": (webdataset.Tar, "add", full, "webdataset"),
    "the end of a tar": (webdataset.Tar, "close", full, "webdataset"),
    "a table": (parquet.Table, "close", full_as_arrow_says_it, "parquet"),
    "a shard that is put": (Path, "replace", full_for_shards, "webdataset"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_full_disk_is_exit_5_and_one_line_wherever_it_is_met(place, inline_export, tmp_path, monkeypatch):
    write_out(str(tmp_path / "out"), {"a": {"vocals": wave("xxxx", seed=1)}, "b": {"vocals": wave("xxxx", seed=2)}})
    owner, name, refuse, to = PLACES[place]
    command = ["export", str(tmp_path / "out"), str(tmp_path / "dest"), "--to", to, "--shard-size", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, refuse)
        told = CliRunner().invoke(app, command)
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1), told.output
    assert told.output.startswith(f"error: storage: {tmp_path}/dest/")
    assert "could not be written (" in told.output
    assert "No space left on device" in told.output
    again = CliRunner().invoke(app, command)
    assert (again.exit_code, "2 excerpts" in again.output) == (0, True), again.output


def test_a_disk_that_is_full_before_the_first_shard_is_told_as_dests(inline_export, tmp_path, monkeypatch):
    write_out(str(tmp_path / "out"), {"a": {"vocals": wave("xxxx", seed=1)}})
    whole = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: full() if str(to).endswith("export.json") else whole(path, to))
    told = CliRunner().invoke(app, ["export", str(tmp_path / "out"), str(tmp_path / "dest"), "--to", "parquet"])
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1), told.output
    assert told.output.startswith(f"error: DEST {tmp_path}/dest/_sep/export.json"), told.output
