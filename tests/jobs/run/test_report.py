"""The end of a run: the next command to type, whichever fits, and where Ray's logs lie."""

from __future__ import annotations

from collections import Counter

from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.report import lines, reach


def last(**known):
    """Return the last line of a run's summary."""
    return lines(Summary("/my out", 3, run="r") if not known else Summary(**{"out": "/my out", "tracks": 3, "run": "r"} | known))[
        -1
    ]


def test_where_all_is_ok_the_next_is_to_verify():
    assert last() == "next: sep-batch verify '/my out'"


def test_where_tracks_failed_the_next_is_to_see_them():
    assert last(failed=Counter(not_found=1)) == "next: sep-batch failures '/my out'"
    assert last(run=None, known_failed=2) == "next: sep-batch failures '/my out'"


def test_a_stopped_run_says_how_to_resume():
    stopped = "stopped by SIGINT; run the same command again to resume"
    assert last(stopped=stopped) == stopped
    assert not [line for line in lines(Summary("o", 3, run="r", stopped=stopped)) if "verify" in line]


def test_nothing_to_do_is_one_line():
    assert lines(Summary("o", 3, done_before=3)) == ["nothing to do: 3 tracks, 3 done before"]


def test_the_next_command_has_the_flags_that_reach_the_storage():
    given = reach("https://s3.example", "my options.json")
    assert lines(Summary("s3://b/o", 1, run="r"), given)[-1] == (
        "next: sep-batch verify s3://b/o --endpoint-url https://s3.example --storage-options 'my options.json'"
    )


def test_where_a_worker_crashed_rays_logs_are_named():
    crashed = Summary("o", 3, run="r", failed=Counter(worker_crash=1), ray_logs="/tmp/ray/session_1/logs")
    assert "Ray's logs: /tmp/ray/session_1/logs" in lines(crashed)
    assert "Ray's logs" not in "".join(lines(Summary("o", 3, run="r", ray_logs="/tmp/ray/session_1/logs")))


def test_what_ray_spilled_is_told_with_what_to_do():
    cluster, own = "\nCluster memory:\n* Spilled to disk: 9000MB\n", "\nDataset memory:\n* Spilled to disk: 2100MB\n"
    stats = 2 * (cluster + own)  # of two flows
    (line,) = (line for line in lines(Summary("o", 3, run="r", stats=stats)) if "spilled" in line)
    assert line.startswith("Ray spilled 4.2 GB of parts to its disk, which is slow: give it a larger /dev/shm, ")
    assert not [line for line in lines(Summary("o", 3, run="r", stats=cluster)) if "spilled" in line]
