"""Exports through Ray: the same bytes as without it, also where the export was killed on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from export_outs import wave, write_out

from sep_batch.jobs.export.export import run_export

LONGEST_S = 240
OPTIONS = {"to": "parquet", "excerpt": "1s", "shard_size": 2, "split": "0.6/0.4", "min_active": ("vocals=0.5",)}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An OUT of twelve tracks."""
    folder = str(tmp_path_factory.mktemp("songs") / "out")
    write_out(folder, {f"t{number:02d}": {"vocals": wave("x.x" * (1 + number % 2), seed=number)} for number in range(12)})
    return folder


def files_of(dest):
    """Return an export's files with their bytes."""
    return {str(path.relative_to(dest)): path.read_bytes() for path in sorted(dest.glob("*/*.parquet")) if path.is_file()}


def test_through_ray_it_is_the_same_and_a_missing_stem_fails_its_track_alone(one_ray, out, tmp_path, request):
    gone = Path(out, "stems", "t03", "vocals.flac")
    content = gone.read_bytes()
    gone.unlink()
    partly = run_export(out, str(tmp_path / "partly"), **OPTIONS)
    gone.write_bytes(content)
    assert (partly.exit_code, dict(partly.failed)) == (3, {"not_found": 1})
    request.getfixturevalue("inline_export")
    plain = run_export(out, str(tmp_path / "plain"), **OPTIONS)
    assert (plain.exit_code, plain.written) == (0, plain.shards)
    ours, whole = files_of(tmp_path / "partly"), files_of(tmp_path / "plain")
    assert 0 < len(ours) < len(whole)
    assert ours == {name: whole[name] for name in ours}
    again = run_export(out, str(tmp_path / "partly"), **OPTIONS)
    assert (again.exit_code, again.done_before + again.written) == (0, again.shards)
    assert files_of(tmp_path / "partly") == whole


@pytest.mark.slow  # test_export.py has one that ends halfway, tests/faults kills more
def test_an_export_that_is_killed_and_run_again_ends_as_the_undisturbed(inline_export, out, tmp_path):
    run_export(out, str(tmp_path / "whole"), **OPTIONS)
    dest = tmp_path / "killed"
    code = f"from sep_batch.jobs.export.export import run_export; run_export({out!r}, {str(dest)!r}, cpus=1, **{OPTIONS!r})"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as export:
        deadline = time.monotonic() + LONGEST_S
        while len(files_of(dest)) < 2 and export.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert export.poll() is None, "it ended before it could be killed"
        export.send_signal(signal.SIGKILL)
    assert 2 <= len(files_of(dest)) < len(files_of(tmp_path / "whole"))
    told = run_export(out, str(dest), **OPTIONS)
    assert told.exit_code == 0
    assert files_of(dest) == files_of(tmp_path / "whole")
    assert (dest / "README.md").read_bytes() == (tmp_path / "whole" / "README.md").read_bytes()
