"""`status`: how far the runs of an OUT have come.

Files:
    status: `status`: from journal and lease alone.
    report: The status in words.
"""

from sep_batch.jobs.status.status import run_status

__all__ = ["run_status"]
