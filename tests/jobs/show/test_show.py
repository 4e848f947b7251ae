"""`show`: a picture of a track, found by its id or the beginning of one; spectrograms where their tones are."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from PIL import Image
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.show.picture import facts
from sep_batch.jobs.show.show import run_show


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny):
    """An OUT of three tracks, of which one failed, and the folder of its sources."""
    folder = tmp_path_factory.mktemp("catalog")
    for hz in (300, 305):
        write_tone(folder / f"{hz}.wav", hz, 3.0)
    (folder / "broken.wav").write_bytes(b"no audio")
    columns = {"uri": ["300.wav", "305.wav", "broken.wav"], "id": ["song-a", "song-b", "torn"]}
    pyarrow.parquet.write_table(pa.table(columns), folder / "m.parquet")
    out = folder / "o"
    run_job(str(folder / "m.parquet"), str(out), model=tiny, engine="local", gpus=0, max_failures="90%")
    return out


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def picture_of(content):
    return Image.open(io.BytesIO(content))


def test_the_picture_has_a_panel_for_the_mix_and_each_stem(made):
    shown = run_show(str(made), "song-a")
    assert (shown.id, shown.warning) == ("song-a", "")
    width, height = picture_of(shown.png).size
    assert (width, height) == (1200, 660)
    pixels = np.asarray(picture_of(shown.png).convert("RGB")).astype(int)
    assert (pixels.max(axis=(0, 1)) > 200).all()  # drawn, and not the paper alone


def test_the_beginning_of_one_id_suffices_and_of_several_does_not(made):
    assert run_show(str(made), "song-b").id == "song-b"
    result = call("show", made, "song")
    assert (result.exit_code, "ID song: expected the id of a track in OUT" in result.output) == (2, True)
    assert "2 begin so: song-a, song-b" in result.output
    result = call("show", made, "none")
    assert (result.exit_code, "it has none" in result.output) == (2, True)


def test_a_failed_track_has_no_picture_and_its_reason(made):
    result = call("show", made, "torn")
    assert (result.exit_code, "track torn has no stems: its status is failed: unsupported_format" in result.output) == (5, True)


def test_without_its_source_a_track_is_drawn_without_the_mix_and_says_so(tiny, local, tmp_path):
    write_tone(tmp_path / "a.wav", 300, 2.0)
    run_job(str(tmp_path / "a.wav"), str(tmp_path / "o"), model=tiny)
    (tmp_path / "a.wav").unlink()
    result = call("show", tmp_path / "o", "a", "-o", tmp_path / "a.png")
    assert (result.exit_code, "warning: the picture is without the mix: " in result.output) == (0, True)
    assert picture_of((tmp_path / "a.png").read_bytes()).size == (1200, 470)


def test_a_written_mix_is_the_mix_of_the_picture(tiny, local, tmp_path):
    write_tone(tmp_path / "a.wav", 300, 2.0)
    run_job(str(tmp_path / "a.wav"), str(tmp_path / "o"), model=tiny, write_mix=True, format="mp3")
    (tmp_path / "a.wav").unlink()
    shown = run_show(str(tmp_path / "o"), "a")
    assert (shown.warning, picture_of(shown.png).size[1]) == ("", 660)


def test_the_command_writes_the_picture_and_prints_where(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("show", made, "song-a")
    assert (result.exit_code, result.output.strip()) == (0, str(tmp_path / "song-a.png"))
    assert picture_of((tmp_path / "song-a.png").read_bytes()).format == "PNG"
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    assert call("show", made, "song-a", "-o", "b.png", "--open").exit_code == 0
    assert opened == [str(tmp_path / "b.png")]
    assert call("show", tmp_path / "nowhere", "song-a").exit_code == 5
    assert call("show", made, "song-a", "-o", made / "index.parquet" / "x.png").exit_code == 5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "-18.3 LUFS, peak -1.2 dBFS, active 63%"),
        ({"lufs": None, "active_ratio": None}, "peak -1.2 dBFS"),
        ({"clipped_samples": 1234}, "-18.3 LUFS, peak -1.2 dBFS, active 63%, 1,234 samples clipped"),
        ({"peak_dbfs": None}, "silent"),
    ],
)
def test_the_facts_of_a_stem_in_words(changes, expected):
    stem = {"lufs": -18.31, "peak_dbfs": -1.2, "active_ratio": 0.63, "clipped_samples": 0}
    assert facts(stem | changes) == expected
