"""`export`: OUT's stems as a dataset to train with: chosen, cut into excerpts, split, in a form that a library reads.

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
from sep_batch.pipeline.storage import uris

_DIFFERS = {
    "index_sha256": "the index of OUT",
    "rules": "the index of OUT, or names and groups of columns, which the sep-batch that made it wrote by other rules",
}


def run_export(out: str, dest: str, *, tally: FileCounter | None = None, **options: Any) -> Exported:
    """Export OUT's stems to DEST; what DEST holds of this export already stays.

    Args:
        out: OUT, a path or URI.
        dest: DEST, a path or URI.
        tally: Shows how far it is; by default nothing is shown.
        options: The fields of `ExportOptions`.

    Raises:
        RunError: It could not start, a systemic fault ended it, or a defect of ours did.
        KeyboardInterrupt: A signal came before shards were written.
    """
    asked, stop = ExportOptions(**options), Stop()
    access = storage_options(asked.endpoint_url, asked.storage_options)
    storage.use(access)
    with stop.on_signals(), outs.errors(dest=uris.absolute(dest)):
        out, dest = uris.target(out), uris.target(dest)
        outs.refuse_no_out(out)
        engine.look_ahead(Options(gpus=0, cpus=asked.cpus, address=asked.address))
        choose.refuse_missing(asked.to)
        made = outs.last_run(out)["settings"]
        settings = settings_of(asked, tuple(made.get("stems", ())), mono=bool(made.get("mono")))
        packing.refuse_unwritable(settings)
        reserved = columns.reserved(settings.stems)
        base = Export(settings, out, dest, "", downmix=made.get("downmix") or DEFAULT_DOWNMIX, storage=access)
        _refuse_dest(out, dest)
        query = Query(asked.where, asked.group_by, asked.seed, asked.limit, made.get("offset_s") or 0.0, reserved)
        with selected(out, query) as selection, lease.hold(dest, wait_s=asked.wait_s) as held:
            export, exported = _planned(selection, settings, asked, base)
            run = _open_dest(selection, export, overwrite=asked.overwrite)
            held.tell(run=run)
            parts = layout.parts_folder(dest, run)
            scratch = parts if uris.is_local(dest) else asked.scratch or tempfile.gettempdir()
            export, begun = replace(export, scratch=scratch), time.monotonic()
            drive = ExportDriver(export, run, selection, exported, stop, held, tally or FileCounter())
            drive.run_all(cpus=asked.cpus, address=asked.address)
            exported.took_s = time.monotonic() - begun
            done = export_journal.done(dest)
            exported.end(done)
            if not exported.stopped:
                shards.fill_empty_splits(export, {key: shard.excerpts for key, shard in done.items()})
                card.write(export, selection, done)
            for folder in (parts, layout.plan_folder(dest, run)):
                storage.remove(folder)
    return exported


def _planned(selection: Selection, settings: ExportSettings, asked: ExportOptions, export: Export) -> tuple[Export, Exported]:
    """Lay the export out once, to know how much it is and what it is made of; nothing of it is held."""
    settings = settings.model_copy(update={"group_by": selection.group_by})
    amounts = excerpts.amounts(selection.rows(), selection.extra, settings)
    exported = Exported(export.out, export.dest, asked.to, amounts, settings, warnings=_warnings(selection, settings))
    exported.in_index, exported.ok_in_index = selection.in_index()
    extra = selection.extra.serialize().to_pybytes()
    return replace(export, settings=settings.at(amounts.sha256), extra=extra, renamed=dict(selection.renamed)), exported


def _refuse_dest(out: str, dest: str) -> None:
    """Refuse a DEST in which an export would do harm.

    Raises:
        UsageError: It lies in OUT, or is another OUT.
        NotRunnableError: It holds files that no export wrote.
    """
    if f"{_without_links(dest)}/".startswith(f"{_without_links(out)}/"):
        raise errors.UsageError(f"DEST {dest}: lies in OUT {out}, expected a place of its own")
    if any(storage.exists(f"{dest}/{name}") for name in (layout.INDEX_FILE, layout.RUN_JSON)):
        raise errors.UsageError(f"DEST {dest}: is the OUT of a run, expected a place of its own")
    if not storage.exists(f"{dest}/{layout.EXPORT_JSON}"):
        held = next((info.uri for info in storage.find(dest) if not info.uri.startswith(f"{dest}/_sep/")), None)
        if held is not None:
            raise errors.NotRunnableError(f"DEST {dest}: holds files that no export wrote, as {uris.name(held)}; expected none")


def _without_links(uri: str) -> str:
    return os.path.realpath(uri) if uris.is_local(uri) else uri


def _open_dest(selection: Selection, export: Export, *, overwrite: bool) -> str:
    """Write what this export is about, clear what dead ones left, and return its name.

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
        # the rows first: an export that is killed meanwhile has none that vouches for shards which are gone
        for name in (layout.JOURNAL, *before.get("splits", {}), "README.md", layout.EXPORT_JSON):
            storage.remove(f"{dest}/{name}")
    run = export_journal.new_run(dest)
    for name in (layout.PARTS, layout.PLAN):
        storage.remove(f"{dest}/{name}")
    content = json.dumps(settings.canonical(), indent=2, sort_keys=True).encode()
    storage.put(f"{dest}/{layout.EXPORT_JSON}", content, scratch=layout.parts_folder(dest, run))
    return run


def _differing(before: dict[str, Any], selection: Selection, settings: ExportSettings) -> list[str]:
    """Return the names of the settings that DEST's export has otherwise.

    One of before rules had numbers is gone on with where these make no difference to it.
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
    """Return what an export wrote of itself; its splits are folders of DEST, so they are no other names than those."""
    splits = dict(content).get("splits", {})
    if unknown := set(splits) - set(itertools.chain(*NAMES)):
        raise ValueError(f"split {uris.printable(str(min(unknown, key=str)), 60)!r}")
    return dict(content)


def _warnings(selection: Selection, settings: ExportSettings) -> tuple[str, ...]:
    """Say which columns get other names, and where the index does not know what is asked."""
    renamed = "" if settings.to == "musdb" else ", ".join(f"{old} is {new}" for old, new in selection.renamed.items())
    unanalysed = selection.unanalysed() if settings.min_active else 0
    return (
        *[f"columns whose names the dataset has of its own are written by others: {renamed}"] * bool(renamed),
        *[f"{unanalysed:,} tracks have no activity in the index: all their excerpts are read to find it; this takes longer"]
        * bool(unanalysed),
    )
