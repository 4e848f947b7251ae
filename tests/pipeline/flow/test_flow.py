"""What Ray prints; and a plan's files on their way through Ray, block by block."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from ray._private.worker import print_to_stdstream

from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import storage
from sep_batch.pipeline.flow import ray_data, ray_flow
from sep_batch.pipeline.flow.resources import plan_resources
from sep_batch.pipeline.out.plan import write_plan
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.context import RunContext

ROWS, TRACKS = 8, 300  # of a block; in files of 10 blocks, the last one with 60 tracks
BLOCKS = 10
POISON = 101


def test_what_ray_publishes_to_its_drivers_is_not_printed_on_stdout(capsys, monkeypatch):
    monkeypatch.setattr(ray._private.worker, "print_to_stdstream", print_to_stdstream)  # put back at the end
    told = {"lines": ["Task submit failed"], "pid": "raylet", "is_err": False}
    ray._private.worker.print_to_stdstream(told, ignore_prefix=False)
    assert "Task submit failed" in capsys.readouterr().out
    ray_data.configure()
    ray._private.worker.print_to_stdstream(told, ignore_prefix=False)
    assert capsys.readouterr() == ("", "")


class Passing:
    """A stage that passes on what it is given: ids, and how large the block was in which they came to Analyze."""

    def __init__(self, work, *_, **__):
        self.folder = Path(work.scratch)

    def __call__(self, block):
        if "rows" not in block.column_names:
            self.met(block.column("id").to_pylist())
            rows = pa.repeat(block.num_rows, block.num_rows)
            block = pa.table({"id": block.column("id"), "status": pa.repeat("ok", block.num_rows), "rows": rows})
        yield block

    def met(self, ids):
        """Do nothing more."""


class Dying(Passing):
    """Dies of one track, each time."""

    def met(self, ids):
        if f"t{POISON}" in ids:
            os._exit(1)


class Killing(Passing):
    """Kills, once, the processes of this Ray that read the plan, when it meets the 12th block."""

    def met(self, ids):
        with (self.folder / "met").open("a") as file:
            file.write(".")
        if (self.folder / "met").stat().st_size != 12:
            return
        for process in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = f"PPid:\t{os.getppid()}\n" in (process / "status").read_text()
                if is_ours and (process / "cmdline").read_bytes().startswith(b"ray::Read"):
                    os.kill(int(process.name), signal.SIGKILL)
                    (self.folder / "killed").touch()
            except (FileNotFoundError, ProcessLookupError):
                continue


@pytest.fixture
def rows_through(one_ray, monkeypatch, tmp_path):
    """Return the rows of a plan that came through a flow whose first stage is this one."""

    def run(analyze, blocks_per_file=BLOCKS):
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        for name, stage in (("Analyze", analyze), ("Separate", Passing), ("Write", Passing)):
            monkeypatch.setattr(ray_flow, name, type(name, (stage,), {}))
        tracks = pa.table({"id": [f"t{number}" for number in range(TRACKS)]})
        files = write_plan([tracks], storage.put, str(tmp_path / "plan"), rows_per_file=ROWS * blocks_per_file)
        settings = Settings(weights_sha256="f" * 64, spec=PRESETS["spleeter:2stems"], stems=("vocals", "accompaniment"))
        work = RunContext(settings, str(tmp_path), "000001-0000", str(tmp_path), str(tmp_path))
        resources = plan_resources(4, 0)
        ray_data.configure()
        flow = ray_flow.RayFlow(files, work, ".", resources, blocks_per_file=blocks_per_file)
        try:
            return pa.concat_tables(flow.rows()).to_pylist()
        finally:
            flow.stop()

    return run


@pytest.mark.slow  # the one below sees each block and each track too
@pytest.mark.parametrize("blocks_per_file", [1, BLOCKS])
def test_every_track_comes_to_analyze_once_in_blocks_however_many_a_file_of_the_plan_has(rows_through, blocks_per_file):
    rows = rows_through(Passing, blocks_per_file)
    assert sorted(row["id"] for row in rows) == sorted(f"t{number}" for number in range(TRACKS))
    assert max(row["rows"] for row in rows) == ROWS


def test_a_track_that_its_process_dies_of_takes_its_block_with_it_and_at_most_the_one_that_waited_there(rows_through):
    came = {row["id"] for row in rows_through(Dying)}
    lost = {number for number in range(TRACKS) if f"t{number}" not in came}
    blocks = {number // ROWS for number in lost}
    assert lost == {block * ROWS + place for block in blocks for place in range(ROWS)}
    assert POISON // ROWS in blocks
    assert len(blocks) <= 2  # the driver's next pass takes the second, whose tracks are alone then


@pytest.mark.slow
def test_a_file_whose_reader_is_killed_midway_is_read_again_and_gives_the_same_blocks(rows_through, tmp_path):
    ids = Counter(row["id"] for row in rows_through(Killing))
    assert (tmp_path / "killed").exists()
    assert ids == Counter(f"t{number}" for number in range(TRACKS))
