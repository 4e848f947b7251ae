"""`verify`: an OUT is held against its journal.

Files:
    verify: `verify`: journal, index and storage are compared.
    checks: The comparisons, in SQL.
    read_stems: `--deep`: every stem is read, hashed and decoded.
    repair: `--repair`: rows are withdrawn, the index is published.
    report: The findings in words.
"""

from sep_batch.jobs.verify.verify import run_verify

__all__ = ["run_verify"]
