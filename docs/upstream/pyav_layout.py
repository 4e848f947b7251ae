"""PyAV 18.1.0: a custom channel order is freed twice. For a report to https://github.com/PyAV-Org/PyAV/issues.

Title: AudioLayout frees a channel map that a codec context or frame still owns (double free with AV_CHANNEL_ORDER_CUSTOM)

`get_audio_layout` (av/audio/layout.py) copies an AVChannelLayout by value, and since #2284 `AudioLayout.__dealloc__` calls
av_channel_layout_uninit on the copy. Where the order is AV_CHANNEL_ORDER_CUSTOM, `u.map` points to memory that belongs to the
AVCodecContext (`AudioCodecContext.layout`) or to the AVFrame (`AudioFrame._init_user_attributes`, so for every decoded frame).
Both free it: "free(): double free detected", "corrupted size vs. prev_size", or a heap that is broken later. Files with such an
order are ordinary: QuickTime and CAF with the labels C L R Ls Rs LFE, as film sound has them.

The same copy by value is in `AudioLayout.__cinit__` (from another AudioLayout), in the setter `AudioCodecContext.layout` (which
also leaks the map it replaces), and in `AudioFrame._init`. Each of them needs av_channel_layout_copy.

This script makes such a file, opens and decodes it a hundred times, and is ended by glibc (exit code 134) with PyAV 18.1.0 on
Linux. With av_channel_layout_copy in the four places it prints how many samples it read.
"""

from __future__ import annotations

import io
import struct

import av

LABELS = (3, 1, 2, 5, 6, 4)  # kAudioChannelLabel: C L R Ls Rs LFE
SAMPLES = 2205


def caf() -> bytes:
    """Return a CAF of silence, 16 bits, six channels, in an order that no bit mask holds."""
    channels = len(LABELS)
    form = struct.pack(">d4sIIIII", 44_100, b"lpcm", 2, 2 * channels, 1, channels, 16)
    labels = struct.pack(">III", 0, 0, channels) + b"".join(struct.pack(">II3f", label, 0, 0, 0, 0) for label in LABELS)
    chunks = ((b"desc", form), (b"chan", labels), (b"data", bytes(4 + 2 * channels * SAMPLES)))
    return b"caff\0\1\0\0" + b"".join(name + struct.pack(">q", len(body)) + body for name, body in chunks)


def main() -> None:
    """Read the file as any program would."""
    content, samples = caf(), 0
    for _ in range(100):
        with av.open(io.BytesIO(content)) as container:
            stream = container.streams.audio[0]
            print(stream.codec_context.layout.name)  # this alone is enough
            samples += sum(frame.samples for frame in container.decode(stream))
    print(f"{samples} samples, no crash")


if __name__ == "__main__":
    main()
