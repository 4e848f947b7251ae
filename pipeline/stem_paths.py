"""Where a stem lies below `stems/`: the `--filename` template, its tokens, and the check that no two tracks share a path."""

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
        template: As `check` let it pass.
        id: The track's.
        uri: The track's source.
        stem: The stem's name.
        ext: The format.
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
    """Make one path component of a text: no slash, no control character, no leading dot, no endless name, no end of a URI."""
    clean = "".join(char if char.isprintable() and char not in "/\\?" else "_" for char in text).replace("::", "__")
    clean = "_" + clean[1:] if clean.startswith(".") or not clean else clean
    raw = clean.encode()
    if len(raw) <= _COMPONENT_BYTES:
        return clean
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"{raw[:180].decode(errors='ignore')}-{digest}-{raw[-40:].decode(errors='ignore')}"


def check(template: str) -> None:
    """Refuse a template that is none, or gives every stem the same path.

    Raises:
        UsageError: With the tokens there are.
    """
    shown, expected = uris.printable(template), f"expected tokens {', '.join('{' + token + '}' for token in TOKENS)}"
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise errors.UsageError(f"--filename {shown}: {error}; {expected}") from error
    used = {f"{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}" for _, name, spec, conversion in fields}
    if strange := used - TOKENS.keys():
        raise errors.UsageError(f"--filename {shown}: found {uris.printable(', '.join(sorted(strange)))}; {expected}")
    if not used & {"stem", "instrument"}:
        raise errors.UsageError(f"--filename {shown}: no {{stem}}, so all stems would have one path")
    if template.startswith("/") or ".." in template.split("/"):
        raise errors.UsageError(f"--filename {shown}: expected a path below OUT/stems")


def refuse_collisions(template: str, tracks: Iterable[tuple[str, str]], stems: Sequence[str], ext: str) -> None:
    """Render every track's path where ids do not keep them apart, and refuse two that some storage takes for one.

    That is storage which ignores case, or how an accent is written.

    Args:
        template: As `check` let it pass.
        tracks: Ids and URIs; they are gone through twice.
        stems: One is enough, since the template holds it.
        ext: The format.

    Raises:
        UsageError: With the first few pairs.
    """
    if keeps_ids_apart(template):
        return
    hashes = (hash(folded(render(template, id, uri, stems[0], ext))) for id, uri in tracks)
    seen: dict[str, tuple[str, str]] = {}
    clashes = []
    for id, uri in compress(tracks, repeated(np.fromiter(hashes, np.int64))):
        path = render(template, id, uri, stems[0], ext)
        if (first := seen.setdefault(folded(path), (id, uri)))[0] != id:
            clashes.append(f"{uris.shown(first[1])} and {uris.shown(uri)} both give {uris.printable(path)}")
    if clashes:
        more = f" and {len(clashes) - _MAX_SHOWN} more" if len(clashes) > _MAX_SHOWN else ""
        raise errors.UsageError(f"--filename {uris.printable(template)}: {'; '.join(clashes[:_MAX_SHOWN])}{more}; add {{id}}")


def keeps_ids_apart(template: str) -> bool:
    """Tell whether two ids never have one path: a component holds the id, and beside it no text that differs between sources."""
    components = template.split("/")
    return any("{id}" in one and "{filename}" not in one and "{foldername}" not in one for one in components)


def folded(path: str) -> str:
    """Return a path as storage takes it that ignores case, or how an accent is written."""
    return unicodedata.normalize("NFC", path).casefold()
