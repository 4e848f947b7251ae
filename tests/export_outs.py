"""An OUT as a run leaves it, written directly: stems of tones and silence, their rows in an index, no U-Nets."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from signals import RATE_HZ, noise

from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import activity, codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.rows import JOURNAL

FLAC = codecs.CODECS["flac"]["16"]
STEMS = ("vocals", "accompaniment")
LOUD, QUIET = 0.1, 0.001  # RMS: above and below what counts as active


def wave(pattern: str, *, seed: int = 0, level: float = LOUD, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Return noise, (2, samples), a second for each letter of a pattern: x is loud, anything else nearly silent."""
    drawn = noise(len(pattern) * rate_hz, level=1.0, seed=seed)
    gains = np.repeat([level if letter == "x" else QUIET for letter in pattern], rate_hz).astype(np.float32)
    return np.clip(drawn * gains, -1, 1)


def stored(wave: np.ndarray) -> np.ndarray:
    """Return a wave as it comes back from 16 bits."""
    return codecs.wave_of(codecs.raw(wave, FLAC))


def write_out(
    out: str,
    tracks: Mapping[str, Mapping[str, np.ndarray]],
    *,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
    analysed: bool = True,
    statuses: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Write an OUT.

    Args:
        out: Where to.
        tracks: Waves by id and stem; a stem named mix is the source.
        extra: The manifest's own columns, by id.
        analysed: Whether the index knows where stems are active.
        statuses: Of tracks that are not ok.

    Returns:
        The index's rows.
    """
    rows = [_row(out, name, waves, analysed=analysed) for name, waves in tracks.items()]
    for row in rows:
        row.update((extra or {}).get(row["id"], {}), status=(statuses or {}).get(row["id"], "ok"))
    own = sorted({name for row in rows for name in row} - set(JOURNAL.names))
    table = pa.Table.from_pylist(rows, schema=JOURNAL)
    for name in own:
        table = table.append_column(name, pa.array([row.get(name) for row in rows]))
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    storage.put(f"{out}/index.parquet", content.getvalue())
    stems: Sequence[str] = [stem for stem in next(iter(tracks.values())) if stem != "mix"]
    settings = {"stems": stems, "spec": {"sample_rate_hz": RATE_HZ}, "offset_s": 0.0}
    storage.put(f"{out}/_sep/run.json", json.dumps({"settings": settings, "manifest": {}}).encode())
    return rows


def _row(out: str, name: str, waves: Mapping[str, np.ndarray], *, analysed: bool) -> dict[str, Any]:
    mix = waves["mix"] if "mix" in waves else sum(waves.values())
    source = encode(mix, FLAC, rate_hz=RATE_HZ)
    storage.put(f"{out}.sources/{name}.flac", source)
    stems = [_stem(out, name, stem, wave, analysed=analysed) for stem, wave in waves.items() if stem != "mix"]
    seconds = stems[0]["frames"] / RATE_HZ
    known = {"model": "spleeter:2stems", "weights_sha256": "ab" * 32, "settings_sha256": "cd" * 32, "run_id": "000001-beef"}
    source_of = {"uri": f"{out}.sources/{name}.flac", "source_bytes": len(source), "source_rate_hz": RATE_HZ}
    return {"id": name, "audio_s": seconds, "attempts": 1, "stems": stems} | known | source_of


def _stem(out: str, name: str, stem: str, wave: np.ndarray, *, analysed: bool) -> dict[str, Any]:
    content, uri = encode(wave, FLAC, rate_hz=RATE_HZ), f"stems/{name}/{stem}.flac"
    storage.put(f"{out}/{uri}", content)
    found = activity.of_wave(stored(wave).T, RATE_HZ)
    known: dict[str, Any] = {"stem": stem, "uri": uri, "codec": "flac", "bytes": len(content), "frames": wave.shape[1]}
    if analysed:
        regions = [{"start_s": start, "end_s": end} for start, end in found.regions]
        known |= {"active_ratio": found.ratio, "active_regions": regions}
    return known | {"sha256": hashlib.sha256(content).hexdigest()}
