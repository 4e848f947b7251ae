"""OUT on storage: journal, index, lease, and the plan of the tracks that are left.

Files:
    index: Journal and index: rows are committed, and published as one Parquet file.
    column_types: One type for a column that several manifests have.
    compaction: Many small journal files become few.
    sort_by_id: Rows into one Parquet file in the order of their ids.
    plan: The tracks that are left, and why; written as files for the flow.
    taken_paths: Tracks whose stems would be written over those of others.
    finished_ids: The tracks that came out of a pass.
    withdrawal: Rows of tracks whose stems are about to be replaced.
    lease: The lease: which run works on OUT.
"""
