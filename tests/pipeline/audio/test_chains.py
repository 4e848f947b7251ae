"""Chained Ogg files: each link as it decodes alone, joined; and how long Ogg files say they are."""

from __future__ import annotations

import io
import itertools
import struct
import time

import av
import numpy as np
import pytest
import soundfile
from catalogs import decoded
from hostile.craft import ogg_page, ogg_pages, whole
from signals import noise, snr_db, tone

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import decoding, ogg

RESAMPLED_DB = 60
THIRTY_HOURS_S = 30 * 3600
SERIALS = itertools.count(1)


def music(seconds, rate_hz, channels, hz=440):
    count = round(seconds * rate_hz)
    return tone(hz, count, channels=channels, rate_hz=rate_hz, level=0.3) + noise(
        count, channels=channels, level=0.02, seed=int(hz)
    )


def with_serial(content, serial):
    """Return an Ogg file whose stream has another number."""
    return b"".join(ogg_page(page, 14, struct.pack("<I", serial)) for page in ogg_pages(content))


def vorbis(seconds=0.5, rate_hz=48_000, channels=2, hz=440, quality=0.5):
    """Return Ogg Vorbis as libvorbis writes it, its stream under a random number."""
    out = io.BytesIO()
    wave = music(seconds, rate_hz, channels, hz)
    with soundfile.SoundFile(out, "w", rate_hz, channels, format="OGG", subtype="VORBIS", compression_level=1 - quality) as file:
        for begin in range(0, wave.shape[1], 4096):
            file.write(wave[:, begin : begin + 4096].T)
    return out.getvalue()


def by_ffmpeg(encoder, samples, seconds=0.5, rate_hz=48_000, channels=2, hz=440):
    """Return Ogg as FFmpeg writes it, its stream under a number of its own."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    out = io.BytesIO()
    with av.open(out, "w", format="ogg", options={"fflags": "+bitexact"}) as muxer:
        stream = muxer.add_stream(encoder, rate=rate_hz, layout=layout, options={"flags": "+bitexact"})
        stream.format = samples
        frame = av.AudioFrame.from_ndarray(music(seconds, rate_hz, channels, hz), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        for part in av.AudioResampler(format=samples, layout=layout, rate=rate_hz).resample(frame):
            muxer.mux(stream.encode(part))
        muxer.mux(stream.encode(None))
    return with_serial(out.getvalue(), next(SERIALS))


def flac(**form):
    return by_ffmpeg("flac", "s16", **form)


def opus(**form):
    return by_ffmpeg("libopus", "flt", **form)


def page(packets, *, flags=0, granule=0, serial=1, number=0):
    """Return one Ogg page of packets of less than 255 bytes."""
    head = b"OggS\0" + struct.pack("<BqIIIB", flags, granule, serial, number, 0, len(packets))
    return ogg_page(head + bytes(map(len, packets)) + b"".join(packets), 0, b"OggS")


def speex(frames=25, serial=77, seed=0, start=0):
    """Return Speex of 8 kHz, mono, whose packets are drawn: every choice of bits is a sound."""
    head = b"Speex   " + b"1.2.0".ljust(20, b"\0") + struct.pack("<13i", 1, 80, 8_000, 0, 4, 1, -1, 160, 0, 1, 0, 0, 0)
    drawn = np.random.default_rng(seed)
    packets = [bytes([0b00011_000 | drawn.integers(8)]) + drawn.bytes(19) for _ in range(frames)]  # narrow band, 8 kbit/s
    return (
        page([head], flags=2, serial=serial)
        + page([struct.pack("<II", 0, 0)], serial=serial, number=1)
        + page(packets, flags=4, granule=start + 160 * frames, serial=serial, number=2)
    )


def alone(content, rate_hz):
    """Decode a file of one link by PyAV, whose own rate this is: (2, samples)."""
    with av.open(io.BytesIO(content), format="ogg") as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        channels = container.streams.audio[0].codec_context.layout.nb_channels
    wave = np.concatenate([np.reshape(frame, (-1, channels)).T if len(frame) != channels else frame for frame in frames], axis=1)
    full = {"i": 1 << (8 * wave.dtype.itemsize - 1), "f": 1}[wave.dtype.kind]
    wave = wave.astype(np.float32) / np.float32(full)
    assert wave.shape[1] > 0
    return np.repeat(wave, 2, axis=0) if channels == 1 else wave


SAME_RATE = {
    "vorbis of two qualities": lambda: [vorbis(quality=0.0), vorbis(quality=0.9, hz=300)],
    "vorbis, stereo and mono": lambda: [vorbis(), vorbis(channels=1, hz=700)],
    "vorbis, mono and stereo": lambda: [vorbis(channels=1), vorbis(seconds=1.3)],
    "opus, stereo and mono": lambda: [opus(), opus(channels=1, hz=250), opus(seconds=0.013)],
    "opus of three lengths": lambda: [opus(seconds=2.5), opus(seconds=0.1), opus(seconds=1.0, hz=600)],
    "flac, stereo and mono": lambda: [flac(), flac(channels=1, hz=500), flac(hz=800)],
    "opus, vorbis and flac": lambda: [opus(), vorbis(hz=330), flac(hz=550)],
    "flac, opus, vorbis of one channel": lambda: [flac(), opus(hz=330), vorbis(channels=1, hz=550)],
    "one link of each": lambda: [vorbis()],
}


@pytest.mark.parametrize("name", SAME_RATE)
def test_every_link_of_a_chain_comes_as_it_is_alone(name):
    links = SAME_RATE[name]()
    found = decoded(b"".join(links), rate_hz=48_000)
    assert np.array_equal(found.wave, np.concatenate([alone(link, 48_000) for link in links], axis=1))
    assert (found.truncated, found.skipped_packets, found.rate_hz) == (False, 0, 48_000)


OTHER_RATES = {
    "vorbis": lambda: [vorbis(rate_hz=22_050), vorbis(rate_hz=44_100, channels=1)],
    "flac": lambda: [flac(rate_hz=44_100), flac(rate_hz=96_000, hz=900), flac(rate_hz=8_000, channels=1)],
    "flac and opus": lambda: [flac(rate_hz=44_100), opus(hz=700)],
    "speex and vorbis": lambda: [speex(), vorbis(rate_hz=16_000), speex(frames=50, seed=2)],
    "speex and opus and flac": lambda: [speex(frames=10), opus(channels=1), flac(rate_hz=32_000)],
}


@pytest.mark.parametrize("name", OTHER_RATES)
def test_links_of_other_rates_are_resampled_each_by_itself(name):
    links = OTHER_RATES[name]()
    rate_hz = decoding.probe(io.BytesIO(links[0])).rate_hz
    found = decoded(b"".join(links), rate_hz=rate_hz)
    parts = [decoded(link, rate_hz=rate_hz).wave for link in links]
    assert np.array_equal(found.wave, np.concatenate(parts, axis=1))
    assert np.array_equal(parts[0], alone(links[0], rate_hz))
    assert (found.rate_hz, found.truncated, found.skipped_packets) == (rate_hz, False, 0)


def test_a_link_at_half_the_rate_keeps_its_tone():
    first, second = tone(440, 44_100, level=0.3), tone(440, 22_050, rate_hz=22_050, level=0.3)
    content = b"".join(
        with_serial(written_flac(wave, rate_hz), serial) for wave, rate_hz, serial in ((first, 44_100, 1), (second, 22_050, 2))
    )
    wave = decoded(content).wave
    assert wave.shape[1] == 2 * 44_100
    inner = slice(44_100 + 2000, -2000)
    assert snr_db(tone(440, 44_100, level=0.3)[:, 2000:-2000], wave[:, inner]) > RESAMPLED_DB


def written_flac(wave, rate_hz):
    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as muxer:
        stream = muxer.add_stream("flac", rate=rate_hz, layout="stereo")
        stream.format = "s16"
        laid_out = np.rint(wave * 32768).astype(np.int16).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(laid_out), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = rate_hz, 0
        muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize("make", [opus, flac, vorbis])
def test_links_under_one_number_are_links_all_the_same(make):
    links = [with_serial(make(seconds=seconds, hz=hz), 9) for seconds, hz in ((0.4, 300), (0.7, 500), (0.2, 800))]
    found = decoded(b"".join(links), rate_hz=48_000)
    assert np.array_equal(found.wave, np.concatenate([alone(link, 48_000) for link in links], axis=1))
    assert not found.truncated
    assert decoding.probe(io.BytesIO(b"".join(links))).seconds == pytest.approx(1.3, abs=0.01)


@pytest.mark.parametrize("read", ["flac", "opus"])
def test_two_streams_at_once_are_no_chain(read):
    """Of a film too most bytes may be another stream's."""
    out = io.BytesIO()
    channels = {"flac": 2, "libopus": 1} if read == "flac" else {"flac": 1, "libopus": 2}
    waves = {name: music(1, 48_000, number, 300) for name, number in channels.items()}
    with av.open(out, "w", format="ogg") as muxer:
        streams = {
            name: muxer.add_stream(name, rate=48_000, layout=("mono", "stereo")[len(wave) - 1]) for name, wave in waves.items()
        }
        streams["flac"].format = "s16"
        for begin in range(0, 48_000, 4800):
            for name, stream in streams.items():
                wave = np.ascontiguousarray(waves[name][:, begin : begin + 4800])
                frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout=stream.codec_context.layout.name)
                frame.sample_rate, frame.pts = 48_000, begin
                for part in av.AudioResampler(format=stream.format.name, layout=frame.layout.name, rate=48_000).resample(frame):
                    muxer.mux(stream.encode(part))
        for stream in streams.values():
            muxer.mux(stream.encode(None))
    found = decoded(out.getvalue(), rate_hz=48_000)
    assert (found.codec, found.truncated, found.source_used_ratio) == (read, False, None)
    assert found.samples == pytest.approx(48_000, abs=400)
    if read == "flac":
        assert snr_db(waves["flac"], found.wave) > RESAMPLED_DB
    assert len(list(ogg.links(io.BytesIO(out.getvalue())))) == 1


def test_a_stream_beside_the_one_that_is_read_is_no_loss():
    """Pages of two files by turns, the first pages of both before all others."""
    one, other = flac(seconds=2.0), flac(seconds=2.0, hz=700)
    (first, *rest), (other_first, *other_rest) = ogg_pages(one), ogg_pages(other)
    by_turns = itertools.chain.from_iterable(itertools.zip_longest(rest, other_rest, fillvalue=b""))
    found = decoded(first + other_first + b"".join(by_turns), rate_hz=48_000)
    assert np.array_equal(found.wave, alone(one, 48_000))
    assert (found.streams, found.truncated, found.skipped_packets, found.source_used_ratio) == (2, False, 0, None)


def test_an_excerpt_of_a_chain_is_exactly_that_of_the_whole():
    content = vorbis(channels=1) + opus(seconds=1.0) + flac(rate_hz=44_100)
    whole_wave = decoded(content, rate_hz=48_000).wave
    for offset_s, duration_s in ((0.1, 0.2), (0.4, 0.5), (0.9, 1.0), (1.6, 0.1)):
        begin, stop = round(offset_s * 48_000), round((offset_s + duration_s) * 48_000)
        part = decoded(content, rate_hz=48_000, offset_s=offset_s, duration_s=duration_s)
        assert np.array_equal(part.wave, whole_wave[:, begin:stop])
        assert not part.truncated


# -- how long --


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("vorbis of two qualities", 1.0),
        ("vorbis, mono and stereo", 1.8),
        ("opus of three lengths", 3.6),
        ("opus, vorbis and flac", 1.5),
        ("one link of each", 0.5),
    ],
)
def test_the_length_is_that_of_all_links(name, seconds):
    header = decoding.probe(io.BytesIO(b"".join(SAME_RATE[name]())))
    assert header.seconds == pytest.approx(seconds, abs=0.01)


def test_the_length_of_links_of_other_rates_is_counted_in_seconds():
    content = speex(frames=50) + vorbis(rate_hz=16_000) + flac(rate_hz=96_000, seconds=0.25)
    header = decoding.probe(io.BytesIO(content))
    assert header.seconds == pytest.approx(1.75, abs=0.01)
    assert (header.rate_hz, header.channels, header.codec) == (8_000, 1, "speex")


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size=-1):
        content = super().read(size)
        self.taken += len(content)
        return content


def long_flac(seconds):
    """Return FLAC in Ogg, 170 kB a second, its stream under a random number."""
    return written_flac(noise(round(seconds * 44_100), level=0.1), 44_100)


def test_the_length_of_one_long_link_takes_its_two_ends_only():
    content = Counted(long_flac(12.0))
    assert len(content.getvalue()) > 1_500_000
    assert decoding.probe(content).seconds == pytest.approx(12.0, abs=0.01)
    assert content.taken < 700_000


def test_the_length_of_a_long_chain_is_found_by_all_its_pages():
    content = long_flac(8.0) + vorbis(seconds=2.0) + long_flac(6.0)
    assert decoding.probe(io.BytesIO(content)).seconds == pytest.approx(16.0, abs=0.01)


def test_the_length_of_a_long_chain_under_one_number_is_found_too():
    first = long_flac(6.0)
    assert decoding.probe(io.BytesIO(first + first)).seconds == pytest.approx(12.0, abs=0.01)


# -- time stamps that begin late --


def moved(content, seconds, rate_hz=48_000):
    """Return an Ogg file as a recorder has it that joined a broadcast after so many seconds."""
    return b"".join(
        ogg_page(page, 6, struct.pack("<q", granule + round(seconds * rate_hz))) if granule > 0 else page
        for page in ogg_pages(content)
        for granule in struct.unpack("<q", page[6:14])
    )


@pytest.mark.parametrize("after_s", [600, THIRTY_HOURS_S])
@pytest.mark.parametrize("make", [opus, vorbis, flac])
def test_time_stamps_that_begin_late_are_an_offset_and_no_length(make, after_s):
    content = make(seconds=2.5)
    late = moved(content, after_s)
    found = decoded(late, rate_hz=48_000)
    assert np.array_equal(found.wave, alone(content, 48_000))
    assert not found.truncated
    assert decoding.probe(io.BytesIO(late)).seconds == pytest.approx(2.5, abs=0.5)


@pytest.mark.parametrize("make", [opus, vorbis, flac])
def test_a_recorder_may_join_within_a_page(make):
    content = make(seconds=2.5)
    first, second, third, *rest = ogg_pages(moved(content, THIRTY_HOURS_S))
    if make is flac:
        third, rest = rest[0], rest[1:]  # the comments fill a page of their own
    found = decoded(first + second + third[-3000:] + b"".join(rest), rate_hz=48_000)
    assert found.truncated
    assert 0 < found.samples < 2.5 * 48_000


def test_one_late_page_has_the_length_of_its_packets():
    late = speex(frames=50, start=8_000 * THIRTY_HOURS_S)
    found = decoded(late, rate_hz=8_000)
    assert (found.samples, found.truncated) == (8_000, False)
    assert decoding.probe(io.BytesIO(late)).seconds == pytest.approx(1.0, abs=0.001)


def test_links_that_begin_late_in_a_chain_are_whole():
    links = [opus(seconds=1.5), vorbis(seconds=1.5, channels=1)]
    found = decoded(b"".join(moved(link, THIRTY_HOURS_S) for link in links), rate_hz=48_000)
    assert np.array_equal(found.wave, np.concatenate([alone(link, 48_000) for link in links], axis=1))
    assert not found.truncated


# -- damage --


def without_pages(content, *numbers):
    return b"".join(page for number, page in enumerate(ogg_pages(content)) if number not in numbers)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_link_that_ends_early_is_told_wherever_it_stands(place):
    links = [opus(seconds=2.0), vorbis(seconds=2.0), flac(seconds=2.0)]
    last = len(ogg_pages(links[place])) - 1
    links[place] = without_pages(links[place], last, last - 1)
    found = decoded(b"".join(links), rate_hz=48_000)
    assert found.truncated
    assert found.samples < 5.9 * 48_000
    assert not decoded(b"".join(links), rate_hz=48_000, duration_s=1.0).truncated


def test_a_page_that_is_lost_within_a_link_is_told():
    links = [flac(seconds=3.0), opus()]
    links[0] = without_pages(links[0], 4, 5)
    found = decoded(b"".join(links), rate_hz=48_000)
    assert found.truncated


def test_a_link_that_cannot_be_read_is_left_out_and_told():
    first, broken, last = opus(), vorbis(), flac(hz=700)
    broken = without_pages(broken, 1)  # the headers
    found = decoded(first + broken + last, rate_hz=48_000)
    assert np.array_equal(found.wave, np.concatenate([alone(first, 48_000), alone(last, 48_000)], axis=1))
    assert found.truncated
    assert found.skipped_packets > 0


def test_a_recording_that_begins_before_its_first_headers_is_read_from_there():
    lost = b"".join(ogg_pages(opus(seconds=2.0))[2:])
    kept = vorbis()
    found = decoded(lost + kept, rate_hz=48_000)
    assert np.array_equal(found.wave, alone(kept, 48_000))
    assert found.truncated
    assert found.codec == "vorbis"


def test_a_chain_of_which_nothing_is_read_fails_with_what_is_wrong_with_its_first_link():
    broken = without_pages(vorbis(), 1) + without_pages(vorbis(), 1)
    with pytest.raises(errors.TrackError) as error:
        decoded(broken)
    assert error.value.error_class == "decode_error"


def test_bytes_between_links_harm_neither():
    links = [opus(), flac()]
    found = decoded(links[0] + bytes(100) + b"OggS\0\2junk" + links[1], rate_hz=48_000)
    assert np.array_equal(found.wave, np.concatenate([alone(link, 48_000) for link in links], axis=1))


def test_a_thousand_links_are_read_in_bounded_time():
    content = b"".join(speex(frames=2, serial=number, seed=number) for number in range(1000))
    begun = time.thread_time()
    found = decoded(content, rate_hz=8_000)
    assert (found.samples, found.truncated) == (320_000, False)
    assert decoding.probe(io.BytesIO(content)).seconds == pytest.approx(40.0)
    assert time.thread_time() - begun < 20


def test_links_without_end_run_into_the_limit_on_time(monkeypatch):
    from sep_batch.pipeline.audio import decode_guard

    monkeypatch.setattr(decode_guard, "PATIENCE_S", 0.5)
    link = b"".join(ogg_pages(speex(frames=1))[:2])  # no sound in it
    with pytest.raises(errors.DecodeError, match="decoding took"):
        decoded(link * 20_000)


def test_what_storage_raises_midway_is_raised_and_no_end_of_a_link():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if 200_000 < self.tell() < 900_000:
                raise errors.FetchTimeout("the storage went away")
            return super().read(size)

    pieces, _ = decoding.decode(Broken(long_flac(4.0) + long_flac(4.0)), rate_hz=44_100)
    with pytest.raises(errors.FetchTimeout, match="went away"):
        list(pieces)


def test_what_storage_raises_of_the_first_link_is_raised_by_probe():
    class Broken(io.BytesIO):
        reads = 0

        def read(self, size=-1):
            self.reads += 1
            if self.reads > 3:  # what a file is was read
                raise errors.FetchTimeout("the storage went away")
            return super().read(size)

    with pytest.raises(errors.FetchTimeout, match="went away"):
        decoding.probe(Broken(vorbis()))


def test_pages_are_known_by_their_checksums():
    content = whole("opus")
    pages = ogg_pages(content)
    assert [bool(ogg.page_at(page, 0)) for page in pages] == [True] * len(pages)
    spoilt = bytearray(pages[2])
    spoilt[100] ^= 1
    assert ogg.page_at(bytes(spoilt), 0) is None
    assert ogg.page_at(pages[2][:-1], 0) is None


def repaged(page, before):
    """Return a page with packets put before its own."""
    table = b"".join(bytes([255] * (len(packet) // 255) + [len(packet) % 255]) for packet in before)
    count = page[26]
    longer = page[:26] + bytes([count + len(table)]) + table + page[27 : 27 + count] + b"".join(before) + page[27 + count :]
    return ogg_page(longer, 0, b"OggS")


def packets_of(page):
    """Return the packets that begin and end on a page."""
    lengths, start = page[27 : 27 + page[26]], 27 + page[26]
    packets, packet = [], b""
    for length in lengths:
        packet, start = packet + page[start : start + length], start + length
        if length < 255:
            packets, packet = [*packets, packet], b""
    return packets


def test_vorbis_headers_that_were_written_twice_are_read_once():
    """As in a few songs of a real catalog: the first page with samples begins with all three headers again."""
    content = vorbis(seconds=1.0)
    first, second, third, *rest = ogg_pages(content)
    headers = packets_of(first) + packets_of(second)
    assert [packet[:7] for packet in headers] == [b"\x01vorbis", b"\x03vorbis", b"\x05vorbis"]
    twice = b"".join([first, second, repaged(third, headers), *rest])
    assert len(twice) > len(content)
    found, expected = decoded(twice), decoded(content)
    assert np.array_equal(found.wave, expected.wave)
    assert (found.truncated, found.skipped_packets, found.source_used_ratio) == (False, 0, 1)
    assert decoding.probe(io.BytesIO(twice)) == decoding.probe(io.BytesIO(content))
