"""`compare`: how far the stems of two OUTs are apart.

Files:
    compare: `compare`: decode the stems that both OUTs have, and judge the result.
    pairs: Tracks and stems of both OUTs, joined by id and stem.
    differ: The difference between two files of one stem.
    report: The result as text and JSON.
"""

from sep_batch.jobs.compare.compare import run_compare

__all__ = ["run_compare"]
