"""OUT on storage: journal, index, lease, and the plan of the tracks that are left.

Files:
    layout: Paths of files in OUT.
    journal: Writing the journal; a row is the commit of a track.
    database: Reading the journal, as views of DuckDB.
    index: The published index: one row per id, the newest.
    column_types: One type for a column that several manifests have.
    compaction: Merging of small journal files.
    sort_by_id: Sorting of rows by id into one Parquet file.
    plan: The tracks that are left to do, with reasons; written as files for the flow.
    taken_paths: Tracks whose stems would overwrite other tracks' stems.
    finished_ids: Ids of the tracks that finished in a pass.
    revoked_rows: Rows that revoke older ones: of tracks whose stems are about to be replaced, or are broken.
    takedown: Removal of all that OUT knows about withdrawn tracks.
    lease: The lease: which run works on OUT.
"""
