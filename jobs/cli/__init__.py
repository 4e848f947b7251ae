"""The command line: one file per command.

Files:
    main: The entry point: all commands in one app, and its exit code.
    app: The app; errors become one line and an exit code here, and only here.
    flags: Flags that several commands share.
    configured: The class of commands with `--config` and `--profile`.
    config_file: Config files: values of flags in TOML, in one table per command, with profiles on top.
    run: `run`.
    plan: `plan`.
    dry_run: A plan on the terminal: `plan`, and `run --dry-run`.
    sync: `sync`.
    submit: `submit`.
    status: `status`.
    failures: `failures`.
    show: `show`.
    verify: `verify`.
    withdraw: `withdraw`.
    compare: `compare`.
    evaluate: `evaluate`.
    export: `export`.
    manifest: `manifest`.
    doctor: `doctor`.
    demo: `demo`.
    bench: `bench`.
    config: `config show`.
    models: `models list`, `fetch`, `convert`, `show`.
"""
