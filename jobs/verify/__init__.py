"""`verify`: check an OUT against its journal.

Files:
    verify: `verify`: compare journal, index and storage.
    checks: The comparisons, in SQL.
    read_stems: `--deep`: read, hash and decode every stem.
    repair: `--repair`: revoke rows of broken stems, publish the index.
    report: Findings as text and JSON.
"""

from sep_batch.jobs.verify.verify import run_verify

__all__ = ["run_verify"]
