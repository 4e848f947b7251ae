"""The manifest: which tracks there are, where each lies and what it is called.

Files:
    manifest: A manifest is read and checked, and its tracks get their ids; what the jobs call.
    columns: Columns of URI and id, and those that are carried into the index.
    formats: The formats, by extension; a file of one becomes a table.
    parse: Parquet, CSV and JSON.
    playlists: Plain text and M3U.
    lhotse: Lhotse's recordings and cuts.
    gzipped: Decompression, bounded.
    segments: Which part of a file a row is.
    ids: The ids of tracks.
    bad_rows: Rows that cannot be meant: refused, or tracks that fail.
    source_policy: Which sources a manifest may name.
    audio_files: The audio files of a folder, prefix or inventory, and a count of all others.
    made_files: The files in it that sep-batch made.
    patterns: Patterns of --include and --exclude.
    table_folder: A folder of Parquet, CSV or JSONL files as one manifest.
    scan: A manifest is written from folders, prefixes, patterns, lists and inventories.
    lists: Lists of sources, one or several manifests, read for a scan.
    s3_inventory: An inventory of S3 as a list of audio files.
    per_file: One question for every file of a list, in threads.
    probe: Durations, rates and channels, asked of the files themselves.
    duplicates: Files with the same bytes.
"""

from sep_batch.pipeline.manifest.bad_rows import SHOWN, BadRows, BadRowsError
from sep_batch.pipeline.manifest.columns import URI_SPELLINGS
from sep_batch.pipeline.manifest.manifest import Manifest, check, read

__all__ = ["SHOWN", "URI_SPELLINGS", "BadRows", "BadRowsError", "Manifest", "check", "read"]
