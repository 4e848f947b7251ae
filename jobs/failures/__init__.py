"""`failures`: list failed tracks, and what to do about them.

Files:
    failures: `failures`: failed tracks by class and message.
    advice: Advice for each class of failure.
    report: Failures as text and JSON.
"""

from sep_batch.jobs.failures.failures import run_failures

__all__ = ["run_failures"]
