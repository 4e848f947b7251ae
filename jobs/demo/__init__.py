"""`demo`: synthesise songs and separate them.

Files:
    demo: `demo`: synthesise, run, show.
    synthesis: Synthesised songs with known stems.
"""

from sep_batch.jobs.demo.demo import run_demo

__all__ = ["run_demo"]
