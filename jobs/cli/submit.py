"""The command `submit`: run a command on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand, context_settings={"allow_interspersed_args": False})
def submit(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND", help="Command of sep-batch to run on the cluster, with its own arguments and flags."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="URL of the cluster's dashboard, as http://head:8265. Default: $RAY_API_SERVER_ADDRESS, or this machine's."
        ),
    ] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Print the job's ID and exit at once.")] = False,
    submission_id: Annotated[
        str | None, typer.Option(metavar="ID", help="ID of the job; submitting it again starts no second job.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Environment variable to pass on to the job; repeatable.")
    ] = None,
    follow: Annotated[str | None, typer.Option(metavar="ID", help="Follow this job's log from its beginning.")] = None,
    stop: Annotated[str | None, typer.Option(metavar="ID", help="Stop this job gracefully, and wait for its end.")] = None,
) -> None:
    """Run a command on a Ray cluster, follow its log, and exit with its exit code. Ctrl-C leaves the job running.

    Example: sep-batch submit --address http://head:8265 -- run s3://bucket/songs.parquet --out s3://bucket/stems
    """
    with one_line_errors():
        from sep_batch.jobs.submit.submit import check_name, new_name

        _refuse_mixed(command, submission_id, env, follow, stop, no_follow=no_follow)
        for flag, name in (("--submission-id", submission_id), ("--follow", follow), ("--stop", stop)):
            if name is not None:
                check_name(flag, name)
        if command:
            exit_code = _submit(context, command, submission_id or new_name(), address, env or [], no_follow=no_follow)
        elif follow is not None:
            exit_code = _follow(address, follow)
        else:
            exit_code = _stop(address, str(stop), no_follow=no_follow)
    raise typer.Exit(exit_code)


def _refuse_mixed(
    command: Sequence[str] | None,
    submission_id: str | None,
    env: Sequence[str] | None,
    follow: str | None,
    stop: str | None,
    *,
    no_follow: bool,
) -> None:
    from sep_batch.pipeline.errors import UsageError

    if (follow is not None) + (stop is not None) + bool(command) != 1:
        raise UsageError("expected one of: a command after --, as run s3://bucket/songs.parquet; --follow ID; --stop ID")
    if not command and (submission_id is not None or env):
        raise UsageError("--submission-id and --env are for a command that is submitted, not for --follow or --stop")
    if follow is not None and no_follow:
        raise UsageError("--follow and --no-follow: expected one of them")


def _submit(
    context: typer.Context, command: Sequence[str], name: str, address: str | None, env: Sequence[str], *, no_follow: bool
) -> int:
    from sep_batch.jobs.submit import checks
    from sep_batch.jobs.submit import submit as job
    from sep_batch.jobs.submit.client import source_of, url_of
    from sep_batch.jobs.submit.job_api import JobApi

    parsed = checks.check(context, command)
    words = command if parsed.default_map is None else flags.resolved(parsed)
    variables, url = job.carried(env), url_of(address)
    api = JobApi(url, source_of(address))

    def watch() -> int:
        job.start_job(api, name, words, variables)
        if not no_follow:
            return job.follow_job(api, name, _write)
        typer.echo(name)
        return 0

    return job.attend(api, name, watch)


def _follow(address: str | None, name: str) -> int:
    from sep_batch.jobs.submit.client import source_of, url_of
    from sep_batch.jobs.submit.job_api import JobApi
    from sep_batch.jobs.submit.submit import attend, follow_job

    api = JobApi(url_of(address), source_of(address))
    return attend(api, name, lambda: follow_job(api, name, _write))


def _stop(address: str | None, name: str, *, no_follow: bool) -> int:
    from sep_batch.jobs.submit.client import source_of, url_of
    from sep_batch.jobs.submit.job_api import JobApi
    from sep_batch.jobs.submit.submit import attend, stop_job

    api = JobApi(url_of(address), source_of(address))
    return attend(api, name, lambda: stop_job(api, name, wait=not no_follow))


def _write(piece: str) -> None:
    typer.echo(piece, nl=False)
