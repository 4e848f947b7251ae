"""An Airflow 3 DAG: what is new or has changed in a bucket is separated every night.

Copy this file into Airflow's folder of DAGs, and fill in SOURCE, OUT and COMMAND: the path of sep-batch on the worker, in an
environment of its own, since Airflow pins other versions. The storage's credentials come from the worker's environment. With
`sep-batch submit --` as COMMAND, the run is on a cluster's head.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import Literal

SOURCE, OUT, COMMAND = "s3://bucket/songs", "s3://bucket/stems", "/opt/sep-batch/bin/sep-batch"
DEADLINE = "06:00"

Outcome = Literal["success", "skip", "retry", "fail"]
OUTCOMES: dict[int, Outcome] = {
    0: "success",
    3: "success",  # some tracks failed: `sep-batch failures OUT` says why; they are rows of the index
    7: "success",  # stopped at the deadline: the next night goes on
    75: "skip",  # last night's run is still at work
    -15: "retry",  # ended from outside, as 1 and 137 may be
    1: "retry",
    137: "retry",
}


def outcome(code: int) -> Outcome:
    """Return what an exit code means to the scheduler; all others (2, 4, 5, 6, 8) need a person."""
    return OUTCOMES.get(code, "fail")


def separate() -> int:
    """Run `sep-batch sync`, with its log in the task's log; return its exit code."""
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

    command = [*COMMAND.split(), "sync", SOURCE, OUT, "--deadline", DEADLINE, "--log-format", "json"]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 (the command above)
    message = f"sep-batch ended with exit code {code}"
    match outcome(code):
        case "skip":
            raise AirflowSkipException(message)
        case "retry":
            raise AirflowException(message)
        case "fail":
            raise AirflowFailException(message)  # without a retry: it would end the same way
    return code


try:
    from airflow.sdk import dag, task
except ImportError:  # the mapping above can be tested without Airflow
    pass
else:

    @dag(
        schedule="0 22 * * *",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
    )
    def sep_batch_nightly() -> None:
        """Separate every night."""
        task(separate)()

    sep_batch_nightly()
