"""`submit`: a command runs on a Ray cluster.

Files:
    submit: `submit`: the job and its exit code.
    checks: Checks of the command before it is sent.
    job_api: Jobs of a cluster.
    client: Ray's client of the job API, its errors as one line each.
    follow: The log of a job, as it comes.
"""
