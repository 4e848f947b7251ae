"""The pipeline of a track, from manifest row to index row.

Files:
    manifest: The tracks of a run: location and id of each.
    flow: The stages as a Ray Data pipeline.
    stages: The stages of a track: Analyze, Separate, Write.
    audio: Decoding of sources, encoding of stems, and measurements of waves.
    out: OUT on storage: journal, index, lease, and the plan of the tracks that are left.
    storage: Every read and write of the project.
    export: Datasets of the stems of an OUT.
    scoring: Scores: how far stems are from other stems, or from true ones.
    rows: The columns of rows, from manifest to index.
    settings: The settings of a run: everything that changes the bytes of stems.
    stem_paths: Paths of stems, from the --filename template.
    repeats: Possible duplicates among millions of texts.
    errors: The errors of the project, with their classes and exit codes.
    packages: Versions of this package and of those that it needs.
    extras: Packages of extras, and the command that installs them.
"""
