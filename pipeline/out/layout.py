"""Paths of files in OUT, and in DEST of an export. All that is ours but the stems and the index lies below `_sep/`."""

from __future__ import annotations

INDEX_FILE = "index.parquet"
RUN_JSON = "_sep/run.json"  # settings and manifest of the last run
EXPORT_JSON = "_sep/export.json"  # settings of an export, in its DEST
PARTS = "_sep/parts"
PLAN = "_sep/plan"
JOURNAL = "_sep/journal"


def journal_folder(out: str) -> str:
    """Return where the journal lies."""
    return f"{out}/{JOURNAL}"


def parts_folder(out: str, run: str) -> str:
    """Return where a run's unfinished work lies: temporary files and parts."""
    return f"{out}/{PARTS}/{run}"


def plan_folder(out: str, run: str) -> str:
    """Return where a run's plan lies."""
    return f"{out}/{PLAN}/{run}"


def lease_folder(out: str) -> str:
    """Return where the lease lies."""
    return f"{out}/_sep/lease"
