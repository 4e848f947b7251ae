"""Damage: the rules by which a decoded track fails, is flagged or is whole.

A track fails as `damaged` where less than half of the declared duration was decoded, and more than 0.25 s are missing, or where
more packets were broken than good. With less damage it is ok and flagged: `skipped_packets`, and `truncated` where

- more than 0.25 s and more than 1 % of the declared duration were not decoded, or
- the file's own end mark is missing (the last page of Ogg, the sizes of a WAV), or
- reading ended more than 4 KiB and more than 1 % of the audio's bytes before their end, or
- more than 4 KiB and more than a tenth of these bytes lay in no packet.

Bytes count in raw streams only (`extent.RAW`). Tags and zeros before and after the audio are not counted; a tenth leaves room for
tags with covers between the frames, as joined files have them. A duration that FFmpeg guessed from a bitrate is not a declared
one. An excerpt is compared with the declared duration up to its end; where the excerpt is complete, only broken packets count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Self

from sep_batch.pipeline.audio.ogg import PAGE_HEADER_BYTES

OnDamage = Literal["keep", "fail"]  # flagged tracks: kept, or failed as `damaged`

SLACK_S = 0.25  # a codec's delay and padding
SLACK_SHARE = 0.01
SLACK_BYTES = 4096  # room for a Xing frame or a seek table
BETWEEN_SHARE = 0.1  # share of the bytes that may lie between packets
DAMAGED_SHARE = 0.5
_TAIL = 1000  # broken packets at the end whose positions are kept
_MAY_GUESS = ("matroska", "wav")  # FFmpeg's demuxers of containers that need not declare their duration


@dataclass
class Packets:
    """Counts the packets that a demuxer returns.

    Attributes:
        is_ogg: Packets lie in pages, whose headers count as read with them.
        count: Number of packets, broken ones included.
        broken: Packets that could not be decoded.
        read_bytes: Bytes of all packets.
        used_bytes: Bytes of the packets that were decoded.
        first: Offset of the first packet.
        end: End of the last packet; in Ogg, the end of its page, as far as its packets show.
        base: Offset of the link of a chained file that is being read; positions of packets are relative to it.
    """

    is_ogg: bool = False
    count: int = 0
    broken: int = 0
    read_bytes: int = 0
    used_bytes: int = 0
    first: int = 0
    end: int = 0
    base: int = 0
    _page: int | None = None
    _tail: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_TAIL))

    def add(self, position: int | None, size: int, *, is_good: bool) -> None:
        """Count one packet.

        Args:
            position: Offset of the packet in the file; in Ogg, of its page; None where the demuxer gives none.
            size: Bytes of the packet; 0 where it could not be read.
            is_good: The packet was decoded.
        """
        begin = self.end if position is None else self.base + position
        taken = size
        if self.is_ogg and size:
            taken += size // 255 + 1
            if begin != self._page:
                taken += PAGE_HEADER_BYTES
                self.end, self._page = begin, begin
            self.end += taken
        else:
            self.end = max(self.end, begin + size)
        if not self.count:
            self.first = begin
        self.count += 1
        self.read_bytes += taken
        if is_good:
            self.used_bytes += taken
            self._tail.clear()
        else:
            self.broken += 1
            self._tail.append((begin, taken))

    def leave_out(self, audio_end: int) -> None:
        """Uncount the broken packets at the end that begin behind the audio: they are padding."""
        for begin, taken in self._tail:
            if begin >= audio_end:
                self.count -= 1
                self.broken -= 1
                self.read_bytes -= taken
        self._tail.clear()


@dataclass(frozen=True)
class Counts:
    """Counts from the decoding of a file.

    Attributes:
        packets: Packets read, broken ones included.
        broken: Packets that could not be decoded.
        came_s: Duration of the decoded audio, from the file's beginning on, in seconds.
        declared_s: Duration that the file declares, up to the end of the excerpt; None where it declares none.
        audio_bytes: Bytes that hold audio; None where they cannot be distinguished from others.
        read_bytes: Bytes of the packets read.
        used_bytes: Bytes of the packets that were decoded.
        end_bytes: Bytes of audio behind the last packet read.
        is_cut: The file's own end mark is missing.
    """

    packets: int
    broken: int
    came_s: float = 0.0
    declared_s: float | None = None
    audio_bytes: int | None = None
    read_bytes: int = 0
    used_bytes: int = 0
    end_bytes: int = 0
    is_cut: bool = False

    @classmethod
    def of(cls, packets: Packets) -> Self:
        """Return the counts of packets, and none of durations."""
        return cls(packets.count, packets.broken, read_bytes=packets.read_bytes, used_bytes=packets.used_bytes)


@dataclass(frozen=True)
class Verdict:
    """Result of applying the rules to counts.

    Attributes:
        is_damaged: The track fails.
        is_truncated: The file has, or had, more audio than was decoded.
        used_ratio: Share of the audio's bytes that were decoded, 0 to 1; None where bytes do not count.
        text: The counts as a message.
    """

    is_damaged: bool
    is_truncated: bool
    used_ratio: float | None
    text: str


def judge(counts: Counts) -> Verdict:
    """Apply the rules of this module."""
    declared_s = counts.declared_s or 0.0
    is_short = declared_s - counts.came_s > max(SLACK_S, SLACK_SHARE * declared_s)
    is_damaged = (is_short and counts.came_s < DAMAGED_SHARE * declared_s) or counts.broken > counts.packets - counts.broken
    used_ratio, is_unread = None, False
    if counts.audio_bytes:
        used_ratio = min(1.0, counts.used_bytes / counts.audio_bytes)
        is_unread = counts.end_bytes > max(SLACK_BYTES, SLACK_SHARE * counts.audio_bytes)
        is_unread |= counts.audio_bytes - counts.read_bytes > max(SLACK_BYTES, BETWEEN_SHARE * counts.audio_bytes)
    return Verdict(is_damaged, is_short or counts.is_cut or is_unread, used_ratio, _text(counts, used_ratio))


def _text(counts: Counts, used_ratio: float | None) -> str:
    came = f"{counts.came_s:.1f} s" + (f" of {counts.declared_s:.1f} s declared" if counts.declared_s else "")
    broken = f"{counts.broken:,} of {counts.packets:,} packets broken"
    return f"{came}, {broken}" + ("" if used_ratio is None else f", {100 * used_ratio:.0f} % of the audio's bytes used")


def is_guess(seconds: float, name: str, bit_rates: list[int | None], size: int, first: int) -> bool:
    """Tell whether FFmpeg guessed a duration: all bytes after the headers, at the bitrate of the first frames.

    Args:
        seconds: The duration.
        name: FFmpeg's demuxer.
        bit_rates: Bit rate of each stream; FFmpeg guesses only where it knows all.
        size: Size of the file, in bytes.
        first: Offset of the first packet.
    """
    rates = [rate for rate in bit_rates if rate]
    if name not in _MAY_GUESS or not rates or len(rates) < len(bit_rates):
        return False
    return 0 <= size - seconds * sum(rates) / 8 <= first + SLACK_BYTES
