"""`status`: state of an OUT and of the run that works on it. Reads only OUT and the manifest, from any machine that reaches them.

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
from sep_batch.pipeline.manifest.sample import chosen
from sep_batch.pipeline.out import database, layout, lease
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import SUSPECT, make_plan
from sep_batch.pipeline.out.takedown import WITHDRAWN
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing

_TRACKS = f"""SELECT status, error_class, count(*), coalesce(sum(audio_s), 0), count(*) FILTER ({database.IS_DAMAGED})
    FROM newest GROUP BY status, error_class ORDER BY count(*) DESC, error_class"""  # noqa: S608 (no user input)
_SUSPECT = f"SELECT count(*) FROM newest AS was WHERE {SUSPECT}"  # noqa: S608 (no user input)
_TRIED = """CREATE TABLE tried AS SELECT id, status, audio_s, finished_at, run_id
    FROM rows WHERE status IN ('ok', 'failed') AND error_class IS DISTINCT FROM 'bad_row'"""  # bad rows are not tried
_LAST_RUN = "SELECT max(run_id) FROM rows WHERE status IN ('ok', 'failed')"
_RUN_COUNTS = """SELECT count(DISTINCT id), count(DISTINCT id) FILTER (status = 'failed'),
    strftime(min(finished_at), $iso), strftime(max(finished_at), $iso) FROM tried WHERE run_id = $run"""
_RECENT = """SELECT count(*), coalesce(sum(audio_s) FILTER (status = 'ok'), 0), epoch(max(finished_at) - min(finished_at))
    FROM tried WHERE run_id = $run AND finished_at > $last::TIMESTAMPTZ - to_seconds($seconds)"""


def run_status(out: str) -> Status:
    """Return the state of an OUT and of the run that works on it. Nothing is written, and no run is disturbed.

    Args:
        out: OUT, a path or URI.

    Raises:
        NotRunnableError: No run wrote to this place, or its storage or journal cannot be read.
    """
    try:
        out = uris.target(out)
        refuse_no_out(out)
        return _status(out)
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"OUT {error}") from error


@listing
def _status(out: str) -> Status:
    """Read lease, journal and plan; read them again if a run removed some of them meanwhile."""
    status, run_json = Status(out), last_run(out)
    _read_lease(status)
    with ThreadPoolExecutor(1) as pool:
        listed = None if status.is_at_work else pool.submit(_listed, run_json)  # while the journal is read
        with database.opened(out) as journal:
            _count(status, journal)
            if listed is None:
                _count_down(status, journal)
            else:
                _compare(status, journal, listed.result(), run_json)
    status.model, status.version = run_json["settings"].get("spec", {}).get("name"), run_json["versions"].get("sep-batch")
    status.format, status.manifest = run_json["settings"].get("format"), run_json["manifest"].get("uri")
    status.settings, status.flags = run_json["settings"], setting_flags.words(run_json)
    recorded = run_json["manifest"]
    status.listed, status.limit, status.sample = recorded.get("tracks"), recorded.get("limit"), recorded.get("sample")
    return status


def _read_lease(status: Status) -> None:
    """Fill in the holder of the newest lease, its state and its heartbeat."""
    if (newest := lease.newest(status.out)) is None:
        return
    status.heartbeat_s = newest.silent_s
    status.run, status.host, status.pid, status.since = (newest.says.get(name) for name in ("run", "host", "pid", "since"))
    status.state = newest.state


def _count(status: Status, journal: JournalDatabase) -> None:
    """Count the tracks of OUT, and those of its newest run."""
    sql = journal.database.execute
    for state, error_class, count, audio_s, damaged in sql(_TRACKS).fetchall():
        if state == "ok":
            status.done, status.audio_s = status.done + count, status.audio_s + audio_s
            status.ok_damaged += damaged
        elif state == "failed":
            status.failed[error_class] = count
        elif state == WITHDRAWN:
            status.withdrawn += count
        elif state == "replaced":
            status.replaced += count
        else:
            status.marked += count
    ((status.suspect,),) = sql(_SUSPECT).fetchall()
    sql(_TRIED)
    if not status.is_at_work:
        (status.run,) = sql(_LAST_RUN).fetchall()[0]
    counts = sql(_RUN_COUNTS, {"run": status.run, "iso": "%Y-%m-%dT%H:%M:%S.%fZ"}).fetchall()[0]
    status.tried, status.tried_failed, status.began, status.last = counts


def _count_down(status: Status, journal: JournalDatabase) -> None:
    """Fill in the pending tracks of the run at work, its speed and its remaining time."""
    status.planned = _planned(layout.plan_folder(status.out, status.run)) if status.run else None
    if status.planned is None:
        status.unknown = "the run has no plan yet"
        return
    status.pending = max(0, status.planned - status.tried)
    if status.state == "silent" or status.last is None:
        return
    values = {"run": status.run, "last": status.last, "seconds": RATE_S}
    count, audio_s, seconds = journal.database.execute(_RECENT, values).fetchall()[0]
    if seconds:  # from the first of these tracks to the last, one track fewer was finished
        status.tracks_a_minute = 60 * (count - 1) / seconds
        status.audio_s_a_minute = 60 * audio_s * (count - 1) / count / seconds
        status.eta_s = 60 * status.pending / status.tracks_a_minute


def _planned(folder: str) -> int | None:
    """Return the number of tracks in a run's plan, None without a plan. All files but the last have the same number of rows.

    Raises:
        NotFound: The run ended meanwhile and removed its plan.
    """
    files = [info.uri for info in storage.find(f"{folder}/0")]  # plan of the first pass
    ends = [pyarrow.parquet.read_metadata(io.BytesIO(storage.read(uri))).num_rows for uri in (*files[:1], *files[-1:])]
    return (len(files) - 1) * ends[0] + ends[1] if files else None


def _listed(run_json: dict[str, Any]) -> manifest.Manifest | str:
    """Return the manifest of the last run, or the reason why it is unknown."""
    recorded = run_json["manifest"]
    if "uri" not in recorded:
        return "no run has recorded its manifest"
    try:
        listed = manifest.read(recorded["uri"], **recorded.get("read_with", {}))
    except errors.RunError as error:
        return str(error)
    same = listed.sha256 == recorded.get("sha256")
    return listed if same else f"manifest {uris.shown(listed.uri)} has changed since the last run"


def _compare(status: Status, journal: JournalDatabase, listed: manifest.Manifest | str, run_json: dict[str, Any]) -> None:
    """Fill in the tracks that the last run's command would separate if run again: its manifest, `--limit` and `--sample`."""
    if isinstance(listed, str):
        status.unknown = listed
        return
    recorded = run_json["manifest"]
    tracks = chosen(listed.tracks, recorded.get("limit"), recorded.get("sample"))
    status.planned = tracks.num_rows
    plan = make_plan(tracks, journal, run_json.get("settings_sha256", ""), "transient")
    status.pending = plan.todo + plan.counts["bad_row"]
