"""The bottleneck of a run: how busy the actors of each stage were, and one sentence with the remedy.

Arithmetic only. The seconds are those of the index (`decode_s`, `separate_s`, `write_s`) summed over the tracks of a run.
"""

from __future__ import annotations

from collections.abc import Mapping

COLUMNS = {"Analyze": "decode_s", "Separate": "separate_s", "Write": "write_s"}  # column of the index by stage
LEAST_AUDIO_S = 300.0  # from which a bottleneck is named; less audio is over before a remedy helps
BUSY = 0.6  # smallest busy share of a bottleneck; the first and last tracks leave even the slowest stage idle

_ON_GPU = {
    "Analyze": "bound by fetching, decoding and STFT; add CPU nodes, or use storage closer to them",
    "Separate": "bound by the U-Nets; add GPUs",
    "Write": "bound by encoding and storing; add CPU nodes{wav}",
}
_ON_CPU = {
    "Analyze": "bound by fetching, decoding and STFT, not by the U-Nets; add CPUs, or use storage closer to them",
    "Separate": "bound by the U-Nets; use a GPU",
    "Write": "bound by encoding and storing, not by the U-Nets; add CPUs{wav}",
}


def busy_shares(stage_s: Mapping[str, float], actors: Mapping[str, int], wall_s: float) -> dict[str, float]:
    """Return the share of the time that each stage's actors were busy.

    Args:
        stage_s: Seconds of work by stage, summed over the tracks.
        actors: Largest number of actors of each stage.
        wall_s: Seconds of the flow, without the start of its actors.

    Returns:
        Shares by stage; empty if no time passed. They are cut at 1, because joins of long tracks run beside the actors of Write.
    """
    if wall_s <= 0:
        return {}
    return {stage: min(1.0, seconds / (actors[stage] * wall_s)) for stage, seconds in stage_s.items() if actors.get(stage)}


def bottleneck(shares: Mapping[str, float], device: str) -> str | None:
    """Return the stage that limits a run; None if no stage was busy enough.

    On GPUs it is the busiest stage. On a CPU all stages share the cores, and Analyze and Write yield to Separate, so part of
    their seconds is waiting: Separate comes first there, and another stage counts only if Separate was not busy.

    Args:
        shares: Result of `busy_shares`.
        device: Torch's name of the device that Separate ran on.
    """
    busy = {stage: share for stage, share in shares.items() if share >= BUSY}
    if device == "cpu" and "Separate" in busy:
        return "Separate"
    return max(busy, key=lambda stage: busy[stage], default=None)


def sentence(stage_s: Mapping[str, float], actors: Mapping[str, int], wall_s: float, *, device: str, format: str) -> str | None:
    """Return one line that names the bottleneck of a run and its remedy.

    Args:
        stage_s: Seconds of work by stage, summed over the tracks.
        actors: Largest number of actors of each stage.
        wall_s: Seconds of the flow, without the start of its actors.
        device: Torch's name of the device that Separate ran on.
        format: File format of the stems.

    Returns:
        The line; None if no stage did any work.
    """
    shares = busy_shares(stage_s, actors, wall_s)
    if not any(shares.values()):
        return None
    on_cpu, stage = device == "cpu", bottleneck(shares, device)
    shown = {"Separate": shares["Separate"]} if on_cpu and stage in (None, "Separate") else shares
    busy = ", ".join(f"{name} busy {100 * share:.0f} %" for name, share in shown.items())
    busy += " of the time, on the CPUs that all stages share" if on_cpu else ""
    if stage is None:
        return f"{busy}: no single bottleneck; run more tracks to find one"
    wav = "" if format == "wav" else ", or use --format wav"
    return f"{busy}: {(_ON_CPU if on_cpu else _ON_GPU)[stage].format(wav=wav)}"
