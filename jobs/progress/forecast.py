"""The forecast of a run's duration, kept on this machine until the run reports its real duration.

A plan does not write to OUT, so forecasts lie in the user's cache folder, each under its OUT and settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sep_batch.model import weights
from sep_batch.pipeline import storage


@dataclass(frozen=True)
class Forecast:
    """A linear forecast: a constant start, then a constant speed.

    Attributes:
        tracks: Number of tracks to do.
        audio_s: Seconds of audio of these tracks, as far as they were known.
        start_s: Seconds that every run takes: weights, Ray, actors, the first track's way in and the last one's way out.
        x_real_time: Seconds of audio separated in a second, after the start.
    """

    tracks: int
    audio_s: float
    start_s: float
    x_real_time: float

    @property
    def seconds(self) -> float:
        """Seconds that the whole run takes."""
        return self.start_s + self.audio_s / self.x_real_time

    @property
    def machine_hours(self) -> float:
        """Hours on one machine like this one; several machines divide them, and each adds its own start."""
        return self.seconds / 3600


def keep(forecast: Forecast, out: str, settings_sha256: str) -> None:
    """Keep a forecast for the next run of these settings in OUT.

    Raises:
        WeightsError, TrackError: The cache cannot be written to.
    """
    weights.writable_cache()
    storage.put(str(_file(out, settings_sha256)), json.dumps(asdict(forecast)).encode())


def take(out: str, settings_sha256: str, tracks: int) -> Forecast | None:
    """Return the forecast of a run and delete it; None if there is none, or one of another number of tracks."""
    file = _file(out, settings_sha256)
    with contextlib.suppress(OSError, ValueError, TypeError):  # an unreadable forecast counts as none
        forecast = Forecast(**json.loads(file.read_bytes()))
        if forecast.tracks == tracks:
            file.unlink()
            return forecast
    return None


def beside(forecast_s: float, took_s: float) -> str:
    """Return a line that compares a forecast with the real duration."""
    return f"took {took_s:.0f} s, forecast {forecast_s:.0f} s: {100 * (took_s / forecast_s - 1):+.0f} %"


def _file(out: str, settings_sha256: str) -> Path:
    key = hashlib.sha256(f"{out}\n{settings_sha256}".encode()).hexdigest()[:32]
    return weights.cache_folder() / "forecasts" / f"{key}.json"
