"""Datasets of the stems of an OUT: selection, excerpts, shards, and the journal of an export.

Files:
    settings: The settings of an export, and the configuration of its workers.
    selection: Rows of the index that an export is made of.
    columns: Names of the manifest's columns in a dataset.
    excerpts: The plan of an export: excerpts in splits and shards.
    splits: The split of a track, by a hash of its group.
    flow: The export as a Ray Data pipeline.
    shards: Making of one shard: its tracks are read, cut and put.
    verified: Opening of stems and sources, after a check against the index.
    forward: A wave that comes in pieces, read forward.
    cutting: Stems and mix of a track, cut into excerpts.
    packing: Waves as an export writes them: rounded, encoded, measured.
    formats: One file a format: WebDataset, Parquet, Lhotse, MUSDB.
    journal: One row per shard; the row is the commit.
    card: README.md of a dataset.
"""
