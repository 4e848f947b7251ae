"""`bench`: the speed of each step on this machine.

Files:
    bench: `bench`: each step, a whole run, the bottleneck.
"""

from sep_batch.jobs.bench.bench import run_bench

__all__ = ["run_bench"]
