"""`demo`: songs are synthesised and separated.

Files:
    demo: `demo`: synthesise, run, show.
    synthesis: Songs made of arithmetic, with known stems.
"""

from sep_batch.jobs.demo.demo import run_demo

__all__ = ["run_demo"]
