"""`plan`: what a run would do.

Files:
    plan: `plan`: counts, reasons, examples.
    amounts: Seconds of audio, bytes of stems and memory of a plan.
    durations: Durations of the tracks of a plan.
    known_sizes: Durations and sizes that the journal knows.
    calibrate: `--calibrate`: a run of a minute that gives a forecast.
    report: The plan in words.
"""

from sep_batch.jobs.plan.plan import run_plan

__all__ = ["run_plan"]
