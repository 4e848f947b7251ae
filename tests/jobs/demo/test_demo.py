"""The demo: its catalog is synthesised, its broken file stops nothing, and it resumes."""

from __future__ import annotations

import numpy as np
from catalogs import decoded
from signals import snr_db

from sep_batch.jobs.demo import demo, synthesis
from sep_batch.pipeline.out import index

LOSSY_DB = 15.0  # an encoder at 128 to 192 kbit/s against the synthesised mix


def test_the_demo_separates_six_tracks_fails_one_and_resumes(tmp_path, tiny, local, capsys):
    assert demo.run_demo(tmp_path, model=tiny) == 0
    found = {row["id"]: row for row in index.read(f"{tmp_path}/{demo.OUT}").to_pylist()}
    assert [name for name, row in found.items() if row["status"] != "ok"] == ["broken"]
    assert {row["source_codec"] for row in found.values()} == {None, "mp3float", "aac", "flac", "opus", "pcm_s16le"}
    assert {row["source_channels"] for row in found.values()} == {None, 1, 2}
    assert {row["source_rate_hz"] for row in found.values()} == {None, 44_100, 48_000}
    told = capsys.readouterr()
    assert "broken" in told.out
    assert "Listen to" in told.out
    assert demo.run_demo(tmp_path, model=tiny) == 0
    assert "nothing to do: 7 tracks, 6 done before, 1 failed before" in capsys.readouterr().err
    assert len(local) == 1


def test_a_song_is_the_same_each_time_and_its_stems_add_up():
    first, second = (synthesis.song(3, 2.0, 44_100) for _ in range(2))
    for stem in first:
        np.testing.assert_array_equal(first[stem], second[stem])
        assert first[stem].shape == (2, 88_200)
    assert 0.1 < np.abs(first["vocals"] + first["accompaniment"]).max() <= 1


def test_the_catalogs_files_hold_what_was_synthesised(tmp_path):
    demo.write_catalog(tmp_path)
    for song in demo.SONGS:
        stems = synthesis.song(song.seed, song.seconds, song.rate_hz)
        mix = stems["vocals"] + stems["accompaniment"]
        with (tmp_path / "catalog" / song.file).open("rb") as file:
            wave = decoded(file.read(), rate_hz=song.rate_hz).wave
        if song.channels == 1:
            continue
        shared = min(mix.shape[1], wave.shape[1])
        assert snr_db(mix[:, :shared], wave[:, :shared]) > LOSSY_DB, song.file
