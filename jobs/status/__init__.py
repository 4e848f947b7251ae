"""`status`: show the progress of the runs of an OUT.

Files:
    status: `status`: state of OUT, from its journal and lease.
    report: Status as text and JSON.
"""

from sep_batch.jobs.status.status import run_status

__all__ = ["run_status"]
