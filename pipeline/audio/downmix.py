"""Downmix: more than two channels are mixed to stereo, by the names of the channels.

Source: Recommendation ITU-R BS.775-4, annex 4 (3/2 to 2/0): L' = L + 0.7071 C + 0.7071 Ls, and R' alike. A mono surround is
split over both surrounds first (table 2), so its gain is 0.7071 x 0.7071 on each side. There is no automatic gain: the sum of
loud channels may exceed full scale, which floats can hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

Downmix = Literal["itu", "first-two"]
DEFAULT_DOWNMIX: Downmix = "itu"
HALF_POWER = math.sqrt(0.5)  # -3 dB

_FRONT = ((1.0, 0.0), (0.0, 1.0))
_SIDE = ((HALF_POWER, 0.0), (0.0, HALF_POWER))
_CENTRE = (HALF_POWER, HALF_POWER)
_BOTH = (0.5, 0.5)  # a middle channel other than the front centre: -3 dB, then -3 dB for each side
_SILENT = (0.0, 0.0)

# Gain of each channel into left and right, by FFmpeg's names of all channels with a position, in the order of their bits: native
# layouts have this order.
GAINS: dict[str, tuple[float, float]] = {
    **dict(zip(("FL", "FR"), _FRONT, strict=True)),
    "FC": _CENTRE,
    "LFE": _SILENT,
    **dict(zip(("BL", "BR"), _SIDE, strict=True)),
    **dict(zip(("FLC", "FRC"), _FRONT, strict=True)),  # between centre and left, centre and right
    "BC": _BOTH,
    **dict(zip(("SL", "SR"), _SIDE, strict=True)),
    "TC": _BOTH,
    "TFL": _SIDE[0],
    "TFC": _BOTH,
    "TFR": _SIDE[1],
    "TBL": _SIDE[0],
    "TBC": _BOTH,
    "TBR": _SIDE[1],
    **dict(zip(("DL", "DR"), _FRONT, strict=True)),
    **dict(zip(("WL", "WR"), _SIDE, strict=True)),
    **dict(zip(("SDL", "SDR"), _SIDE, strict=True)),
    "LFE2": _SILENT,
    **dict(zip(("TSL", "TSR"), _SIDE, strict=True)),
    "BFC": _BOTH,
    **dict(zip(("BFL", "BFR"), _SIDE, strict=True)),
    **dict(zip(("SSL", "SSR"), _SIDE, strict=True)),
    **dict(zip(("TTL", "TTR"), _SIDE, strict=True)),
    **dict(zip(("BIL", "BIR"), _FRONT, strict=True)),
}
NAMELESS = "NONE"  # FFmpeg's name of each channel of a layout that is only a number of channels
_POSITIONS = {name: position for position, name in enumerate(GAINS)}
_NAMED = GAINS | {  # any other harmonic is left out; a channel of any other name has no position, and goes to the middle
    "AMBI0": _BOTH,  # with AMBI1, two cardioids to the left and to the right: (W + Y) / 2 and (W - Y) / 2
    "AMBI1": (0.5, -0.5),
    "UNSD": _SILENT,  # marked as unused in the file
}
_FINISHED = ({"DL", "DR"}, {"BIL", "BIR"})  # a stereo mix that the file has beside its other channels: only it is used
_UNNAMED = {  # orders of RFC 9639 (FLAC), section 9.1.3, which are WAVE's; by the number of channels
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def is_native(names: Sequence[str]) -> bool:
    """Tell whether all channels have positions, in FFmpeg's own order, so that their layout is a bit mask."""
    positions = [_POSITIONS.get(name, -1) for name in names]
    return bool(positions) and positions[0] >= 0 and all(before < after for before, after in pairwise(positions))


def is_named(names: Sequence[str]) -> bool:
    """Tell whether at least one channel has the name of a position or a spherical harmonic."""
    return any(name in GAINS or name.startswith("AMBI") for name in names)


def is_custom(names: Sequence[str]) -> bool:
    """Tell whether channels have a custom order: neither a bit mask, nor only a number, nor spherical harmonics."""
    return not is_native(names) and any(name != NAMELESS and not name.startswith("AMBI") for name in names)


def matrix(names: Sequence[str], downmix: Downmix) -> np.ndarray | None:
    """Return the gains of a source's channels, (2, channels) float32; None where mono, or the first two, are used unchanged.

    Args:
        names: FFmpeg's name of each channel, in the file's order.
        downmix: `itu`, or `first-two`.
    """
    if downmix == "first-two" or len(names) < 2 or (len(names) == 2 and list(names) != ["FR", "FL"]):
        return None
    if any(gain for name in names for gain in _NAMED.get(name, _SILENT)):
        return _gains(names)
    return _gains(_UNNAMED[len(names)]) if len(names) in _UNNAMED else None


def _gains(names: Sequence[str]) -> np.ndarray:
    finished = next((pair for pair in _FINISHED if pair <= set(names)), None)
    if finished:
        return np.array([GAINS[name] if name in finished else _SILENT for name in names], np.float32).T
    return np.array([_NAMED.get(name, _SILENT if name.startswith("AMBI") else _BOTH) for name in names], np.float32).T


def mixed(planes: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Mix channels, (channels, n) float32, with gains, (2, channels); the samples do not depend on how a wave is cut."""
    wave = np.zeros((2, planes.shape[1]), np.float32)
    for side, channel in np.argwhere(gains):
        wave[side] += gains[side, channel] * planes[channel]
    return wave
