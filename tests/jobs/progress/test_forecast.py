"""Forecasts: the start of a run apart from its rate, kept until the run, and set beside what it took."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.bench import catalog as songs
from sep_batch.jobs.cli.main import app
from sep_batch.jobs.plan import calibrate
from sep_batch.jobs.plan.calibrate import slope
from sep_batch.jobs.progress import forecast
from sep_batch.jobs.progress.forecast import Forecast
from sep_batch.jobs.run.run import run_job

KEPT = Forecast(tracks=8, audio_s=1600.0, start_s=20.0, x_real_time=32.0)


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEP_BATCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def short(monkeypatch):
    """Measure a few tracks of a short song: however slow the machine, they end before the measurement's minute."""
    monkeypatch.setattr(calibrate, "MOST_TRACKS", 8)
    monkeypatch.setattr(songs, "SONG_S", 0.5)


@pytest.fixture
def catalog(tmp_path):
    write_tone(tmp_path / "300.wav", 300)
    pyarrow.parquet.write_table(pa.table({"uri": ["300.wav"], "duration": [0.5]}), tmp_path / "songs.parquet")
    return tmp_path / "songs.parquet"


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_forecast_is_the_start_and_then_the_rate():
    assert KEPT.seconds == 70
    assert KEPT.machine_hours == pytest.approx(70 / 3600)


@pytest.mark.parametrize("start", [0.0, 1e9])
def test_the_rate_is_the_same_however_late_the_first_track_is_done(start):
    ends = [(start + 2.0 * number, 60.0) for number in range(10)]
    assert slope(ends) == pytest.approx(30)


def test_tracks_that_are_done_in_bursts_have_the_rate_of_the_bursts():
    ends = [(6.0 * (number // 3) + 0.5 * (number % 3), 60.0) for number in range(30)]
    assert slope(ends) == pytest.approx(30, rel=0.03)


@pytest.mark.parametrize("ends", [[], [(0.0, 60.0)] * 3, [(5.0, 60.0)] * 8])
def test_too_few_tracks_give_no_rate(ends):
    assert slope(ends) is None


def test_longer_tracks_take_longer_to_come_through_the_first_time():
    rows = [{"audio_s": 60.0, "decode_s": 2.0, "separate_s": 4.0, "write_s": 6.0}] * 4
    assert calibrate.longer_way_s(rows, 140.0, rate=20.0) == pytest.approx(140 * (0.2 - 0.05))
    assert calibrate.longer_way_s(rows, 0.0, rate=20.0) == calibrate.longer_way_s(rows, 140.0, rate=4.0) == 0


def test_a_forecast_is_kept_for_its_out_its_settings_and_so_many_tracks_and_given_once():
    forecast.keep(KEPT, "/out", "a" * 64)
    assert [forecast.take(*other) for other in (("/o", "a" * 64, 8), ("/out", "b" * 64, 8), ("/out", "a" * 64, 7))] == [None] * 3
    assert [forecast.take("/out", "a" * 64, 8) for _ in range(2)] == [KEPT, None]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"tracks": 8}', b"\xff"])
def test_a_forecast_that_cannot_be_read_is_none(content, tmp_path):
    forecast.keep(KEPT, "/out", "a" * 64)
    (file,) = (tmp_path / "cache" / "forecasts").iterdir()
    file.write_bytes(content)
    assert forecast.take("/out", "a" * 64, 8) is None


def test_how_it_turned_out_is_said_with_its_sign():
    assert forecast.beside(100.0, 110.4) == "took 110 s, forecast 100 s: +10 %"
    assert forecast.beside(100.0, 90.0).endswith(": -10 %")


def test_a_calibration_is_set_beside_what_the_run_took(catalog, tiny, local, short, tmp_path):
    told = call("plan", catalog, "-p", tiny, "--calibrate", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)["forecast"]
    assert found["x_real_time"] > 0
    assert found["seconds"] == pytest.approx(found["start_s"] + found["audio_s"] / found["x_real_time"])
    assert not (tmp_path / "songs.stems").exists()
    summary = run_job(str(catalog), model=tiny)
    assert summary.forecast_s == pytest.approx(found["seconds"])
    assert 0 < summary.seconds <= summary.job_s
    assert run_job(str(catalog), model=tiny).forecast_s is None


def test_a_person_is_told_the_forecast_and_how_it_turned_out(catalog, tiny, local, short):
    told = call("plan", catalog, "-p", tiny, "--calibrate").stdout
    assert "machine-hours (start" in told
    assert "s, forecast " in call("run", catalog, "-p", tiny).stdout


def test_a_calibration_measures_the_stems_that_were_asked_for(catalog, tiny, short, monkeypatch):
    asked = {}

    def run(source, out, **options):
        asked.update(options, tracks=pyarrow.parquet.read_table(source).num_rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "run_job", run)
    told = call("plan", catalog, "-p", tiny, "-c", "mp3", "-b", "64k", "--stems", "vocals", "--limit", 1, "--calibrate")
    assert told.exit_code == 7
    assert (asked["format"], asked["bitrate"], asked["stems"], asked["limit"]) == ("mp3", 64_000, ("vocals",), None)
    assert asked["tracks"] >= calibrate.LEAST_TRACKS


def test_a_calibration_of_tracks_of_unknown_length_is_one_line_and_exit_5(tiny, tmp_path, local):
    (tmp_path / "songs.csv").write_text("uri\nnowhere.mp3\n")
    told = call("plan", tmp_path / "songs.csv", "-p", tiny, "--calibrate")
    assert told.exit_code == 5
    assert "--calibrate: the durations of all tracks are unknown; " in told.stderr.splitlines()[-1]


def test_a_cluster_is_not_measured_from_here(catalog, tiny):
    told = call("plan", catalog, "-p", tiny, "--calibrate", "--address", "head:6379")
    assert told.exit_code == 2, told.output
    assert "not the cluster at head:6379" in told.stderr
