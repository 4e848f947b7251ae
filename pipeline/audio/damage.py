"""Damage: the rules that decide whether a track fails, is flagged or is whole, from what was counted while it was decoded.

A track fails as `damaged` where less than half of the declared length came out (and 0.25 s less than that), or more packets were
broken than good ones. With less damage it is ok and flagged: `skipped_packets`, and `truncated` where

- more than 0.25 s and 1 % of the declared length did not come out, or
- the file's own mark of its end is missing (the last page of Ogg, the sizes of a WAV), or
- reading ended more than 4 KiB and 1 % of the audio's bytes before the last of them, or
- more than 4 KiB and a tenth of these bytes lay in no packet.

Bytes count in raw streams only (`extent.RAW`). Tags and zeros before and after the audio are not counted; a tenth leaves room for
tags with covers between the frames, as joined files have them. A length that FFmpeg guessed from a bitrate declares nothing. An
excerpt is compared with what is declared of it; where reading ended because the excerpt was complete, only broken packets count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Self

from sep_batch.pipeline.audio.ogg import PAGE_HEADER_BYTES

OnDamage = Literal["keep", "fail"]  # what becomes of tracks that are flagged

SLACK_S = 0.25  # a codec's delay and padding
SLACK_SHARE = 0.01
SLACK_BYTES = 4096  # a frame that tells of the others, a table of places
BETWEEN_SHARE = 0.1  # of the bytes that may lie between packets
DAMAGED_SHARE = 0.5
_TAIL = 1000  # broken packets at the end whose places are kept
_MAY_GUESS = ("matroska", "wav")  # FFmpeg's names of the demuxers of containers that need not say how long they are


@dataclass
class Packets:
    """Counts the packets that a demuxer gives.

    Attributes:
        is_ogg: Whether they lie in pages, whose headers count as read with them.
        count: Packets, the broken ones among them.
        broken: Packets that could not be decoded.
        read_bytes: Their bytes.
        used_bytes: Bytes of those that were decoded.
        first: Where the first one began.
        end: Where the last one ended; in Ogg, where its page did, as far as its packets tell.
        base: Where the link of a chained file begins that is read now; places are told from there.
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

    def add(self, place: int | None, size: int, *, is_good: bool) -> None:
        """Count one packet.

        Args:
            place: Where it began in the file; in Ogg, where its page did; None where it lies nowhere.
            size: Its bytes; 0 where it could not even be read.
            is_good: Whether it was decoded.
        """
        begin = self.end if place is None else self.base + place
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
        """Take back the broken packets at the end that begin where there is no audio any more: zeros are none."""
        for begin, taken in self._tail:
            if begin >= audio_end:
                self.count -= 1
                self.broken -= 1
                self.read_bytes -= taken
        self._tail.clear()


@dataclass(frozen=True)
class Counts:
    """What was counted while a file was decoded.

    Attributes:
        packets: Packets read, the broken ones among them.
        broken: Packets that could not be decoded.
        came_s: Audio that came out, from the file's beginning on.
        declared_s: Audio that the file declares, as far as it was asked for; None where it declares nothing.
        audio_bytes: Bytes that hold audio; None where they cannot be told from others.
        read_bytes: Bytes of the packets read.
        used_bytes: Bytes of those that were decoded.
        end_bytes: Bytes of audio behind the last packet read.
        is_cut: Whether the file's own mark of its end is missing.
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
        """Return counts of packets alone."""
        return cls(packets.count, packets.broken, read_bytes=packets.read_bytes, used_bytes=packets.used_bytes)


@dataclass(frozen=True)
class Verdict:
    """What the counts mean.

    Attributes:
        is_damaged: Whether the track fails.
        is_truncated: Whether the file has, or had, more than came out.
        used_ratio: Share of the audio's bytes that were decoded, 0 to 1; None where bytes do not count.
        text: How much of what came out, in words.
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
    """Tell whether FFmpeg guessed a length: all bytes after the headers, at the bitrate of the first frames.

    Args:
        seconds: The length.
        name: FFmpeg's demuxer.
        bit_rates: Bit rate of each stream; FFmpeg guesses only where it knows all.
        size: The file's, in bytes.
        first: Where its first packet began.
    """
    known = [rate for rate in bit_rates if rate]
    if name not in _MAY_GUESS or not known or len(known) < len(bit_rates):
        return False
    return 0 <= size - seconds * sum(known) / 8 <= first + SLACK_BYTES
