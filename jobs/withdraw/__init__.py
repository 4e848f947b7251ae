"""`withdraw`: takedown of tracks.

Files:
    withdraw: `withdraw`: remove the stems of tracks, and all that OUT knows about them.
"""

from sep_batch.jobs.withdraw.withdraw import run_withdraw

__all__ = ["run_withdraw"]
