"""The dataset card, README.md in DEST: contents and origin of the dataset, for readers and, with `hf`, for the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2

from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import activity
from sep_batch.pipeline.export.journal import Done, Key
from sep_batch.pipeline.export.selection import Selection
from sep_batch.pipeline.export.settings import Export
from sep_batch.pipeline.out import layout

TEMPLATE = "card.md.j2"
RUNS_SHOWN = 20
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def write(export: Export, selection: Selection, done: Mapping[Key, Done]) -> None:
    """Write the card. It has no dates and no paths, so the same export has the same card."""
    runs = selection.runs()
    splits = {split: _totals(split, done) for split, share in export.settings.splits.items() if share}
    values = {
        "settings": export.settings,
        "splits": splits,
        "loaded": [split for split, held in splits.items() if held.excerpts] or list(splits),  # `datasets` rejects empty ones
        "size": next((name for bound, name in SIZES if sum(shard.excerpts for shard in done.values()) < bound), "n>10M"),
        "failed": len({name for shard in done.values() for name in shard.failed}),
        "made_with": selection.made_with(),
        "renamed": dict(export.renamed),
        "runs": runs[:RUNS_SHOWN],
        "more_runs": len(runs[RUNS_SHOWN:]),
        "activity": activity,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (Markdown; outside text is in code)
    )
    content = environment.get_template(TEMPLATE).render(values).encode()
    storage.put(f"{export.dest}/README.md", content, scratch=layout.parts_folder(export.dest, "card"))


def _totals(split: str, done: Mapping[Key, Done]) -> Done:
    """Return the totals of a split's shards, added in their order, so that the sums are the same to the last bit."""
    shards = [shard for key, shard in sorted(done.items()) if key[0] == split]
    active = {
        stem: sum(shard.active_s.get(stem, 0.0) for shard in shards)
        for stem in sorted({stem for shard in shards for stem in shard.active_s})
    }
    counts = [sum(getattr(shard, name) for shard in shards) for name in ("excerpts", "tracks", "seconds")]
    return Done(counts[0], counts[1], counts[2], active, sum(shard.bytes for shard in shards), ())
