"""First steps and checks of the commands.

Files:
    options: Options of a run, read from flags and checked.
    setting_flags: Settings as flags of `run`.
    prepare: Catalog, model and settings of a run or plan; nothing is written.
    stem_layout: OUT by default, and the template of its stems' paths.
    storage_options: Storage options of the command line.
    outs: Marks of an OUT, its run.json, and the start of a run in it.
    run_json: The fields of run.json, checked.
    id_list: Lists of ids.
    machine: Checks of options that this machine must satisfy.
    check: The result of one check.
    check_machine: Checks of Python, CPUs, memory, /dev/shm and open files.
    address: The address of a Ray cluster: its source, its form, its port.
    units: Amounts as text: bytes and time spans with their units.
    stop: The early end of a run by a signal (Ctrl-C, SIGTERM, SIGHUP) or a deadline.
    streams: Stdout and stderr: a failed write does not end the process; libraries' own output is kept apart.
"""
