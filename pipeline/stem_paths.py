"""Paths of stems below `stems/`: the `--filename` template, its tokens, and the check that no two tracks share a path."""

from __future__ import annotations

import hashlib
import string
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np

from sep_batch.pipeline import errors
from sep_batch.pipeline.repeats import repeated
from sep_batch.pipeline.storage import uris

DEFAULT_FILENAME = "{shard}/{id}/{stem}.{ext}"
TOKENS = {
    "id": "the track's id",
    "stem": "the stem's name",
    "ext": "the format's extension",
    "filename": "the source's file name without extension",
    "foldername": "the name of the folder that holds the source",
    "instrument": "Spleeter's word for stem",
    "codec": "Spleeter's word for ext",
    "shard": "two hex digits of sha256(id), to spread many tracks over folders",
}
_COMPONENT_BYTES = 240  # of the 255 that file systems take
_MAX_SHOWN = 5


def render(template: str, id: str, uri: str, stem: str, ext: str) -> str:
    """Return a stem's path below `stems/`.

    Args:
        template: A template that passed `check`.
        id: Id of the track.
        uri: URI of the track's source.
        stem: Name of the stem.
        ext: Format of the stem's file.
    """
    filename = uris.name(uri)
    tokens = {
        "id": id,
        "stem": stem,
        "ext": ext,
        "filename": filename.rpartition(".")[0] or filename,
        "foldername": uris.name(uris.parent(uri)),
        "instrument": stem,
        "codec": ext,
        "shard": hashlib.sha256(id.encode()).hexdigest()[:2],
    }
    path = template.format(**{name: _component(text) for name, text in tokens.items()})
    return "/".join(_component(component) for component in path.split("/") if component)


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
        raise errors.UsageError(f"--filename {shown}: expected a path below OUT/stems")


def refuse_collisions(template: str, tracks: Iterable[tuple[str, str]], stems: Sequence[str], ext: str) -> None:
    """Refuse tracks that would share a path; nothing is rendered where the template's ids keep paths apart.

    Paths are compared without case and Unicode form, which some storage ignores.

    Args:
        template: A template that passed `check`.
        tracks: Ids and URIs; iterated over twice.
        stems: Names of the stems; only the first is rendered, since the template contains it.
        ext: Format of the stems' files.

    Raises:
        UsageError: Two tracks share a path; the message lists the first few pairs.
    """
    if keeps_ids_apart(template):
        return
    hashes = (hash(folded(render(template, id, uri, stems[0], ext))) for id, uri in tracks)
    first_by_path: dict[str, tuple[str, str]] = {}
    clashes = []
    for id, uri in compress(tracks, repeated(np.fromiter(hashes, np.int64))):
        path = render(template, id, uri, stems[0], ext)
        if (first := first_by_path.setdefault(folded(path), (id, uri)))[0] != id:
            clashes.append(f"{uris.shown(first[1])} and {uris.shown(uri)} both give {uris.printable(path)}")
    if clashes:
        more = f" and {len(clashes) - _MAX_SHOWN} more" if len(clashes) > _MAX_SHOWN else ""
        raise errors.UsageError(f"--filename {uris.printable(template)}: {'; '.join(clashes[:_MAX_SHOWN])}{more}; add {{id}}")


def keeps_ids_apart(template: str) -> bool:
    """Tell whether two ids never share a path: a component has the id, and beside it no text that differs between sources."""
    components = template.split("/")
    return any("{id}" in part and "{filename}" not in part and "{foldername}" not in part for part in components)


def folded(path: str) -> str:
    """Return a path in one case and Unicode form, for storage that ignores them."""
    return unicodedata.normalize("NFC", path).casefold()
