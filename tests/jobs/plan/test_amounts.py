"""How much a plan is: what is known comes before what is estimated, and the arithmetic is that of a run."""

from __future__ import annotations

import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from catalogs import write_tone

from sep_batch.jobs.plan import amounts as amounts_module
from sep_batch.jobs.plan import durations as lengths
from sep_batch.jobs.plan.amounts import amounts
from sep_batch.jobs.plan.known_sizes import KnownSizes
from sep_batch.model.parts import split_parts
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import manifest
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART

SPEC = PRESETS["spleeter:2stems"]
MP3_S = 24_000  # bytes a second at 192 kbit/s


def settings(**changes):
    return Settings(**{"weights_sha256": "a" * 64, "spec": SPEC, "stems": SPEC.stems} | changes)


def of(past=None, wanted=None, stft="cpu", **columns):
    tracks = manifest.check(pa.table({"id": [f"t{n}" for n in range(len(columns["uri"]))]} | columns), "m.csv", "/music").tracks
    return amounts(tracks, wanted or settings(), past or KnownSizes(), stft)


@pytest.mark.parametrize("column", ["probed_s", "duration", "audio_s"])
def test_a_column_of_lengths_is_known(column):
    found = of(uri=["a.mp3", "b.mp3"], **{column: [100.0, 50]})
    assert (found.audio_s, found.estimated_s, found.unknown) == (150, 0, 0)


@pytest.mark.parametrize("lengths", [["3:20", "0:50"], [-1.0, 0.0], [float("nan"), float("inf")]])
def test_what_is_no_length_is_not_taken_for_one(lengths):
    assert of(uri=["a.mp3", "b.mp3"], duration=lengths).unknown == 2


def test_a_duration_that_the_manifest_asks_for_is_known_and_cut_where_the_file_ends():
    found = of(uri=["a.mp3", "b.mp3"], offset_s=[95.0, 0.0], duration_s=[10.0, 10.0], probed_s=[100.0, None])
    assert (found.audio_s, found.estimated_s) == (15, 0)


def test_offset_and_duration_of_the_settings_count_where_a_row_says_nothing():
    assert of(wanted=settings(offset_s=30, duration_s=20), uri=["a.mp3", "b.mp3"], probed_s=[40.0, 100.0]).audio_s == 30


@pytest.mark.parametrize("columns", [{"probed_s": [1e308]}, {"duration_s": [1e9]}, {"size": [2**62]}])
def test_no_track_is_planned_longer_than_it_may_last(columns):
    assert of(uri=["a.mp3"], **columns).audio_s == 24 * 3600


def test_a_size_gives_an_estimate_by_the_kind_of_file():
    found = of(uri=["a.mp3", "b.wav"], size=[100 * MP3_S, 100 * 176_400])
    assert (found.audio_s, found.estimated_s, found.unknown) == (200, 200, 0)


def test_what_out_knows_is_preferred_to_sizes():
    past = KnownSizes(seconds=np.array([70.0, np.nan]), source_bytes_s={"mp3": 2 * MP3_S})
    found = of(past, uri=["a.mp3", "b.mp3"], size=[100 * MP3_S] * 2)
    assert (found.audio_s, found.estimated_s) == (120, 50)


def test_where_nothing_says_a_length_some_headers_are_read_and_the_sizes_of_the_others_go_by_them(tmp_path, monkeypatch):
    monkeypatch.setattr(lengths, "HEADERS", 2)
    for name, seconds in (("0.wav", 1.0), ("1.wav", 1.0), ("2.wav", 3.0)):
        write_tone(tmp_path / name, seconds=seconds, rate_hz=22_050)
    uris = [str(tmp_path / f"{number}.wav") for number in range(3)]
    assert of(uri=uris).audio_s == pytest.approx(1 + 3 + 2)
    found = of(uri=uris, size=[(tmp_path / uri).stat().st_size for uri in uris])
    assert (found.audio_s, found.estimated_s) == (pytest.approx(5, rel=0.01), pytest.approx(1, rel=0.01))


def test_headers_that_do_not_come_are_not_waited_for(tmp_path, monkeypatch):
    write_tone(tmp_path / "0.wav")
    come = threading.Event()
    monkeypatch.setattr(lengths, "HEADERS_S", 0.1)
    monkeypatch.setattr(lengths.storage, "open_ranges", lambda *_: come.wait(60))
    begun = time.monotonic()
    assert of(uri=[str(tmp_path / "0.wav"), "gone.wav"]).unknown == 2
    assert time.monotonic() - begun < 30
    come.set()


def test_tracks_of_which_nothing_can_be_known_are_counted_and_have_the_mean_of_the_others():
    assert of(uri=["a.mp3", "b.mp3"]).unknown == 2
    found = of(uri=["a.mp3", "b.mp3", "c.mp3"], probed_s=[10.0, 30.0, None])
    assert (found.audio_s, found.estimated_s, found.unknown) == (60, 20, 0)


@pytest.mark.parametrize(("bit_depth", "bytes_frame", "header"), [("16", 4, 44), ("24", 6, 68), ("float", 8, 58)])
def test_wav_is_exact_to_its_header(bit_depth, bytes_frame, header):
    found = of(wanted=settings(format="wav", bit_depth=bit_depth), uri=["a.mp3"], probed_s=[10.0])
    assert found.output_bytes == pytest.approx(2 * (10 * 44_100 * bytes_frame + header), abs=200)


def test_mp3_is_its_bitrate_and_flac_a_share_of_pcm_that_out_knows_better():
    seconds = {"uri": ["a.mp3"], "probed_s": [10.0]}
    assert of(wanted=settings(format="mp3", bitrate=128_000), **seconds).output_bytes == 2 * 10 * 16_000
    flac = of(**seconds)
    assert (flac.output_bytes, "8 songs" in flac.output) == (round(0.38 * 2 * 10 * 176_400), True)
    measured = of(KnownSizes(stem_bytes_frame=1.0), **seconds)
    assert (measured.output_bytes, "OUT's own" in measured.output) == (2 * 10 * 44_100, True)


@pytest.mark.parametrize("format", ["mp3", "m4a", "opus", "ogg", "wma"])
def test_a_lossy_format_is_its_bitrate_at_every_rate(format):
    for changes in ({}, {"sample_rate_hz": 16_000, "mono": True}):
        found = of(wanted=settings(format=format, bitrate=128_000, **changes), uri=["a.mp3"], probed_s=[10.0])
        assert (found.output_bytes, found.output) == (2 * 10 * 16_000, f"{format} at 128 kbit/s")


def test_a_lower_rate_and_one_channel_are_fewer_bytes_and_travel_as_floats():
    plain, reshaped = (
        of(wanted=settings(format="wav", **changes), uri=["a.mp3"], probed_s=[10.0])
        for changes in ({}, {"sample_rate_hz": 22_050, "mono": True})
    )
    assert reshaped.output_bytes == pytest.approx(plain.output_bytes / 4, rel=0.001)
    assert reshaped.stems_bytes == 2 * plain.stems_bytes
    measured = of(KnownSizes(stem_bytes_frame=1.0), wanted=settings(sample_rate_hz=22_050), uri=["a.mp3"], probed_s=[10.0])
    assert measured.output_bytes == 2 * 10 * 22_050


def test_fewer_stems_are_fewer_bytes():
    one, two = (of(wanted=settings(stems=stems), uri=["a.mp3"], probed_s=[10.0]) for stems in (("vocals",), SPEC.stems))
    assert two.output_bytes == 2 * one.output_bytes
    assert two.stems_bytes == 2 * one.stems_bytes


@pytest.mark.parametrize("stft", ["cpu", "gpu"])
@pytest.mark.parametrize("patches", [0.001, 0.5, 1.5, 2.5, 4.5])  # of two a part; later parts have a third
def test_the_largest_part_is_as_large_as_a_run_makes_it_as_spectrum_and_as_wave(stft, patches, monkeypatch):
    monkeypatch.setattr(amounts_module, "PATCHES_PER_PART", 2)
    samples = round(patches * SPEC.patch_samples)
    parts = list(split_parts([torch.full((2, samples), 0.1)], SPEC, 2, as_waves=stft == "gpu"))
    found = of(stft=stft, uri=["a.mp3", "b.mp3"], probed_s=[0.01, samples / 44_100])
    assert found.part_bytes == max(part.payload.nbytes for part in parts)
    assert found.stems_bytes == pytest.approx(2 * max(part.samples for part in parts) * 4, rel=0.01)


def test_no_part_is_larger_than_parts_are_however_long_a_track():
    hour, day = (of(uri=["a.mp3"], probed_s=[hours * 3600.0]) for hours in (1, 24))
    assert hour.part_bytes == day.part_bytes == (PATCHES_PER_PART + 1) * 512 * 2 * 1024 * 8
    assert of(uri=["a.mp3"]).part_bytes == day.part_bytes
    wave = of(stft="gpu", uri=["a.mp3"]).part_bytes
    assert wave == ((PATCHES_PER_PART + 1) * 512 * 1024 + 3072) * 2 * 4
