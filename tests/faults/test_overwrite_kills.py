"""Overwrites that are killed leave no row that vouches for another's bytes, whatever is run after them: `make faults`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet
import pytest
from catalogs import finished, stems_below, write_tone
from faults.killing import Victim

from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline.export import journal as export_journal
from sep_batch.pipeline.out import lease

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
TRACKS = 12
KILLS = 20
FOLLOWED = ("the same settings", "the old settings", "another kill")
DEPTHS = ("16", "24")  # of FLAC: two runs' settings whose stems have the same names
SHARD_SIZES = (2, 3)  # two exports' settings whose shards have the same names


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A folder of tones of one to four seconds."""
    folder = tmp_path_factory.mktemp("catalog")
    for number in range(TRACKS):
        write_tone(folder / f"{number:02d}.wav", 200 + 37 * number, seconds=1 + number % 4)
    return str(folder)


def killed(options, log, reached, drawn, *, within_s=1.0):
    """Start a run or an export, and kill it soon after it has come so far; return its pid, None if it ended."""
    with Victim(options, log) as victim:
        while victim.popen.poll() is None:
            if reached(victim.popen.pid):
                time.sleep(drawn.uniform(0, within_s))
                is_over = victim.popen.poll() is not None
                victim.kill("driver", drawn)
                return None if is_over else victim.popen.pid
            time.sleep(0.02)
        assert victim.end() == 0, log.read_text()
    return None


def holds(out, pid):
    """Tell whether a process holds a lease."""
    found = lease.newest(str(out))
    return bool(found) and found.says.get("pid") == pid and not found.says.get("ended")


def written_s(folder, ending):
    """Return when each file of this ending was written; files go while this looks."""
    times = []
    for parent, _, names in os.walk(folder):  # unlike a glob, it takes a folder that is gone for an empty one
        for name in (name for name in names if name.endswith(ending)):
            with contextlib.suppress(FileNotFoundError):
                times.append(os.stat(os.path.join(parent, name)).st_mtime)
    return times


class Before:
    """What an OUT held before a run, to tell how far the run has come."""

    def __init__(self, out):
        self._out = out
        self._journal = {path.name for path in out.glob("_sep/journal/*.parquet")}
        self._written_s = max(written_s(out, ".flac"))

    def phase(self, pid):
        """Say how far it is: it holds OUT (1), has revoked rows (2), has written stems (3), has committed some (4)."""
        if not holds(self._out, pid):
            return 0
        files = sum(path.name not in self._journal for path in self._out.glob("_sep/journal/*.parquet"))
        if max(written_s(self._out, ".flac")) > self._written_s:
            return 4 if files > 1 else 3
        return 2 if files else 1

    def has_reached(self, phase, pid):
        """Tell whether it is so far."""
        return self.phase(pid) >= phase


def check_rows(out):
    """Hold what journal and index say of stems against their bytes."""
    published = pyarrow.parquet.read_table(out / "index.parquet", columns=["id", "stems"]).to_pylist()
    journal = [{"id": row.id, "stems": row.stems} for row in finished(str(out)).values()]
    for row in journal + published:
        for stem in row["stems"] or ():
            assert hashlib.sha256((out / stem["uri"]).read_bytes()).hexdigest() == stem["sha256"], row["id"]


def test_killed_overwrites_of_a_run_leave_no_row_of_other_bytes(catalog, tiny, one_ray, tmp_path):
    run = {"model": tiny, "gpus": "0", "flush_s": 0.3}
    for depth in DEPTHS:
        run_job(catalog, str(tmp_path / depth), bit_depth=depth, **run)
    alone = {depth: stems_below(tmp_path / depth) for depth in DEPTHS}
    out, log, drawn, seen = tmp_path / "out", tmp_path / "runs.log", random.Random(17), dict.fromkeys(range(1, 5), 0)
    run_job(catalog, str(out), bit_depth=(old := DEPTHS[0]), **run)
    for number in range(10 * KILLS):
        new = next(depth for depth in DEPTHS if depth != old)
        before = Before(out)
        options = {"source": catalog, "out": str(out), "bit_depth": new, "overwrite": True} | run
        if pid := killed(options, log, partial(before.has_reached, drawn.randrange(1, 5)), drawn):
            seen[max(before.phase(pid), 1)] += 1
        else:
            old = new
        check_rows(out)
        assert not run_verify(str(out), deep=True).counts.keys() - {"index", "leftover"}, number
        follow = drawn.choice(FOLLOWED)
        if follow != "another kill":
            depth = new if follow == "the same settings" else old
            summary = run_job(catalog, str(out), bit_depth=depth, overwrite=True, **run)
            assert (summary.exit_code, summary.ok + summary.done_before) == (0, TRACKS)
            check_rows(out)
            assert stems_below(out) == alone[depth], number
            assert run_verify(str(out), deep=True).counts == {}
            old = depth
        if sum(seen.values()) == KILLS:
            break
    assert sum(seen.values()) == KILLS
    assert all(seen[phase] for phase in (2, 3, 4)), seen  # after rows were revoked, stems written, some committed


def check_shards(dest):
    """Hold what the journal of an export says of files against their bytes."""
    rows = {(row["split"], row["shard"]): row for row in export_journal.rows(str(dest))}
    for row in rows.values():
        for file in row["files"]:
            assert hashlib.sha256((dest / file["path"]).read_bytes()).hexdigest() == file["sha256"], file["path"]


def data_below(dest):
    """Return every shard of an export with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(Path(dest).rglob("*.tar"))}


class ExportBefore:
    """What a DEST held before an export, to tell how far the export has come."""

    def __init__(self, dest):
        self._dest = dest
        self._written_s = max(written_s(dest, ".tar"), default=0.0)

    def phase(self, pid):
        """Say how far it is: it holds DEST (1), has removed the other's shards (2), has put some of its own (3)."""
        if not holds(self._dest, pid):
            return 0
        times = written_s(self._dest, ".tar")
        return 2 if not times else 3 if max(times) > self._written_s else 1

    def has_reached(self, phase, pid):
        """Tell whether it is so far."""
        return self.phase(pid) >= phase


def test_killed_overwrites_of_an_export_leave_no_row_of_other_bytes(catalog, tiny, one_ray, tmp_path):
    run_job(catalog, out := str(tmp_path / "out"), model=tiny, gpus="0")
    export = {"to": "webdataset", "excerpt": "0.5s"}
    for size in SHARD_SIZES:
        run_export(out, str(tmp_path / f"of-{size}"), shard_size=size, **export)
    alone = {size: data_below(tmp_path / f"of-{size}") for size in SHARD_SIZES}
    assert alone[2].keys() & alone[3].keys()
    dest, log, drawn, seen = tmp_path / "dest", tmp_path / "exports.log", random.Random(17), dict.fromkeys(range(1, 4), 0)
    midway = 0
    run_export(out, str(dest), shard_size=(old := SHARD_SIZES[0]), **export)
    for number in range(10 * KILLS):
        new = next(size for size in SHARD_SIZES if size != old)
        options = {"out": out, "dest": str(dest), "overwrite": True, "shard_size": new, "flush_s": 0.1} | export
        before = ExportBefore(dest)
        if pid := killed(options, log, partial(before.has_reached, drawn.randrange(1, 4)), drawn, within_s=0.3):
            seen[max(before.phase(pid), 1)] += 1
            midway += 0 < len(data_below(dest)) < len(alone[new])
        check_shards(dest)
        follow = drawn.choice(FOLLOWED)
        if follow != "another kill":
            size = new if follow == "the same settings" else old
            exported = run_export(out, str(dest), overwrite=True, shard_size=size, **export)
            assert exported.exit_code == 0
            check_shards(dest)
            assert data_below(dest) == alone[size], number
            old = size
        if sum(seen.values()) == KILLS:
            break
    assert sum(seen.values()) == KILLS
    assert all(seen.values()), seen
    assert midway  # some of its shards had been put, and others had not
