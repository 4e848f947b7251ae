"""The manifest: which tracks there are, where each lies and what it is called.

Files:
    manifest: A manifest is read and checked, and its tracks get their ids; what the jobs call.
    parse: The bytes of a manifest become a table.
    ids: The ids of tracks.
    source_policy: Which sources a manifest may name.
    audio_files: The audio files of a folder, prefix or inventory, and a count of all others.
    patterns: Patterns of --include and --exclude.
    table_folder: A folder of Parquet, CSV or JSONL files as one manifest.
    scan: A manifest is written from folders, prefixes, patterns, lists and inventories.
    lists: Lists of sources, one or several manifests, read for a scan.
    s3_inventory: An inventory of S3 as a list of audio files.
    per_file: One question for every file of a list, in threads.
    probe: Durations, rates and channels, asked of the files themselves.
    duplicates: Files with the same bytes.
"""

from sep_batch.pipeline.manifest.audio_files import MANIFEST_EXTENSIONS
from sep_batch.pipeline.manifest.manifest import SHOWN, URI_SPELLINGS, Manifest, check, read

__all__ = ["MANIFEST_EXTENSIONS", "SHOWN", "URI_SPELLINGS", "Manifest", "check", "read"]
