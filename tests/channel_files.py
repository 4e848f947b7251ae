"""Files of more than two channels, written by hand or by FFmpeg, and the gain that each channel has in what is decoded."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import av
import numpy as np
from signals import RATE_HZ

MASK = {  # bits of WAVE's dwChannelMask
    name: 1 << bit
    for bit, name in enumerate(
        ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR")
    )
}
LABEL = {  # of CAF and QuickTime
    name: label for label, name in enumerate(("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"), 1)
} | {"UNK": 33, "WL": 35, "WR": 36, "LFE2": 37, "DL": 38, "DR": 39}  # 33 is a rear surround, which FFmpeg does not know
_PCM_FLOAT = bytes.fromhex("0300000000001000800000aa00389b71")  # the GUID of float samples
_TONE_HZ, _STEP_HZ = 400, 150


def tones(channels: int, *, rate_hz: int = RATE_HZ, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    """Return a tone of its own in each channel, (channels, samples) float32."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([level * np.sin(2 * np.pi * (_TONE_HZ + _STEP_HZ * n) * time_s) for n in range(channels)]).astype(np.float32)


def gains(wave: np.ndarray, channels: int, *, rate_hz: int = RATE_HZ, level: float = 0.1) -> np.ndarray:
    """Return how loud each channel's tone is on each side, (2, channels): its amplitude over that of `tones`."""
    inside = wave[:, rate_hz // 10 : -rate_hz // 10].astype(np.float64)
    time_s = np.arange(inside.shape[1]) / rate_hz
    base = [f(2 * np.pi * (_TONE_HZ + _STEP_HZ * n) * time_s) for n in range(channels) for f in (np.sin, np.cos)]
    found, *_ = np.linalg.lstsq(np.stack(base, axis=1), inside.T, rcond=None)
    return np.hypot(found[::2], found[1::2]).T / level


def wav(wave: np.ndarray, names: Sequence[str] | None, *, rate_hz: int = RATE_HZ) -> bytes:
    """Return a float WAV with a channel mask; without one where no names are given."""
    frames, channels = np.ascontiguousarray(wave.T, "<f4").tobytes(), len(wave)
    mask = sum(MASK[name] for name in names or ())
    form = struct.pack("<HHIIHH", 0xFFFE, channels, rate_hz, rate_hz * 4 * channels, 4 * channels, 32)
    form += struct.pack("<HHI", 22, 32, mask) + _PCM_FLOAT
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(frames)) + frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def caf(wave: np.ndarray, names: Sequence[str], *, rate_hz: int = RATE_HZ) -> bytes:
    """Return a float CAF whose `chan` chunk has a label for each channel, in any order."""
    frames, channels = np.ascontiguousarray(wave.T, ">f4").tobytes(), len(wave)
    form = struct.pack(">d4sIIIII", rate_hz, b"lpcm", 1, 4 * channels, 1, channels, 32)
    labels = struct.pack(">III", 0, 0, channels) + b"".join(struct.pack(">II3f", LABEL[name], 0, 0, 0, 0) for name in names)
    chunks = ((b"desc", form), (b"chan", labels), (b"data", bytes(4) + frames))
    return b"caff\0\1\0\0" + b"".join(name + struct.pack(">q", len(body)) + body for name, body in chunks)


def mov(wave: np.ndarray, tag: int, *, rate_hz: int = RATE_HZ) -> bytes:
    """Return a QuickTime file of 16-bit PCM whose `chan` atom has this layout tag, of six channels."""
    content = bytearray(by_ffmpeg(wave, "mov", "pcm_s16le", "5.1", rate_hz=rate_hz))
    place = content.index(b"chan") + 8  # version and flags, then the tag
    content[place : place + 4] = struct.pack(">I", tag)
    return bytes(content)


def by_ffmpeg(
    wave: np.ndarray,
    container: str,
    encoder: str,
    layout: str,
    *,
    rate_hz: int = RATE_HZ,
    bitrate: int | None = None,
    samples: str | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return a file as FFmpeg's encoder writes it, in a layout that FFmpeg has a name for."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(encoder, rate=rate_hz, layout=layout, options=options)
        if samples:
            stream.format = samples
        if bitrate:
            stream.bit_rate = bitrate
        laid_out = np.ascontiguousarray(wave.T.reshape(1, -1), np.float32)
        frame = av.AudioFrame.from_ndarray(laid_out, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate_hz)
        fifo = av.AudioFifo()
        for converted in (*resampler.resample(frame), *resampler.resample(None)):
            fifo.write(converted)
        while (block := fifo.read(stream.frame_size or 4096, partial=True)) is not None:
            muxer.mux(stream.encode(block))
        muxer.mux(stream.encode(None))
    return out.getvalue()
