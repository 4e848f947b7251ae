"""Material of archives: telephone rates, 192 kHz, 10 ms, silent, shifted and inverted channels (docs/reference/sources.md)."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from catalogs import decoded, finished
from channel_files import by_ffmpeg, wav
from signals import RATE_HZ, frequency_hz, level_db, snr_db, tone

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import decoding

LEVEL_DB = 0.01
MU_LAW_DB = 30  # of a tone through 8 bits of mu-law
RESAMPLED_DB = 60
MARGIN = 2000  # samples at each end that a resampler bends


def wave_of(content, **options):
    pieces, found = decoding.decode(io.BytesIO(content), rate_hz=RATE_HZ, **options)
    return np.concatenate(list(pieces), axis=1), found


def inverted(samples, rate_hz=RATE_HZ):
    left = tone(1000, samples, channels=1, level=0.3, rate_hz=rate_hz)
    return np.concatenate([left, -left])


def one_silent(samples, rate_hz=RATE_HZ):
    wave = tone(1000, samples, level=0.3, rate_hz=rate_hz)
    wave[1] = 0
    return wave


def shifted(samples, rate_hz=RATE_HZ):
    return tone(1000, samples, level=0.3, rate_hz=rate_hz) + np.float32(0.25)


def telephone(container, encoder):
    return by_ffmpeg(tone(500, 8000, channels=1, rate_hz=8000), container, encoder, "mono", rate_hz=8000)


MATERIAL = {  # the file's bytes, and its length in seconds
    "8 kHz mu-law WAV": (lambda: telephone("wav", "pcm_mulaw"), 1),
    "8 kHz mu-law AU": (lambda: telephone("au", "pcm_mulaw"), 1),
    "8 kHz A-law WAV": (lambda: telephone("wav", "pcm_alaw"), 1),
    "192 kHz": (lambda: wav(tone(500, 192_000, rate_hz=192_000), None, rate_hz=192_000), 1),
    "10 ms": (lambda: wav(tone(500, 441), None), 0.01),
    "10 ms at 8 kHz": (lambda: wav(tone(500, 80, channels=1, rate_hz=8000), None, rate_hz=8000), 0.01),
    "one sample": (lambda: wav(np.full((2, 1), 0.5, np.float32), None), 1 / RATE_HZ),
    "one channel silent": (lambda: wav(one_silent(RATE_HZ), None), 1),
    "DC offset": (lambda: wav(shifted(RATE_HZ), None), 1),
    "polarity inverted": (lambda: wav(inverted(RATE_HZ), None), 1),
    "silence": (lambda: wav(np.zeros((2, RATE_HZ), np.float32), None), 1),
}


@pytest.mark.parametrize("name", [name for name in MATERIAL if "law" in name])
def test_telephone_speech_is_doubled_at_its_level_and_brought_to_the_rate(name):
    wave, found = wave_of(MATERIAL[name][0]())
    assert (found.rate_hz, found.channels, found.truncated, found.skipped_packets) == (8000, 1, False, 0)
    assert abs(wave.shape[1] - RATE_HZ) <= 2
    assert np.array_equal(wave[0], wave[1])
    inside = wave[:1, MARGIN:-MARGIN]
    assert frequency_hz(inside[0]) == pytest.approx(500, abs=0.1)
    assert snr_db(tone(500, wave.shape[1], channels=1)[:, MARGIN:-MARGIN], inside) > MU_LAW_DB


def test_192_khz_are_brought_down_and_what_no_rate_of_ours_holds_is_gone():
    wave, found = wave_of(MATERIAL["192 kHz"][0]())
    assert (found.rate_hz, found.channels) == (192_000, 2)
    assert abs(wave.shape[1] - RATE_HZ) <= 2
    inside = slice(MARGIN, -MARGIN)
    assert snr_db(tone(500, wave.shape[1])[:, inside], wave[:, inside]) > RESAMPLED_DB
    ultrasound, _ = wave_of(wav(tone(60_000, 192_000, rate_hz=192_000), None, rate_hz=192_000))
    assert level_db(ultrasound[:, inside]) < -RESAMPLED_DB


@pytest.mark.parametrize(("name", "samples"), [("10 ms", 441), ("10 ms at 8 kHz", 441), ("one sample", 1)])
def test_the_shortest_files_keep_their_length(name, samples):
    wave, found = wave_of(MATERIAL[name][0]())
    assert (wave.shape, found.samples, found.truncated) == ((2, samples), samples, False)
    assert np.abs(wave).max() > 0.4


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_a_silent_channel_stays_silent_and_the_other_keeps_its_level(rate_hz):
    wave, _ = wave_of(wav(given := one_silent(rate_hz, rate_hz), None, rate_hz=rate_hz))
    assert not wave[1].any()
    assert abs(level_db(wave[0, MARGIN:-MARGIN]) - level_db(given[0])) < LEVEL_DB


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_a_dc_offset_is_kept(rate_hz):
    wave, _ = wave_of(wav(shifted(rate_hz, rate_hz), None, rate_hz=rate_hz))
    assert wave[:, MARGIN:-MARGIN].mean(axis=1) == pytest.approx([0.25, 0.25], abs=1e-3)


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_channels_of_inverted_polarity_stay_each_others_inverse(rate_hz):
    wave, _ = wave_of(wav(given := inverted(rate_hz, rate_hz), None, rate_hz=rate_hz))
    assert np.array_equal(wave[0], -wave[1])
    assert abs(level_db(wave[:, MARGIN:-MARGIN]) - level_db(given)) < LEVEL_DB


def is_number_or_null(value):
    return value is None or (isinstance(value, list) and all(map(is_number_or_null, value))) or not math.isnan(value)


def test_a_run_of_all_of_it_is_ok_and_its_index_holds_no_nan(local, tiny, tmp_path):
    for place, (content, _) in enumerate(MATERIAL.values()):
        (tmp_path / "songs").mkdir(exist_ok=True)
        (tmp_path / "songs" / f"{place:02}.wav").write_bytes(content())
    out = str(tmp_path / "out")
    summary = run_job(str(tmp_path / "songs"), out=out, model=tiny, gpus=0)
    assert (summary.exit_code, summary.ok, summary.failed) == (0, len(MATERIAL), {})
    rows = {row.uri.rpartition("/")[2]: row for row in finished(out).values()}
    stems = {}
    for place, (name, (_, seconds)) in enumerate(MATERIAL.items()):
        row = rows[f"{place:02}.wav"]
        assert abs(row.audio_s - seconds) <= 2 / RATE_HZ, name
        assert is_number_or_null(row.above_f_db), name
        for stem in row.stems:
            wave = decoded(storage.read(f"{out}/{stem['uri']}")).wave
            assert wave.shape == (2, stem["frames"]) == (2, round(row.audio_s * RATE_HZ)), name
            assert np.isfinite(wave).all(), name
            for measure in ("lufs", "rms_dbfs", "peak_dbfs", "levels_dbfs", "active_ratio", "width"):
                assert is_number_or_null(stem[measure]), (name, measure)
            assert (stem["lufs"] is None) == (name in ("10 ms", "10 ms at 8 kHz", "one sample", "silence")), name
        stems[name] = row.stems, [decoded(storage.read(f"{out}/{stem['uri']}")).wave for stem in row.stems]
    measured, waves = stems["polarity inverted"]
    assert all(stem["width"] > 0.5 for stem in measured)
    assert np.abs(sum(waves)[:, MARGIN:-MARGIN] - inverted(RATE_HZ)[:, MARGIN:-MARGIN]).max() < 0.01  # masks sum to one
    assert all(not wave[1].any() for wave in stems["one channel silent"][1])
    assert all(not wave.any() for wave in stems["silence"][1])


def test_a_stem_in_mono_of_inverted_polarity_is_the_mean_of_both_and_no_nan(local, tiny, tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(inverted(RATE_HZ), None))
    run_job(str(tmp_path / "a.wav"), out=str(tmp_path / "out"), model=tiny, gpus=0, mono=True)
    (row,) = finished(str(tmp_path / "out")).values()
    assert row.status == "ok"
    for stem in row.stems:
        assert is_number_or_null(stem["lufs"])
        assert np.isfinite(decoded(storage.read(f"{tmp_path}/out/{stem['uri']}")).wave).all()
