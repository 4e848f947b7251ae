"""Record of a run in OUT, `_sep/runs/<run>.json`, written when the run ends. `status --history` reads it; no run does.

A run without work to do, or one that is refused, has no name in the journal. Its record is named by day and exit code, and
replaces that of an earlier such run: a scheduler that runs every five minutes adds one file a day.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.setup import check_machine, machine
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import machine_requirements

VERSION = 1
VANISHED_KEPT = 100  # ids of tracks whose source is gone
OPTIONS = (  # fields of `Options` that are recorded: those that are no settings and hold no secrets
    *("model", "limit", "sample", "restore", "include", "exclude", "bad_rows", "allow_http"),
    *("engine", "gpus", "cpus", "address", "min_gpus", "shared_filesystem", "stft", "analysis"),
    *("max_failures", "ok_with_failures", "retry", "damaged", "overwrite", "deadline", "wait_s", "time_limit_s"),
)


@contextlib.contextmanager
def recorded(run: str, source: str, summary: Summary, settings: Settings, options: Options, *, begun: float) -> Iterator[None]:
    """Write the run's record after the block, whatever ends it. If that fails, log a warning.

    Args:
        run: Name of the run, whether or not there will be work to do.
        source: URI of the manifest, or title of several sources.
        summary: Summary of the run; gets `job_s`, and the exit code of an exception.
        settings: Settings of the run.
        options: Options of the run.
        begun: Time of `time.monotonic` at which the run began.
    """
    ended_by: BaseException | None = None
    try:
        yield
    except BaseException as error:
        ended_by, summary.exit_code = error, errors.exit_code_of(error)
        raise
    finally:
        summary.job_s = time.monotonic() - begun
        try:
            _write(run, _record(source, summary, settings, options, ended_by), summary)
        except Exception as error:  # noqa: BLE001 (the run itself is over, and its exit code stays)
            reason = errors.one_line(errors.first_line(error))
            logging.getLogger("sep_batch").warning("warning: this run has no record in status --history: %s", reason)


def _write(run: str, record: dict[str, Any], summary: Summary) -> None:
    day = datetime.fromisoformat(record["ended"])
    name = summary.run or f"{run.partition('-')[0]}-none-{day:%Y%m%d}-{summary.exit_code}"
    content = json.dumps(record, indent=2).encode()
    storage.put(f"{layout.runs_folder(summary.out)}/{name}.json", content, scratch=layout.parts_folder(summary.out, "record"))


def _record(
    source: str, summary: Summary, settings: Settings, options: Options, ended_by: BaseException | None
) -> dict[str, Any]:
    ended = datetime.now(UTC)
    is_planned = summary.run is not None or ended_by is None
    tracks_not_left = summary.done_before + summary.known_failed + summary.withdrawn + summary.ok + summary.failed.total()
    return {
        "record_version": VERSION,
        "run": summary.run,
        "started": (ended - timedelta(seconds=summary.job_s)).isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        "exit_code": summary.exit_code,
        "error": _message(ended_by),
        "source": source,
        "left": summary.tracks - tracks_not_left if is_planned else None,
        **summary.as_dict(),
        "vanished": summary.vanished[:VANISHED_KEPT],
        "vanished_tracks": len(summary.vanished),
        "settings": settings.canonical(),
        "settings_sha256": settings.sha256,
        "options": {name: getattr(options, name) for name in OPTIONS},
        "versions": machine_requirements.versions(),
        "machine": {
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "cpus": machine.usable_cpus(),
            "memory_bytes": check_machine.memory_bytes(),
            "gpus": machine.gpu_models(),
        },
    }


def _message(ended_by: BaseException | None) -> str | None:
    """Return one line about the exception that ended a run; None without one."""
    if ended_by is None:
        return None
    if isinstance(ended_by, KeyboardInterrupt):
        return "stopped by a signal"
    if isinstance(ended_by, errors.BugError):  # the lines between are a traceback
        return errors.one_line(f"{errors.first_line(ended_by)} {errors.last_line(ended_by)}")
    if isinstance(ended_by, errors.RunError):
        return errors.one_line(str(ended_by))
    return errors.one_line(f"a defect of sep-batch: {type(ended_by).__name__}: {errors.last_line(ended_by)}")
