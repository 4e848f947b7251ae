"""The three stages of a track: Analyze, Separate, Write.

Files:
    analyze: The first stage: fetches and decodes a track, and cuts it into parts with their spectrum.
    separate: The second stage: separates parts into stems with the U-Nets.
    separation: Parts to stems by a separator, with masks or with the Wiener filter.
    write: The third stage: encodes stems and puts them on storage.
    stems: Stems of a part: measured, rounded, encoded.
    stem_tags: Tags of a track's stems.
    analysis: Level, activity and width of stems.
    k_weighting: Loudness of stems: energies after K-weighting.
    windows: Sums of squares by window.
    stored_parts: The parts of long tracks on storage.
    estimates: The Wiener filter over tracks of several parts, from stored estimates.
    long_tracks: Joining of a long track's parts to its stems.
    context: Context of a run, for every stage: settings, paths, limits.
    failed_rows: Rows of tracks that fail.
    gpu_faults: CUDA errors, which end their worker.
    shared_time: Time of a process that several calls share.
    time_limit: A time limit that kills a worker, even in C code.
    process: Threads and memory of a stage's process.
    machine_requirements: Packages and disks that every machine of a run must have.
"""
