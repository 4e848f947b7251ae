"""Damaged files: which fail, which are flagged, and that no honest file of any format is either."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
from catalogs import decoded
from hostile.craft import FORMATS, WHOLE_HZ, flac_block, id3, ogg_pages, patched, pcm, riff, wav, whole, xing
from signals import RATE_HZ, noise

from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio import containers, damage, extent
from sep_batch.pipeline.audio.damage import Counts, Packets, judge

RAW = ("mp3", "mp2", "aac", "ac3", "flac", "ogg", "opus", "vorbis", "wv", "tta")  # those of FORMATS whose bytes count
ART = np.random.default_rng(7).bytes(300_000)


def flags(content, **options):
    """Return what a file's row says of damage: truncated, skipped packets, share of its bytes."""
    found = decoded(content, **options)
    return found.truncated, found.skipped_packets, found.source_used_ratio


# -- the rules --


@pytest.mark.parametrize(
    ("counts", "is_damaged", "is_truncated"),
    [
        (Counts(100, 0, came_s=60.0, declared_s=60.0), False, False),
        (Counts(100, 0, came_s=59.5, declared_s=60.0), False, False),
        (Counts(100, 0, came_s=59.3, declared_s=60.0), False, True),
        (Counts(100, 0, came_s=30.0, declared_s=60.0), False, True),
        (Counts(100, 0, came_s=29.9, declared_s=60.0), True, True),
        (Counts(1, 0, came_s=0.03, declared_s=0.27), False, False),  # a codec's delay
        (Counts(1, 0, came_s=0.03, declared_s=0.30), True, True),
        (Counts(100, 0, came_s=1.0), False, False),
        (Counts(100, 0, came_s=1.0, is_cut=True), False, True),
        (Counts(100, 50, came_s=60.0, declared_s=60.0), False, False),
        (Counts(100, 51, came_s=60.0, declared_s=60.0), True, False),
        (Counts(100, 0, audio_bytes=1_000_000, read_bytes=1_000_000, used_bytes=900_000), False, False),
        (Counts(100, 0, audio_bytes=1_000_000, read_bytes=990_000, used_bytes=990_000, end_bytes=10_000), False, False),
        (Counts(100, 0, audio_bytes=1_000_000, read_bytes=989_000, used_bytes=989_000, end_bytes=11_000), False, True),
        (Counts(100, 0, audio_bytes=1_000_000, read_bytes=901_000, used_bytes=901_000), False, False),
        (Counts(100, 0, audio_bytes=1_000_000, read_bytes=899_000, used_bytes=899_000), False, True),
        (Counts(1, 0, audio_bytes=5000, read_bytes=1000, used_bytes=1000, end_bytes=4000), False, False),
    ],
)
def test_the_rules_hold_to_their_bounds(counts, is_damaged, is_truncated):
    verdict = judge(counts)
    assert (verdict.is_damaged, verdict.is_truncated) == (is_damaged, is_truncated)


def test_the_ratio_is_that_of_the_bytes_used_and_null_where_none_count():
    assert judge(Counts(9, 3, audio_bytes=1000, read_bytes=1000, used_bytes=700)).used_ratio == pytest.approx(0.7)
    assert judge(Counts(9, 0, audio_bytes=1000, read_bytes=1030, used_bytes=1030)).used_ratio == 1
    assert judge(Counts(9, 0)).used_ratio is None


def test_the_message_says_how_much_of_what_came_out():
    counts = Counts(1900, 1892, came_s=12.3, declared_s=60.0)
    assert judge(counts).text == "12.3 s of 60.0 s declared, 1,892 of 1,900 packets broken"
    assert judge(Counts(4, 3, came_s=0.1)).text == "0.1 s, 3 of 4 packets broken"
    assert judge(Counts(4, 3, came_s=0.1, audio_bytes=50, used_bytes=1)).text.endswith("broken, 2 % of the audio's bytes used")


def test_broken_packets_behind_the_audio_are_not_counted_and_those_before_are():
    packets = Packets()
    for place, is_good in ((0, True), (100, False), (200, True), (300, False), (400, False)):
        packets.add(place, 100, is_good=is_good)
    packets.leave_out(350)
    assert (packets.count, packets.broken, packets.read_bytes, packets.used_bytes) == (4, 2, 400, 200)


def test_a_length_is_a_guess_where_it_is_all_bytes_at_the_bitrate():
    assert damage.is_guess(10.0, "matroska", [128_000], 160_500, 400)
    assert not damage.is_guess(10.0, "matroska", [128_000], 130_000, 400)  # of a file that was cut
    assert not damage.is_guess(10.0, "matroska", [64_000], 160_500, 400)
    assert not damage.is_guess(10.0, "matroska", [128_000, None], 160_500, 400)  # FFmpeg does not know the film's
    assert not damage.is_guess(10.0, "mov", [128_000], 160_500, 400)  # always says how long it is


# -- honest files --


@pytest.mark.parametrize("seconds", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("format", FORMATS)
def test_an_honest_file_of_any_format_is_not_flagged(format, seconds):
    truncated, skipped, ratio = flags(whole(format, seconds), rate_hz=WHOLE_HZ)
    assert (truncated, skipped) == (False, 0)
    assert ratio == (1 if format in RAW else None)


def ape(art):
    items = struct.pack("<II", len(art), 2) + b"Cover Art (Front)\0" + art
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(items) + 32, 1, 1 << 31 | is_header << 29) + bytes(8) for is_header in (1, 0)
    )
    return head + items + foot


def lyrics(text):
    body = b"LYRICSBEGIN" + b"LYR%05d" % len(text) + text
    return body + b"%06d" % len(body) + b"LYRICS200"


def id3_at_the_end(art):
    tag = id3(art)
    return tag[:5] + b"\x10" + tag[6:] + b"3DI" + tag[3:5] + b"\x10" + tag[6:10]


ID3V1 = b"TAG" + b"a song".ljust(124, b"\0") + b"\0"
TAILS = {
    "ID3v1": ID3V1,
    "ID3v1 with more": b"TAG+".ljust(227, b"\0") + ID3V1,
    "APEv2 with a cover": ape(ART),
    "APEv2, ID3v1": ape(ART) + ID3V1,
    "Lyrics3, ID3v1": lyrics(b"la " * 1000) + ID3V1,
    "ID3v2": id3_at_the_end(ART),
    "zeros": bytes(1 << 20),
    "few zeros": bytes(1000),
    "ID3v1, zeros": ID3V1 + bytes(200_000),
    "APEv2, zeros": ape(ART) + bytes(200_000),
    "zeros, ID3v1": bytes(5000) + ID3V1,
}


@pytest.mark.parametrize("seconds", [0.05, 3.0])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("format", RAW)
def test_tags_and_zeros_behind_a_raw_stream_change_nothing(format, tail, seconds):
    alone = decoded(whole(format, seconds), rate_hz=WHOLE_HZ)
    tagged = decoded(whole(format, seconds) + TAILS[tail], rate_hz=WHOLE_HZ)
    assert (tagged.truncated, tagged.skipped_packets, tagged.source_used_ratio) == (False, 0, 1)
    assert np.array_equal(tagged.wave, alone.wave)


@pytest.mark.parametrize("tail", ["APEv2 with a cover", "zeros", "ID3v1"])
@pytest.mark.parametrize("format", ["mp3", "mp2", "aac", "ac3", "wma"])
def test_the_length_in_a_header_is_that_of_the_audio_whatever_lies_behind_it(format, tail):
    content = whole(format, 3.0)
    alone, tagged = (audio.probe(io.BytesIO(content + behind)).seconds for behind in (b"", TAILS[tail]))
    assert tagged == pytest.approx(alone, abs=0.1)


REST = {"a line end": b"\n", "a zero": b"\0", "an address": b"from www.example.com\r\n", "eight bytes": b"\x12\x34" * 4}


@pytest.mark.parametrize("rest", REST)
@pytest.mark.parametrize("format", ["mp3", "mp2", "aac", "ac3"])
def test_a_few_bytes_behind_the_last_frame_are_no_broken_packet(format, rest):
    alone, found = (decoded(whole(format, 1.0) + behind, rate_hz=WHOLE_HZ) for behind in (b"", REST[rest]))
    assert (found.truncated, found.skipped_packets, found.source_used_ratio) == (False, 0, 1)
    assert np.array_equal(found.wave, alone.wave)


def test_more_bytes_behind_the_last_frame_than_it_has_may_be_broken_frames_and_count():
    assert flags(whole("mp2", 1.0) + ART[:2000], rate_hz=WHOLE_HZ)[1] > 0


def test_a_tag_that_lies_of_its_size_is_no_tag():
    content = whole("flac", 0.5) + b"APETAGEX" + struct.pack("<IIII", 2000, 1 << 31, 1, 0) + bytes(8)
    assert decoded(content, rate_hz=WHOLE_HZ).wave.shape[1] == WHOLE_HZ // 2


def test_a_frame_that_ends_in_zeros_is_whole():
    silent = whole("mp3", 0.5)
    frame = silent[-384:]
    for padding in (b"", bytes(5000)):
        file = containers.identify(io.BytesIO(silent[:-384] + frame[:40] + bytes(344) + padding))
        assert extent.without_tags(file)[0].size == file.size - len(padding)


def with_picture(content):
    """Return a FLAC with a cover in its metadata."""
    picture = struct.pack(">II", 3, 10) + b"image/jpeg" + struct.pack(">IIIIII", 0, 1, 1, 24, 0, len(ART)) + ART
    return content[:42].replace(b"fLaC\x80", b"fLaC\0") + flac_block(6, picture) + content[42:]


def with_comment(content):
    """Return an Ogg Opus file whose comments have a cover: a page more, and another after it."""
    head, _, *rest = ogg_pages(content)
    body = b"OpusTags" + struct.pack("<I", 0) + struct.pack("<II", 1, len(ART)) + ART
    serial, pages = head[14:18], []
    pieces = [body[begin : begin + 65_025] for begin in range(0, len(body), 65_025)]
    for number, piece in enumerate(pieces):
        last = number + 1 == len(pieces)
        lacing = b"\xff" * (len(piece) // 255) + (bytes([len(piece) % 255]) if last else b"")
        granule = bytes(8) if last else b"\xff" * 8
        page = b"OggS\0" + bytes([number > 0]) + granule + serial + struct.pack("<I", 1 + number) + bytes(4)
        pages.append(checked(page + bytes([len(lacing)]) + lacing + piece))
    shift = len(pages) - 1
    rest = [checked(page[:18] + struct.pack("<I", shift + int.from_bytes(page[18:22], "little")) + page[22:]) for page in rest]
    return head + b"".join(pages) + b"".join(rest)


CRCS = [0] * 256
for byte in range(256):
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    CRCS[byte] = value


def checked(page):
    """Return an Ogg page with its checksum."""
    value, blank = 0, patched(page, 22, bytes(4))
    for byte in blank:
        value = (value << 8 & 0xFFFFFFFF) ^ CRCS[value >> 24 ^ byte]
    return patched(blank, 22, struct.pack("<I", value))


@pytest.mark.parametrize(
    ("format", "tagged"),
    [
        ("mp3", lambda content: id3(b"APIC" + b"\0\x12\x27\x60\0\0" + ART) + content),
        ("mp2", lambda content: id3(b"APIC" + b"\0\x12\x27\x60\0\0" + ART) + content),
        ("flac", with_picture),
        ("opus", with_comment),
    ],
)
def test_a_cover_before_the_audio_changes_nothing(format, tagged):
    content = tagged(whole(format, 0.5))
    assert len(content) > 300_000
    alone, found = decoded(whole(format, 0.5)), decoded(content)
    assert np.array_equal(found.wave, alone.wave)
    assert (found.truncated, found.skipped_packets, found.source_used_ratio) == (False, 0, 1)


def test_joined_songs_with_covers_between_them_are_not_flagged():
    joined = whole("mp2", 3.0) + id3(ART[:4500]) + whole("mp2", 3.0, hz=300)
    truncated, skipped, ratio = flags(joined)
    assert not truncated
    assert skipped <= 1
    assert 0.9 < ratio < 1


def test_a_wma_from_a_pipe_whose_length_ffmpeg_guesses_is_not_flagged():
    class Pipe(io.RawIOBase):
        content = b""

        def writable(self):
            return True

        def write(self, some):
            self.content += bytes(some)
            return len(some)

    pipe, wave = Pipe(), noise(5 * WHOLE_HZ)
    with av.open(pipe, "w", format="asf") as muxer:
        stream = muxer.add_stream("wmav2", rate=WHOLE_HZ, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = WHOLE_HZ, 0
        muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    with av.open(io.BytesIO(pipe.content), format="asf") as container:
        assert container.duration / av.time_base > 5.5
    assert flags(pipe.content) == (False, 0, None)


# -- damaged files --


def message(content, **options):
    with pytest.raises(errors.Damaged) as caught:
        decoded(content, **options)
    return str(caught.value)


def test_a_file_cut_to_less_than_half_fails_and_one_cut_to_more_is_flagged():
    content = whole("tta", 6.0)  # in frames of 1.04 s
    assert message(content[: int(0.45 * len(content))]).startswith("2.1 s of 6.0 s declared, 1 of 3 packets broken")
    truncated, skipped, ratio = flags(content[: int(0.9 * len(content))])
    assert (truncated, skipped) == (True, 1)
    assert 0.8 < ratio < 1


@pytest.mark.parametrize("cover", [b"", id3(ART)])
def test_an_mp3_declares_its_length_in_its_first_frame_wherever_that_lies(cover):
    content = whole("mp3", 3.0)
    assert message(cover + content[: int(0.4 * len(content))]).startswith("1.2 s of 3.0 s declared, 0 of ")
    assert flags(cover + content[: int(0.8 * len(content))])[0]


def test_a_vbri_frame_declares_a_length_too():
    vbri = patched(xing(0)[:36].ljust(417, b"\0"), 36, b"VBRI" + struct.pack(">HHHII", 1, 0, 0, 0, 1000))
    assert message(vbri + whole("mp3", 3.0)[404:]).startswith("3.0 s of 24.0 s declared")


def test_an_mp3_without_a_length_is_neither_failed_nor_flagged_where_it_ends_early():
    content = whole("mp2", 3.0)
    assert flags(content[: int(0.2 * len(content)) // 384 * 384]) == (False, 0, 1)


@pytest.mark.parametrize("seconds", [0.5, 3.0])
@pytest.mark.parametrize("rate_hz", [8000, 44_100])
def test_a_wav_declares_its_length_however_small_it_is(rate_hz, seconds):
    samples = round(seconds * rate_hz)
    form = riff(b"fmt ", struct.pack("<HHIIHH", 7, 1, rate_hz, rate_hz, 1, 8))
    content = wav(form, riff(b"LIST", b"INFO" + bytes(5000)), data=np.random.default_rng(1).bytes(samples))
    head = len(content) - samples
    assert not flags(content)[0]
    assert message(content[: head + samples // 4]).startswith(f"{seconds / 4:.1f} s of {seconds:.1f} s declared")


@pytest.mark.parametrize(("riff_size", "data_size"), [(0x7FFFFFFF, 0x7FFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (None, 0x7000_0000)])
def test_sizes_that_a_recorder_left_open_declare_nothing(riff_size, data_size):
    found = decoded(wav(size=riff_size, data_size=data_size))
    assert found.samples == len(pcm()) // 4


def test_a_wav_of_rf64_declares_its_length_elsewhere():
    data = pcm(3.0)
    ds64 = riff(b"ds64", struct.pack("<QQQI", len(data) + 72, len(data), len(data) // 4, 0))
    form = riff(b"fmt ", struct.pack("<HHIIHH", 1, 2, 44_100, 176_400, 4, 16))
    content = wav(ds64, form, data=data, magic=b"RF64", size=0xFFFFFFFF, data_size=0xFFFFFFFF)
    assert flags(content) == (False, 0, None)
    assert message(content[: len(content) // 3]).startswith("1.0 s of 3.0 s declared")


def test_a_wma_declares_its_length_though_ffmpeg_does_not_believe_it_where_it_is_cut():
    content = whole("wma", 3.0)
    assert message(content[: int(0.4 * len(content))]).startswith("1.2 s of 3.0 s declared")
    assert flags(content[: int(0.7 * len(content))])[0]


def spoilt(content, every):
    """Return ADTS in which the sound of every so many frames is noise."""
    out, place, drawn = bytearray(content), 0, np.random.default_rng(5)
    for number in range(10_000):
        if place >= len(content):
            return bytes(out)
        size = (content[place + 3] & 3) << 11 | content[place + 4] << 3 | content[place + 5] >> 5
        if number and number % every[1] < every[0]:
            out[place + 7 : place + size] = b"\xff" + drawn.bytes(size - 8)
        place += size
    raise AssertionError


def test_more_broken_packets_than_good_ones_fail_where_no_length_is_declared():
    content = whole("aac", 3.0)
    truncated, skipped, ratio = flags(spoilt(content, (1, 5)))
    assert not truncated
    assert 10 < skipped < 40
    assert ratio == pytest.approx(1 - skipped / 142, abs=0.02)
    text = message(spoilt(content, (9, 10)))
    broken, packets = (int(number) for number in text.partition(" s, ")[2].partition(" packets")[0].split(" of "))
    assert broken > packets / 2
    assert "declared" not in text


def test_bytes_that_no_packet_holds_flag_a_track_where_no_length_is_declared():
    content = whole("aac", 3.0)
    cut = content.index(b"\xff\xf1", len(content) // 2)
    hole = content[:cut] + bytes(len(content) // 3) + content[cut:]
    truncated, _, ratio = flags(hole)
    assert truncated
    assert ratio == pytest.approx(0.75, abs=0.02)


def test_what_is_missing_of_an_ogg_file_shows_in_the_ratio():
    pages = ogg_pages(whole("ogg", 3.0))
    found = decoded(b"".join(pages[:4] + pages[7:]))
    assert found.truncated
    lost = sum(map(len, pages[4:7])) / sum(map(len, pages[2:]))
    assert found.source_used_ratio == 1  # of the bytes that are there
    assert found.wave.shape[1] < (1 - lost / 2) * 3.0 * 44_100


# -- excerpts, and what becomes of flagged tracks --


def test_where_an_excerpt_is_complete_the_rest_of_the_file_does_not_matter():
    content = whole("flac", 3.0)
    assert flags(content[: int(0.9 * len(content))], duration_s=1.0) == (False, 0, None)
    assert flags(whole("wav", 3.0)[:400_000], duration_s=1.0) == (False, 0, None)
    assert flags(whole("ogg", 3.0)[:-30_000], duration_s=1.0) == (False, 0, None)


def test_an_excerpt_is_compared_with_what_is_declared_of_it():
    content = whole("flac", 3.0)
    cut = content[: int(0.4 * len(content))]  # 1.2 s
    assert flags(cut, duration_s=2.0)[0]
    assert message(cut, duration_s=2.9).startswith("1.2 s of 2.9 s declared")
    assert flags(cut, offset_s=1.0, duration_s=1.0)[0]
    assert not flags(content, offset_s=2.5, duration_s=10.0)[0]


def test_with_fail_a_flagged_file_fails_at_its_end_and_a_whole_one_does_not():
    content = whole("flac", 3.0)
    cut = content[: int(0.8 * len(content))]
    assert flags(cut)[0]
    assert message(cut, on_damage="fail").startswith("2.3 s of 3.0 s declared, 1 of ")
    assert message(spoilt(whole("aac", 3.0), (1, 5)), on_damage="fail").startswith("2.")
    assert flags(content, on_damage="fail") == (False, 0, 1)
    assert flags(cut, on_damage="fail", duration_s=1.0) == (False, 0, None)


def test_a_flac_of_noise_with_frames_among_it_fails_though_it_declares_no_length():
    honest = whole("flac", 3.0)
    content = bytearray(patched(honest, 22, bytes(4)))  # samples: not known
    content[21] &= 0xF0
    with av.open(io.BytesIO(honest), format="flac") as container:
        frames = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    for place, size in frames[4:]:
        content[place + 16 : place + size] = np.random.default_rng(place).bytes(size - 16)
    assert message(bytes(content)).partition(",")[0] in ("0.3 s", "0.4 s")
    with pytest.raises(errors.Damaged, match=r"(\d+) of \d+ packets broken, \d+ % of the audio's bytes used"):
        decoded(bytes(content))


def test_what_came_out_of_a_cut_file_is_the_beginning_of_the_whole_one():
    alone, cut = decoded(whole("mp3", 3.0)), decoded(whole("mp3", 3.0)[:40_000])
    samples = cut.wave.shape[1] - 1152  # the last frame is cut within
    assert samples > 2 * RATE_HZ
    assert np.array_equal(cut.wave[:, :samples], alone.wave[:, :samples])


def test_a_film_in_ogg_is_judged_by_its_length_alone():
    """The bytes of its pictures are no audio that was left out."""
    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as muxer:
        sound = muxer.add_stream("libopus", rate=WHOLE_HZ, layout="stereo")
        film = muxer.add_stream("vp8", rate=25)
        film.width = film.height = 64
        film.pix_fmt, film.bit_rate = "yuv420p", 4_000_000
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.random.default_rng(number).integers(0, 255, (96, 64), np.uint8), "yuv420p")
            picture.pts = number
            muxer.mux(film.encode(picture))
        frame = av.AudioFrame.from_ndarray(noise(2 * WHOLE_HZ, level=0.1).astype(np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = WHOLE_HZ, 0
        for part in av.AudioResampler(format="flt", layout="stereo", rate=WHOLE_HZ).resample(frame):
            muxer.mux(sound.encode(part))
        muxer.mux(sound.encode(None))
        muxer.mux(film.encode(None))
    assert len(out.getvalue()) > 200_000
    found = decoded(out.getvalue(), rate_hz=WHOLE_HZ)
    assert found.wave.shape[1] == 2 * WHOLE_HZ
    assert (found.truncated, found.skipped_packets, found.source_used_ratio) == (False, 0, None)
