"""The stages: what happens to a track.

Files:
    stages: Analyze, Separate and Write, as classes from rows to rows.
    stems: Stems of a part: measured, rounded, encoded.
    analysis: Level, activity and width of stems.
    long_tracks: Parts of a long track are joined to its stems.
    context: Settings and places that every stage of a run is given; failed rows.
    time_limit: A time limit that ends a worker, in C code too.
    machine_requirements: Packages and disks that every machine of a run must have.
"""
