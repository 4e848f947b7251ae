"""Progress and result of a run: terminal, log, JSON events, metrics.

Files:
    progress: The progress of a run, passed on to its watchers.
    run_state: Counts, rates and remaining time of a run.
    summary: The result of a run and its exit code.
    bottleneck: The stage that limits a run, in one sentence.
    every: Call a function at intervals while a block runs.
    display: A live display on a terminal, lines elsewhere.
    json_events: `--json`: events as lines of JSON.
    prometheus: `--metrics-port`, `--metrics-file`: metrics for Prometheus.
    log: `--log-format`: log lines on stderr.
    forecast: The forecast of `plan --calibrate`, kept until the run.
    file_counter: A live count of listed files.
    print_result: The result of a command: one line of JSON, or text.
"""
