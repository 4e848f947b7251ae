"""`status`: what the run on an OUT is doing, and what OUT holds. From its journal and lease alone, so from any machine.

from sep_batch.jobs.status import run_status
status = run_status("s3://bucket/stems")
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.parquet

from sep_batch.jobs.setup import setting_flags
from sep_batch.jobs.setup.outs import last_run, refuse_no_out
from sep_batch.jobs.status.report import RATE_S, Status
from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.out import database, layout, lease
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import SUSPECT, make_plan
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing

_TRACKS = f"""SELECT status, error_class, count(*), coalesce(sum(audio_s), 0), count(*) FILTER ({database.IS_DAMAGED})
    FROM newest GROUP BY status, error_class ORDER BY count(*) DESC, error_class"""  # noqa: S608 (a condition of ours)
_SUSPECT = f"SELECT count(*) FROM newest AS was WHERE {SUSPECT}"  # noqa: S608 (ours)
_TRIED = """CREATE TABLE tried AS SELECT id, status, audio_s, finished_at, run_id
    FROM rows WHERE status IN ('ok', 'failed') AND error_class IS DISTINCT FROM 'bad_row'"""  # the others were not tried
_LAST_RUN = "SELECT max(run_id) FROM rows WHERE status IN ('ok', 'failed')"
_OF_RUN = """SELECT count(DISTINCT id), count(DISTINCT id) FILTER (status = 'failed'),
    strftime(min(finished_at), $iso), strftime(max(finished_at), $iso) FROM tried WHERE run_id = $run"""
_RECENT = """SELECT count(*), coalesce(sum(audio_s) FILTER (status = 'ok'), 0), epoch(max(finished_at) - min(finished_at))
    FROM tried WHERE run_id = $run AND finished_at > $last::TIMESTAMPTZ - to_seconds($seconds)"""


def run_status(out: str) -> Status:
    """Tell what the run on an OUT is doing, and what OUT holds; nothing is written, and no run is disturbed.

    Args:
        out: OUT, a path or URI.

    Raises:
        NotRunnableError: OUT is none, or its storage or journal cannot be read.
    """
    try:
        out = uris.target(out)
        refuse_no_out(out)
        return _status(out)
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"OUT {error}") from error


@listing
def _status(out: str) -> Status:
    """Read lease, journal and plan; anew where a run removed some of them meanwhile."""
    status, run_json = Status(out), last_run(out)
    _tell_lease(status)
    with ThreadPoolExecutor(1) as pool:
        listed = None if status.is_at_work else pool.submit(_listed, run_json)  # meanwhile
        with database.opened(out) as journal:
            _count(status, journal)
            if listed is None:
                _count_down(status, journal)
            else:
                _compare(status, journal, listed.result(), run_json)
    status.model, status.version = run_json["settings"].get("spec", {}).get("name"), run_json["versions"].get("sep-batch")
    status.format, status.manifest = run_json["settings"].get("format"), run_json["manifest"].get("uri")
    status.settings, status.flags = run_json["settings"], setting_flags.words(run_json)
    status.listed, status.limit = run_json["manifest"].get("tracks"), run_json["manifest"].get("limit")
    return status


def _tell_lease(status: Status) -> None:
    """Say who holds the lease, and how he does."""
    if (newest := lease.newest(status.out)) is None:
        return
    status.heartbeat_s = newest.silent_s
    status.run, status.host, status.pid, status.since = (newest.says.get(name) for name in ("run", "host", "pid", "since"))
    if newest.is_over:
        status.state = "ended" if newest.says.get("ended") else "gone"
    else:
        status.state = "running" if newest.silent_s < lease.DEAD_S else "silent"


def _count(status: Status, journal: JournalDatabase) -> None:
    """Count OUT's tracks, and those of its run."""
    sql = journal.database.execute
    for state, error_class, count, audio_s, damaged in sql(_TRACKS).fetchall():
        if state == "ok":
            status.done, status.audio_s = status.done + count, status.audio_s + audio_s
            status.ok_damaged += damaged
        elif state == "failed":
            status.failed[error_class] = count
        elif state == "replaced":
            status.replaced += count
        else:
            status.marked += count
    ((status.suspect,),) = sql(_SUSPECT).fetchall()
    sql(_TRIED)
    if not status.is_at_work:
        (status.run,) = sql(_LAST_RUN).fetchall()[0]
    of_run = sql(_OF_RUN, {"run": status.run, "iso": "%Y-%m-%dT%H:%M:%S.%fZ"}).fetchall()[0]
    status.tried, status.tried_failed, status.began, status.last = of_run


def _count_down(status: Status, journal: JournalDatabase) -> None:
    """Say what the run at work has left to do, how fast it is, and how long it will take."""
    status.planned = _planned(layout.plan_folder(status.out, status.run)) if status.run else None
    if status.planned is None:
        status.unknown = "the run has no plan yet"
        return
    status.pending = max(0, status.planned - status.tried)
    if status.state == "silent" or status.last is None:
        return
    values = {"run": status.run, "last": status.last, "seconds": RATE_S}
    count, audio_s, seconds = journal.database.execute(_RECENT, values).fetchall()[0]
    if seconds:  # between the first of them and the last lie one track fewer
        status.tracks_a_minute = 60 * (count - 1) / seconds
        status.audio_s_a_minute = 60 * audio_s * (count - 1) / count / seconds
        status.eta_s = 60 * status.pending / status.tracks_a_minute


def _planned(folder: str) -> int | None:
    """Return how many tracks a run set out to do, None where its plan is not there: all files but the last hold equally many.

    Raises:
        NotFound: The run has ended meanwhile, and has removed its plan.
    """
    files = [info.uri for info in storage.find(f"{folder}/0")]  # of its first pass
    ends = [pyarrow.parquet.read_metadata(io.BytesIO(storage.read(uri))).num_rows for uri in (*files[:1], *files[-1:])]
    return (len(files) - 1) * ends[0] + ends[1] if files else None


def _listed(run_json: dict[str, Any]) -> manifest.Manifest | str:
    """Return the manifest of the last run, or why it is not known what that was."""
    before = run_json["manifest"]
    if "uri" not in before:
        return "no run has said of which manifest"
    try:
        listed = manifest.read(before["uri"], **before.get("read_with", {}))
    except errors.RunError as error:
        return str(error)
    same = listed.sha256 == before.get("sha256")
    return listed if same else f"manifest {uris.shown(listed.uri)} has changed since"


def _compare(status: Status, journal: JournalDatabase, listed: manifest.Manifest | str, run_json: dict[str, Any]) -> None:
    """Say what the last run's command would have to do if it were run again: of its manifest, and no more than its `--limit`."""
    if isinstance(listed, str):
        status.unknown = listed
        return
    tracks = listed.tracks.slice(0, run_json["manifest"].get("limit"))
    status.planned = tracks.num_rows
    plan = make_plan(tracks, journal.database, run_json.get("settings_sha256", ""), "transient")
    status.pending = plan.todo + plan.counts["bad_row"]
