"""OUT on storage: journal, index, lease, and the plan of the tracks that are left.

Files:
    layout: Paths of files in OUT.
    journal: The journal while it is written: a row is the commit of a track.
    database: The journal while it is read: tables of DuckDB.
    index: The published index: one row per id, the newest.
    column_types: One type for a column that several manifests have.
    compaction: Many small journal files become few.
    sort_by_id: Rows into one Parquet file in the order of their ids.
    plan: The tracks that are left, and why; written as files for the flow.
    taken_paths: Tracks whose stems would be written over those of others.
    finished_ids: The tracks that came out of a pass.
    withdrawal: Rows of tracks whose stems are about to be replaced.
    lease: The lease: which run works on OUT.
"""
