"""`python -m sep_batch.jobs` is the command line."""

from sep_batch.jobs.cli.main import main

main()
