"""One run, or one export, in a process of its own: its options as JSON in argv, its summary as the last line, its exit code as
the command's."""

from __future__ import annotations

import json
import os
import sys

from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors
from sep_batch.pipeline.export import journal as export_journal
from sep_batch.pipeline.out import lease

options = json.loads(sys.argv[1])
lease.DEAD_S = options.pop("dead_s", lease.DEAD_S)
lease.BEAT_S = min(lease.BEAT_S, lease.DEAD_S / 4)
if "lost_s" in options:
    from sep_batch.pipeline.flow import actors

    actors.LOST_S = options.pop("lost_s")
try:
    if "dest" in options:
        export_journal.FLUSH_S = options.pop("flush_s", export_journal.FLUSH_S)
        summary = run_export(options.pop("out"), options.pop("dest"), **options)
    else:
        summary = run_job(options.pop("source"), options.pop("out"), **{"gpus": "0", "engine": "ray"} | options)
    sys.stdout.write(summary.to_json() + "\n")
    code = summary.exit_code
except errors.RunError as error:
    sys.stderr.write(f"error: {error}\n")
    code = error.exit_code
except KeyboardInterrupt:
    code = errors.STOPPED
sys.stdout.flush()
os._exit(code)
