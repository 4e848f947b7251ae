"""`run` and `sync`: separate tracks.

Files:
    run: `run`: hold OUT's lease, run the driver, publish the index.
    driver: Passes over the plan; rows from the flow go to the journal.
    finished: Finished rows: journal, summary and progress.
    breaker: Circuit breaker: a storage that fails ends the run.
    gpu_watch: Watch over GPUs: one that ends workers is given up.
    record: Record of a run in OUT.
    sync: `sync`: repeated runs over a folder or prefix.
    report: Summary of a run as text.
"""

from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.run.sync import run_sync

__all__ = ["run_job", "run_sync"]
