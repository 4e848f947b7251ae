"""The manifest: the tracks to separate, with their sources and ids.

Files:
    manifest: Reading and checking of a manifest, whose tracks get their ids; the entry point of the jobs.
    columns: Columns of URI and id, and those that are carried into the index.
    formats: The formats, by extension; reading of a file as a table.
    parse: Parquet, CSV and JSON.
    playlists: Plain text and M3U.
    lhotse: Lhotse's recordings and cuts.
    gzipped: Bounded decompression.
    segments: Offset and duration of a row within its file.
    ids: The ids of tracks.
    sample: Tracks by a hash of their ids.
    bad_rows: Invalid rows: refused, or tracks that fail.
    source_policy: Sources that a manifest may name.
    audio_files: The audio files of a folder, prefix or inventory, and a count of all others.
    made_files: Recognition of files that sep-batch made.
    patterns: Patterns of --include and --exclude.
    table_folder: A folder of Parquet, CSV or JSONL files as one manifest.
    scan: Making of a manifest from folders, prefixes, globs, lists and inventories.
    lists: Reading of lists for a scan, and writing of manifests.
    s3_inventory: An inventory of S3 as a list of audio files.
    per_file: One call for every file of a manifest, in threads.
    probe: Durations, sample rates and channels, from the files' headers.
    duplicates: Files with the same content.
"""

from sep_batch.pipeline.manifest.bad_rows import SHOWN, BadRows, BadRowsError
from sep_batch.pipeline.manifest.columns import URI_SPELLINGS
from sep_batch.pipeline.manifest.manifest import Manifest, check, read

__all__ = ["SHOWN", "URI_SPELLINGS", "BadRows", "BadRowsError", "Manifest", "check", "read"]
