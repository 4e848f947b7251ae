"""`run`: separate every track of a manifest that is not done yet. Holds OUT's lease, runs the driver, publishes the index.

from sep_batch.jobs.run import run_job
summary = run_job("songs.parquet", out="songs.stems")
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.engine import choice
from sep_batch.jobs.progress import forecast
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run import finished, record
from sep_batch.jobs.setup import machine, outs, prepare
from sep_batch.jobs.setup.options import MaxFailures, Options, check
from sep_batch.jobs.setup.stop import Stop, seconds_until
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import manifest, storage
from sep_batch.pipeline.out import database, index, layout, lease
from sep_batch.pipeline.out.journal import Journal, new_run
from sep_batch.pipeline.out.plan import Plan, make_plan, vanished
from sep_batch.pipeline.out.revoked_rows import revoke
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import machine_requirements
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements
from sep_batch.pipeline.storage import uris

if TYPE_CHECKING:
    from sep_batch.pipeline.stages.context import RunContext


def run_job(
    source: str,
    out: str | None = None,
    *,
    progress: Progress | None = None,
    first: Callable[[], None] | None = None,
    **options: Any,
) -> Summary:
    """Separate every track of a manifest that is not done yet.

    Args:
        source: A manifest, a folder, or an audio file; a path or URI.
        out: Folder or prefix for stems and index; by default beside the source, `songs.parquet` -> `songs.stems`.
        progress: Progress display and log; by default nothing is shown.
        first: Check of the source that raises a RunError, called before anything else.
        options: The fields of `Options`.

    Returns:
        Summary of the run, with the exit code of the command.

    Raises:
        RunError: The run could not start, or a fault of a storage, of Ray or of sep-batch ended it.
        KeyboardInterrupt: A signal came before the flow ran, or a second one while it ended.
    """
    run_options = Options(**options)
    check(run_options)
    stop, progress = Stop(), progress or Progress()
    with stop.on_signals(), progress.showing():
        progress.begin(Summary(out=uris.absolute(out) if out else "", tracks=0))
        if run_options.deadline:
            stop.end_after(seconds_until(run_options.deadline, datetime.now()))  # noqa: DTZ005 (a deadline is in local time)
        if first:
            first()
        summary = _run(source, out, run_options, stop, progress)
    progress.end(summary)
    return summary


def _run(source: str, out: str | None, options: Options, stop: Stop, progress: Progress) -> Summary:
    begun = time.monotonic()
    choice.look_ahead(chosen := choice.before_planning(options), options, progress.wait_for)
    progress.wait_for("reading the manifest")
    catalog = prepare.read_catalog(source, out, options)
    tracks, out = catalog.tracks, catalog.out
    choice.prepare(chosen, options, tracks)
    summary, source = Summary(out=out, tracks=tracks.num_rows, warnings=catalog.warnings), catalog.listed.title
    progress.begin(summary)
    progress.wait_for("reading the weights")
    model = prepare.obtain_model(options.model)
    with outs.errors():
        before, settings = _settings(options, model, catalog)
    progress.wait_for("reading OUT's journal")
    with outs.errors(), lease.hold(out, wait_s=options.wait_s) as held:
        if outs.last_run(out) != before:  # another run has made or changed OUT in the meantime
            before, settings = _settings(options, model, catalog)
        run = new_run(out)
        with record.recorded(run, source, summary, settings, options, begun=begun), outs.errors():
            prepare.refuse_other_settings(out, settings, before, overwrite=options.overwrite)
            index.compact(out, run, check=held.check)
            writer = Journal(out, run, check=held.check, flush_s=options.flush_s)
            with database.opened(out) as journal:
                plan = make_plan(tracks, journal, settings.sha256, options.retry, catalog.restored)
                prepare.refuse_ids_of_others(plan, journal)
                paths = prepare.paths(plan, journal, settings)
                _open_out(out, run, settings, catalog.listed, options)
                listed = catalog.listed
                summary.vanished = vanished(listed.tracks, listed.folders, listed.unread, journal)
                redone = pa.chunked_array([*plan.column("id").chunks, pa.array(paths.displaced, pa.string())])
                are_revoked = plan.todo and revoke(journal, redone, writer)
            if are_revoked:
                index.publish(out, run)
            bad_rows = plan.bad_rows if plan.counts["bad_row"] else None
            _count(plan, catalog, settings, before, summary)
            with _published(out, run, held):
                if plan.todo or bad_rows is not None:
                    summary.run = run
                    held.tell(run=run)
                    progress.plan(summary, pa.table({"duration_s": plan.column("duration_s")}))
                if plan.todo:
                    chosen = chosen or _chosen(plan, options, progress)
                    summary.engine = chosen.name
                    requirements = machine.requirements(options, _local_path(out, plan.column("uri")))
                    work = _work(settings, summary, options, catalog.access, requirements, paths.marked)
                    todo, left = plan.blocks(), plan.todo
                    # Gigabytes for ten million tracks; the driver iterates `todo` once, into plan files.
                    del catalog, tracks, plan
                    _drive(chosen, todo, left, bad_rows, work, str(model.folder), summary, options, progress, stop, writer)
                elif bad_rows is not None:
                    _fail(bad_rows, settings, summary, progress, writer)
            summary.judge(MaxFailures.parse(options.max_failures), ok_with_failures=options.ok_with_failures)
    return summary


def _settings(options: Options, model: prepare.Model, catalog: prepare.Catalog) -> tuple[dict[str, Any], Settings]:
    """Return OUT's run.json and the settings of the run."""
    before = outs.last_run(catalog.out)
    settings = prepare.settings_of(options, model, catalog, before)
    prepare.refuse_collisions(catalog.tracks, settings)
    return before, settings


def _count(plan: Plan, catalog: prepare.Catalog, settings: Settings, before: dict[str, Any], summary: Summary) -> None:
    """Count the tracks that are not tried, and take the forecast of the others, and warnings about them."""
    summary.done_before = plan.counts["done"] + plan.counts["done_suspect"]
    summary.known_failed, summary.withdrawn = plan.counts["known_failed"], plan.counts["withdrawn"]
    if expected := forecast.take(summary.out, settings.sha256, plan.todo):
        summary.forecast_s = expected.seconds
    summary.warnings += (*prepare.not_restored(catalog, plan), *(outs.other_torch(before) if plan.todo else ()))


def _chosen(plan: Plan, options: Options, progress: Progress) -> choice.Choice:
    """Return the engine for a plan, where nothing but the amount of work decides it."""
    chosen = choice.by_amount(options, plan.tracks if plan.todo <= choice.MOST_TRACKS else plan.listed)
    choice.look_ahead(chosen, options, progress.wait_for)
    return chosen


def _work(
    settings: Settings,
    summary: Summary,
    options: Options,
    access: storage.Options,
    machine: MachineRequirements,
    marked: frozenset[str],
) -> RunContext:
    from sep_batch.pipeline.stages.context import RunContext

    run = summary.run or ""
    parts = layout.parts_folder(summary.out, run)
    scratch = parts if uris.is_local(parts) else options.scratch or tempfile.gettempdir()
    return RunContext(
        settings,
        summary.out,
        run,
        parts,
        scratch,
        limit_s=options.time_limit_s,
        on_damage=options.damaged,
        analysis=options.analysis,
        storage=access,
        machine=machine,
        marked=marked,
    )


def _local_path(out: str, sources: pa.ChunkedArray) -> str | None:
    """Return OUT if it is a local path, else the first source that is one."""
    if uris.is_local(out):
        return out
    local = pc.invert(pc.match_substring(sources, "://"))
    return pc.first(sources.filter(local)).as_py()  # type: ignore[no-any-return]


def _fail(bad_rows: pa.Table, settings: Settings, summary: Summary, progress: Progress, writer: Journal) -> None:
    """Fail the bad rows of a manifest that has nothing to separate, without an engine."""
    with writer:
        progress.start(settings.sha256)
        finished.fail(bad_rows, settings.sha256, writer, summary, progress)


def _drive(
    chosen: choice.Choice,
    todo: Iterator[pa.Table],
    tracks: int,
    bad_rows: pa.Table | None,
    work: RunContext,
    model: str,
    summary: Summary,
    options: Options,
    progress: Progress,
    stop: Stop,
    writer: Journal,
) -> None:
    from sep_batch.jobs.run.breaker import Breaker
    from sep_batch.jobs.run.driver import Driver
    from sep_batch.pipeline.stages.context import stft_stage

    bound = MaxFailures.parse(options.max_failures)
    with (
        choice.running(chosen, options, work.machine, tracks, progress.wait_for) as ready,
        stop.on_signals(),  # again: Ray sets a signal handler of its own
        writer,
        stop.draining(),
    ):
        on_gpu = ready.resources.device != "cpu"
        work = replace(work, stft=stft_stage(options.stft, on_gpu=on_gpu, needs_wave=work.settings.needs_wave))
        Driver(work, model, ready, summary, bound, writer, progress, stop, Breaker(work.out)).run(todo, tracks, bad_rows)


def _open_out(out: str, run: str, settings: Settings, listed: manifest.Manifest, options: Options) -> None:
    """Write OUT's run.json, and remove parts and plans that interrupted runs left."""
    run_json = {
        "run": run,
        "model": options.model if options.model in PRESETS else uris.absolute(options.model),
        "settings": settings.canonical(),
        "settings_sha256": settings.sha256,
        "manifest": {
            "uri": listed.uri,
            "sha256": listed.sha256,
            "read_with": listed.read_with,
            "tracks": listed.tracks.num_rows,
            "limit": options.limit,
            "sample": options.sample,
        },
        "versions": machine_requirements.versions(),
    }
    outs.begin(out, run, layout.RUN_JSON, run_json)


@contextlib.contextmanager
def _published(out: str, run: str, held: lease.Lease) -> Iterator[None]:
    """At the end publish the index and remove plan and parts; not after a second signal, nor if another run took OUT over."""
    is_hurried = False
    try:
        yield
    except KeyboardInterrupt:  # a second signal: the next run publishes
        is_hurried = True
        raise
    finally:
        if not is_hurried:
            held.check()
            index.compact(out, run, check=held.check)
            index.publish(out, run)
            storage.remove(layout.plan_folder(out, run))
            storage.remove(layout.parts_folder(out, run))
