"""`python -m sep_batch.jobs` is the command line."""

from sep_batch.jobs.cli import app

app(prog_name="sep-batch")
