"""The forecast of a run's duration, kept on this machine until the run reports its real one.

OUT is not written to by a plan, so forecasts lie in the user's cache folder, each under OUT and settings that it is of.
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
    """A line: the start of a run, and how fast it goes on.

    Attributes:
        tracks: To do.
        audio_s: Seconds of audio of these tracks, as far as they were known.
        start_s: Seconds that a run of any length takes: weights, Ray, actors, the first track's way in and the last one's out.
        x_real_time: Seconds of audio a second, once it runs.
    """

    tracks: int
    audio_s: float
    start_s: float
    x_real_time: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.start_s + self.audio_s / self.x_real_time

    @property
    def machine_hours(self) -> float:
        """Hours of machines like this one: more of them share them, and add their starts."""
        return self.seconds / 3600


def keep(forecast: Forecast, out: str, settings_sha256: str) -> None:
    """Keep a forecast for the next run of these settings in OUT.

    Raises:
        WeightsError, TrackError: The cache cannot be written to.
    """
    weights.writable_cache()
    storage.put(str(_place(out, settings_sha256)), json.dumps(asdict(forecast)).encode())


def take(out: str, settings_sha256: str, tracks: int) -> Forecast | None:
    """Return the forecast of a run of so many tracks, once; None where none was made, or one of another plan."""
    place = _place(out, settings_sha256)
    with contextlib.suppress(OSError, ValueError, TypeError):  # a forecast that cannot be read is none
        forecast = Forecast(**json.loads(place.read_bytes()))
        if forecast.tracks == tracks:
            place.unlink()
            return forecast
    return None


def beside(forecast_s: float, took_s: float) -> str:
    """Say how a forecast turned out."""
    return f"took {took_s:.0f} s, forecast {forecast_s:.0f} s: {100 * (took_s / forecast_s - 1):+.0f} %"


def _place(out: str, settings_sha256: str) -> Path:
    key = hashlib.sha256(f"{out}\n{settings_sha256}".encode()).hexdigest()[:32]
    return weights.cache_folder() / "forecasts" / f"{key}.json"
