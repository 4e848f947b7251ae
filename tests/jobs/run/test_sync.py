"""`sync`: night after night over a folder or prefix that grows."""

from __future__ import annotations

import io
import json
import wave

import pytest
from signals import tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.sync import run_sync
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.flow import local_flow
from sep_batch.pipeline.out import index


def put_tone(uri, hz):
    """Put half a second of a tone."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
        file.writeframes((tone(hz, 22_050).T * 32_767).astype("<i2").tobytes())
    storage.put(uri, content.getvalue())


def of_index(out):
    return {row["uri"].rpartition("/")[2]: row for row in index.read(out).to_pylist()}


@pytest.fixture(params=["disk", "s3"])
def shelf(request, tmp_path):
    """A prefix with two tones and a file that is no audio."""
    folder = str(tmp_path) if request.param == "disk" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    for name, hz in (("a.wav", 300), ("deep/b.wav", 400)):
        put_tone(f"{folder}/songs/{name}", hz)
    storage.put(f"{folder}/songs/broken.wav", b"no audio")
    return folder


def test_each_night_does_what_is_new_or_has_changed_and_tells_what_is_gone(shelf, tiny, local, monkeypatch):
    source, out = f"{shelf}/songs", f"{shelf}/stems"

    def night():
        summary = run_sync(source, out, model=tiny, max_failures="100%")
        return summary.exit_code, summary.ok, summary.done_before, summary.known_failed, len(summary.vanished)

    assert night() == (3, 2, 0, 0, 0)
    with monkeypatch.context() as quiet:
        quiet.setattr(local_flow, "LocalFlow", None)  # nothing runs
        assert night() == (0, 0, 2, 1, 0)
    first = of_index(out)
    put_tone(f"{source}/c.wav", 500)
    put_tone(f"{source}/a.wav", 310)
    storage.remove(f"{source}/deep/b.wav")
    assert night() == (0, 2, 0, 1, 1)
    last = of_index(out)
    assert last["b.wav"] == first["b.wav"]
    assert storage.exists(f"{out}/{last['b.wav']['stems'][0]['uri']}")
    assert last["a.wav"]["stems"][0]["sha256"] != first["a.wav"]["stems"][0]["sha256"]
    assert (last["c.wav"]["status"], last["broken.wav"]) == ("ok", first["broken.wav"])


def test_the_command_tells_what_is_gone_in_words_and_as_json(shelf, tiny, local, tmp_path):
    def told(*more):
        arguments = ["sync", f"{shelf}/songs", f"{shelf}/stems", "-p", tiny, "--max-failures", "100%", *more]
        return CliRunner().invoke(app, arguments)

    assert told().exit_code == 3
    storage.remove(f"{shelf}/songs/a.wav")
    words = told()
    assert words.exit_code == 0, words.output
    assert "1 track of OUT no longer in the listing of the folder; their stems stay: a-" in words.output
    assert [name[:2] for name in json.loads(told("--json").stdout.splitlines()[-1])["vanished"]] == ["a-"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("absent", "absent: expected an existing folder"),
        ("songs.csv", "songs.csv: expected an existing folder"),
        ("empty", "found no audio in .*empty: no files"),
        ("lists", "found no audio in .*lists: 1 manifest file .songs.csv.; run them with sep-batch run"),
    ],
)
def test_a_source_that_is_no_folder_with_audio_is_refused_in_one_line(source, said, tiny, local, tmp_path):
    (tmp_path / "songs.csv").write_text("uri\na.wav\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "songs.csv").write_text("uri\na.wav\n")
    with pytest.raises(errors.ManifestError, match=f"^SOURCE.*{said}"):
        run_sync(str(tmp_path / source), str(tmp_path / "out"), model=tiny)


def test_what_a_night_excludes_is_told_as_no_longer_listed(shelf, tiny, local):
    source, out = f"{shelf}/songs", f"{shelf}/stems"
    told = run_sync(source, out, model=tiny, include=("*.wav",), exclude=("broken*",))
    assert (told.ok, told.vanished, told.warnings) == (2, [], ("left out: 1 file by --include and --exclude",))
    told = run_sync(source, out, model=tiny, exclude=("deep", "broken*"))
    assert (told.done_before, [name[:2] for name in told.vanished], told.exit_code) == (1, ["b-"], 0)
