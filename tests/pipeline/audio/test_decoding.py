from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib

import av
import numpy as np
import pytest
from catalogs import decoded
from signals import RATE_HZ, frequency_hz, level_db, noise, snr_db, tone

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import containers, decoding, reader
from sep_batch.pipeline.audio.codecs import CODECS
from sep_batch.pipeline.audio.containers import container_of
from sep_batch.pipeline.audio.encoding import encode

ROUND_TRIP_DB = {
    ("flac", "16"): 70,
    ("wav", "16"): 70,
    ("flac", "24"): 115,
    ("wav", "24"): 115,
    **{(format, ""): 20 for format in ("mp3", "m4a", "ogg", "wma")},
}
LEVEL_DB = 0.01  # a channel keeps its level
RESAMPLED_DB = 60
CODEC_OF = {  # those that take every rate
    (format, depth): codec for format, depths in CODECS.items() for depth, codec in depths.items() if format != "opus"
}
LOSSLESS = [key for key in CODEC_OF if key[1]]
INTEGERS = [key for key in CODEC_OF if key[1] in ("16", "24")]

DECODES_AS_EXPECTED = """
import sys
import zlib
from pathlib import Path
import numpy as np
from sep_batch.pipeline.audio import decoding
folder = Path(sys.argv[1])
with (folder / "song.wav").open("rb") as file:
    pieces, found = decoding.decode(file, rate_hz=44_100, downmix="first-two")
    wave = np.concatenate(list(pieces), axis=1)
assert found.channels == int(sys.argv[2])
assert np.array_equal(wave, np.load(folder / "expected.npy"))
"""


def encoded(wave, format="wav", depth="16", *, rate_hz=RATE_HZ):
    return encode(wave, CODEC_OF[format, depth], rate_hz=rate_hz, bitrate=128_000 if not depth else None)


def float_wav(wave, *, rate_hz=RATE_HZ):
    """Write a float WAV by hand, so that it may hold any number of channels and what is no number."""
    frames = np.ascontiguousarray(wave.T, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, len(wave), rate_hz, rate_hz * 4 * len(wave), 4 * len(wave), 32)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(frames))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + (struct.pack("<I", len(frames)) + frames)
    )


def written_by_ffmpeg(wave, container, encoder, layout, *, rate_hz=RATE_HZ, samples="s16"):
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(encoder, rate=rate_hz, layout=layout)
        stream.format = samples
        whole = np.rint(wave * 32767).astype(np.int16)
        laid_out = whole.T.reshape(1, -1) if not samples.endswith("p") else whole
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(laid_out), format=samples, layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"RIFX\0\0\0\0WAVEfmt ", "wav"),
        (b"RIFF\0\0\0\0AVI LIST", None),
        (b"FORM\0\0\0\0AIFFCOMM", "aiff"),
        (b"FORM\0\0\0\0AIFCFVER", "aiff"),
        (b"FORM\0\0\0\x008SVXVHDR", None),
        (b"fLaC\0\0\0\x22", "flac"),
        (b"OggS\0\x02", "ogg"),
        (b"\0\0\0\x20ftypM4A ", "mov"),
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
        (b"caff\0\x01", "caf"),
        (b".snd\0\0\0\x18", "au"),
        (b"wvpk", "wv"),
        (b"MAC \x96\x0f", "ape"),
        (b"TTA1", "tta"),
        (b"\x0b\x77\x12\x34", "ac3"),
        (b"\xff\xf1\x50\x80", "aac"),
        (b"\xff\xf9\x50\x80", "aac"),
        (b"\xff\xfb\x90\x64", "mp3"),
        (b"\xff\xfd\x90\x64", "mp3"),  # layer 2
        (b"\xff\xe3\x18\xc4", "mp3"),  # MPEG 2.5
        (b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\x64", "mp3"),
        (b"ID3\x04\0\0\0\0\0\x04pictfLaC", "flac"),
        (b"ID3\x04\0\0\0\0\0\x02no\0\0\0\0\xff\xf1\x50\x80", "aac"),
        (b"ID3\x04\0\0\0\0\x7f\x7f picture", None),  # longer than the file
        (b"ID3\x04\0\0\0\0\0\0ID3\x04\0\0\0\0\0\0", None),
        (b"ID3", None),
        (b"\xff", None),
        (b"\xff\x00", None),
        (b"", None),
        (b"ffconcat version 1.0\n", None),
        (b"#EXTM3U\n", None),
        (b"<html>", None),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head, name):
    assert container_of(head) == name


@pytest.mark.parametrize("key", CODEC_OF)
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_a_wave_survives_every_codec(key, rate_hz):
    wave = tone(440, 60_000, level=0.5, rate_hz=rate_hz) + noise(60_000, level=0.001)
    content = encoded(wave, *key, rate_hz=rate_hz)
    assert content == encoded(wave, *key, rate_hz=rate_hz)
    found = decoded(content, rate_hz=rate_hz)
    assert (found.rate_hz, found.channels, found.truncated) == (rate_hz, 2, False)
    assert (found.skipped_packets, found.nonfinite_samples) == (0, 0)
    if key == ("wav", "float"):
        assert np.array_equal(found.wave, wave)
    elif key not in LOSSLESS:
        assert found.wave.shape[1] >= 60_000
        assert snr_db(wave, found.wave[:, :60_000]) > ROUND_TRIP_DB[key]
    else:
        assert found.wave.dtype == np.float32
        assert snr_db(wave, found.wave) > ROUND_TRIP_DB[key]


@pytest.mark.parametrize("key", LOSSLESS)
@pytest.mark.parametrize("samples", [1, 65_535, 65_536, 65_537])
def test_a_lossless_codec_keeps_the_exact_length(key, samples):
    assert decoded(encoded(noise(samples), *key)).wave.shape == (2, samples)


@pytest.mark.parametrize(("format", "depth"), INTEGERS)
def test_integers_survive_bit_for_bit(format, depth):
    full = 2 ** (int(depth) - 1)
    drawn = np.random.default_rng(0).integers(-full, full, size=(2, 5000))
    drawn[:, :4] = [[-full, full - 1, 0, -1], [1, -2, full - 2, 1 - full]]
    wave = (drawn / full).astype(np.float32)
    found = decoded(encoded(wave, format, depth)).wave
    assert np.array_equal(found.astype(np.float64) * full, drawn)


@pytest.mark.parametrize(("format", "depth"), INTEGERS)
def test_integers_clip_at_full_scale_instead_of_wrapping(format, depth):
    full = 2 ** (int(depth) - 1)
    wave = np.array([[1.0, 1.5, -1.0, -1.5, 100.0]] * 2, np.float32)
    found = decoded(encoded(wave, format, depth)).wave
    assert np.array_equal(found[0].astype(np.float64) * full, [full - 1, full - 1, -full, -full, full - 1])


def test_sixteen_bits_are_rounded_to_the_nearest_even():
    wave = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 0.51]] * 2, np.float32) / 32768
    assert (decoded(encoded(wave)).wave[0] * 32768).tolist() == [0, 2, 2, 0, -2, 0, 1]


def test_float_wav_holds_values_beyond_full_scale():
    wave = noise(3000, level=3.0)
    assert np.abs(wave).max() > 5
    assert np.array_equal(decoded(encoded(wave, "wav", "float")).wave, wave)


@pytest.mark.parametrize("key", LOSSLESS)
def test_one_channel_is_written_as_one_and_read_as_two_equal_ones(key):
    wave = noise(5000, channels=1)
    found = decoded(encoded(wave, *key))
    assert found.channels == 1
    assert np.array_equal(found.wave[0], found.wave[1])
    assert snr_db(wave, found.wave[:1]) > 60


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_mono_keeps_its_level(rate_hz):
    wave = tone(1000, 40_000, channels=1, rate_hz=rate_hz)
    found = decoded(encoded(wave, rate_hz=rate_hz)).wave
    assert abs(level_db(found[:, 2000:-2000]) - level_db(wave)) < LEVEL_DB


@pytest.mark.parametrize(("container", "encoder"), [("wav", "pcm_s16le"), ("flac", "flac")])
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_of_5_1_the_first_two_channels_keep_their_levels(container, encoder, rate_hz):
    wave = np.concatenate([tone(300 * (n + 1), 40_000, channels=1, level=0.1 * (n + 1), rate_hz=rate_hz) for n in range(6)])
    found = decoded(written_by_ffmpeg(wave, container, encoder, "5.1", rate_hz=rate_hz), downmix="first-two")
    assert found.channels == 6
    assert found.wave.shape[0] == 2
    for channel in range(2):
        kept = found.wave[channel, 2000:-2000]
        assert abs(level_db(kept) - level_db(wave[channel])) < LEVEL_DB
        assert frequency_hz(kept) == pytest.approx(300 * (channel + 1), abs=0.1)


@pytest.mark.parametrize("channels", [3, 5, 6, 7])
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
def test_channels_without_a_named_layout_are_read_too(channels, rate_hz):
    wave = np.concatenate([tone(300, 40_000, channels=1, level=0.05 * (n + 1), rate_hz=rate_hz) for n in range(channels)])
    found = decoded(float_wav(wave, rate_hz=rate_hz), downmix="first-two")
    assert found.channels == channels
    for channel in range(2):
        assert abs(level_db(found.wave[channel, 2000:-2000]) - level_db(wave[channel])) < LEVEL_DB


@pytest.mark.parametrize("channels", [8, 16])
def test_eight_channels_and_more_are_read_too(tmp_path, channels):
    """In a process of its own: PyAV counts the planes of eight wrongly, and numpy reads where nothing is."""
    wave = noise(40_000, channels=channels)
    (tmp_path / "song.wav").write_bytes(float_wav(wave))
    np.save(tmp_path / "expected.npy", wave[:2])
    subprocess.run([sys.executable, "-c", DECODES_AS_EXPECTED, str(tmp_path), str(channels)], check=True)


@pytest.mark.parametrize("source_hz", [8000, 22_050, 32_000, 48_000, 96_000])
def test_a_tone_survives_resampling(source_hz):
    seconds = 2
    wave = tone(1000, seconds * source_hz, rate_hz=source_hz)
    found = decoded(encoded(wave, "wav", "float", rate_hz=source_hz))
    assert found.rate_hz == source_hz
    assert abs(found.wave.shape[1] - seconds * RATE_HZ) <= 2
    inside = slice(4000, -4000)
    expected = tone(1000, found.wave.shape[1])
    assert snr_db(expected[:, inside], found.wave[:, inside]) > RESAMPLED_DB
    assert frequency_hz(found.wave[0, inside]) == pytest.approx(1000, abs=0.1)


@pytest.mark.parametrize("key", CODEC_OF)
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 48_000])
@pytest.mark.parametrize(("offset_s", "duration_s"), [(0.0, 0.25), (0.5, 0.25), (0.5, None), (0.333_333, 0.1), (0.0, 100.0)])
def test_an_excerpt_is_exactly_that_of_the_whole(key, rate_hz, offset_s, duration_s):
    content = encoded(noise(60_000), *key, rate_hz=rate_hz)
    whole = decoded(content).wave
    begin = round(offset_s * RATE_HZ)
    end = None if duration_s is None else begin + round(duration_s * RATE_HZ)
    assert np.array_equal(decoded(content, offset_s=offset_s, duration_s=duration_s).wave, whole[:, begin:end])


def test_an_offset_past_the_end_is_empty_and_says_how_long_the_file_is():
    with pytest.raises(errors.EmptyAudio, match="no samples from 2 s on; the file lasts 1 s"):
        decoded(encoded(noise(RATE_HZ)), offset_s=2.0)


@pytest.mark.parametrize("key", [key for key in CODEC_OF if key[0] != "m4a"])  # an index at the end
def test_a_file_of_which_a_good_half_is_there_is_read_as_far_as_it_goes_and_flagged(key):
    content = encoded(noise(3 * RATE_HZ), *key)
    found = decoded(content[: 6 * len(content) // 10])
    assert found.truncated
    assert RATE_HZ < found.wave.shape[1] < 2 * RATE_HZ
    assert not decoded(content).truncated


@pytest.mark.parametrize(
    ("container", "encoder", "samples"),
    [("aiff", "pcm_s16be", "s16"), ("au", "pcm_s16be", "s16"), ("wv", "wavpack", "s16p")],
)
def test_a_file_of_a_container_that_we_do_not_write_is_flagged_where_it_is_cut_too(container, encoder, samples):
    wave = noise(3 * RATE_HZ)
    content = written_by_ffmpeg(wave, container, encoder, "stereo", samples=samples)
    found = decoded(content)
    assert found.wave.shape == wave.shape
    assert not found.truncated
    assert decoded(content[: 6 * len(content) // 10]).truncated


def test_an_excerpt_of_a_truncated_file_is_not_flagged_where_it_is_whole():
    content = encoded(noise(3 * RATE_HZ))
    assert not decoded(content[: len(content) // 2], duration_s=1.0).truncated


def test_what_is_no_number_becomes_zero_and_is_counted():
    wave = noise(3000)
    wave[0, 5], wave[1, 6], wave[0, 2999] = np.nan, np.inf, -np.inf
    found = decoded(float_wav(wave))
    assert found.nonfinite_samples == 3
    assert np.array_equal(found.wave, np.nan_to_num(wave, nan=0, posinf=0, neginf=0))


def test_a_file_in_which_nothing_is_a_number_is_refused():
    with pytest.raises(errors.NonfiniteAudio, match="all 6,000 sample values"):
        decoded(float_wav(np.full((2, 3000), np.nan, np.float32)))


def test_an_empty_file_is_refused():
    with pytest.raises(errors.EmptyAudio):
        decoded(b"")


@pytest.mark.parametrize("content", [float_wav(np.zeros((2, 0), np.float32)), float_wav(np.zeros((1, 0), np.float32))])
def test_a_file_without_frames_is_refused(content):
    with pytest.raises(errors.EmptyAudio):
        decoded(content)


@pytest.mark.parametrize("content", [b"garbage" * 100, bytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100), b"%PDF-1.7", b"x"])
def test_what_is_no_audio_is_refused_with_its_first_bytes(content):
    with pytest.raises(errors.UnsupportedFormat, match=content[:8].hex(" ")):
        decoded(content)


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile '{path}'\n",
        "#EXTM3U\n#EXTINF:10,\n{path}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "concat:{path}",
    ],
)
def test_a_playlist_named_as_audio_opens_no_other_file(tmp_path, text):
    (tmp_path / "secret.wav").write_bytes(encoded(noise(1000)))
    (tmp_path / "song.wav").write_text(text.format(path=tmp_path / "secret.wav"))
    with (tmp_path / "song.wav").open("rb") as file, pytest.raises(errors.UnsupportedFormat):
        list(decoding.decode(file, rate_hz=RATE_HZ)[0])


def test_a_video_without_sound_is_refused():
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as muxer:
        stream = muxer.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        muxer.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        muxer.mux(stream.encode(None))
    with pytest.raises(errors.UnsupportedFormat, match="no audio stream"):
        decoded(out.getvalue())


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_behind_a_sync_word_fail_as_one_of_ours(seed):
    head = (b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80", b"\x0b\x77\x12\x34", b"OggS\0\x02")[seed % 4]
    content = head + np.random.default_rng(seed).bytes(3000)
    with pytest.raises((errors.DecodeError, errors.EmptyAudio)):
        decoded(content)


def outcomes_of_damage(*key):
    """Cut a file and overwrite bytes, most of them in its header, many times over; return what became of it."""
    content, drawn = encoded(noise(6000), *key), np.random.default_rng(7)
    outcomes = set()
    for _ in range(80):
        damaged = bytearray(content[: max(16, int(len(content) * drawn.random() ** 0.3))])
        for place in 4 + (drawn.random(6) ** 6 * (len(damaged) - 4)).astype(int):
            damaged[place] = drawn.integers(256)
        try:
            found = decoded(bytes(damaged))
            assert np.isfinite(found.wave).all()
            outcomes.add("read")
        except errors.TrackError as error:
            outcomes.add(error.error_class)
    return outcomes


def test_damaged_files_are_read_or_fail_as_one_of_ours():
    """In a process of its own, which a decoder may take with it."""
    program = "import test_decoding; [print(*test_decoding.outcomes_of_damage(*key)) for key in test_decoding.CODEC_OF]"
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program], env=here, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    outcomes = ran.stdout.splitlines()
    assert len(outcomes) == len(CODEC_OF)
    for key, line in zip(CODEC_OF, outcomes, strict=True):  # a page of Ogg with a wrong checksum is never read
        assert ("read" in line and len(line.split()) > 1) or (key[0] == "ogg" and line == "decode_error")


def test_what_is_longer_than_a_track_may_be_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_S", 1)
    content = encoded(noise(RATE_HZ + 1))
    with pytest.raises(errors.TooLong, match="longer than"):
        decoded(content)
    assert decoded(content, duration_s=1.0).wave.shape[1] == RATE_HZ
    assert decoded(content, offset_s=0.5).wave.shape[1] == RATE_HZ + 1 - RATE_HZ // 2
    assert decoded(encoded(noise(RATE_HZ))).wave.shape[1] == RATE_HZ


def test_an_encoded_file_says_nothing_of_when_or_by_what_it_was_made():
    for key in CODEC_OF:
        content = encoded(noise(1000), *key)
        assert b"Lavf6" not in content
        assert b"Lavc6" not in content


@pytest.mark.parametrize("rate_hz", [999, 768_001])
def test_a_rate_that_no_music_has_is_refused(rate_hz):
    with pytest.raises(errors.UnsupportedFormat, match=f"sample rate {rate_hz:,} Hz, expected 1,000 to 768,000"):
        decoded(float_wav(noise(5000), rate_hz=rate_hz))


@pytest.mark.parametrize("rate_hz", [1000, 768_000])
def test_the_lowest_and_the_highest_rate_are_read(rate_hz):
    assert decoded(float_wav(noise(2 * rate_hz), rate_hz=rate_hz)).wave.shape[1] == pytest.approx(2 * RATE_HZ, abs=100)


def test_more_than_64_channels_are_refused():
    assert decoded(float_wav(noise(1000, channels=64))).channels == 64
    with pytest.raises(errors.UnsupportedFormat, match="65 channels, expected 1 to 64"):
        decoded(float_wav(noise(1000, channels=65)))


def test_a_form_that_changes_midway_to_one_that_is_not_read_is_refused(monkeypatch):
    content = written_by_ffmpeg(noise(60_000), "mp3", "libmp3lame", "stereo", samples="s16p")
    monkeypatch.setattr(reader, "MAX_RATE_HZ", RATE_HZ)
    monkeypatch.setattr(reader, "_refuse_form", refuse_from(2, reader._refuse_form))
    with pytest.raises(errors.UnsupportedFormat, match="sample rate"):
        decoded(content)


def refuse_from(call, refuse):
    calls = []

    def counted(channels, rate_hz):
        calls.append(rate_hz)
        refuse(channels, rate_hz + (len(calls) >= call))

    return counted


def test_a_codec_that_no_music_has_is_never_given_a_byte():
    content = written_by_ffmpeg(noise(48_000, channels=1), "wav", "g726", "mono", rate_hz=8000)
    with pytest.raises(errors.UnsupportedFormat, match=r"wav: unsupported codec \(g726\)"):
        decoded(content)


def test_every_decoder_that_is_allowed_is_there():
    for name in containers.DECODERS:
        assert av.codec.Codec(name, "r").type == "audio"


def test_what_is_far_too_loud_for_a_wave_becomes_zero_and_is_counted():
    wave = noise(3000)
    wave[0, :10], wave[1, :5] = 2 * decoding.LOUDEST, -2 * decoding.LOUDEST
    found = decoded(float_wav(wave))
    assert found.nonfinite_samples == 15
    assert np.abs(found.wave).max() < 1
    wave = np.full((2, 3000), -decoding.LOUDEST, np.float32)
    assert np.array_equal(decoded(float_wav(wave)).wave, wave)


def test_an_offset_past_every_file_is_empty():
    with pytest.raises(errors.EmptyAudio, match="the file lasts 0.1 s"):
        decoded(encoded(noise(4410)), offset_s=1e308)
    assert decoded(encoded(noise(4410)), duration_s=1e308).samples == 4410


class Endless(io.BytesIO):
    """A file whose storage says it has a petabyte."""

    def seek(self, offset, whence=io.SEEK_SET):
        return 1 << 50 if whence == io.SEEK_END else super().seek(offset, whence)


def test_a_file_larger_than_any_honest_one_is_refused_before_it_is_read():
    with pytest.raises(errors.TooLong, match="the file has 1,125,899,906,842,624 bytes"):
        list(decoding.decode(Endless(encoded(noise(1000))), rate_hz=RATE_HZ)[0])


def test_what_storage_raises_midway_is_raised_and_no_end_of_the_file():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 100_000:
                raise errors.FetchTimeout("the storage went away")
            return super().read(size)

    pieces, _ = decoding.decode(Broken(encoded(noise(3 * RATE_HZ))), rate_hz=RATE_HZ)
    with pytest.raises(errors.FetchTimeout, match="went away"):
        list(pieces)


def test_tags_that_unpack_to_more_than_is_bearable_are_refused(monkeypatch):
    from sep_batch.pipeline.audio import decode_guard

    monkeypatch.setattr(decode_guard, "MAX_GROWN_BYTES", 32 << 20)
    assert decoded(tagged_aiff(packed_tags(24, 1 << 10))).samples == RATE_HZ
    with pytest.raises(errors.DecodeError, match="the headers unpack to more than 32 MB"):
        decoded(tagged_aiff(packed_tags(24, 8 << 20)))


def test_tags_before_the_audio_unpack_to_nothing(monkeypatch):
    from sep_batch.pipeline.audio import decode_guard

    monkeypatch.setattr(decode_guard, "MAX_GROWN_BYTES", 32 << 20)
    assert decoded(packed_tags(24, 8 << 20) + encoded(noise(RATE_HZ), "mp3", "")).samples == RATE_HZ


def tagged_aiff(tag):
    """Return a second of AIFF whose first chunk is an ID3 tag."""
    content = written_by_ffmpeg(noise(RATE_HZ), "aiff", "pcm_s16be", "stereo")
    return content[:12] + b"ID3 " + struct.pack(">I", len(tag)) + tag + bytes(len(tag) % 2) + content[12:]


def packed_tags(count, letters):
    """Return an ID3 tag of texts of so many letters each, of different names, 8 kB for 8 MB."""

    def size(number):
        return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))

    frames = b""
    for number in range(count):
        body = size(letters) + zlib.compress(f"\3name {number}\0".encode().ljust(letters, b"a"))
        frames += b"TXXX" + size(len(body)) + b"\0\x09" + body
    return b"ID3\4\0\0" + size(len(frames)) + frames


def test_an_ogg_file_that_has_no_end_is_flagged():
    wave = noise(3 * 48_000)
    content = written_by_ffmpeg(wave, "ogg", "flac", "stereo", rate_hz=48_000)
    assert not decoded(content).truncated
    assert decoded(content[: content.rindex(b"OggS")]).truncated
    assert not decoded(content[: content.rindex(b"OggS")], duration_s=1.0).truncated
