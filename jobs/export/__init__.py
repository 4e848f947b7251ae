"""`export`: write stems as a dataset.

Files:
    export: `export`: hold DEST's lease, lay out shards, run the driver.
    options: Options of an export, and checks of their values.
    driver: Passes over the shards that are left.
    report: Result as text and JSON.
"""

from sep_batch.jobs.export.export import run_export

__all__ = ["run_export"]
