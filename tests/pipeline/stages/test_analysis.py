"""What the index tells of how a stem sounds, however its wave is cut into parts and pieces."""

from __future__ import annotations

import golden_models
import numpy as np
import pytest
import torch
from signals import RATE_HZ, noise, tone

from sep_batch.jobs.demo import synthesis
from sep_batch.pipeline import rows
from sep_batch.pipeline.audio import activity
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analysis

SPEC = golden_models.spec("2stems")
SETTINGS = Settings(weights_sha256="0" * 64, spec=SPEC, stems=SPEC.stems)
WIDTH = 1e-6
EDGE_S = 0.3  # a region may begin and end so far from what is known: the voice draws breath
PATCH, BEFORE = SPEC.patch_samples, SPEC.frame_length  # a part's first piece is shorter: zeros go before the track


def part(waves, begin, *, piece=PATCH):
    """Return the row of a part, (stems, channels, samples), that begins so far into its track."""
    samples = waves.shape[-1]
    sums = analysis.Sums(SETTINGS, begin=begin, samples=samples)
    cuts = [cut - begin for cut in range(piece - BEFORE % piece, begin + samples, piece) if cut > begin]
    for start, end in zip([0, *cuts], [*cuts, samples], strict=True):
        sums.add(torch.from_numpy(waves[..., start:end]))
    track = rows.TRACK.empty_table().from_pylist([{"id": "x"}], rows.TRACK)
    return rows.fill(track, rows.WRITTEN, begin=begin, samples=waves.shape[-1], sums=sums.rows())


def told(waves, *cuts, piece=PATCH):
    """Return what is told of each stem of a track that is cut into parts there."""
    ends = [*cuts, waves.shape[-1]]
    parts = [part(waves[..., begin:end], begin, piece=piece) for begin, end in zip([0, *cuts], ends, strict=True)]
    return [analysis.of_parts(parts, place, SETTINGS) for place in range(len(SPEC.stems))]


def plain(columns):
    return [column | {"levels_dbfs": column["levels_dbfs"].tolist()} for column in columns]


def nearly(found, expected):
    """Tell whether two tracks are told of alike, but for rounding in their widths."""
    widths = [[column.pop("width") for column in columns] for columns in (found, expected)]
    return plain(found) == plain(expected) and widths[0] == pytest.approx(widths[1], abs=WIDTH)


def songs(seconds=30):
    """Return two stems that come and go, (2, 2, samples)."""
    samples = seconds * RATE_HZ + 321
    waves = np.stack([noise(samples, level=0.2, seed=1), noise(samples, level=0.1, seed=2)])
    come = np.sin(2 * np.pi * np.arange(samples) / RATE_HZ / np.array([[7.3], [4.1]])) ** 5
    return (waves * np.maximum(come, 0)[:, None]).astype(np.float32)


@pytest.mark.parametrize("cuts", [(PATCH - BEFORE,), (PATCH - BEFORE, 2 * PATCH - BEFORE), (2 * PATCH - BEFORE,)])
def test_a_track_of_several_parts_is_told_of_exactly_as_one_of_one_part(cuts):
    waves = songs()
    whole = plain(told(waves))
    assert plain(told(waves, *cuts)) == whole
    assert all(len(column["active_regions"]) > 3 for column in whole)


@pytest.mark.parametrize("cuts", [(44_100,), (4_411, 4_412), (100_000, 100_001, 500_000)])
def test_a_part_may_begin_anywhere(cuts):
    waves = songs(12)
    assert nearly(told(waves, *cuts), told(waves))


@pytest.mark.parametrize("piece", [1_000, 4_409, 4_410, 4_411, 2_000_000])
def test_nothing_depends_on_the_pieces_that_a_part_comes_in(piece):
    waves = songs(12)
    assert nearly(told(waves, piece=piece), told(waves))


def test_what_is_told_of_a_track_is_what_its_wave_tells():
    waves = songs()
    for wave, column in zip(waves, told(waves), strict=True):
        found = activity.of_wave(wave.T, RATE_HZ)
        assert column["active_ratio"] == found.ratio
        assert [tuple(region.values()) for region in column["active_regions"]] == found.regions


def test_the_levels_are_those_of_each_second_begun():
    sines = [tone(441, RATE_HZ, level=level) for level in (1.0, 0.1, 0.0, 1e-4)]
    (column, _) = told(np.stack([np.concatenate([*sines, sines[0][:, :100]], axis=1)] * 2))
    assert column["levels_dbfs"].dtype == np.int8
    assert column["levels_dbfs"].tolist() == [-3, -23, -100, -83, -3]


@pytest.mark.parametrize(
    ("mixing", "width"),
    [(((1, 0), (1, 0)), 0), (((1, 0), (-1, 0)), 1), (((1, 0), (0, 0)), 0.5), (((1, 0), (0, 1)), 0.5), (((2, 1), (2, -1)), 0.2)],
    ids=["mono", "only side", "left alone", "two channels", "narrow"],
)
def test_the_width_is_the_share_of_the_side(mixing, width):
    across = np.stack([tone(440, 10 * RATE_HZ)[0], tone(550, 10 * RATE_HZ)[0]])
    wave = np.array(mixing, np.float32) @ across
    (column, _) = told(np.stack([wave, wave]), 300_000)
    assert column["width"] == pytest.approx(width, abs=WIDTH)


def test_silence_has_levels_no_activity_and_no_width():
    (column, _) = plain(told(np.zeros((2, 2, 2 * RATE_HZ), np.float32)))
    assert column == {"levels_dbfs": [-100, -100], "active_ratio": 0.0, "active_regions": [], "width": None}


def test_where_nothing_was_asked_for_nothing_is_told():
    row = rows.fill(part(songs(1), 0), rows.WRITTEN, sums=None)
    assert analysis.of_parts([row], 0, SETTINGS) == {}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_regions_of_a_sung_voice_are_those_in_which_it_sings(seed):
    sung, known = synthesis.song(seed, 16.0), [(2.0, 5.0), (8.3, 12.7)]
    times = np.arange(sung["vocals"].shape[1]) / RATE_HZ
    sung["vocals"] = 4 * sung["vocals"] * np.any([(start <= times) & (times < end) for start, end in known], axis=0)
    (vocals, accompaniment) = told(np.stack([sung["vocals"], sung["accompaniment"]]).astype(np.float32), 200_000)
    assert [tuple(region.values()) for region in vocals["active_regions"]] == [pytest.approx(each, abs=EDGE_S) for each in known]
    assert vocals["active_ratio"] == pytest.approx(7.4 / 16, abs=4 * EDGE_S / 16)
    assert accompaniment["active_ratio"] > 0.9
