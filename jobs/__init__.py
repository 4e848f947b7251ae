"""Commands: what a person or a scheduler types, a folder each.

Files:
    cli: The command line, one file a command.
    setup: Steps and checks with which commands begin.
    engine: Ray, started on this machine or joined on a cluster.
    progress: Progress and result of a run, as they are shown.
    run: `run` and `sync`: tracks are separated.
    plan: `plan`: what a run would do.
    status: `status`: how far the runs of an OUT have come.
    failures: `failures`: what failed, and what to do.
    verify: `verify`: an OUT is compared with its journal, and repaired.
    export: `export`: stems become a dataset.
    submit: `submit`: a command runs on a Ray cluster.
    doctor: `doctor`: what this machine has and lacks.
    bench: `bench`: the speed of each step on this machine.
    demo: `demo`: songs are synthesised and separated.
    manifest: `manifest`: audio files are listed.
    models: `models`: weights are listed, fetched, converted and shown.
"""
