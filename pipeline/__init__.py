"""The pipeline of a track, from manifest row to index row.

Files:
    manifest: The tracks of a run: where each lies, and its id.
    flow: The stages as a Ray Data pipeline.
    stages: The stages: a track is analyzed, separated and written.
    audio: Sources are decoded, stems are encoded, and waves are measured.
    out: OUT on storage: journal, index, lease, and the plan of the tracks that are left.
    storage: Every read and write of the project.
    export: Datasets of the stems of an OUT.
    rows: The columns of rows, from manifest to index.
    settings: The settings of a run: all that decides about the bytes of stems.
    stem_paths: Ids of tracks and paths of stems.
    repeats: Texts that occur more than once, among millions.
    errors: The errors of the project, with their classes and exit codes.
    extras: Packages of extras: what to install where one is missing.
"""
