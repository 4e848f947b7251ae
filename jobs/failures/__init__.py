"""`failures`: what failed, and what to do.

Files:
    failures: `failures`: failed tracks by class and message.
    advice: Advice for each class of failure.
    report: The failures in words.
"""

from sep_batch.jobs.failures.failures import run_failures

__all__ = ["run_failures"]
