"""Commands: a folder or a file each, and the command line over them.

Files:
    cli: The command line, one file per command.
    setup: First steps and checks of the commands.
    engine: Ray, started on this machine or joined on a cluster.
    progress: Progress and result of a run, for the terminal and for other programs.
    run: `run` and `sync`: separate tracks.
    plan: `plan`: show the work of a run without doing it.
    status: `status`: show the state of an OUT's runs.
    failures: `failures`: show the failed tracks of an OUT and the next steps.
    show: `show`: draw a track.
    verify: `verify`: compare an OUT with its journal, and repair it.
    withdraw: `withdraw`: takedown of tracks.
    compare: `compare`: compare the stems of two OUTs.
    evaluate: `evaluate`: score stems against true stems.
    export: `export`: make a dataset of stems.
    submit: `submit`: run a command on a Ray cluster.
    doctor: `doctor`: check this machine.
    bench: `bench`: measure the speed of each step on this machine.
    demo: `demo`: synthesise songs and separate them.
    manifest: `manifest`: list audio files.
    models: `models`: list, fetch, convert and show models.
"""
