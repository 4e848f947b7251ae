"""`plan`: show what a run would do.

Files:
    plan: `plan`: counts, reasons, examples.
    amounts: Seconds of audio, bytes of stems and memory of a plan.
    durations: Durations of the tracks of a plan.
    known_sizes: Durations and file sizes from the journal.
    calibrate: `--calibrate`: forecast from a run of a minute.
    report: Plan as text and JSON.
"""

from sep_batch.jobs.plan.plan import run_plan

__all__ = ["run_plan"]
