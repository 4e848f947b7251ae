"""Of several audio streams, the one that FFmpeg would take; of those whose codec is read."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from av.stream import Disposition
from signals import RATE_HZ, frequency_hz, tone

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import containers, decoding

HZ = (300, 500, 700)
SAMPLES = RATE_HZ


def file_of(*streams, container="matroska", cover=False):
    """Write a file of audio streams, each of (codec, layout, disposition), with a tone of its own in each."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        if cover:
            picture = muxer.add_stream("mjpeg", rate=1)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuvj420p"
            picture.disposition = Disposition.attached_pic
        audio = []
        for codec, layout, disposition in streams:
            audio.append(stream := muxer.add_stream(codec, rate=RATE_HZ, layout=layout))
            stream.disposition = disposition
        if cover:
            muxer.mux(picture.encode(av.VideoFrame(64, 64, "yuvj420p")))
            muxer.mux(picture.encode(None))
        for hz, stream in zip(HZ, audio, strict=False):
            channels = stream.codec_context.layout.nb_channels
            wave = np.ascontiguousarray(tone(hz, SAMPLES, channels=channels, level=0.1).T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(wave, format="flt", layout=stream.codec_context.layout.name)
            frame.sample_rate, frame.pts = RATE_HZ, 0
            resampler = av.AudioResampler(format=stream.format.name, layout=frame.layout, rate=RATE_HZ)
            fifo = av.AudioFifo()
            for converted in (*resampler.resample(frame), *resampler.resample(None)):
                fifo.write(converted)
            while (block := fifo.read(stream.frame_size or 4096, partial=True)) is not None:
                muxer.mux(stream.encode(block))
            muxer.mux(stream.encode(None))
    return out.getvalue()


def heard(content, **options):
    """Return the number of the stream that is heard, as its tone tells, and what was found."""
    pieces, found = decoding.decode(io.BytesIO(content), rate_hz=RATE_HZ, **options)
    wave = np.concatenate(list(pieces), axis=1)
    return HZ.index(round(frequency_hz(wave[0]) / 100) * 100), found


NO, YES = Disposition(0), Disposition.default
MONO, STEREO, FIVE_ONE = ("flac", "mono"), ("flac", "stereo"), ("flac", "5.1")
ALL_ALIKE = (*STEREO, NO), (*STEREO, NO), (*STEREO, NO)


@pytest.mark.parametrize(
    ("streams", "number"),
    [
        ([(*STEREO, NO)], 0),
        (ALL_ALIKE, 0),
        ([(*STEREO, YES), (*STEREO, YES)], 0),
        ([(*MONO, NO), (*STEREO, YES)], 1),
        ([(*FIVE_ONE, NO), (*MONO, YES)], 1),
        ([(*STEREO, NO), (*FIVE_ONE, NO)], 1),
        ([(*STEREO, YES), (*FIVE_ONE, YES)], 1),
        ([(*MONO, NO), (*STEREO, NO), (*STEREO, NO)], 1),
        ([(*MONO, NO), (*STEREO, YES), (*FIVE_ONE, YES)], 2),
        ([("aac", "stereo", NO), (*STEREO, NO)], 0),
    ],
)
def test_the_default_stream_is_read_then_the_one_with_most_channels_then_the_first(streams, number):
    found_number, found = heard(content := file_of(*streams))
    assert (found_number, found.stream, found.streams) == (number, number, len(streams))
    header = decoding.probe(io.BytesIO(content))
    assert (header.channels, header.codec) == (found.channels, found.codec)


@pytest.mark.parametrize("container", ["mov", "ipod"])
def test_the_second_track_of_an_mp4_is_read_where_it_is_the_default(container):
    content = file_of(("aac", "mono", NO), ("aac", "stereo", YES), container=container)
    number, found = heard(content)
    assert (number, found.stream, found.streams, found.channels) == (1, 1, 2, 2)
    assert decoding.probe(io.BytesIO(content)).channels == 2


def test_a_stream_whose_codec_is_not_read_gives_way_to_the_next_one(monkeypatch):
    content = file_of(("aac", "5.1", YES), (*MONO, NO), (*STEREO, NO))
    assert heard(content)[0] == 0
    without = tuple(name for name in containers.DECODERS if name != "aac")
    monkeypatch.setattr("sep_batch.pipeline.audio.streams.DECODERS", without)
    number, found = heard(content)
    assert (number, found.stream, found.streams, found.codec) == (2, 2, 3, "flac")
    monkeypatch.setattr("sep_batch.pipeline.audio.streams.DECODERS", ())
    with pytest.raises(errors.UnsupportedFormat, match="unsupported codec \\(aac, flac\\)"):
        heard(content)


def test_a_cover_is_no_audio_stream():
    number, found = heard(file_of((*MONO, NO), (*STEREO, NO), cover=True))
    assert (number, found.stream, found.streams) == (1, 1, 2)


@pytest.mark.parametrize("number", range(3))
def test_a_stream_is_read_by_its_number_whichever_is_the_default(number):
    heard_number, found = heard(file_of((*STEREO, NO), (*STEREO, YES), (*STEREO, NO)), stream=number)
    assert (heard_number, found.stream, found.streams, found.skipped_packets) == (number, number, 3, 0)


def test_a_stream_of_a_number_that_the_file_does_not_have_is_refused():
    with pytest.raises(errors.UnsupportedFormat, match="no supported audio stream 3; it has 3, counted from 0"):
        heard(file_of(*ALL_ALIKE), stream=3)
