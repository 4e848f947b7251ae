"""`plan`: what a run would do and why, how much that is, and with a calibration what it will take. OUT is only read.

from sep_batch.jobs.plan import run_plan
planned = run_plan("songs.parquet", out="songs.stems")
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sep_batch.jobs.engine import engine
from sep_batch.jobs.plan.amounts import Amounts, amounts
from sep_batch.jobs.plan.known_sizes import past
from sep_batch.jobs.progress import forecast
from sep_batch.jobs.progress.forecast import Forecast
from sep_batch.jobs.setup import outs, prepare
from sep_batch.jobs.setup.options import Options, check
from sep_batch.jobs.setup.prepare import Catalog
from sep_batch.model import weights
from sep_batch.pipeline import errors
from sep_batch.pipeline.out import database, lease
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import Plan, changes, make_plan
from sep_batch.pipeline.rows import PROBLEM
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.storage.retries import listing


@dataclass(frozen=True)
class Planned:
    """What a run would do.

    Attributes:
        manifest: Its URI.
        out: OUT.
        tracks: Tracks of the manifest.
        todo: Tracks that a run would separate.
        reasons: Tracks by why they are to be done, or are not.
        examples: An id of each reason; of a source that changed, with what changed; of a bad row, with what is wrong.
        differing: OUT's settings that differ from today's: theirs, and ours.
        warnings: Warnings, a line each.
        amounts: How much is to be done; None where there is nothing.
        forecast: Forecast of the run; None where that was not asked for, or there is nothing to do.
        refused: Why a run would not begin; None where it would.
        exit_code: The run's, where it would not begin.
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
    forecast: Forecast | None = None
    refused: str | None = None
    exit_code: int = 0


def run_plan(source: str, out: str | None = None, *, calibrate: bool = False, **options: Any) -> Planned:
    """Say what `run` would do. Nothing is written but, with a calibration, the forecast into the user's cache.

    Args:
        source: As `run` takes it.
        out: As `run` takes it.
        calibrate: Measure this machine for a minute, and forecast what the run will take.
        options: The fields of `Options`.

    Raises:
        RunError: The run could not be planned: no manifest, no such model, or OUT cannot be read.
    """
    run_options = Options(**options)
    check(run_options)
    catalog = prepare.read_catalog(source, out, run_options)
    with outs.errors():
        before = outs.last_run(catalog.out)
    settings_before = before["settings"] or None
    model = prepare.obtain_model(run_options.model) if calibrate else prepare.model_at_hand(run_options.model, settings_before)
    settings = prepare.settings_of(run_options, model)
    with outs.errors():
        planned = _planned(catalog, settings, settings_before, run_options)
        planned = replace(planned, warnings=(*catalog.listed.warnings, *_warnings(run_options, model, catalog.out)))
    if planned.refused:
        return planned
    if refusal := _refusal(catalog, settings, before, run_options):
        return replace(planned, refused=str(refusal), exit_code=refusal.exit_code)
    if calibrate and planned.amounts:
        return replace(planned, forecast=_forecast(run_options, settings, planned, planned.amounts))
    return planned


@listing
def _planned(catalog: Catalog, settings: Settings, before: dict[str, Any] | None, options: Options) -> Planned:
    """Set the catalog beside OUT's journal."""
    with database.opened(catalog.out) as journal:
        plan = make_plan(catalog.tracks, journal.database, settings.sha256, options.retry)
        todo = plan.tracks
        much = amounts(todo, settings, past(journal, todo, settings, before), options.stft) if plan.todo else None
        examples = _examples(plan, journal)
        refusal = _refused_tracks(plan, journal, settings)
    return Planned(
        catalog.listed.uri,
        catalog.out,
        catalog.tracks.num_rows,
        plan.todo,
        dict[str, int](plan.counts.most_common()),
        examples,
        settings.differences(before) if before is not None else {},
        amounts=much,
        refused=str(refusal) if refusal else None,
        exit_code=refusal.exit_code if refusal else 0,
    )


def _refused_tracks(plan: Plan, journal: JournalDatabase, settings: Settings) -> errors.RunError | None:
    try:
        prepare.refuse_ids_of_others(plan, journal)
        prepare.displaced(plan, journal, settings)
    except errors.RunError as refused:
        return refused
    return None


def _warnings(options: Options, model: prepare.Model, out: str) -> list[str]:
    warnings = []
    if model.folder is None:
        warnings.append(
            f"the weights of {options.model} are not here yet, the run fetches them; taken for those of OUT, if it has any"
        )
    if (holder := lease.newest(out)) and not holder.is_over:
        warnings.append(f"OUT {out}: {holder}; what it has in hand is planned as not done")
    return warnings


def _refusal(catalog: Catalog, settings: Settings, before: dict[str, Any], options: Options) -> errors.RunError | None:
    """Return what a run would refuse to begin with."""
    try:
        engine.look_ahead(options)
        prepare.refuse_collisions(catalog.tracks, settings)
        prepare.refuse_other_settings(catalog.out, settings, before, overwrite=options.overwrite)
    except errors.RunError as refused:
        return refused
    return None


def _examples(plan: Plan, journal: JournalDatabase) -> dict[str, str]:
    examples = dict[str, str]()
    for reason in plan.counts:
        track = plan.first(reason)
        how = ", ".join(changes(track, journal.database)) if reason == "source_changed" else track.get(PROBLEM)
        examples[reason] = track["id"] + (f" ({how})" if how else "")
    return examples


def _forecast(options: Options, settings: Settings, planned: Planned, much: Amounts) -> Forecast:
    from sep_batch.jobs.plan.calibrate import calibrate

    logger = logging.getLogger("sep_batch")
    logger.warning("measuring this machine for a minute, on synthesised tracks")
    measured = calibrate(options, settings, much, planned.todo)
    try:
        forecast.keep(measured, planned.out, settings.sha256)
    except (errors.TrackError, weights.WeightsError) as error:
        logger.warning("the run will not know of this forecast: %s", error)
    return measured
