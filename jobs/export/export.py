"""`export`: write OUT's stems as a training dataset: chosen, cut into excerpts, split, in a format that a library reads.

from sep_batch.jobs.export import run_export
exported = run_export("songs.stems", "songs.dataset", to="webdataset", excerpt="10s", min_active=("vocals=0.5",))
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from dataclasses import replace
from typing import Any

from sep_batch.jobs.engine import engine
from sep_batch.jobs.export.driver import ExportDriver
from sep_batch.jobs.export.options import ExportOptions, settings_of
from sep_batch.jobs.export.report import Exported
from sep_batch.jobs.progress.file_counter import FileCounter
from sep_batch.jobs.setup import outs
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.setup.stop import Stop
from sep_batch.jobs.setup.storage_options import storage_options
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX
from sep_batch.pipeline.export import card, columns, excerpts, packing, shards
from sep_batch.pipeline.export import journal as export_journal
from sep_batch.pipeline.export.formats import choose
from sep_batch.pipeline.export.selection import Query, Selection, selected
from sep_batch.pipeline.export.settings import Export, ExportSettings
from sep_batch.pipeline.export.splits import NAMES
from sep_batch.pipeline.out import layout, lease
from sep_batch.pipeline.settings import stems_of_mix
from sep_batch.pipeline.storage import uris

_DIFFERS = {
    "index_sha256": "the index of OUT",
    "rules": "the index of OUT, or names and groups of columns, which another version of sep-batch wrote by other rules",
}


def run_export(out: str, dest: str, *, tally: FileCounter | None = None, **options: Any) -> Exported:
    """Export OUT's stems to DEST. Shards of the same export that DEST has already are not written again.

    Args:
        out: OUT, a path or URI.
        dest: DEST, a path or URI.
        tally: Progress counter of shards; by default nothing is shown.
        options: The fields of `ExportOptions`.

    Raises:
        RunError: The export could not start, or a fault of a storage, of Ray or of sep-batch ended it.
        KeyboardInterrupt: A signal came before shards were written.
    """
    chosen, stop = ExportOptions(**options), Stop()
    access = storage_options(chosen.endpoint_url, chosen.storage_options)
    storage.use(access)
    with stop.on_signals(), outs.errors(dest=uris.absolute(dest)):
        out, dest = uris.target(out), uris.target(dest)
        outs.refuse_no_out(out)
        engine.look_ahead(Options(gpus=0, cpus=chosen.cpus, address=chosen.address))
        choose.refuse_missing(chosen.to)
        out_settings = outs.last_run(out)["settings"]
        stems = stems_of_mix(out_settings.get("stems", ()), out_settings.get("residual"))
        settings = settings_of(chosen, stems, mono=bool(out_settings.get("mono")))
        packing.refuse_unwritable(settings)
        reserved = columns.reserved(settings.stems)
        base = Export(settings, out, dest, "", downmix=out_settings.get("downmix") or DEFAULT_DOWNMIX, storage=access)
        _refuse_dest(out, dest)
        query = Query(chosen.where, chosen.group_by, chosen.seed, chosen.limit, out_settings.get("offset_s") or 0.0, reserved)
        with selected(out, query) as selection, lease.hold(dest, wait_s=chosen.wait_s) as held:
            export, exported = _planned(selection, settings, chosen, base)
            run = _open_dest(selection, export, overwrite=chosen.overwrite)
            held.tell(run=run)
            parts = layout.parts_folder(dest, run)
            scratch = parts if uris.is_local(dest) else chosen.scratch or tempfile.gettempdir()
            export, begun = replace(export, scratch=scratch), time.monotonic()
            drive = ExportDriver(export, run, selection, exported, stop, held, tally or FileCounter())
            drive.run_all(cpus=chosen.cpus, address=chosen.address)
            exported.took_s = time.monotonic() - begun
            done = export_journal.done(dest)
            exported.end(done)
            if not exported.stopped:
                shards.fill_empty_splits(export, {key: shard.excerpts for key, shard in done.items()})
                card.write(export, selection, done)
            for folder in (parts, layout.plan_folder(dest, run)):
                storage.remove(folder)
    return exported


def _planned(selection: Selection, settings: ExportSettings, options: ExportOptions, export: Export) -> tuple[Export, Exported]:
    """Lay the export out once, for its amounts and the checksum of its rows; no row is held in memory."""
    settings = settings.model_copy(update={"group_by": selection.group_by})
    amounts = excerpts.amounts(selection.rows(), selection.extra, settings)
    exported = Exported(export.out, export.dest, options.to, amounts, settings, warnings=_warnings(selection, settings))
    exported.in_index, exported.ok_in_index = selection.in_index()
    extra = selection.extra.serialize().to_pybytes()
    return replace(export, settings=settings.at(amounts.sha256), extra=extra, renamed=dict(selection.renamed)), exported


def _refuse_dest(out: str, dest: str) -> None:
    """Refuse a DEST whose content an export would damage.

    Raises:
        UsageError: DEST lies in OUT, or is another OUT.
        NotRunnableError: DEST holds files that no export wrote.
    """
    if f"{_without_links(dest)}/".startswith(f"{_without_links(out)}/"):
        raise errors.UsageError(f"DEST {dest}: lies in OUT {out}; choose another folder or prefix")
    if any(storage.exists(f"{dest}/{name}") for name in (layout.INDEX_FILE, layout.RUN_JSON)):
        raise errors.UsageError(f"DEST {dest}: is the OUT of a run; choose another folder or prefix")
    if not storage.exists(f"{dest}/{layout.EXPORT_JSON}"):
        file = next((info.uri for info in storage.find(dest) if not info.uri.startswith(f"{dest}/_sep/")), None)
        if file is not None:
            problem = f"holds files that no export wrote, such as {uris.name(file)}"
            raise errors.NotRunnableError(f"DEST {dest}: {problem}; choose an empty folder or prefix")


def _without_links(uri: str) -> str:
    return os.path.realpath(uri) if uris.is_local(uri) else uri


def _open_dest(selection: Selection, export: Export, *, overwrite: bool) -> str:
    """Write DEST's export.json, remove parts and plans that interrupted exports left, and return the name of this run.

    Raises:
        SettingsDifferError: DEST holds an export with other settings, or of another state of the index.
    """
    dest, settings, before = export.dest, export.settings, _before(export.dest)
    if before is not None and (differing := _differing(before, selection, settings)):
        if not overwrite:
            names = ", ".join(_DIFFERS.get(name, name) for name in differing)
            raise errors.SettingsDifferError(
                f"DEST {dest} holds an export that differs in: {names}; use another DEST, or --overwrite"
            )
        # the journal first: if the export is killed here, no row names shards that are gone
        for name in (layout.JOURNAL, *before.get("splits", {}), "README.md", layout.EXPORT_JSON):
            storage.remove(f"{dest}/{name}")
    run = export_journal.new_run(dest)
    outs.begin(dest, run, layout.EXPORT_JSON, settings.canonical())
    return run


def _differing(before: dict[str, Any], selection: Selection, settings: ExportSettings) -> list[str]:
    """Return the names of the settings that differ from those of DEST's export.

    An export without a number of its rules is older; it is resumed if today's rules make no difference to it.
    """
    differing = settings.differing(before)
    if "rules" not in differing or "rules" in before:
        return differing
    is_same = before.get("index_sha256") == excerpts.sha256_of_before(selection.rows(), settings)
    return [name for name in differing if name != "index_sha256" and not (name == "rules" and is_same)]


def _before(dest: str) -> dict[str, Any] | None:
    uri = f"{dest}/{layout.EXPORT_JSON}"
    if not storage.exists(uri):
        return None
    try:
        return _checked(json.loads(storage.read(uri)))
    except (ValueError, TypeError, RecursionError) as error:
        raise errors.NotRunnableError(f"{uri}: not what an export writes ({error}); use another DEST") from error


def _checked(content: Any) -> dict[str, Any]:
    """Return the content of an export.json. Its splits name folders of DEST that may be removed, so only known names pass."""
    splits = dict(content).get("splits", {})
    if unknown := set(splits) - set(itertools.chain(*NAMES)):
        raise ValueError(f"split {uris.printable(str(min(unknown, key=str)), 60)!r}")
    return dict(content)


def _warnings(selection: Selection, settings: ExportSettings) -> tuple[str, ...]:
    """Return warnings about columns that are renamed, and about tracks without activity in the index."""
    renamed = "" if settings.to == "musdb" else ", ".join(f"{old} is {new}" for old, new in selection.renamed.items())
    unanalysed = selection.unanalysed() if settings.min_active else 0
    return (
        *[f"columns are renamed, since the dataset has columns of the same names: {renamed}"] * bool(renamed),
        *[f"{unanalysed:,} tracks have no activity in the index: all their excerpts are read to measure it, which takes longer"]
        * bool(unanalysed),
    )
