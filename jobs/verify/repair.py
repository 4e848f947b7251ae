"""Repairs of `verify --repair`. They need the lease, and write journal rows and the index.

A track with broken stems gets a row of status `deleted`, so that the next run separates it again. Rows that only the index still
has, because their journal file is lost, are restored. Orphans are removed only with `--yes`, and only old ones.
"""

from __future__ import annotations

from datetime import timedelta

from sep_batch.jobs.verify.checks import BROKEN
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index, layout, lease
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.journal import Journal, new_run
from sep_batch.pipeline.out.revoked_rows import copy_rows

REMOVED_FROM = timedelta(hours=24)  # age from which orphans are removed: a younger one may belong to a run not journaled yet
REMOVED_AT_ONCE = 100  # objects removed between two checks of the lease
SET_ASIDE = ".unreadable"

# Rows of the index that the journal lost: newer than its rows of their track, with all stems there and named by no other track.
_LOST = """
    WITH ahead AS (
        SELECT id, s.uri, s.bytes FROM (
            SELECT p.id, unnest(p.stems) AS s FROM published p LEFT JOIN newest n ON n.id = p.id
            WHERE p.status = 'ok' AND (n.id IS NULL OR p.run_id > n.run_id OR (p.run_id = n.run_id AND n.status = 'replaced')))),
    by_others AS (SELECT DISTINCT id, s.uri FROM (SELECT id, unnest(stems) AS s FROM rows))
    SELECT ahead.id FROM ahead
    LEFT JOIN listed ON listed.uri = ahead.uri AND listed.bytes = ahead.bytes
    LEFT JOIN by_others ON by_others.uri = ahead.uri AND by_others.id <> ahead.id
    GROUP BY ahead.id HAVING bool_and(listed.uri IS NOT NULL AND by_others.id IS NULL)"""
_DELETED = """
    SELECT track.* EXCLUDE (_sep_file, _sep_place) REPLACE (
        'deleted' AS status, broken.kind AS error_class, 'verify' AS error_stage, broken.found[:$chars] AS error,
        true AS transient, CASE WHEN false THEN track.stems END AS stems, now() AS finished_at, $run AS run_id)
    FROM whole_newest AS track JOIN (
        SELECT id, if(bool_or(kind = 'missing'), 'stem_missing', 'stem_damaged') AS kind,
            string_agg(uri || ': ' || found, '; ' ORDER BY uri) AS found
        FROM findings WHERE list_contains($broken, kind) GROUP BY id) AS broken ON broken.id = track.id
    WHERE track.id NOT IN (FROM lost)"""
_TAKEN_BACK = "SELECT * EXCLUDE (_sep_file, _sep_place) FROM whole_published SEMI JOIN lost USING (id)"
_REMOVABLE = """
    SELECT uri FROM findings JOIN listed USING (uri) WHERE kind IN ('orphan', 'leftover') AND modified < now() - $age
    AND (kind = 'orphan' OR starts_with(uri, 'stems/') OR starts_with(uri, '_sep/parts/')) ORDER BY uri"""


def mend(journal: JournalDatabase, out: str, held: lease.Lease, *, remove: bool) -> dict[str, int]:
    """Repair the faults in `findings`.

    Args:
        journal: OUT's journal, after `checks.collect`.
        out: OUT.
        held: OUT's lease.
        remove: Remove orphans and parts older than `REMOVED_FROM`.

    Returns:
        Numbers of tracks marked for the next run, rows restored, journal files set aside, indexes published, and with `remove`
        of objects removed.
    """
    run = new_run(out)
    held.tell(run=run)
    journal.database.execute(f"CREATE TABLE lost AS {_LOST}")
    marking = {"run": run, "broken": list(BROKEN), "chars": errors.MESSAGE_CHARS}
    with Journal(out, run, check=held.check) as writer:
        marked = copy_rows(journal.database.sql(_DELETED, params=marking), writer)
        taken_back = copy_rows(journal.database.sql(_TAKEN_BACK), writer)
    held.check()
    for uri in journal.unreadable:
        storage.put(f"{uri}{SET_ASIDE}", storage.read(uri), scratch=layout.parts_folder(out, run))
        storage.remove(uri)
    done = {"marked": marked, "taken_back": taken_back, "set_aside": len(journal.unreadable)}
    if remove:
        done["removed"] = _remove(journal, out, held)
    held.check()
    done["published"] = int(index.publish(out, run))
    storage.remove(layout.parts_folder(out, run))
    return done


def _remove(journal: JournalDatabase, out: str, held: lease.Lease) -> int:
    """Remove old orphans and parts; none while there are unreadable journal files, which may name them."""
    if any(info.uri.endswith(SET_ASIDE) for info in storage.find(layout.journal_folder(out))):
        return 0
    old = journal.database.execute(_REMOVABLE, {"age": REMOVED_FROM}).fetchall()
    for number, (uri,) in enumerate(old):
        if number % REMOVED_AT_ONCE == 0:
            held.check()
        storage.remove(f"{out}/{uri}")
    return len(old)
