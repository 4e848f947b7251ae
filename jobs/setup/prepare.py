"""The first steps of a run and of a plan, which are the same for both: catalog, model, settings, OUT as it is.

Nothing here writes to OUT.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.setup import machine, setting_flags
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.setup.storage_options import storage_options
from sep_batch.model import weights
from sep_batch.model.spec import PRESETS, ModelSpec
from sep_batch.pipeline import errors, manifest, stem_paths, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.manifest import formats
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import Plan, of_another
from sep_batch.pipeline.out.taken_paths import taken
from sep_batch.pipeline.rows import PROBLEM
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.threads import in_threads


@dataclass(frozen=True)
class Catalog:
    """What is to be separated, and where to.

    Attributes:
        listed: The manifest.
        tracks: Its tracks, as far as they are wanted.
        out: OUT.
        access: How storage is reached; it may hold secrets.
    """

    listed: manifest.Manifest
    tracks: pa.Table
    out: str
    access: storage.Options


@dataclass(frozen=True)
class Model:
    """A model's description, the sha256 of its weights, and the folder where they lie; None where they are not here."""

    spec: ModelSpec
    weights_sha256: str
    folder: str | None


def read_catalog(source: str, out: str | None, options: Options) -> Catalog:
    """Check the machine, set how storage is reached, and read the manifest.

    Raises:
        RunError: Something cannot be meant, is not there, or is not clear.
    """
    machine.refuse_unfit(options)
    access = storage_options(options.endpoint_url, options.storage_options)
    storage.use(access)
    try:
        listed = manifest.read(
            source,
            uri_column=options.uri_column,
            id_column=options.id_column,
            input_root=options.input_root,
            allow_http=options.allow_http,
            include=options.include,
            exclude=options.exclude,
            bad_rows=options.bad_rows,
        )
    except manifest.BadRowsError as error:
        hint = "correct them, or have these rows fail and the others separated: --bad-rows fail"
        raise errors.ManifestError(f"{error}; {hint}") from error
    try:
        where = uris.target(out or default_out(listed.uri))
    except errors.BadUri as error:
        raise errors.NotRunnableError(f"OUT {error}") from error
    _refuse_sources_in_out(listed.tracks["uri"], where)
    refuse_missing_packages(listed.tracks["uri"], where)
    return Catalog(listed, listed.tracks.slice(0, options.limit), where, access)


def _refuse_sources_in_out(sources: pa.ChunkedArray, out: str) -> None:
    """Refuse sources in the folders that runs write to: stems may be written over them, and `verify --repair --yes` removes them.

    Raises:
        UsageError: With the first of them.
    """
    for folder in ("stems", "_sep"):
        at = pc.index(pc.starts_with(sources, f"{out}/{folder}/"), pa.scalar(True)).as_py()  # noqa: FBT003
        if at >= 0:
            raise errors.UsageError(
                f"--out {uris.shown(out)}: the source {uris.shown(sources[at].as_py())} lies in its folder {folder}/, "
                "where runs write; use another --out"
            )


def refuse_missing_packages(sources: pa.ChunkedArray, out: str) -> None:
    """Make sure that this machine has the packages that sources and OUT need.

    Raises:
        NotRunnableError: It has not; names one.
    """
    first = (pc.index(pc.starts_with(sources, f"{scheme}://"), pa.scalar(True)).as_py() for scheme in uris.OBJECT_STORES)  # noqa: FBT003
    try:
        for uri in (out, *(sources[at].as_py() for at in first if at >= 0)):
            storage.require_package(uri)
    except errors.StorageUnusable as error:
        raise errors.NotRunnableError(str(error)) from error


def default_out(source: str) -> str:
    """Return where stems go by default: beside the source, `songs.parquet` -> `songs.stems`, so `songs.csv.gz` too.

    Raises:
        UsageError: It is a bucket, beside which there is nothing.
    """
    if source == uris.store(source):
        raise errors.UsageError(f"--out: {uris.shown(source)} is a whole bucket, beside which no stems can go; name a place")
    return f"{uris.parent(source).rstrip('/')}/{formats.stem(source)}.stems"


def obtain_model(name: str) -> Model:
    """Have a model's weights verified, fetched where they are not here.

    Raises:
        UsageError: No such model.
        NotRunnableError: Its weights cannot be had, or are not what they should be.
    """
    try:
        if not uris.is_local(name):
            folder = storage.bring(name, weights.writable_cache() / "brought")
        else:
            folder = weights.obtain(name, say=logging.getLogger("sep_batch").warning)
        spec, tensors = weights.load(folder, preset=name)
    except weights.UnknownModelError as error:
        raise errors.UsageError(f"--model: {error}") from error
    except (weights.WeightsError, errors.TrackError) as error:
        raise errors.NotRunnableError(f"weights: {error}") from error
    return Model(spec, weights.sha256_of(tensors), str(folder))


def model_at_hand(name: str, before: dict[str, Any] | None) -> Model:
    """Return a model without fetching a published one: where its weights are not here, they are taken for those of OUT.

    Args:
        name: As `--model` takes it.
        before: OUT's settings, as its last run wrote them.
    """
    if name in PRESETS and not weights.is_cached(name):
        return Model(PRESETS[name], (before or {}).get("weights_sha256", ""), None)
    return obtain_model(name)


def settings_of(options: Options, model: Model) -> Settings:
    """Return the settings of a run.

    Raises:
        UsageError: The model has no such stem.
    """
    spec = model.spec
    if unknown := set(options.stems or ()) - set(spec.stems):
        raise errors.UsageError(f"--stems {', '.join(sorted(unknown))}: {spec.name} has {', '.join(spec.stems)}")
    lossy = codecs.is_lossy(options.format)
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
            "filename": options.filename,
            "offset_s": options.offset_s,
            "duration_s": options.duration_s,
        }
    )


@dataclass(frozen=True)
class _Pairs:
    """Ids and URIs of tracks that are no bad rows, as often as they are gone through; few of them are Python's at a time."""

    tracks: pa.Table

    def __iter__(self) -> Iterator[tuple[str, str]]:
        tracks = self.tracks
        if PROBLEM in tracks.column_names:
            tracks = tracks.filter(pc.is_null(tracks.column(PROBLEM)))
        for batch in tracks.select(["id", "uri"]).to_batches(max_chunksize=65_536):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def refuse_collisions(tracks: pa.Table, settings: Settings) -> None:
    """Refuse tracks whose stems would have one path.

    Raises:
        UsageError: With the first few pairs.
    """
    stem_paths.refuse_collisions(settings.filename, _Pairs(tracks), settings.stems, settings.format)


def refuse_ids_of_others(plan: Plan, journal: JournalDatabase) -> None:
    """Refuse tracks of the manifest that have the ids of other songs, which are done and still there: theirs would be lost.

    Raises:
        ManifestError: With both URIs.
    """
    pairs = of_another(plan, journal.database)
    there = in_threads(_is_there, (other for _, _, other in pairs))
    for (id, uri, other), is_there in zip(pairs, there, strict=True):
        if is_there:
            raise errors.ManifestError(
                f"id {id} is {uris.shown(uri)} in the manifest, and in OUT {uris.shown(other)}, which is still there: "
                "give two songs two ids, or two OUTs"
            )


def displaced(plan: Plan, journal: JournalDatabase, settings: Settings) -> list[str]:
    """Return the ids of tracks that are not about to be separated, but whose stems will be written over; their sources are gone.

    Raises:
        UsageError: The source of such a track is still there: its stems would be lost.
    """
    displaced_tracks = taken(plan, journal, settings)
    for other, is_there in zip(
        displaced_tracks, in_threads(_is_there, (other.other_uri for other in displaced_tracks)), strict=True
    ):
        if is_there:
            raise errors.UsageError(
                f"--filename {uris.printable(settings.filename)}: {uris.shown(other.uri)} gives {uris.printable(other.path)}, "
                f"where OUT has a stem of another track, {other.other_id} ({uris.shown(other.other_uri)}); "
                "use a template that holds {id}, or another --out"
            )
    return [other.other_id for other in displaced_tracks]


def _is_there(uri: str) -> bool:
    """Tell whether a source is there; where it cannot be asked for, it is taken for gone."""
    try:
        return storage.exists(uri)
    except errors.TrackError:
        return False


def refuse_other_settings(out: str, settings: Settings, before: dict[str, Any], *, overwrite: bool) -> None:
    """Refuse to go on with other settings than those OUT was made with, where that was not asked for.

    Args:
        out: OUT.
        settings: Settings of this run.
        before: Content of the last run's run.json, as `outs.last_run` returns it.
        overwrite: Whether that was asked for.

    Raises:
        SettingsDifferError: With their flags, and both values of each.
    """
    settings_before = before["settings"]
    if settings_before and (differing := settings.differences(settings_before)) and not overwrite:
        own = shlex.join(setting_flags.words(before)) or "no flags, the defaults"
        raise errors.SettingsDifferError(
            f"OUT {out} holds stems made with other settings: {'; '.join(setting_flags.differences(differing))}; "
            f"run with OUT's own ({own}), use another --out, or separate all again with --overwrite"
        )
