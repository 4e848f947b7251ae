"""`submit`: run a command on a Ray cluster.

Files:
    submit: `submit`: start, follow and stop a job; its exit code.
    checks: Checks of the command before it is sent.
    job_api: Jobs of a cluster.
    client: Ray's client of the job API, with one-line errors.
    follow: The log of a job, as it is written.
"""
