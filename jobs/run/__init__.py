"""`run` and `sync`: tracks are separated.

Files:
    run: `run`: holds OUT, runs the driver, publishes the index.
    driver: Passes over the plan; rows from the flow go to the journal.
    finished: Finished rows: journal, summary and progress.
    breaker: The circuit breaker: a storage that fails ends the run.
    sync: `sync`: a run over a folder or prefix, night after night.
    report: The summary in words.
"""

from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.run.sync import run_sync

__all__ = ["run_job", "run_sync"]
