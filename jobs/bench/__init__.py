"""`bench`: measure the speed of each step on this machine.

Files:
    bench: `bench`: speed of each step and of a whole run, and the bottleneck.
"""

from sep_batch.jobs.bench.bench import run_bench

__all__ = ["run_bench"]
