"""The first steps that a run and a plan share: catalog, model, settings, and checks against OUT.

Nothing here writes to OUT.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.setup import machine, setting_flags, stem_layout
from sep_batch.jobs.setup.id_list import read_ids
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.setup.storage_options import storage_options
from sep_batch.jobs.setup.units import tracks
from sep_batch.model import weights
from sep_batch.model.published import WeightsError
from sep_batch.model.spec import PRESETS, MaskExtension, ModelSpec, SpecError
from sep_batch.pipeline import errors, manifest, stem_paths, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS
from sep_batch.pipeline.manifest.sample import chosen
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import Plan, of_another
from sep_batch.pipeline.out.taken_paths import marked, taken
from sep_batch.pipeline.rows import PROBLEM
from sep_batch.pipeline.settings import MIX, Settings
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.threads import in_threads


@dataclass(frozen=True)
class Catalog:
    """Tracks to separate, and the OUT for their stems.

    Attributes:
        listed: The manifest.
        tracks: Tracks of the manifest that --limit and --sample leave.
        out: OUT.
        access: Options of storage; they may hold secrets.
        is_sample: The tracks are a sample of the manifest's.
        restored: Ids of withdrawn tracks to separate all the same.
    """

    listed: manifest.Manifest
    tracks: pa.Table
    out: str
    access: storage.Options
    is_sample: bool = False
    restored: Sequence[str] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the manifest; one if only a sample of it is separated."""
        own, every = self.tracks.num_rows, self.listed.tracks.num_rows
        rest = f"a sample of {own:,} of {tracks(every)}; the same command without --sample separates the others too"
        return (*self.listed.warnings, *([rest] if self.is_sample and own < every else []))


def not_restored(catalog: Catalog, plan: Plan) -> list[str]:
    """Return a warning about ids of --restore that are no withdrawn tracks of the manifest, else nothing."""
    rest = len(catalog.restored) - plan.counts["restored"]
    return [f"--restore: {rest} of its {tracks(len(catalog.restored))} are not withdrawn, or not in the manifest"] if rest else []


@dataclass(frozen=True)
class Model:
    """A model's description, the sha256 of its weights, and their folder; None if they are not on this machine."""

    spec: ModelSpec
    weights_sha256: str
    folder: str | None


def read_catalog(source: str, out: str | None, options: Options) -> Catalog:
    """Check the machine, set the options of storage, and read the manifest.

    Raises:
        RunError: An option, the machine, the manifest or OUT is not fit for a run.
    """
    machine.refuse_unfit(options)
    access = storage_options(options.endpoint_url, options.storage_options)
    storage.use(access)
    if out is not None:
        _refuse_file(out)
    try:
        listed = manifest.read(
            source,
            more=options.more,
            uri_column=options.uri_column,
            id_column=options.id_column,
            input_root=options.input_root,
            allow_http=options.allow_http,
            include=options.include,
            exclude=options.exclude,
            bad_rows=options.bad_rows,
        )
    except manifest.BadRowsError as error:
        hint = "correct them, or use --bad-rows fail, which fails these rows and separates the others"
        raise errors.ManifestError(f"{error}; {hint}") from error
    try:
        target = uris.target(out or stem_layout.default_out(listed.uri, options.more))
    except errors.BadUri as error:
        raise errors.NotRunnableError(f"OUT {error}") from error
    for folder in ("stems", "_sep"):
        stem_layout.refuse_sources_below(listed.tracks["uri"], f"{target}/{folder}")
    refuse_missing_packages(listed.tracks["uri"], target)
    left = chosen(listed.tracks, options.limit, options.sample)
    restored = read_ids(options.restore, "--restore") if options.restore else []
    return Catalog(listed, left, target, access, options.sample is not None, restored)


def _refuse_file(out: str) -> None:
    """Refuse an OUT that is a file or is named like one: each track has several stems, so OUT is a folder.

    Raises:
        UsageError: It is such a name.
    """
    extension = os.path.splitext(out)[1].lower()
    if uris.is_local(out) and extension in AUDIO_EXTENSIONS and not os.path.isdir(out):
        raise errors.UsageError(
            f"--out {uris.shown(out)}: expected a folder, since a track has several stems, found a name that ends in {extension}"
        )
    if uris.is_local(out) and os.path.isfile(out):
        raise errors.UsageError(f"--out {uris.shown(out)}: expected a folder, found a file")


def refuse_missing_packages(sources: pa.ChunkedArray, out: str) -> None:
    """Refuse sources and an OUT whose storage needs a package that is not installed.

    Raises:
        NotRunnableError: A package is missing; names it.
    """
    first = (pc.index(pc.starts_with(sources, f"{scheme}://"), pa.scalar(True)).as_py() for scheme in uris.OBJECT_STORES)  # noqa: FBT003
    try:
        for uri in (out, *(sources[at].as_py() for at in first if at >= 0)):
            storage.require_package(uri)
    except errors.StorageUnusable as error:
        raise errors.NotRunnableError(str(error)) from error


def obtain_model(name: str) -> Model:
    """Return a model with verified weights, fetched if they are not on this machine.

    Raises:
        UsageError: There is no such model.
        NotRunnableError: Its weights cannot be fetched or read, or do not have the expected content.
    """
    try:
        if not uris.is_local(name):
            folder = storage.bring(name, weights.writable_cache() / "brought")
        else:
            folder = weights.obtain(name, say=logging.getLogger("sep_batch").warning)
        spec, _, sha256 = weights.load(folder, preset=name)
    except weights.UnknownModelError as error:
        raise errors.UsageError(f"--model: {error}") from error
    except (WeightsError, errors.TrackError) as error:
        raise errors.NotRunnableError(f"weights: {error}") from error
    return Model(spec, sha256, str(folder))


def model_at_hand(name: str, before: dict[str, Any] | None) -> Model:
    """Return a model without fetching a published one: if its weights are not cached, those of OUT are assumed.

    Args:
        name: Value of `--model`.
        before: OUT's settings, as its last run wrote them.
    """
    if name in PRESETS and not weights.is_cached(name):
        return Model(PRESETS[name], (before or {}).get("weights_sha256", ""), None)
    return obtain_model(name)


def settings_of(options: Options, model: Model, catalog: Catalog, before: Mapping[str, Any]) -> Settings:
    """Return the settings of a run.

    Args:
        options: Options of the run.
        model: Its model.
        catalog: Its tracks and OUT.
        before: Content of OUT's run.json, as `outs.last_run` returns it: without `--filename`, OUT keeps its template.

    Raises:
        UsageError: The model has no such stem, or the template needs another OUT.
    """
    own = model.spec.mask_extension
    spec = replace(model.spec, mask_extension=cast("MaskExtension", options.mask_extension or own))
    if unknown := set(options.stems or ()) - set(spec.stems):
        raise errors.UsageError(f"--stems {', '.join(sorted(unknown))}: {spec.name} has {', '.join(spec.stems)}")
    lossy, names = codecs.is_lossy(options.format), spec.stems
    if options.residual is not None:
        try:
            names = replace(spec, stems=(*spec.stems, options.residual)).stems
        except SpecError as error:
            raise errors.UsageError(f"--residual {options.residual}: {error}") from error
    names = (*names, MIX) if options.write_mix else names
    filename, root = stem_layout.layout_of(options, catalog.listed, catalog.out, before["settings"], names)
    return Settings.load(
        {
            "weights_sha256": model.weights_sha256,
            "spec": asdict(spec),
            "stems": [stem for stem in spec.stems if stem in (options.stems or spec.stems)],
            "format": options.format,
            "bit_depth": options.bit_depth,
            "bitrate": (options.bitrate or codecs.DEFAULT_BITRATE) if lossy else None,
            "sample_rate_hz": options.sample_rate_hz,
            "mono": options.mono,
            "downmix": options.downmix,
            "residual": options.residual,
            "write_mix": options.write_mix,
            "mask_extension": None if spec.mask_extension == own else spec.mask_extension,
            "mwf": options.mwf,
            "copy_tags": options.copy_tags,
            "tag_provenance": options.tag_provenance,
            "precision": options.precision,
            "filename": filename,
            "root": root,
            "offset_s": options.offset_s,
            "duration_s": options.duration_s,
        }
    )


def refuse_collisions(tracks: pa.Table, settings: Settings) -> None:
    """Refuse tracks whose stems would have the same path, unless the template marks them.

    Raises:
        UsageError: There are such tracks; names the first pairs.
    """
    if settings.filename in stem_paths.NAMED:
        return
    if PROBLEM in tracks.column_names:
        tracks = tracks.filter(pc.is_null(tracks.column(PROBLEM)))
    named = stem_paths.Tracks(lambda: tracks.select(["id", "uri"]).to_batches(max_chunksize=65_536))
    stem_paths.refuse_collisions(settings.filename, settings.first_stem_path, named)


def refuse_ids_of_others(plan: Plan, journal: JournalDatabase) -> None:
    """Refuse a track with the id of another song that is done and whose source is still there: its stems would be lost.

    Raises:
        ManifestError: There is such a track; names both URIs.
    """
    pairs = of_another(plan, journal)
    there = in_threads(_is_there, (other for _, _, other in pairs))
    for (id, uri, other), is_there in zip(pairs, there, strict=True):
        if is_there:
            raise errors.ManifestError(
                f"id {id} is {uris.shown(uri)} in the manifest, but {uris.shown(other)} in OUT, and that source is still there: "
                "give each song its own id, or use another --out"
            )


@dataclass(frozen=True)
class Paths:
    """Tracks whose stems' paths need care.

    Attributes:
        marked: Ids of the tracks whose paths have a mark, because other tracks have the paths without it.
        displaced: Ids of tracks whose stems the run overwrites without separating them; their sources are gone.
    """

    marked: frozenset[str]
    displaced: list[str]


def paths(plan: Plan, journal: JournalDatabase, settings: Settings) -> Paths:
    """Return the tracks whose stems' paths need care.

    Raises:
        UsageError: The source of such a track is still there, and its stems would be lost.
    """
    with_mark = marked(plan, journal, settings)
    displaced_tracks = taken(plan, journal, settings, with_mark)
    for other, is_there in zip(
        displaced_tracks, in_threads(_is_there, (other.other_uri for other in displaced_tracks)), strict=True
    ):
        if is_there:
            raise errors.UsageError(
                f"--filename {uris.printable(settings.filename)}: {uris.shown(other.uri)} gives {uris.printable(other.path)}, "
                f"which OUT holds as a stem of another track, {other.other_id} ({uris.shown(other.other_uri)}); "
                "use a template with {id}, or another --out"
            )
    return Paths(with_mark, [other.other_id for other in displaced_tracks])


def _is_there(uri: str) -> bool:
    """Return whether a source is there; one that cannot be checked counts as gone."""
    try:
        return storage.exists(uri)
    except errors.TrackError:
        return False


def refuse_other_settings(out: str, settings: Settings, before: dict[str, Any], *, overwrite: bool) -> None:
    """Refuse settings that differ from OUT's, unless --overwrite is given.

    Args:
        out: OUT.
        settings: Settings of this run.
        before: Content of the last run's run.json, as `outs.last_run` returns it.
        overwrite: Accept other settings.

    Raises:
        SettingsDifferError: Settings differ; names their flags, with both values of each.
    """
    settings_before = before["settings"]
    if settings_before and (differing := settings.differences(settings_before)) and not overwrite:
        own = shlex.join(setting_flags.words(before)) or "no flags, the defaults"
        raise errors.SettingsDifferError(
            f"OUT {out} holds stems made with other settings: {'; '.join(setting_flags.differences(differing))}; "
            f"run with OUT's own ({own}), use another --out, or add --overwrite to separate all tracks again"
        )
