"""`withdraw`: remove the stems of tracks, and all that OUT knows about them but id, reason and time.

from sep_batch.jobs.withdraw import run_withdraw
result = run_withdraw("songs.stems", ["a-0123456789abcdef"], why="takedown 4711")
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sep_batch.jobs.setup import outs
from sep_batch.jobs.setup.units import tracks
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import database, index, layout, lease, takedown
from sep_batch.pipeline.out.journal import Journal, new_run
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.threads import in_threads

SHOWN = 20  # ids in a message
SET_ASIDE = ".unreadable"  # journal files that `verify --repair` has set aside


@dataclass(frozen=True)
class Withdrawn:
    """Result of a takedown.

    Attributes:
        out: OUT.
        withdrawn: Number of tracks that were withdrawn.
        before: Number of tracks that had been withdrawn before.
        stems: Number of stems removed.
        journal_files: Number of journal files that were written again without these tracks.
        records: Number of other files of OUT that named them, and were written again.
        set_aside: URIs of unreadable journal files, which may still name them.
        exit_code: Exit code of the command.
    """

    out: str
    withdrawn: int
    before: int
    stems: int
    journal_files: int
    records: int
    set_aside: list[str]
    exit_code: int = 0


def run_withdraw(out: str, ids: Collection[str], *, why: str, wait_s: float = 0.0) -> Withdrawn:
    """Withdraw tracks. If it is killed, the same call goes on where it was.

    Args:
        out: OUT, a path or URI.
        ids: Ids of the tracks.
        why: Reason, one line of text, which the index keeps.
        wait_s: Seconds to wait while a run works on OUT.

    Raises:
        UsageError: There is no reason, no id, or OUT does not have one of the ids.
        NotRunnableError: No run wrote to this place, or its storage failed.
        LeaseHeldError: A run works on OUT.
    """
    why, ids = errors.one_line(why.strip()), {id.strip() for id in ids} - {""}
    if not why:
        raise errors.UsageError("--why: is empty; expected the reason, which the index keeps")
    if not ids:
        raise errors.UsageError("--ids: names no track; expected one id a line")
    with outs.errors():
        out = uris.target(out)
        outs.refuse_no_out(out)
        with lease.hold(out, wait_s=wait_s) as held:
            return _withdrawn(out, ids, why, held)


def _withdrawn(out: str, ids: set[str], why: str, held: lease.Lease) -> Withdrawn:
    with database.opened(out) as journal:
        known = takedown.choose(journal, ids)
        if unknown := sorted(ids - known.keys()):
            more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
            raise errors.UsageError(
                f"--ids: OUT {out} has no track {', '.join(map(uris.printable, unknown[:SHOWN]))}{more}; nothing was withdrawn"
            )
        stems, sources = takedown.stem_uris(journal), takedown.source_uris(journal)
    run = new_run(out)
    held.tell(run=run)
    new = {id for id, status in known.items() if status != takedown.WITHDRAWN}
    if new:
        with Journal(out, run, check=held.check) as writer:
            takedown.mark(new, why, writer)
    held.check()
    for left in (layout.PARTS, layout.PLAN, layout.SCORES, layout.SCORES_FILE):  # what is left of runs, and can be made again
        storage.remove(f"{out}/{left}")
    there = sum(in_threads(lambda uri: storage.exists(f"{out}/{uri}"), stems))
    for uri in stems:
        takedown.remove_stem(out, uri)
    with index.beside(out, run) as folder:
        files = takedown.empty_rows(out, ids, folder, held.check)
    names = {*sources, *map(uris.shown, sources), *stems}
    records = takedown.erase_texts(out, names, layout.parts_folder(out, run), held.check)
    held.check()
    index.publish(out, run)
    storage.remove(layout.parts_folder(out, run))
    aside = [info.uri for info in storage.find(layout.journal_folder(out)) if info.uri.endswith(SET_ASIDE)]
    return Withdrawn(out, len(new), len(ids) - len(new), there, files, records, aside, errors.CHECK_FAILED if aside else 0)


def lines(result: Withdrawn) -> Iterator[str]:
    """Yield the lines of the result."""
    before = f", {result.before} withdrawn before" if result.before else ""
    files = f"{result.journal_files + result.records} files of OUT written again without them"
    yield f"{tracks(result.withdrawn)} withdrawn{before}; {result.stems} stems removed, {files}"
    for uri in result.set_aside:
        yield f"may still name them: {uri}, a journal file that cannot be read; remove it"
    yield f"exports made from OUT still hold them: export again, with --overwrite; see sep-batch status {shlex.quote(result.out)}"
