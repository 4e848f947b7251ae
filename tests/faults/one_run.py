"""One run in a process of its own: its options as JSON in argv, its summary as the last line, its exit code as the command's."""

from __future__ import annotations

import json
import os
import sys

from sep_batch.jobs.run import run_job
from sep_batch.pipeline import failures, lease

given = {"gpus": "0"} | json.loads(sys.argv[1])
lease.DEAD_S = given.pop("dead_s", lease.DEAD_S)
lease.BEAT_S = min(lease.BEAT_S, lease.DEAD_S / 4)
if "lost_s" in given:
    from sep_batch.pipeline import pools

    pools.LOST_S = given.pop("lost_s")
try:
    summary = run_job(given.pop("source"), given.pop("out"), **given)
    sys.stdout.write(summary.to_json() + "\n")
    code = summary.exit_code
except failures.RunError as error:
    sys.stderr.write(f"error: {error}\n")
    code = error.exit_code
except KeyboardInterrupt:
    code = failures.STOPPED
sys.stdout.flush()
os._exit(code)
