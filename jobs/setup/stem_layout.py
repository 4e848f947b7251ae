"""OUT by default, and where its stems lie: a template that is chosen when OUT is made, and kept in its run.json."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors, manifest, stem_paths, storage
from sep_batch.pipeline.manifest import formats, made_files
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.storage import uris


def default_out(source: str, more: Sequence[str] = ()) -> str:
    """Return the default OUT, beside the source: `songs.parquet` -> `songs.stems`, and `songs.csv.gz` -> `songs.stems`.

    Raises:
        UsageError: There are more sources; or the source is a whole bucket, and no folder can lie beside it.
    """
    if more:
        raise errors.UsageError(f"--out: {1 + len(more)} sources have no default OUT; name a folder, as --out stems")
    if source == uris.store(source):
        raise errors.UsageError(f"--out: {uris.shown(source)} is a whole bucket, so OUT has no default; name a folder or prefix")
    return f"{uris.parent(source).rstrip('/')}/{formats.stem(source)}.stems"


def refuse_sources_below(sources: pa.ChunkedArray, folder: str) -> None:
    """Refuse sources in a folder that runs write to: stems may be written over them, and `verify --repair --yes` removes them.

    Raises:
        UsageError: There is such a source; names the first.
    """
    if source := _first_below(sources, folder):
        raise errors.UsageError(
            f"--out: the source {uris.shown(source)} lies in {uris.shown(folder)}, where runs write; use another --out"
        )


def _first_below(sources: pa.ChunkedArray, folder: str) -> str | None:
    """Return the first source in a folder; None if there is none."""
    at = pc.index(pc.starts_with(sources, f"{folder}/"), pa.scalar(True)).as_py()  # noqa: FBT003
    return str(sources[at].as_py()) if at >= 0 else None


def layout_of(
    options: Options, listed: manifest.Manifest, out: str, before: Mapping[str, Any], stems: tuple[str, ...]
) -> tuple[str, str | None]:
    """Return the template of the stems' paths, and the root of its `{reldir}`.

    Args:
        options: Options of the run.
        listed: Its manifest.
        out: Its OUT.
        before: OUT's settings, as its last run wrote them; empty for a new OUT.
        stems: Stems of the model.

    Raises:
        UsageError: The template's paths lie in OUT itself, and could meet files of others or be taken for sources; or OUT has
            lost its run.json.
    """
    own = before.get("filename", stem_paths.DEFAULT_FILENAME) if before else None
    has_index = own is None and storage.exists(f"{out}/{layout.INDEX_FILE}")
    if has_index and options.filename is None and listed.kind != "manifest":
        raise errors.UsageError(
            f"OUT {uris.shown(out)} holds stems, but no {layout.RUN_JSON} with the template of their paths; give it with "
            f"--filename: '{stem_paths.DEFAULT_FILENAME}' if they lie below stems/<2 digits>/, else '{stem_paths.TREE}'"
        )
    template = options.filename or own or _default_filename(listed, out, stems, is_one=not options.more)
    shown = uris.printable(template)
    if template.startswith(stem_paths.IN_OUT):
        refuse_sources_below(listed.tracks["uri"], out)
        expected = ""
        if own is None and not has_index and not _is_free(out):
            expected = "a new or empty OUT that lies in no other one"
        elif not stem_paths.is_recognizable(template, out, stems):
            expected = f"an OUT whose name ends in {stem_paths.OUT_SUFFIX}"
        if expected:
            raise errors.UsageError(
                f"--filename {shown}: the paths lie in OUT itself, so expected {expected}, found {uris.shown(out)}; "
                "use another --out, or leave out ./"
            )
    elif own and own.startswith(stem_paths.IN_OUT) and not out.endswith(stem_paths.OUT_SUFFIX):
        raise errors.UsageError(
            f"--filename {shown}: OUT {uris.shown(out)} has stems in itself ({uris.printable(own)}), which would be taken for "
            "sources; use another --out"
        )
    if "{reldir}" not in template:
        return template, None
    root = before.get("root")
    return template, _root(options, listed) if root is None else root


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
    is_apart = stem_paths.is_recognizable(template, out, stems) and not _first_below(listed.tracks["uri"], out)
    return template if is_apart and _is_free(out) else stem_paths.TREE.removeprefix(stem_paths.IN_OUT)


def _is_free(out: str) -> bool:
    """Return whether OUT holds nothing but what runs left, and lies in no other OUT that has its stems in itself."""
    if any(not info.uri.startswith(f"{out}/_sep/") for info in storage.find(out, lambda _kind, _path: None)):
        return False
    parents = out.split("/")[:-1]
    return not any(made_files.has_stems("/".join(parents[:depth])) for depth in range(1, len(parents) + 1))
