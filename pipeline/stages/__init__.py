"""The stages: what happens to a track.

Files:
    analyze: The first stage: fetched, decoded, cut into parts with their spectrum.
    separate: The second stage: the U-Nets make stems of parts.
    write: The third stage: stems are encoded and put.
    stems: Stems of a part: measured, rounded, encoded.
    analysis: Level, activity and width of stems.
    long_tracks: Parts of a long track are joined to its stems.
    context: Settings and places that every stage of a run is given.
    failed_rows: Rows of tracks that fail.
    time_limit: A time limit that ends a worker, in C code too.
    process: Threads and memory of a stage's process.
    machine_requirements: Packages and disks that every machine of a run must have.
"""
