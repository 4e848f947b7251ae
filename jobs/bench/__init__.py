"""`bench`: measure the speed of each step on this machine.

Files:
    bench: The command: a run over a synthesised catalog, then each step.
    catalog: Synthesised songs, and a catalog of them.
    steps: Steps of the pipeline, and their speeds.
    report: The measurements, and their print.
"""

from sep_batch.jobs.bench.bench import run_bench

__all__ = ["run_bench"]
