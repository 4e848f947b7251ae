"""Sizes that recorders and pipes leave in a header, files that end early, and WAVs of fewer valid bits than they have."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from catalogs import decoded
from hostile.craft import form, pcm, riff, wav
from signals import noise, snr_db

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import decoding, headers

SOUND = pcm(2.0)
SAMPLES = 88_200
HZ_44100 = bytes.fromhex("400eac44000000000000")
PLACEHOLDERS = {
    "nothing": 0,
    "2^31 - 1": 0x7FFFFFFF,
    "2^31 - 1 less a header": 0x7FFFFFFF - 44,
    "arecord's": 0x7FFFFF00,
    "SoX's": 0x7FFFF000,
    "SoX's with a header": 0x7FFFF024,
    "2^31": 0x80000000,
    "2^32 - 1": 0xFFFFFFFF,
    "2^32 - 1 less a header": 0xFFFFFFFF - 8,
    "2^32 in whole blocks": 0xFFFFF000,
}


def aiff(size=None, sound_size=None, samples=SAMPLES, sign=b"AIFF", more=b"", sound=SOUND):
    common = struct.pack(">hIh", 2, samples, 16) + HZ_44100 + more
    block = bytes(8) + np.frombuffer(sound, "<i2").astype(">i2").tobytes()
    body = sign + b"COMM" + struct.pack(">I", len(common)) + common
    body += b"SSND" + struct.pack(">I", len(block) if sound_size is None else sound_size) + block
    return b"FORM" + struct.pack(">I", len(body) if size is None else size) + body


def au(size):
    return b".snd" + struct.pack(">IIIII", 24, size, 3, 44_100, 2) + np.frombuffer(SOUND, "<i2").astype(">i2").tobytes()


def caf(size):
    described = struct.pack(">d4sIIIII", 44_100.0, b"lpcm", 2, 4, 1, 2, 16)
    desc = b"desc" + struct.pack(">q", len(described)) + described
    return b"caff\0\1\0\0" + desc + b"data" + struct.pack(">Q", size) + bytes(4) + SOUND


def rf64(size, magic=b"RF64", samples=None):
    sizes = riff(b"ds64", struct.pack("<QQQI", size, size, size if samples is None else samples, 0))
    return wav(sizes, form(), data=SOUND, magic=magic, size=2**32 - 1, data_size=2**32 - 1)


UNSAID = {
    "wav": lambda value: wav(data=SOUND, size=value, data_size=value),
    "wav, the file alone": lambda value: wav(data=SOUND, size=value),
    "wav, the sound alone": lambda value: wav(data=SOUND, data_size=value),
    "aiff": lambda value: aiff(value, value, value),
    "aiff, the file alone": lambda value: aiff(size=value),
    "aiff, the sound alone": lambda value: aiff(sound_size=value),
    "aifc": lambda value: aiff(value, value, value // 4, b"AIFC", b"NONE\0\0"),
    "au": au,
    "caf": caf,
    "rf64": rf64,
    "bw64": lambda value: rf64(value, b"BW64"),
}


@pytest.mark.parametrize("container", UNSAID)
@pytest.mark.parametrize("left", PLACEHOLDERS)
def test_a_size_that_a_recorder_left_declares_nothing(container, left):
    content = UNSAID[container](PLACEHOLDERS[left])
    found = decoded(content)
    assert np.array_equal(found.wave, decoded(wav(data=SOUND)).wave)
    assert (found.truncated, found.skipped_packets) == (False, 0)
    assert decoding.probe(io.BytesIO(content)).seconds in (None, pytest.approx(2.0, abs=0.001))


@pytest.mark.parametrize("value", [2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("make", [rf64, caf])
def test_a_size_of_eight_bytes_may_be_left_too(make, value):
    found = decoded(make(value))
    assert np.array_equal(found.wave, decoded(wav(data=SOUND)).wave)
    assert not found.truncated


@pytest.mark.parametrize(
    "content",
    [
        *(wav(data=SOUND), wav(data=SOUND, size=0x6FFFFFFF)),
        *(wav(data=SOUND, size=0x7FFF0000), wav(data=SOUND, size=0x81000000), wav(data=SOUND, size=0xFF000000)),
    ],
)
def test_a_wav_that_ends_early_is_told(content):
    assert decoded(content[: len(content) * 3 // 5]).truncated


def rifx(sound, *, tag=1, bits=16, data_size=None, more=b"", behind=b""):
    """Return a WAV of big-endian numbers."""
    width = 2 * bits // 8
    fmt = b"fmt " + struct.pack(">IHHIIHH", 16 + len(more), tag, 2, 44_100, 44_100 * width, width, bits) + more
    body = b"WAVE" + fmt + b"data" + struct.pack(">I", len(sound) if data_size is None else data_size) + sound + behind
    return b"RIFX" + struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(("tag", "bits", "dtype"), [(1, 16, ">i2"), (1, 32, ">i4"), (3, 32, ">f4"), (3, 64, ">f8"), (1, 8, "u1")])
def test_a_wav_of_big_endian_numbers_is_read_as_such(tag, bits, dtype):
    wave = noise(88_200, level=0.1).astype(np.float64)
    full = 1 << (bits - 1)
    numbers = wave.T if tag == 3 else np.clip(np.rint(wave.T * full), -full, full - 1) + (full if bits == 8 else 0)
    content = rifx(numbers.astype(dtype).tobytes(), tag=tag, bits=bits, behind=b"LIST" + struct.pack(">I", 4) + b"INFO")
    found = decoded(content)
    assert found.samples == 88_200
    assert snr_db(wave, found.wave) > {8: 25, 16: 70}.get(bits, 120)
    assert not found.truncated
    assert decoded(content[: len(content) * 3 // 5]).truncated
    assert decoding.probe(io.BytesIO(content)).seconds == pytest.approx(2.0, abs=0.001)
    assert np.array_equal(decoded(bytes(9) + content).wave, found.wave)


def test_a_wav_of_big_endian_numbers_whose_size_was_left_is_whole():
    sound = np.frombuffer(SOUND, "<i2").astype(">i2").tobytes()
    found = decoded(rifx(sound, data_size=0xFFFFFFFF))
    assert np.array_equal(found.wave, decoded(wav(data=SOUND)).wave)
    assert not found.truncated


def test_a_compressed_wav_of_big_endian_numbers_is_refused_in_words():
    with pytest.raises(errors.UnsupportedFormat, match=r"RIFX \(big-endian WAV\): unsupported format tag 2 with 4 bits"):
        decoded(rifx(bytes(10_000), tag=2, bits=4))


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
def test_a_wav_of_long_sizes_is_whole_and_one_that_ends_early_is_told(magic):
    content = rf64(len(SOUND), magic, SAMPLES)
    found = decoded(content)
    assert np.array_equal(found.wave, decoded(wav(data=SOUND)).wave)
    assert not found.truncated
    assert decoded(content[: len(content) * 3 // 4]).truncated


def test_what_lies_behind_the_samples_of_an_au_is_not_played():
    content = au(len(SOUND))
    for behind in (b"TAG".ljust(128, b"\0"), SOUND):
        found = decoded(content + behind)
        assert (found.samples, found.truncated) == (SAMPLES, False)
        assert decoding.probe(io.BytesIO(content + behind)).seconds == 2.0


def test_an_aiff_an_au_and_a_caf_that_end_early_are_told():
    for content in (aiff(), au(len(SOUND)), caf(len(SOUND) + 4)):
        assert not decoded(content).truncated
        assert decoded(content[: len(content) * 3 // 5]).truncated


@pytest.mark.parametrize("size", [1, 1000, 2**30, 2**31 - 2**20, 2**31 + 2**20, 2**32 - 2**20, 2**40])
def test_other_sizes_declare_something(size):
    assert headers.declares_size(size)


# -- valid bits --


def extensible(wave, *, bits, valid, kind=1, channels=2, magic=b"RIFF"):
    """Return an extensible WAV of (channels, samples) integers, left-justified in so many bits."""
    guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
    fmt = form(tag=0xFFFE, channels=channels, bits=bits, more=struct.pack("<HHI", 22, valid, 3) + guid)
    full = 1 << (valid - 1)
    numbers = (np.clip(np.rint(wave.T * full), -full, full - 1).astype(np.int64) << (bits - valid)) & ((1 << bits) - 1)
    values = numbers.reshape(-1).astype("<u8").view(np.uint8).reshape(-1, 8)[:, : bits // 8]
    return wav(riff(b"JUNK", bytes(28)), fmt, data=values.tobytes(), magic=magic)


@pytest.mark.parametrize(
    ("bits", "valid"), [(32, 24), (32, 20), (32, 18), (32, 30), (32, 16), (24, 20), (24, 16), (16, 12), (32, 32), (24, 24)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_fewer_valid_bits_are_read_at_their_place(bits, valid, channels):
    wave = noise(5000, channels=channels, level=0.2)
    found = decoded(extensible(wave, bits=bits, valid=valid, channels=channels))
    full = 1 << (valid - 1)
    rounded = np.clip(np.rint(wave * full), -full, full - 1) / full
    expected = np.repeat(rounded, 2, axis=0) if channels == 1 else rounded
    assert np.array_equal(found.wave, expected.astype(np.float32))
    assert found.codec == f"pcm_s{bits}le"


def test_a_float_wav_with_valid_bits_stays_one_of_floats():
    wave = noise(5000, level=0.2)
    content = extensible(wave, bits=32, valid=32, kind=3)
    place = content.index(b"data") + 8
    content = content[:place] + np.ascontiguousarray(wave.T, "<f4").tobytes()
    assert np.array_equal(decoded(content).wave, wave)


@pytest.mark.parametrize(("bits", "room"), [(16, 4), (20, 4), (18, 4), (16, 3), (12, 2), (20, 3)])
def test_integers_in_more_bytes_than_they_need_are_read_at_their_place(bits, room):
    wave = noise(5000, level=0.2)
    full = 1 << (bits - 1)
    numbers = np.clip(np.rint(wave.T * full), -full, full - 1).astype(np.int64)
    left = (numbers << (8 * room - bits)).reshape(-1).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :room]
    found = decoded(wav(form(bits=bits, align=2 * room), data=left.tobytes()))
    assert np.array_equal(found.wave, (numbers.T / full).astype(np.float32))


def test_a_width_that_the_samples_do_not_have_is_taken_for_a_wrong_one():
    content = wav(form(align=8), data=SOUND)
    assert np.array_equal(decoded(content).wave, decoded(wav(data=SOUND)).wave)


def test_24_bits_in_4_bytes_of_which_no_header_says_where_are_refused_in_words():
    for numbers in (np.rint(noise(5000).T * 2**31).astype("<i4"), noise(5000).T.astype("<f4")):
        with pytest.raises(errors.UnsupportedFormat, match="wav: 24 bits in 4-byte samples; the header does not define"):
            decoded(wav(form(bits=24, align=8), data=np.ascontiguousarray(numbers).tobytes()))


def test_extensible_bits_that_name_no_room_go_by_the_block():
    wave = noise(5000, level=0.2)
    content = extensible(wave, bits=32, valid=24)
    place = content.index(b"fmt ") + 8 + 14
    content = content[:place] + struct.pack("<H", 24) + content[place + 2 :]
    assert np.array_equal(decoded(content).wave, decoded(extensible(wave, bits=32, valid=24)).wave)


def test_what_lies_behind_the_sound_is_not_read_for_its_header():
    class Far(io.BytesIO):
        farthest = 0

        def read(self, size=-1):
            content = super().read(size)
            self.farthest = max(self.farthest, self.tell())
            return content

    content = Far(wav(data=bytes(10_000_000)) + riff(b"LIST", b"INFO"))
    assert headers.corrections("wav", content, len(content.getvalue())) == {}
    assert content.farthest < 100_000


@pytest.mark.parametrize("size", [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 100])
def test_a_chunk_that_reaches_beyond_every_file_ends_the_search(size):
    lies = caf(len(SOUND) + 4)
    place = lies.index(b"data")
    lies = lies[:place] + b"free" + struct.pack(">Q", size) + bytes(40) + lies[place:]
    with pytest.raises(errors.TrackError):
        decoded(lies)
