"""What lies before the audio of a file: tags, headers, padding, the rest of a frame; and what is no audio all the same."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from catalogs import decoded
from hostile.craft import FORMATS, box, box_place, mp4, pcm, riff, video, wav, whole
from signals import noise, snr_db

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import beginning, containers, decoding, frames

DRAWN = np.random.default_rng(5)
PICTURE = DRAWN.bytes(400_000)
LOSSY_DB = 60


def id3(length, *, version=4, footer=False):
    """Return an ID3v2 tag of a picture."""
    size = bytes(length >> shift & 127 for shift in (21, 14, 7, 0))
    sign = bytes([version, 0, 0x10 if footer else 0]) + size
    return b"ID3" + sign + b"APIC" + PICTURE[: length - 4] + (b"3DI" + sign if footer else b"")


def ape(length):
    """Return an APEv2 tag of one item."""
    sizes = struct.pack("<III", 2000, length + 32, 1)
    header, footer = (b"APETAGEX" + sizes + struct.pack("<I", flags) + bytes(8) for flags in (0xA0000000, 0x80000000))
    return header + PICTURE[:length] + footer


HTTP = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: audio/mpeg\r\nContent-Length: 12345\r\n\r\n"
BEFORE = {
    "ID3v2.2": id3(300, version=2),
    "ID3v2.3 of 20 kB": id3(20_000, version=3),
    "ID3v2.4 with a footer": id3(5000, footer=True),
    "ID3v2.4 of 400 kB": id3(400_000),
    "two ID3 tags": id3(9000) + id3(400, version=3),
    "ID3 and zeros": id3(5000) + bytes(2000),
    "an APE tag": ape(700),
    "an APE tag and an ID3 tag": ape(60) + id3(5000),
    "an HTTP header": HTTP,
    "an HTTP header and an ID3 tag": HTTP + id3(6000),
    "an ICY header": b"ICY 200 OK\r\nicy-name: radio\r\n\r\n",
    "one zero": b"\0",
    "5,000 zeros": bytes(5000),
    "200,000 zeros": bytes(200_000),
    "zeros and an ID3 tag": bytes(100) + id3(5000),
    "a byte order mark and line ends": b"\xef\xbb\xbf\r\n\r\n",
}


@pytest.mark.parametrize("format", FORMATS)
def test_whatever_lies_before_it_a_file_is_what_it_is(format):
    content = whole(format, 0.3)
    expected, header = decoded(content), decoding.probe(io.BytesIO(content))
    for name, before in BEFORE.items():
        found = decoded(before + content)
        assert np.array_equal(found.wave, expected.wave), name
        assert (found.truncated, found.skipped_packets) == (expected.truncated, expected.skipped_packets), name
        assert decoding.probe(io.BytesIO(before + content)) == header, name


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size=-1):
        content = super().read(size)
        self.taken += len(content)
        return content


def test_a_long_tag_is_skipped_and_not_read():
    content = Counted(id3(200, version=3) + b"ID3\3\0\0\x08\0\0\0" + bytes(1 << 24) + whole("flac", 0.3))
    assert decoding.probe(content).codec == "flac"
    assert content.taken < 1 << 20


def test_the_length_that_an_mp3_declares_is_found_behind_a_tag_of_any_length():
    content = whole("mp3", 3.0)
    assert b"Info" in content[:4096] or b"Xing" in content[:4096]
    most = id3(20_000) + content[: len(content) * 3 // 5]
    assert decoded(most).truncated
    assert decoding.probe(io.BytesIO(most)).seconds == pytest.approx(3.0, abs=0.1)


# -- tags whose lengths are wrong --


@pytest.mark.parametrize("format", ["mp3", "aac", "ac3", "flac", "vorbis", "wav", "aiff"])
def test_audio_behind_a_tag_that_says_too_little_is_found(format):
    content = whole(format, 0.5)
    tag = id3(30_000)
    short = tag[:6] + id3(12)[6:10] + tag[10:]
    assert np.array_equal(decoded(short + content).wave, decoded(content).wave)


def test_a_tag_and_nothing_behind_it_is_refused():
    for content in (id3(5000), id3(5000)[:3000], id3(100) + PICTURE[:50_000], ape(500), id3(5000) + bytes(5000)):
        with pytest.raises(errors.DecodeError, match="no supported audio container"):
            decoded(content)


def test_an_http_response_in_chunks_is_refused_and_says_why():
    chunked = HTTP.replace(b"Content-Length: 12345", b"Transfer-Encoding: chunked")
    with pytest.raises(errors.UnsupportedFormat, match="chunked body; save only the decoded body"):
        decoded(chunked + b"1000\r\n" + whole("wav"))


# -- a frame that was cut --


@pytest.mark.parametrize("format", ["mp3", "mp2", "aac", "ac3"])
@pytest.mark.parametrize("cut", [1, 5, 77, 300])
def test_a_stream_that_begins_within_a_frame_is_read_from_the_next_one(format, cut):
    content = whole(format, 2.0)
    first = frames.first_run(content, 0, 5000).start  # mp3: behind FFmpeg's own tag
    following = next(place for place in range(first + cut, first + 9000) if frames.run_at(content, place).frames >= 4)
    expected = decoded(content[following:])
    found = decoded(content[first + cut :])
    assert np.array_equal(found.wave, expected.wave)
    assert found.samples > 1.9 * 44_100


@pytest.mark.parametrize(("format", "enough_db"), [("mp2", LOSSY_DB), ("aac", 30), ("ac3", 40)])
def test_what_comes_after_a_cut_frame_sounds_as_in_the_whole_file(format, enough_db):
    """In AAC and AC-3 some of the noise is drawn by the decoder, by how many frames came before."""
    content = whole(format, 2.0)
    found, expected = decoded(content[500:], rate_hz=48_000).wave, decoded(content, rate_hz=48_000).wave
    settled = slice(-48_000, None)
    assert snr_db(expected[:, settled], found[:, settled]) > enough_db


def test_a_cut_frame_behind_zeros_or_a_header_is_found_too():
    content = whole("mp2", 1.0)
    expected = decoded(content[300:]).wave
    for before in (bytes(3), HTTP, id3(900)):
        assert np.array_equal(decoded(before + content[300:]).wave, expected)


def test_a_first_frame_that_nothing_follows_is_kept_where_its_stream_goes_on():
    content = whole("mp2", 1.0)
    damaged = content[:600] + bytes(3000) + content[3600:]
    assert containers.identify(io.BytesIO(damaged)).size == len(damaged)


@pytest.mark.parametrize("format", ["flac", "tta", "wv", "vorbis", "wav"])
def test_a_file_whose_header_was_cut_off_is_refused(format):
    content = whole(format, 2.0)
    for cut in (10, 9000, 20_000):
        with pytest.raises((errors.UnsupportedFormat, errors.DecodeError)):
            decoded(content[cut:])


# -- QuickTime without ftyp --


def quicktime(*first):
    """Return a QuickTime film of one second of PCM that begins with these boxes instead of `ftyp`."""
    content = mp4()
    ftyp_bytes = int.from_bytes(content[:4], "big")
    before = b"".join(first)
    place = box_place(content, b"stco") + 8
    moved = int.from_bytes(content[place : place + 4], "big") - ftyp_bytes + len(before)
    content = content[:place] + struct.pack(">I", moved) + content[place + 4 :]
    return before + content[ftyp_bytes:]


QUICKTIMES = {
    "wide": (box(b"wide"),),
    "free": (box(b"free", bytes(300)),),
    "skip": (box(b"skip", b"made by hand" * 9),),
    "mdat": (),
    "pnot": (box(b"pnot", bytes(12)),),
    "free, then wide": (box(b"free", bytes(9000)), box(b"wide")),
    "a free of 32 bytes": (box(b"free", bytes(24)),),  # its size, 00 00 00 20, looks like padding
    "a long free": (struct.pack(">I4sQ", 1, b"free", 16 + 5000) + bytes(5000),),
}


@pytest.mark.parametrize("name", QUICKTIMES)
def test_a_quicktime_may_begin_with_other_boxes_than_its_type(name):
    content = quicktime(*QUICKTIMES[name])
    assert b"ftyp" not in content[:64]
    expected = decoded(mp4())
    assert expected.samples == 22_050
    for before in (b"", bytes(1), bytes(1000), id3(5000), HTTP):
        found = decoded(before + content)
        assert np.array_equal(found.wave, expected.wave)
        assert not found.truncated


def test_a_type_of_32_bytes_behind_padding_is_a_type():
    content = mp4()
    ftyp_bytes = int.from_bytes(content[:4], "big")
    place = box_place(content, b"stco") + 8
    moved = int.from_bytes(content[place : place + 4], "big") + 32 - ftyp_bytes
    content = (
        box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
        + content[ftyp_bytes:place]
        + struct.pack(">I", moved)
        + content[place + 4 :]
    )
    assert content.startswith(b"\0\0\0 ftyp")
    expected = decoded(mp4()).wave
    for before in (b"", bytes(1), bytes(700), b"\r\n", id3(5000) + bytes(4)):
        assert np.array_equal(decoded(before + content).wave, expected)


@pytest.mark.parametrize("ones", range(1, 6))
@pytest.mark.parametrize("format", ["mp2", "aac"])
def test_bytes_of_ones_before_the_first_frame_cost_none(format, ones):
    content = whole(format, 0.5)
    assert np.array_equal(decoded(b"\xff" * ones + content).wave, decoded(content).wave)


def test_a_quicktime_that_begins_with_moov_is_read():
    content = mp4()
    ftyp_bytes, moov = int.from_bytes(content[:4], "big"), content.index(b"moov") - 4
    head = content[moov:]
    place = box_place(head, b"stco") + 8
    head = head[:place] + struct.pack(">I", len(head) + 8) + head[place + 4 :]
    assert np.array_equal(decoded(head + content[ftyp_bytes:moov]).wave, decoded(content).wave)


# -- no audio --


def stored_zip(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("song.mp3", content)
    return out.getvalue()


def test_a_file_that_holds_audio_is_none():
    mp3 = whole("mp2", 1.0)
    holders = {
        "zip": stored_zip(mp3),
        "tar": (b"song.mp3".ljust(257, b"\0") + b"ustar\x0000").ljust(512, b"\0") + mp3,
        "avi": riff(b"RIFF", b"AVI " + riff(b"LIST", b"movi" + riff(b"01wb", mp3))),
        "pdf": b"%PDF-1.7\nstream\n" + mp3,
        "mpeg": b"\0\0\1\xba" + bytes(10) + b"\0\0\1\xc0\x20\0" + mp3,
        "program": b"\x7fELF" + bytes(60) + mp3,
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF" + mp3,
        "far away": PICTURE[:20_000] + mp3,
    }
    for name, content in holders.items():
        assert containers.container_of(content) is None, name
        with pytest.raises(errors.TrackError):
            decoded(content)


def test_random_bytes_and_waves_and_texts_are_no_audio():
    drawn = np.random.default_rng(9)
    raw_wave = np.rint(noise(40_000, level=0.0005) * 32768).astype("<i2").T.tobytes()  # full of ff ff, ff fb and their like
    texts = [("héllo wörld " * 5000).encode(coding) for coding in ("utf-8", "utf-16", "utf-32", "latin-1")]
    for content in (raw_wave, *texts, bytes(70_000), b"\xff" * 70_000, b"\xff\xfb" * 40_000):
        assert containers.container_of(content) is None
        assert containers.container_of(id3(200) + content) is None
    for _ in range(300):
        content = drawn.bytes(20_000)
        assert containers.container_of(content) is None
        assert containers.container_of(id3(200) + content) is None


def test_words_that_are_names_of_boxes_are_no_quicktime():
    for text in (
        b"I'm free, and so are you" * 99,
        b"The wide world. " * 99,
        b"You skip it" * 99,
        box(b"free", bytes(99)) + b"text" * 99,
    ):
        assert containers.container_of(text) is None


def test_zeros_without_end_are_read_up_to_a_bound():
    content = Counted(bytes(beginning.MAX_PADDING_BYTES * 4) + whole("flac", 0.3))
    with pytest.raises(errors.UnsupportedFormat):
        containers.identify(content)
    assert content.taken < 2 * beginning.MAX_LAYERS * beginning.MAX_PADDING_BYTES


def test_tags_without_end_are_read_up_to_a_bound():
    content = Counted(id3(20) * 100_000 + whole("flac", 0.3))
    with pytest.raises(errors.DecodeError):
        containers.identify(content)
    assert content.taken < 1 << 20


def test_a_film_and_a_playlist_behind_a_tag_stay_refused():
    with pytest.raises(errors.UnsupportedFormat, match="no audio stream"):
        decoded(id3(5000) + video("mp4"))
    with pytest.raises(errors.DecodeError):
        decoded(id3(5000) + b"#EXTM3U\n#EXTINF:10,\nother.mp3\n")


# -- the view --


def test_a_view_is_a_file_of_its_own():
    from sep_batch.pipeline.audio.view import view

    content = bytes(range(100))
    part = view(io.BytesIO(content), 10, 50, {0: b"AB", 5: b"CDE", 39: b"Z"})
    expected = bytearray(content[10:50])
    expected[0:2], expected[5:8], expected[39:40] = b"AB", b"CDE", b"Z"
    assert part.read(-1) == bytes(expected)
    assert part.read(10) == b""
    assert part.seek(0, io.SEEK_END) == 40
    for begin in range(41):
        for size in (1, 2, 3, 7, 100):
            assert part.seek(begin) == begin
            assert part.read(size) == bytes(expected[begin : begin + size])
            assert part.tell() == min(begin + size, 40)


def test_a_wav_behind_a_tag_is_measured_against_its_own_length():
    content = wav(data=pcm(2.0))
    assert not decoded(id3(400_000) + content).truncated
    assert decoded(id3(400_000) + content[: len(content) * 3 // 5]).truncated
