"""The first steps that a run and a plan share: catalog, model, settings, and checks against OUT.

Nothing here writes to OUT.
"""

from __future__ import annotations

import itertools
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.setup import machine, setting_flags
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.setup.storage_options import storage_options
from sep_batch.model import weights
from sep_batch.model.published import WeightsError
from sep_batch.model.spec import PRESETS, ModelSpec
from sep_batch.pipeline import errors, manifest, stem_paths, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.manifest import formats, made_files
from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import Plan, of_another
from sep_batch.pipeline.out.taken_paths import marked, taken
from sep_batch.pipeline.rows import PROBLEM
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.threads import in_threads


@dataclass(frozen=True)
class Catalog:
    """Tracks to separate, and the OUT for their stems.

    Attributes:
        listed: The manifest.
        tracks: Tracks of the manifest, up to --limit.
        out: OUT.
        access: Options of storage; they may hold secrets.
    """

    listed: manifest.Manifest
    tracks: pa.Table
    out: str
    access: storage.Options


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
        target = uris.target(out or _default_out(listed.uri, options.more))
    except errors.BadUri as error:
        raise errors.NotRunnableError(f"OUT {error}") from error
    for folder in ("stems", "_sep"):
        _refuse_sources_below(listed.tracks["uri"], f"{target}/{folder}")
    refuse_missing_packages(listed.tracks["uri"], target)
    return Catalog(listed, listed.tracks.slice(0, options.limit), target, access)


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


def _refuse_sources_below(sources: pa.ChunkedArray, folder: str) -> None:
    """Refuse sources in a folder that runs write to: stems may be written over them, and `verify --repair --yes` removes them.

    Raises:
        UsageError: There is such a source; names the first.
    """
    at = pc.index(pc.starts_with(sources, f"{folder}/"), pa.scalar(True)).as_py()  # noqa: FBT003
    if at >= 0:
        source = uris.shown(sources[at].as_py())
        raise errors.UsageError(f"--out: the source {source} lies in {uris.shown(folder)}, where runs write; use another --out")


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


def _default_out(source: str, more: Sequence[str]) -> str:
    if more:
        raise errors.UsageError(f"--out: {1 + len(more)} sources have no default OUT; name a folder, as --out stems")
    return default_out(source)


def default_out(source: str) -> str:
    """Return the default OUT, beside the source: `songs.parquet` -> `songs.stems`, and `songs.csv.gz` -> `songs.stems`.

    Raises:
        UsageError: The source is a whole bucket, and no folder can lie beside it.
    """
    if source == uris.store(source):
        raise errors.UsageError(f"--out: {uris.shown(source)} is a whole bucket, so OUT has no default; name a folder or prefix")
    return f"{uris.parent(source).rstrip('/')}/{formats.stem(source)}.stems"


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
    spec = model.spec
    if unknown := set(options.stems or ()) - set(spec.stems):
        raise errors.UsageError(f"--stems {', '.join(sorted(unknown))}: {spec.name} has {', '.join(spec.stems)}")
    lossy = codecs.is_lossy(options.format)
    filename, root = _layout(options, catalog, before["settings"], spec.stems)
    if filename.startswith(stem_paths.IN_OUT):
        _refuse_sources_below(catalog.listed.tracks["uri"], catalog.out)
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
            "precision": options.precision,
            "filename": filename,
            "root": root,
            "offset_s": options.offset_s,
            "duration_s": options.duration_s,
        }
    )


def _layout(options: Options, catalog: Catalog, before: Mapping[str, Any], stems: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the template of the stems' paths, and the root of its `{reldir}`.

    Raises:
        UsageError: The template's paths lie in OUT itself, and could later be taken for sources; or OUT has lost its run.json.
    """
    out, listed = catalog.out, catalog.listed
    own = before.get("filename", stem_paths.DEFAULT_FILENAME) if before else None
    if own is None and options.filename is None and listed.kind != "manifest" and storage.exists(f"{out}/{layout.INDEX_FILE}"):
        raise errors.UsageError(
            f"OUT {uris.shown(out)} holds stems, but no {layout.RUN_JSON} with the template of their paths; give it with "
            f"--filename: '{stem_paths.DEFAULT_FILENAME}' if they lie below stems/<2 digits>/, else '{stem_paths.TREE}'"
        )
    template = options.filename or own or _default_filename(listed, out, stems, is_one=not options.more)
    is_recognizable = stem_paths.is_recognizable(template, out, stems)
    if not is_recognizable and template.startswith(stem_paths.IN_OUT):
        raise errors.UsageError(
            f"--filename {uris.printable(template)}: the paths lie in OUT itself, so expected an OUT whose name ends in "
            f"{stem_paths.OUT_SUFFIX}, found {uris.shown(out)}; use such a name, or leave out ./"
        )
    if own and own.startswith(stem_paths.IN_OUT) and not template.startswith(stem_paths.IN_OUT) and not _is_named(out):
        raise errors.UsageError(
            f"--filename {uris.printable(template)}: OUT {uris.shown(out)} has stems in itself ({uris.printable(own)}), which "
            f"would be taken for sources; use another --out"
        )
    if "{reldir}" not in template:
        return template, None
    root = before.get("root")
    return template, _root(options, listed) if root is None else root


def _is_named(out: str) -> bool:
    return out.endswith(stem_paths.OUT_SUFFIX)


def _root(options: Options, listed: manifest.Manifest) -> str:
    """Return the root of `{reldir}`: the folder that is listed, of several sources the one that holds them all."""
    if listed.kind == "manifest":
        return uris.absolute(options.input_root or uris.parent(listed.uri)).rstrip("/")
    sources = [uris.absolute(source) for source in (listed.uri, *options.more)]
    if len(sources) == 1 and listed.folders:
        return sources[0].rstrip("/")
    parents = [uris.parent(source.rstrip("/")).split("/") for source in sources]
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*parents, strict=False))
    return "/".join(names[0] for names in shared).rstrip("/")


def _default_filename(listed: manifest.Manifest, out: str, stems: tuple[str, ...], *, is_one: bool) -> str:
    """Return the template of a new OUT: a person finds the stems of a song or folder by their names.

    They lie below `stems/` if files of others, or another OUT's stems, could lie where they would be written.
    """
    if listed.kind == "manifest":
        return stem_paths.DEFAULT_FILENAME
    template = stem_paths.TREE
    if listed.kind == "songs":
        template = stem_paths.ONE_SONG if is_one and out == default_out(listed.uri) else stem_paths.SONGS
    are_apart = (
        stem_paths.is_recognizable(template, out, stems) and not pc.any(pc.starts_with(listed.tracks["uri"], f"{out}/")).as_py()
    )
    return template if are_apart and _is_free(out) else stem_paths.TREE.removeprefix(stem_paths.IN_OUT)


def _is_free(out: str) -> bool:
    """Return whether OUT holds nothing but what runs left, and lies in no other OUT that has its stems in itself."""
    if any(not info.uri.startswith(f"{out}/_sep/") for info in storage.find(out, lambda _kind, _path: None)):
        return False
    parents = out.split("/")[:-1]
    return not any(made_files.has_stems("/".join(parents[:depth])) for depth in range(1, len(parents) + 1))


@dataclass(frozen=True)
class _Pairs:
    """Iterable of the ids and URIs of tracks, without bad rows; repeatable, with few Python objects at a time."""

    tracks: pa.Table

    def __iter__(self) -> Iterator[tuple[str, str]]:
        tracks = self.tracks
        if PROBLEM in tracks.column_names:
            tracks = tracks.filter(pc.is_null(tracks.column(PROBLEM)))
        for batch in tracks.select(["id", "uri"]).to_batches(max_chunksize=65_536):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def refuse_collisions(tracks: pa.Table, settings: Settings) -> None:
    """Refuse tracks whose stems would have the same path, unless the template marks them.

    Raises:
        UsageError: There are such tracks; names the first pairs.
    """
    if settings.filename in stem_paths.NAMED:
        return
    stem_paths.refuse_collisions(settings.filename, settings.first_stem_path, _Pairs(tracks))


def refuse_ids_of_others(plan: Plan, journal: JournalDatabase) -> None:
    """Refuse a track with the id of another song that is done and whose source is still there: its stems would be lost.

    Raises:
        ManifestError: There is such a track; names both URIs.
    """
    pairs = of_another(plan, journal.database)
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
