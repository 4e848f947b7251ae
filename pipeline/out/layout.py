"""Paths of files in OUT, and in an export's DEST. Everything internal lies below `_sep/`."""

from __future__ import annotations

INDEX_FILE = "index.parquet"
RUN_JSON = "_sep/run.json"  # settings and manifest of the last run
EXPORT_JSON = "_sep/export.json"  # settings of an export, in its DEST
PARTS = "_sep/parts"
PLAN = "_sep/plan"
JOURNAL = "_sep/journal"
RUNS = "_sep/runs"
SCORES = "_sep/evaluation"  # of `evaluate`, a file a track
SCORES_FILE = "evaluation.parquet"


def journal_folder(out: str) -> str:
    """Return the folder of the journal."""
    return f"{out}/{JOURNAL}"


def runs_folder(out: str) -> str:
    """Return the folder of the records of the runs."""
    return f"{out}/{RUNS}"


def parts_folder(out: str, run: str) -> str:
    """Return the folder of a run's unfinished work: temporary files and parts."""
    return f"{out}/{PARTS}/{run}"


def plan_folder(out: str, run: str) -> str:
    """Return the folder of a run's plan."""
    return f"{out}/{PLAN}/{run}"


def lease_folder(out: str) -> str:
    """Return the folder of the lease."""
    return f"{out}/_sep/lease"
