"""The bottleneck of a run: how busy the actors of each stage were, and one sentence that says what would help.

Arithmetic only. The seconds are those of the index (`decode_s`, `separate_s`, `write_s`) summed over the tracks of a run.
"""

from __future__ import annotations

from collections.abc import Mapping

COLUMNS = {"Analyze": "decode_s", "Separate": "separate_s", "Write": "write_s"}  # what the index says of each stage
BUSY = 0.6  # of the time: a stage below it holds nothing up; the first and last tracks leave even the slowest one idle

_CAUSE = {
    "Analyze": "fetching, decoding and STFT bound; add CPU nodes, or bring the storage nearer",
    "Separate": "U-Net bound; add GPUs",
    "Write": "encoding and storing bound; add CPU nodes{wav}",
}
_ON_CPU = {
    "Analyze": "fetching, decoding and STFT bound, not the U-Nets; more CPUs or nearer storage would shift it",
    "Separate": "U-Net bound; a GPU would shift it",
    "Write": "encoding and storing bound, not the U-Nets; more CPUs{wav} would shift it",
}


def busy_shares(stage_s: Mapping[str, float], actors: Mapping[str, int], wall_s: float) -> dict[str, float]:
    """Return how much of the time each stage's actors were at work.

    Args:
        stage_s: Seconds of work by stage, summed over the tracks.
        actors: Largest number of actors of each stage.
        wall_s: Seconds of the flow, without the start of its actors.

    Returns:
        0 to 1 by stage; none where no time passed. Joins of long tracks run beside the actors of Write, so a share is cut at 1.
    """
    if wall_s <= 0:
        return {}
    return {stage: min(1.0, seconds / (actors[stage] * wall_s)) for stage, seconds in stage_s.items() if actors.get(stage)}


def bottleneck(shares: Mapping[str, float], device: str) -> str | None:
    """Name the stage that holds a run up; None where none was busy enough for that.

    On GPUs it is the busiest. On a CPU all stages share the same cores and Analyze and Write give way to Separate, so that
    their seconds are partly waiting: there it is Separate wherever that was busy, and another only where it was not.

    Args:
        shares: As `busy_shares` gives them.
        device: Torch's name of what Separate ran on.
    """
    busy = {stage: share for stage, share in shares.items() if share >= BUSY}
    if device == "cpu" and "Separate" in busy:
        return "Separate"
    return max(busy, key=lambda stage: busy[stage], default=None)


def sentence(stage_s: Mapping[str, float], actors: Mapping[str, int], wall_s: float, *, device: str, format: str) -> str | None:
    """Say what held a run up and what would shift it, in one line.

    Args:
        stage_s: Seconds of work by stage, summed over the tracks.
        actors: Largest number of actors of each stage.
        wall_s: Seconds of the flow, without the start of its actors.
        device: Torch's name of what Separate ran on.
        format: File format of the stems.

    Returns:
        None where no stage did any work.
    """
    shares = busy_shares(stage_s, actors, wall_s)
    if not any(shares.values()):
        return None
    on_cpu, stage = device == "cpu", bottleneck(shares, device)
    shown = {"Separate": shares["Separate"]} if on_cpu and stage in (None, "Separate") else shares
    busy = ", ".join(f"{name} busy {100 * share:.0f} %" for name, share in shown.items())
    busy += " of the time, on the CPUs that all stages share" if on_cpu else ""
    if stage is None:
        return f"{busy}: no stage held the run up, waiting did; more tracks would tell"
    wav = "" if format == "wav" else " or --format wav" if on_cpu else ", or use --format wav"
    return f"{busy}: {(_ON_CPU if on_cpu else _CAUSE)[stage].format(wav=wav)}"
