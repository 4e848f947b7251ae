"""`plan`: show what a run would do and why, its amounts, and with a calibration its duration. OUT is only read.

from sep_batch.jobs.plan import run_plan
planned = run_plan("songs.parquet", out="songs.stems")
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sep_batch.jobs.engine import choice
from sep_batch.jobs.engine.choice import Choice
from sep_batch.jobs.plan.amounts import Amounts, amounts
from sep_batch.jobs.plan.known_sizes import past
from sep_batch.jobs.progress import forecast
from sep_batch.jobs.progress.forecast import Forecast
from sep_batch.jobs.setup import machine, outs, prepare
from sep_batch.jobs.setup.options import Options, check
from sep_batch.jobs.setup.prepare import Catalog
from sep_batch.model.published import WeightsError
from sep_batch.pipeline import errors
from sep_batch.pipeline.out import database, lease
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import Plan, changes, make_plan
from sep_batch.pipeline.rows import PROBLEM
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.context import stft_stage
from sep_batch.pipeline.storage.retries import listing


@dataclass(frozen=True)
class Planned:
    """Plan of a run.

    Attributes:
        manifest: URI of the manifest; of several sources, the first with the number of the others.
        out: OUT.
        tracks: Number of tracks in the manifest.
        todo: Number of tracks that a run would separate.
        reasons: Number of tracks by the reason why a run would separate them or not.
        examples: Id of one track by reason, with the changed columns of a changed source, or the problem of a bad row.
        differing: Settings that differ from OUT's, each as (OUT's value, this plan's value).
        warnings: Warnings, a line each.
        amounts: Audio, output and memory of the run; None if there is nothing to do.
        engine: Engine of the run, `local` or `ray`, and why; None if there is nothing to do.
        forecast: Forecast of the run; None without a calibration, or if there is nothing to do.
        refused: Error with which a run would refuse to start; None if it would start.
        exit_code: Exit code of a run that would refuse to start, else 0.
    """

    manifest: str
    out: str
    tracks: int
    todo: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    differing: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    amounts: Amounts | None = None
    engine: Choice | None = None
    forecast: Forecast | None = None
    refused: str | None = None
    exit_code: int = 0


def run_plan(source: str, out: str | None = None, *, calibrate: bool = False, **options: Any) -> Planned:
    """Return what `run` would do. Nothing is written except, with a calibration, the forecast in the user's cache.

    Args:
        source: A manifest, a folder, or an audio file; a path or URI.
        out: OUT, a path or URI; by default beside the source, `songs.parquet` -> `songs.stems`.
        calibrate: Measure this machine for a minute, and forecast the duration of the run.
        options: The fields of `Options`.

    Raises:
        UsageError: A calibration, with a cluster.
        RunError: The run cannot be planned: no manifest, no such model, or OUT cannot be read.
    """
    run_options = Options(**options)
    check(run_options)
    if calibrate and (address := machine.cluster(run_options)):
        raise errors.UsageError(
            f"--calibrate measures this machine, not the cluster at {address}; leave out --address, or unset RAY_ADDRESS"
        )
    catalog = prepare.read_catalog(source, out, run_options)
    with outs.errors():
        before = outs.last_run(catalog.out)
    settings_before = before["settings"] or None
    model = prepare.obtain_model(run_options.model) if calibrate else prepare.model_at_hand(run_options.model, settings_before)
    with outs.errors():
        settings = prepare.settings_of(run_options, model, catalog, before)
        planned = _planned(catalog, settings, settings_before, run_options)
        warnings = [*catalog.warnings, *planned.warnings, *_warnings(run_options, model, catalog.out)]
        planned = replace(planned, warnings=(*warnings, *(outs.other_torch(before) if planned.todo else ())))
    if planned.refused:
        return planned
    if refusal := _refusal(catalog, settings, before, run_options, planned.engine):
        return replace(planned, refused=str(refusal), exit_code=refusal.exit_code)
    if calibrate and planned.amounts:
        return replace(planned, forecast=_forecast(run_options, settings, planned, planned.amounts))
    return planned


@listing
def _planned(catalog: Catalog, settings: Settings, before: dict[str, Any] | None, options: Options) -> Planned:
    """Compare the catalog with OUT's journal."""
    with database.opened(catalog.out) as journal:
        plan = make_plan(catalog.tracks, journal, settings.sha256, options.retry, catalog.restored)
        todo = plan.tracks
        stft = stft_stage(options.stft, on_gpu=bool(machine.gpu_count(options)), needs_wave=settings.needs_wave)
        todo_amounts = amounts(todo, settings, past(journal, todo, settings, before), stft) if plan.todo else None
        examples = _examples(plan, journal)
        refusal = _refused_tracks(plan, journal, settings)
        engine = (choice.before_planning(options) or choice.by_amount(options, todo)) if plan.todo else None
    return Planned(
        catalog.listed.title,
        catalog.out,
        catalog.tracks.num_rows,
        plan.todo,
        dict[str, int](plan.counts.most_common()),
        examples,
        settings.differences(before) if before is not None else {},
        tuple(prepare.not_restored(catalog, plan)),
        amounts=todo_amounts,
        engine=engine,
        refused=str(refusal) if refusal else None,
        exit_code=refusal.exit_code if refusal else 0,
    )


def _refused_tracks(plan: Plan, journal: JournalDatabase, settings: Settings) -> errors.RunError | None:
    try:
        prepare.refuse_ids_of_others(plan, journal)
        prepare.paths(plan, journal, settings)
    except errors.RunError as refused:
        return refused
    return None


def _warnings(options: Options, model: prepare.Model, out: str) -> list[str]:
    warnings = []
    if model.folder is None:
        warnings.append(
            f"the weights of {options.model} are not on this machine yet; the run fetches them, and this plan assumes that they "
            "are the ones that OUT was made with"
        )
    if (holder := lease.newest(out)) and not holder.is_over:
        warnings.append(f"OUT {out}: {holder}; its unfinished tracks are planned as not done")
    return warnings


def _refusal(
    catalog: Catalog, settings: Settings, before: dict[str, Any], options: Options, engine: Choice | None
) -> errors.RunError | None:
    """Return the error with which a run would refuse to start."""
    try:
        choice.look_ahead(engine or choice.before_planning(options), options)
        prepare.refuse_collisions(catalog.tracks, settings)
        prepare.refuse_other_settings(catalog.out, settings, before, overwrite=options.overwrite)
    except errors.RunError as refused:
        return refused
    return None


def _examples(plan: Plan, journal: JournalDatabase) -> dict[str, str]:
    examples = dict[str, str]()
    for reason in plan.counts:
        track = plan.first(reason)
        detail = ", ".join(changes(track, journal)) if reason == "source_changed" else track.get(PROBLEM)
        examples[reason] = track["id"] + (f" ({detail})" if detail else "")
    return examples


def _forecast(options: Options, settings: Settings, planned: Planned, todo_amounts: Amounts) -> Forecast:
    from sep_batch.jobs.plan.calibrate import calibrate

    logger = logging.getLogger("sep_batch")
    logger.warning("measuring this machine for a minute, on synthesised tracks")
    options = replace(options, engine=planned.engine.name if planned.engine else options.engine)
    measured = calibrate(options, settings, todo_amounts, planned.todo)
    try:
        forecast.keep(measured, planned.out, settings.sha256)
    except (errors.TrackError, WeightsError) as error:
        logger.warning("the forecast could not be stored, so the run will not show it: %s", error)
    return measured
