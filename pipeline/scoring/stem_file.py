"""A stem of an OUT as the index describes it, decoded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sep_batch.pipeline import audio, errors, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.resample import resampled

SQL = """SELECT id, s.stem, s.uri, s.codec, s.sha256, s.frames, s.sample_rate_hz, s.channels, audio_s
    FROM (SELECT id, audio_s, unnest(stems) AS s FROM newest WHERE status = 'ok')"""  # of the stems of an OUT's journal


@dataclass(frozen=True)
class StemFile:
    """A stem's file.

    Attributes:
        uri: URI, absolute.
        sha256: SHA-256 of its bytes.
        codec: Codec that wrote it.
        frames: Samples per channel that were written.
        rate_hz: Sample rate at which they were written.
        channels: Number of channels; None if its row is too old to say so.
    """

    uri: str
    sha256: str
    codec: codecs.Codec
    frames: int
    rate_hz: int
    channels: int | None

    @classmethod
    def of(cls, out: str, row: Mapping[str, Any]) -> StemFile:
        """Return the file of a row of `SQL` of an OUT."""
        rate_hz = row["sample_rate_hz"] or round(row["frames"] / row["audio_s"])  # older rows have no rate
        codec = codecs.BY_ENCODER[row["codec"]]
        return cls(f"{out}/{row['uri']}", row["sha256"], codec, row["frames"], rate_hz, row["channels"])

    @contextlib.contextmanager
    def decoded(self) -> Iterator[Iterator[np.ndarray]]:
        """Yield the stem's wave piece by piece; mono as two equal channels. Its end raises too, as the beginning does.

        Raises:
            TrackError: The file cannot be read or decoded, or not with the recorded sample rate and length.
        """
        source, _ = storage.open_source(self.uri)
        with source:
            pieces, facts = audio.decode(source, rate_hz=self.decodes_hz)
            yield self._checked(pieces, facts)

    def _checked(self, pieces: Iterator[np.ndarray], facts: audio.Found) -> Iterator[np.ndarray]:
        yield from pieces
        if facts.rate_hz != self.decodes_hz:
            raise errors.DecodeError(f"{facts.rate_hz} Hz, expected {self.decodes_hz}")
        is_exact = self.codec.encoder != "vorbis"  # FFmpeg gets the length of short Ogg Vorbis files wrong
        if is_exact and not 0 <= facts.samples - self.samples <= self.codec.longer:
            raise errors.DecodeError(f"{facts.samples} samples, expected {self.samples}")

    @property
    def decodes_hz(self) -> int:
        """Sample rate at which the file decodes."""
        return self.codec.decodes_hz or self.rate_hz

    @property
    def samples(self) -> int:
        """Samples per channel of the stem at that sample rate, without the padding of a lossy codec."""
        return resampled(self.frames, self.rate_hz, self.decodes_hz)
