"""`status`: show the progress of the runs of an OUT.

Files:
    status: `status`: state of OUT, from its journal and lease.
    report: Status as text and JSON.
    history: `status --history`: past runs, from their records.
    history_report: History as text and JSON.
"""

from sep_batch.jobs.status.history import run_history
from sep_batch.jobs.status.status import run_status

__all__ = ["run_history", "run_status"]
