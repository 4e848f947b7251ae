"""How a person or a scheduler runs it: the command line, and one file per job."""
