"""The scores of a track's stems against its references: all files are decoded together, block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import audio, errors, storage
from sep_batch.pipeline.scoring import bsseval
from sep_batch.pipeline.scoring.aligned import aligned
from sep_batch.pipeline.scoring.references import Recipe, Source
from sep_batch.pipeline.scoring.stem_file import StemFile
from sep_batch.pipeline.scoring.sums import Sums

Metrics = Literal["sdr", "bsseval"]
LONGER_S = 0.1  # by which a reference may be longer or shorter than the stem: what encoders add; more is another recording
SCORED, SILENT, FAILED = "ok", "silent", "failed"  # of a row; of a silent reference there is no SDR
SCORES = pa.schema(  # a row per track and stem
    [
        ("id", pa.string()),
        ("uri", pa.string()),  # of the mix
        ("stem", pa.string()),  # null in a failed row
        ("status", pa.string()),
        ("error_class", pa.string()),
        ("error", pa.string()),
        ("audio_s", pa.float64()),
        ("reference", pa.string()),  # how it was made, as "mix - vocals"
        ("sdr_db", pa.float64()),
        ("si_sdr_db", pa.float64()),
        *((f"bsseval_{name}_db", pa.float64()) for name in bsseval.NAMES),
    ]
)


@dataclass(frozen=True)
class Track:
    """A track to score.

    Attributes:
        id: Id.
        uri: URI of the mix.
        stems: Files of its stems, by name; each has a recipe.
        recipes: Reference of each stem, by name.
        offset_s: Seconds of the references before the stems begin.
        duration_s: Seconds of them that the stems have; None is to the end.
    """

    id: str
    uri: str
    stems: Mapping[str, StemFile]
    recipes: Mapping[str, Recipe]
    offset_s: float = 0.0
    duration_s: float | None = None

    @property
    def references(self) -> list[Source]:
        """All files that its references are made of."""
        return list(dict.fromkeys(source for recipe in self.recipes.values() for source in recipe.gains))


def score(track: Track, metrics: Metrics) -> list[dict[str, Any]]:
    """Return a row of `SCORES` for each stem of a track.

    Raises:
        TrackError: A stem or reference cannot be read or decoded, or they differ in length.
    """
    sums = {stem: Sums() for stem in track.stems}
    kept = {stem: (list[np.ndarray](), list[np.ndarray]()) for stem in track.stems}
    for stem, reference, estimate in _blocks(track):
        sums[stem].add(reference, estimate)
        if metrics == "bsseval":
            kept[stem][0].append(reference.astype(np.float64))
            kept[stem][1].append(estimate.astype(np.float64))
    rows = {stem: _row(track, stem, sums[stem]) for stem in track.stems}
    if metrics == "bsseval":
        waves = {stem: tuple(np.concatenate(wave, axis=1) for wave in both) for stem, both in kept.items()}
        for stem, scores in bsseval.scores(waves, rate_hz=_any(track.stems).decodes_hz).items():
            rows[stem] |= {f"bsseval_{name}_db": value for name, value in scores.items()}
    return list(rows.values())


def failed(id: str, uri: str, error: errors.TrackError) -> dict[str, Any]:
    """Return the row of a track that could not be scored."""
    said = {"error_class": error.error_class, "error": errors.one_line(str(error))}
    return dict.fromkeys(SCORES.names) | {"id": id, "uri": uri, "status": FAILED} | said


def _row(track: Track, stem: str, sums: Sums) -> dict[str, Any]:
    row = dict.fromkeys(SCORES.names) | {"id": track.id, "uri": track.uri, "stem": stem, "status": SCORED}
    row |= {"audio_s": sums.samples / track.stems[stem].decodes_hz, "reference": track.recipes[stem].text}
    if not sums.reference:
        return row | {"status": SILENT}
    return row | {"sdr_db": sums.snr_db, "si_sdr_db": sums.si_sdr_db}


def _blocks(track: Track) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each stem's name with a block of its reference and of itself, (2, samples) each."""
    facts = {source: audio.Found() for source in track.references}
    with contextlib.ExitStack() as opened:
        waves = [_named(f"stem {name}", opened.enter_context(stem.decoded())) for name, stem in track.stems.items()]
        rate_hz = _any(track.stems).decodes_hz
        for source in facts:
            file = opened.enter_context(storage.open_source(source.uri)[0])
            wave, facts[source] = audio.decode(
                file,
                rate_hz=rate_hz,
                offset_s=track.offset_s,
                duration_s=track.duration_s,
                on_damage="fail",
                stream=source.stream,
            )
            waves.append(_named(f"reference {storage.uris.shown(source.uri)}", wave))
        for blocks in aligned(waves):
            estimates, references = blocks[: len(track.stems)], dict(zip(facts, blocks[len(track.stems) :], strict=True))
            for stem, estimate in zip(track.stems, estimates, strict=True):
                yield stem, _sum(track.recipes[stem], references), estimate
    samples = _any(track.stems).samples
    for source, decoded in facts.items():
        if abs(decoded.samples - samples) > LONGER_S * rate_hz:
            lengths = f"{decoded.samples / rate_hz:.3f} s, the stems {samples / rate_hz:.3f} s"
            raise errors.DecodeError(f"reference {storage.uris.shown(source.uri)}: {lengths}; expected the same length")


def _named(name: str, wave: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Name a file in the errors of its decoding."""
    try:
        yield from wave
    except errors.TrackError as error:
        raise type(error)(f"{name}: {error}") from error


def _sum(recipe: Recipe, blocks: Mapping[Source, np.ndarray]) -> np.ndarray:
    """Return a block of a reference, (2, samples) float64."""
    total = np.zeros((2, blocks[next(iter(recipe.gains))].shape[1]))
    for source, gain in recipe.gains.items():
        total += gain * blocks[source].astype(np.float64)
    return total


def _any(stems: Mapping[str, StemFile]) -> StemFile:
    """Return one of a track's stems: all have the same sample rate and length."""
    return next(iter(stems.values()))
