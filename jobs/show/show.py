"""`show`: a picture of a track's mix and stems, as spectrograms.

from sep_batch.jobs.show import run_show
png = run_show("songs.stems", "a-0123456789abcdef").png
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sep_batch.jobs.setup import outs
from sep_batch.jobs.setup.units import audio_length
from sep_batch.jobs.show.picture import Panel, draw, facts, require_matplotlib
from sep_batch.model.pitch_spectrogram import PitchSpectrogram
from sep_batch.pipeline import audio, errors, storage
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX
from sep_batch.pipeline.out import database
from sep_batch.pipeline.scoring.stem_file import StemFile
from sep_batch.pipeline.settings import MIX
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing

SHOWN = 10  # ids in a message
_IDS = "SELECT id FROM newest WHERE starts_with(id, $id) ORDER BY id"
_ROW = "SELECT * FROM newest WHERE id = $id"


@dataclass(frozen=True)
class Shown:
    """A picture of a track.

    Attributes:
        id: Id of the track.
        png: The picture.
        warning: Reason why the mix is not in it; empty if it is.
    """

    id: str
    png: bytes
    warning: str = ""


def run_show(out: str, id: str) -> Shown:
    """Draw a track.

    Args:
        out: OUT, a path or URI.
        id: Id of the track, or the beginning of one id.

    Raises:
        UsageError: OUT has no such track, or several whose ids begin so.
        NotRunnableError: The track has no stems, one cannot be read, no run wrote to this place, or matplotlib is missing.
    """
    require_matplotlib()
    with outs.errors():
        out = uris.target(out)
        outs.refuse_no_out(out)
        row, settings = _row(out, id), outs.last_run(out)["settings"]
        if row["status"] != "ok":
            reason = f": {row['error_class']}: {errors.first_line(row['error'])}" if row["error_class"] else ""
            raise errors.NotRunnableError(f"track {row['id']} has no stems: its status is {row['status']}{reason}")
        panels = [_panel(out, row, stem) for stem in sorted(row["stems"], key=lambda stem: stem["stem"] != MIX)]
        has_mix = any(stem["stem"] == MIX for stem in row["stems"])
        mix, warning = (None, "") if has_mix else _mix(row, settings)
    title = f"{row['id']}   {audio_length(row['audio_s'])}, {row['model']}"
    rate_hz = StemFile.of(out, row | row["stems"][0]).decodes_hz
    return Shown(row["id"], draw(title, [*([mix] if mix else []), *panels], seconds=row["audio_s"], rate_hz=rate_hz), warning)


@listing
def _row(out: str, id: str) -> dict[str, Any]:
    """Return the newest row of a track."""
    with database.opened(out) as journal:
        ids = [one for (one,) in journal.database.execute(_IDS, {"id": id}).fetchall()]
        if id not in ids and len(ids) != 1:
            several = f"{len(ids)} begin so: {', '.join(ids[:SHOWN])}{', ...' if len(ids) > SHOWN else ''}"
            expected = f"expected the id of a track in OUT {out}, or the beginning of one"
            raise errors.UsageError(f"ID {uris.printable(id)}: {expected}; {several if ids else 'it has none'}")
        rows = journal.database.sql(_ROW, params={"id": id if id in ids else ids[0]}).to_arrow_table().to_pylist()
    row: dict[str, Any] = rows[0]
    return row


def _panel(out: str, row: dict[str, Any], stem: dict[str, Any]) -> Panel:
    file = StemFile.of(out, row | stem)
    with file.decoded() as pieces:
        levels = _levels(pieces, file.samples, file.decodes_hz)
    regions = [(region["start_s"], region["end_s"]) for region in stem["active_regions"] or ()]
    return Panel(f"{stem['stem']}   {facts(stem)}", levels, regions)


def _mix(row: dict[str, Any], settings: dict[str, Any]) -> tuple[Panel | None, str]:
    """Return the panel of the mix, decoded from the source as it was separated; else the reason why there is none."""
    rate_hz = settings.get("spec", {}).get("sample_rate_hz", 44_100)
    offset, duration = (row[name] if row[name] is not None else settings.get(name) for name in ("offset_s", "duration_s"))
    try:
        source, _ = storage.open_source(row["uri"])
        with source:
            downmix = settings.get("downmix") or DEFAULT_DOWNMIX
            pieces, _ = audio.decode(source, rate_hz=rate_hz, offset_s=offset or 0.0, duration_s=duration, downmix=downmix)
            return Panel("mix", _levels(pieces, round(row["audio_s"] * rate_hz), rate_hz)), ""
    except errors.TrackError as error:
        return None, f"the picture is without the mix: {errors.first_line(error)}"


def _levels(pieces: Iterable[np.ndarray], samples: int, rate_hz: int) -> np.ndarray:
    spectrogram = PitchSpectrogram(samples, rate_hz)
    for piece in pieces:
        spectrogram.add(piece)
    return spectrogram.levels_db()
