"""The lossy codecs: length, place, level, bytes; what their files say of themselves. The lossless ones are in test_audio.py."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import soundfile
from catalogs import decoded
from signals import level_db, noise, snr_db, tone

from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio import vorbis
from sep_batch.pipeline.audio.codecs import BLOCK, CODECS, is_lossy
from sep_batch.pipeline.audio.encoding import encode, open_encoder
from sep_batch.pipeline.audio.resample import resampled

LOSSY = [format for format in CODECS if is_lossy(format)]
LEVEL_DB = 0.5  # by which a codec may change a wave's level
CHORD_DB = 30  # of a chord against what is read; a sample out of place leaves less
BITRATE = 128_000
WAVES = {
    "noise": noise,
    "silence": lambda samples: np.zeros((2, samples), np.float32),
    "full scale": lambda samples: tone(1000, samples, level=1.0),
    "mono": lambda samples: noise(samples, channels=1),
}


def rates(format):
    codec = CODECS[format][""]
    return codec.rate_for(44_100), 16_000


def written(wave, format, rate_hz, bitrate=BITRATE):
    return encode(wave, CODECS[format][""], rate_hz=rate_hz, bitrate=bitrate)


def read(content, format, rate_hz):
    """Decode by libsndfile where FFmpeg gets the length wrong; Opus at its own rate."""
    if format == "ogg":
        wave, found_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
        return wave.T, found_hz
    found = decoded(content, rate_hz=CODECS[format][""].decodes_hz or rate_hz)
    assert (found.truncated, found.skipped_packets) == (False, 0)
    return found.wave, found.rate_hz


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("kind", WAVES)
@pytest.mark.parametrize("samples", [1, 100, 2_048, 80_037])
def test_a_wave_is_read_at_its_length_whatever_it_is(format, kind, samples):
    codec = CODECS[format][""]
    for rate_hz in rates(format):
        wave, found_hz = read(written(WAVES[kind](samples), format, rate_hz), format, rate_hz)
        expected = resampled(samples, rate_hz, found_hz)
        assert found_hz == (codec.decodes_hz or rate_hz)
        assert 0 <= wave.shape[1] - expected <= codec.longer


@pytest.mark.parametrize("format", LOSSY)
def test_every_sample_is_where_it_was(format):
    rate_hz, samples = CODECS[format][""].rate_for(44_100), 100_003
    wave = sum(tone(hz, samples, level=0.05, rate_hz=rate_hz) for hz in range(200, 4000, 370)).astype(np.float32)
    found, _ = read(written(wave, format, rate_hz, 256_000), format, rate_hz)
    inside = slice(5000, samples - 5000)
    agreement = {shift: snr_db(wave[:, inside], np.roll(found, -shift, axis=1)[:, inside]) for shift in range(-3, 4)}
    assert max(agreement, key=lambda shift: agreement[shift]) == 0
    assert agreement[0] > CHORD_DB > max(agreement[-1], agreement[1])
    for end in (slice(0, 4096), slice(samples - 4096, samples)):  # the first samples and the last are there too
        assert snr_db(wave[:, end], found[:, end]) > CHORD_DB - 10


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_keeps_its_level(format, channels):
    for rate_hz in rates(format):
        wave = tone(440, 5 * rate_hz, channels=channels, level=0.5, rate_hz=rate_hz)
        found, found_hz = read(written(wave, format, rate_hz), format, rate_hz)
        assert abs(level_db(found[0, found_hz : 4 * found_hz]) - level_db(wave)) < LEVEL_DB


@pytest.mark.parametrize("format", LOSSY)
def test_the_same_samples_are_the_same_bytes_however_they_are_cut(format):
    codec, wave = CODECS[format][""], noise(BLOCK + 5001)
    rate_hz = codec.rate_for(44_100)
    whole = written(wave, format, rate_hz)
    assert whole == written(wave, format, rate_hz)
    out = io.BytesIO()
    with open_encoder(out, codec, channels=2, rate_hz=rate_hz, bitrate=BITRATE) as encoder:
        for begin in range(0, wave.shape[1], 777):
            encoder.add(wave[:, begin : begin + 777].T)
    assert out.getvalue() == whole


@pytest.mark.parametrize("format", LOSSY)
def test_a_path_is_written_as_a_file_in_memory_is(format, tmp_path):
    codec, wave = CODECS[format][""], noise(20_000)
    rate_hz = codec.rate_for(44_100)
    with open_encoder(str(tmp_path / "stem"), codec, channels=2, rate_hz=rate_hz, bitrate=BITRATE) as encoder:
        encoder.add(wave.T)
    assert (tmp_path / "stem").read_bytes() == written(wave, format, rate_hz)


@pytest.mark.parametrize("format", LOSSY)
def test_a_file_says_nothing_of_when_or_by_what_it_was_made(format):
    content = written(noise(10_000), format, CODECS[format][""].rate_for(44_100))
    assert not [
        name for name in (b"Lavf6", b"Lavc6", b"Xiph", b"libVorbis", b"ENCODER", b"sndfile", b"20200704") if name in content
    ]


@pytest.mark.parametrize("format", LOSSY)
def test_a_higher_bitrate_is_a_larger_file(format):
    wave, rate_hz = noise(5 * 44_100), CODECS[format][""].rate_for(44_100)
    small, large = (len(written(wave, format, rate_hz, bitrate)) for bitrate in (64_000, 256_000))
    assert large > 2 * small


@pytest.mark.parametrize("format", LOSSY)
def test_every_rate_and_the_ends_of_the_bitrates_are_taken(format):
    codec = CODECS[format][""]
    for rate_hz in codec.rates_hz if not isinstance(codec.rates_hz, range) else (8_000, 44_100, 96_000, 192_000):
        for bitrate in (codec.bitrates[0], codec.bitrates[-1]):
            for channels in (1, 2):
                assert written(noise(5000, channels=channels), format, rate_hz, bitrate)


@pytest.mark.parametrize(("format", "expected_hz"), [("opus", 48_000), ("flac", 44_100), ("mp3", 44_100), ("ogg", 44_100)])
def test_a_model_at_44_1_khz_is_written_at_the_codecs_own_rate_above_it(format, expected_hz):
    codec = next(iter(CODECS[format].values()))
    assert codec.rate_for(44_100) == expected_hz
    assert codec.rate_for(500_000) == codec.rates_hz[-1] == max(codec.rates_hz)


def test_an_m4a_says_its_length_to_the_sample():
    for rate_hz in rates("m4a"):
        for samples in (1, 100, 80_037):
            header = audio.probe(io.BytesIO(written(noise(samples), "m4a", rate_hz)))
            assert header.seconds * rate_hz == pytest.approx(samples)


def test_an_m4a_is_an_mp4_and_an_opus_file_an_ogg_file():
    assert written(noise(100), "m4a", 44_100)[4:11] == b"ftypM4A"
    assert written(noise(100), "opus", 48_000)[28:36] == b"OpusHead"


@pytest.mark.parametrize("samples", [1, 100, 8192, 44_100, 300_000])
@pytest.mark.parametrize("level", [0, 0.1])
def test_the_length_of_ogg_vorbis_is_exact(samples, level):
    content = written(noise(samples, level=level), "ogg", 44_100)
    assert vorbis.length(io.BytesIO(content)) == (samples, 44_100)


def test_ogg_vorbis_that_is_cut_or_no_ogg_vorbis_is_not_read_as_whole():
    content = written(noise(300_000), "ogg", 44_100)
    assert vorbis.length(io.BytesIO(content[: len(content) // 2]))[0] < 300_000
    with pytest.raises(errors.DecodeError, match="ogg:"):
        vorbis.length(io.BytesIO(b"no ogg at all" * 100))


def test_pages_are_made_plain_with_the_checksum_that_libogg_asks_for():
    """Of RFC 3533: the CRC of polynomial 0x04c11db7, bit by bit."""
    page = vorbis.PlainPages().of(b"OggS\0\2" + bytes(8) + b"\1\2\3\4" + bytes(4) + b"\5\5\5\5" + b"\1\3" + b"abc")
    crc = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x104C11DB7 if crc & 1 << 31 else 0)) & 0xFFFFFFFF
    assert (page[14:18], page[22:26]) == (bytes(4), crc.to_bytes(4, "little"))
    assert zlib.crc32(page) != crc


def broken_midway(out, format):
    codec = CODECS[format][""]
    with open_encoder(out, codec, channels=2, rate_hz=codec.rate_for(44_100), bitrate=BITRATE) as encoder:
        encoder.add(noise(5000).T)
        raise RuntimeError("midway")


@pytest.mark.parametrize("format", LOSSY)
def test_what_breaks_while_a_file_is_written_is_raised(format, tmp_path):
    with pytest.raises(RuntimeError, match="midway"):
        broken_midway(str(tmp_path / format), format)


def test_a_full_disk_is_raised_while_ogg_vorbis_is_written():
    """And not swallowed by libsndfile, which calls back."""
    with pytest.raises(OSError, match="No space left"):
        write_all(noise(3_000_000), "/dev/full")


def write_all(wave, path):
    with open_encoder(path, CODECS["ogg"][""], channels=2, rate_hz=44_100, bitrate=BITRATE) as encoder:
        encoder.add(wave.T)
