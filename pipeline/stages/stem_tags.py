"""Tags of a track's stems: those of its source, and its provenance. Between stages they travel in a track's first part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from sep_batch.pipeline.audio import SourceTags, tags
from sep_batch.pipeline.audio.pictures import picture
from sep_batch.pipeline.audio.tag_writer import WITHOUT_COVER
from sep_batch.pipeline.audio.tags import Tags
from sep_batch.pipeline.rows import value
from sep_batch.pipeline.settings import Settings


def columns(source: SourceTags, settings: Settings) -> dict[str, Any]:
    """Return the columns of a source's tags: `tags` and `tags_warning`.

    Args:
        source: Tags of the source.
        settings: Settings of the run; a format without covers leaves the cover out.
    """
    own, warnings = source.tags, [source.warning] if source.warning else []
    if own.cover is not None and settings.codec.container in WITHOUT_COVER:
        own, warnings = replace(own, cover=None), [*warnings, tags.warning(0, cover=f"{settings.format} files hold none")]
    values = [{"name": name, "value": value} for name, value in own.values]
    column = {"values": values, "cover": own.cover and own.cover.content}
    return {"tags": column if own else None, "tags_warning": "; ".join(warnings) or None}


def of_stem(row: pa.Table, stem: str, settings: Settings) -> Tags:
    """Return the tags of a stem's file. The title is the source's, as FFmpeg copies it; the file's name has the stem's.

    Args:
        row: First part of the track.
        stem: Name of the stem.
        settings: Settings of the run.
    """
    column = value(row, "tags") or {"values": [], "cover": None}
    values = {pair["name"]: pair["value"] for pair in column["values"]}
    if settings.tag_provenance:
        values |= {
            "SEP_BATCH_ID": value(row, "id"),
            "SEP_BATCH_MODEL": settings.spec.name,
            "SEP_BATCH_STEM": stem,
            "SEP_BATCH_WEIGHTS_SHA256": settings.weights_sha256,
        }
    return Tags(tuple(sorted(values.items())), picture(column["cover"] or b""))
