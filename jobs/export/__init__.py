"""`export`: stems become a dataset.

Files:
    export: `export`: holds DEST, lays out shards, runs the driver.
    options: Options of an export, and the checks of their values.
    driver: Passes over the shards that are left.
    report: The result in words.
"""

from sep_batch.jobs.export.export import run_export

__all__ = ["run_export"]
