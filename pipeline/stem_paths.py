"""Paths of stems in OUT: the `--filename` template, its tokens, and the check that no two tracks share a path.

A template's paths lie below `stems/`; those of a template that begins with `./` lie in OUT itself.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import errors
from sep_batch.pipeline.repeats import repeated
from sep_batch.pipeline.storage import uris

DEFAULT_FILENAME = "{shard}/{id}/{stem}.{ext}"  # for manifests, and for every OUT of earlier versions
ONE_SONG = "./{stem}.{ext}"
SONGS = "./{filename}/{stem}.{ext}"
TREE = "./{reldir}/{filename}/{stem}.{ext}"
NAMED = (ONE_SONG, SONGS, TREE, TREE.removeprefix("./"))  # where two tracks would share a path, one gets a mark: see `mark`
IN_OUT = "./"  # the beginning of a template whose paths lie in OUT itself
STEMS = "stems/"  # the beginning of all other paths
TOKENS = {
    "id": "the track's id",
    "stem": "the stem's name",
    "ext": "the format's extension",
    "filename": "the source's file name without extension",
    "foldername": "the name of the folder that holds the source",
    "reldir": "the source's folder below the folder that is separated",
    "model": "the model's name",
    "instrument": "Spleeter's word for stem",
    "codec": "Spleeter's word for ext",
    "shard": "two hex digits of sha256(id), to spread many tracks over folders",
}
OUT_SUFFIX = ".stems"  # of the names of default OUTs
COMMON_STEMS = frozenset(("vocals", "accompaniment", "drums", "bass", "piano", "other"))  # of the published models
_OURS = ("_sep", "index.parquet")  # names in OUT that no stem's path may begin with
_COMPONENT_BYTES = 240  # of the 255 that file systems take
_MAX_SHOWN = 5


def render(
    template: str, id: str, uri: str, stem: str, ext: str, *, root: str | None = None, model: str = "", mark: str = ""
) -> str:
    """Return a stem's path, relative to OUT.

    Args:
        template: A template that passed `check`.
        id: Id of the track.
        uri: URI of the track's source.
        stem: Name of the stem.
        ext: Format of the stem's file.
        root: Folder to which `{reldir}` is relative; a source outside has its folder's name as `{reldir}`.
        model: Name of the model.
        mark: Text that is added to `{filename}`, or if the template has none, to `{stem}`.
    """
    filename, folder = uris.name(uri), uris.parent(uri)
    filename = filename.rpartition(".")[0] or filename
    marks_filename = "{filename}" in template
    tokens = {
        "id": id,
        "stem": stem if marks_filename else stem + mark,
        "ext": ext,
        "filename": filename + mark if marks_filename else filename,
        "foldername": uris.name(folder),
        "model": model.replace(":", "-"),
        "instrument": stem,
        "codec": ext,
        "shard": hashlib.sha256(id.encode()).hexdigest()[:2],
    }
    components = {name: _component(text) for name, text in tokens.items()}
    components["reldir"] = _reldir(folder, root) if "{reldir}" in template else ""
    is_in_out = template.startswith(IN_OUT)
    path = template.removeprefix(IN_OUT).format(**components)
    path = "/".join(_component(component) for component in path.split("/") if component)
    if not is_in_out:
        return f"{STEMS}{path}"
    return f"_{path}" if folded(path.partition("/")[0]) in _OURS else path


def mark(id: str) -> str:
    """Return the text that keeps a track's paths apart from those of another track with the same name."""
    return f"-{hashlib.sha256(id.encode()).hexdigest()[:8]}"


def is_recognizable(template: str, out: str, stems: Iterable[str]) -> bool:
    """Return whether a listing of a folder that holds OUT can tell its stems from sources without a look into every folder.

    Args:
        template: A template whose paths lie in OUT itself.
        out: OUT.
        stems: Stems of the model.
    """
    return out.endswith(OUT_SUFFIX) or (template in NAMED and set(stems) <= COMMON_STEMS)


def may_be_stem(name: str) -> bool:
    """Return whether a file may by its name be a stem of a template that begins with `./`, in an OUT of any name."""
    return re.split(r"[-.]", name, maxsplit=1)[0] in COMMON_STEMS


def _reldir(folder: str, root: str | None) -> str:
    """Return a source's folder relative to the root, each component as `_component` makes it; may be empty."""
    is_inside = root is not None and f"{folder}/".startswith(f"{root}/")
    inside = folder[len(root or "") :].split("/") if is_inside else [uris.name(folder)]
    return "/".join(_component(name) for name in inside if name)


def _component(text: str) -> str:
    """Make one path component of a text: no slash, no control character, no leading dot, no `?` or `::`, a bounded length."""
    clean = "".join(char if char.isprintable() and char not in "/\\?" else "_" for char in text).replace("::", "__")
    clean = "_" + clean[1:] if clean.startswith(".") or not clean else clean
    raw = clean.encode()
    if len(raw) <= _COMPONENT_BYTES:
        return clean
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{raw[:180].decode(errors='ignore')}-{digest}-{raw[-40:].decode(errors='ignore')}"


def check(template: str) -> None:
    """Refuse an invalid template, and one that gives every stem the same path.

    Raises:
        UsageError: The template is refused; the message lists the tokens.
    """
    shown, expected = uris.printable(template), f"expected tokens {', '.join('{' + token + '}' for token in TOKENS)}"
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise errors.UsageError(f"--filename {shown}: {error}; {expected}") from error
    used = {f"{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}" for _, name, spec, conversion in fields}
    if unknown := used - TOKENS.keys():
        raise errors.UsageError(f"--filename {shown}: unknown tokens {uris.printable(', '.join(sorted(unknown)))}; {expected}")
    if not used & {"stem", "instrument"}:
        raise errors.UsageError(f"--filename {shown}: no {{stem}}, so all stems of a track would share one path; add it")
    if template.startswith("/") or ".." in template.split("/"):
        raise errors.UsageError(f"--filename {shown}: expected a path below OUT/stems, or one in OUT that begins with ./")


@dataclass(frozen=True)
class Tracks:
    """Iterable of the ids and URIs of tracks; repeatable, with few Python objects at a time.

    Attributes:
        blocks: Returns the tracks' tables, each some thousands of rows.
    """

    blocks: Callable[[], Iterable[pa.Table | pa.RecordBatch]]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield id and URI of each track."""
        for block in self.blocks():
            yield from zip(*(block.column(name).to_pylist() for name in ("id", "uri")), strict=True)


def repeats(
    path_of: Callable[[str, str], str], tracks: Iterable[tuple[str, str]]
) -> Iterable[tuple[str, tuple[str, str], tuple[str, str]]]:
    """Yield each track whose path an earlier one has: the path, the earlier track, the track; tracks as id and URI.

    Paths are compared without case and Unicode form, which some storage ignores.

    Args:
        path_of: Returns the path of a track, from its id and URI.
        tracks: Ids and URIs; iterated over twice.
    """
    hashes = (hash(folded(path_of(id, uri))) for id, uri in tracks)
    first_by_path: dict[str, tuple[str, str]] = {}
    for id, uri in compress(tracks, repeated(np.fromiter(hashes, np.int64))):
        path = path_of(id, uri)
        if (first := first_by_path.setdefault(folded(path), (id, uri)))[0] != id:
            yield path, first, (id, uri)


def refuse_collisions(template: str, path_of: Callable[[str, str], str], tracks: Iterable[tuple[str, str]]) -> None:
    """Refuse tracks that would share a path.

    Args:
        template: A template that passed `check`; where its ids keep paths apart, no path is rendered.
        path_of: Returns the path of a track's first stem, from its id and URI.
        tracks: Ids and URIs; iterated over twice.

    Raises:
        UsageError: Two tracks share a path; the message lists the first few pairs.
    """
    if keeps_ids_apart(template):
        return
    clashes = [
        f"{uris.shown(first)} and {uris.shown(uri)} both give {uris.printable(path)}"
        for path, (_, first), (_, uri) in repeats(path_of, tracks)
    ]
    if clashes:
        more = f" and {len(clashes) - _MAX_SHOWN} more" if len(clashes) > _MAX_SHOWN else ""
        raise errors.UsageError(f"--filename {uris.printable(template)}: {'; '.join(clashes[:_MAX_SHOWN])}{more}; add {{id}}")


def keeps_ids_apart(template: str) -> bool:
    """Tell whether two ids never share a path: a component has the id, and beside it no text that differs between sources."""
    of_sources = ("{filename}", "{foldername}", "{reldir}")
    return any("{id}" in part and not any(token in part for token in of_sources) for part in template.split("/"))


def folded(path: str) -> str:
    """Return a path in one case and Unicode form, for storage that ignores them."""
    return unicodedata.normalize("NFC", path).casefold()
