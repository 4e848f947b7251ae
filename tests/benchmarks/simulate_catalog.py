"""A catalog of millions of rows through everything but the audio: manifest, plan, driver, journal, index; the stages are fake.

python tests/benchmarks/simulate_catalog.py FOLDER [--rows 1000000] [--json]           a run killed midway, resumed, checked
python tests/benchmarks/simulate_catalog.py FOLDER --alone [--rows 10000000] [--json]  plan, replay and publish of such an OUT

Each step is a process of its own, and tells its seconds and its peak resident memory. The fake stages read the real files of
the plan, and give its tracks' rows in the order in which stages would: neighbours mixed up, some failed, a few lost at first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import ray

sys.path.insert(0, str(Path(__file__).parents[1]))


from sep_batch.jobs.engine import choice, engine
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.run.run import _open_out as open_out
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import outs, prepare
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.status.status import run_status
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import manifest, storage
from sep_batch.pipeline.flow import ray_flow
from sep_batch.pipeline.flow.resources import plan_resources
from sep_batch.pipeline.out import compaction, database, index, layout
from sep_batch.pipeline.out.journal import FLUSH_ROWS, Journal, new_run
from sep_batch.pipeline.out.plan import PLAN_BLOCK_ROWS, _even, blocks_per_file, make_plan, read_plan, write_plan
from sep_batch.pipeline.rows import EXTRA, RESULT, STEM, TRACK, WRITTEN
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements

MODEL = "spleeter:2stems"
ROWS_AT_ONCE = 100_000  # of the manifest, as it is written
ROWS_MIXED = 4096  # of the plan, which come in no order
ROWS_GIVEN = 16  # by the flow at once
ROWS_AHEAD = 2_000  # that the flow gives before the driver takes them
AUDIO_S = 210.0
LEVELS, REGIONS = 210, 20  # of a stem
ROWS_READ = 20_000  # through Ray Data
RUN_S = 0.02  # of a run's clock between two rows
PERMANENT, TRANSIENT, LOST, CRASHING = range(4)  # what becomes of a track that is not simply separated
OF_100, LOST_AT, CRASHING_AT = 100, 777, 500
CHECKS = {  # each counts what is wrong
    "ids of the manifest that the index does not have": "FROM wanted ANTI JOIN got USING (id)",
    "ids of the index that the manifest does not have": "FROM got ANTI JOIN wanted USING (id)",
    "ids that the index has twice": "FROM (SELECT id FROM got GROUP BY id HAVING count(*) > 1)",
    "rows that are not what became of their track": "FROM got JOIN wanted USING (id) WHERE status IS DISTINCT FROM wanted_status",
    "rows that are not their track's newest": "FROM got JOIN journal USING (id) WHERE got.run_id <> journal.run_id",
    "attempts that were not counted": "FROM got NATURAL JOIN (SELECT id, tries FROM journal) WHERE attempts <> tries",
    "stems of another track": "FROM got WHERE status = 'ok' AND (len(stems) <> 2 OR NOT contains(stems[2].uri, id))",
    "rows not in the order of ids": "FROM (SELECT id < lag(id) OVER (ORDER BY file_row_number) AS back FROM got) WHERE back",
}

ALIKE = {  # of all rows
    "source_rate_hz": 44_100,
    "source_channels": 2,
    "source_codec": "flac",
    "source_stream": 0,
    "source_streams": 1,
    "source_bytes": 24_000_000,
    "parts": 1,
    "truncated": False,
    "skipped_packets": 0,
    "source_used_ratio": 1.0,
    "nonfinite_samples": 0,
    "decode_rules": 1,
    "above_f_db": -31.5,
    "null_db": -140.0,
    "model": MODEL,
    "device": "cuda",
    "precision": "float32",
    "part": 0,
    "last": True,
    "skip": 0,
    "begin": 0,
    "samples": 9_261_000,
    "sums": None,
    "k_weighted": None,
    "null_energies": None,
    "energy": 1.0,
    "energy_above_f": 0.1,
}


def write_manifest(path: Path, rows: int) -> None:
    """Write a manifest as catalogs have them: URIs without ids, etags, a length, an ISRC."""
    drawn = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        writer = None
        for start in range(0, rows, ROWS_AT_ONCE):
            numbers = range(start, min(rows, start + ROWS_AT_ONCE))
            table = pa.table(
                {
                    "uri": [f"s3://catalog/masters/{n % 5000:04d}/{n:08d} - A Song of Some Length.flac" for n in numbers],
                    "source_etag": hexadecimal(drawn, len(numbers), 16),
                    "duration": drawn.normal(AUDIO_S, 40, len(numbers)).clip(20),
                    "isrc": [f"QZ{n:010d}" for n in numbers],
                }
            )
            writer = writer or stack.enter_context(pyarrow.parquet.ParquetWriter(path, table.schema))
            writer.write_table(table)


def hexadecimal(drawn: np.random.Generator, count: int, size: int) -> pa.Array:
    """Return random digests of so many bytes."""
    ends = np.arange(count + 1, dtype=np.int32) * 2 * size
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(drawn.bytes(count * size).hex().encode()))


def lists(flat: pa.Array, length: int) -> pa.Array:
    """Return lists of one length."""
    ends = np.arange(0, len(flat) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), flat)


def regions(drawn: np.random.Generator, count: int) -> pa.Array:
    """Return so many stems' active regions, in tenths of a second as the analysis has them, one after another."""
    edges = np.sort(drawn.integers(0, 10 * LEVELS, (count, 2 * REGIONS)), axis=1).astype(np.float32) / 10
    kind = STEM.field("active_regions").type.value_type
    return pa.StructArray.from_arrays([pa.array(edges[:, side::2].ravel()) for side in (0, 1)], fields=list(kind))


def fates(uris: list[str]) -> np.ndarray:
    """Return what becomes of tracks, -1 of most: two in 100 fail, one fails at first, few are lost, very few always."""
    numbers = np.array([int(uri.rpartition("/")[2][:8]) for uri in uris])
    fate = np.select([numbers % OF_100 < 2, numbers % OF_100 == 2], [PERMANENT, TRANSIENT], -1)
    fate[numbers % LOST_AT == LOST_AT - 1] = LOST
    fate[numbers % (LOST_AT * CRASHING_AT) == LOST_AT - 1] = CRASHING
    return fate


class Stages:
    """Gives the rows that stages would give of a plan.

    Attributes:
        given: Rows, so far.
        kill_at: The process is killed once the driver has taken so many; 0 is never.
        progress: Knows how many those are.
    """

    def __init__(self, kill_at: int) -> None:
        self.given, self.kill_at, self.progress = 0, kill_at, Progress()
        self._drawn = np.random.default_rng(1)
        self._begun = datetime.now(UTC)
        self._first = ""

    def build(self, plan, work, model, resources, *, blocks_per_file):
        """Stand in for an engine's flow."""
        return GivenFlow(self.rows(plan, work))

    def rows(self, plan, work):
        """Yield the rows that a flow would."""
        lost = (CRASHING, LOST) if "/0/" in plan[0] else (CRASHING,)
        for tracks in _even(map(read_plan, plan), ROWS_MIXED):
            rows = self.finished(tracks.take(self._drawn.permutation(tracks.num_rows)), work, lost)
            for start in range(0, rows.num_rows, ROWS_GIVEN):
                self.given += min(ROWS_GIVEN, rows.num_rows - start)
                yield rows.slice(start, ROWS_GIVEN)
                while self.given - (taken := self.progress.standing.summary.tried) > ROWS_AHEAD:
                    time.sleep(0.001)
                if self.kill_at and taken >= self.kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

    def finished(self, tracks: pa.Table, work, lost: Sequence[int] = ()) -> pa.Table:
        """Return the rows of some tracks; a failure that passes is over once a run is not killed."""
        fate = fates(tracks.column("uri").to_pylist())
        comes = ~np.isin(fate, lost)
        if not comes.any():
            return WRITTEN.empty_table()
        tracks, fate = tracks.filter(pa.array(comes)), fate[comes]
        fails = np.isin(fate, (PERMANENT, CRASHING)) | ((fate == TRANSIENT) & (self.kill_at > 0))
        rows, is_ok = tracks.num_rows, pa.array(~fails)
        times = [self._begun + timedelta(seconds=RUN_S * (self.given + place)) for place in range(rows)]
        values = {
            "status": pa.array(np.where(fails, "failed", "ok")),
            "error_class": pa.array(
                np.select([fate == PERMANENT, fate == TRANSIENT], ["decode_error", "fetch_timeout"], ""), mask=~fails
            ),
            "error_stage": pa.array(np.where(fate == PERMANENT, "decode", "fetch"), mask=~fails),
            "error": pa.array(np.where(fate == PERMANENT, "mp3: Invalid data", "timed out"), mask=~fails),
            "transient": pa.array(fate == TRANSIENT),
            "attempts": pa.array(tracks.column("attempts").to_numpy() + 1, pa.int32()),
            "audio_s": pa.array(self._drawn.normal(AUDIO_S, 40, rows).clip(20), mask=fails),
            "stems": self._stems(tracks.column("id").to_pylist(), is_ok),
            "finished_at": pa.array(times, RESULT.field("finished_at").type),
            **dict.fromkeys(("decode_s", "separate_s", "write_s"), pa.array(self._drawn.random(rows, np.float32))),
        }
        alike = ALIKE | {
            "weights_sha256": work.settings.weights_sha256,
            "settings_sha256": work.settings.sha256,
            "run_id": work.run,
        }
        columns = {field.name: tracks.column(field.name) for field in TRACK}
        for field in WRITTEN:
            if field.name in alike:
                columns[field.name] = pa.repeat(pa.scalar(alike[field.name], field.type), rows)
            elif field.name in values:
                columns[field.name] = values[field.name]
            elif field.name not in columns:
                columns[field.name] = pa.nulls(rows, field.type)
        return pa.table(columns, WRITTEN).append_column(EXTRA, tracks.column(EXTRA))

    def _stems(self, ids: list[str], is_ok: pa.Array) -> pa.Array:
        count, drawn = 2 * len(ids), self._drawn
        names = ("vocals", "accompaniment")
        columns = {
            "stem": pa.array(names * len(ids)),
            "uri": pa.array([f"stems/{hash(id) % 256:02x}/{id}/{stem}.flac" for id in ids for stem in names]),
            "codec": pa.repeat("flac", count),
            "bytes": pa.array(drawn.integers(10_000_000, 20_000_000, count)),
            "sha256": hexadecimal(drawn, count, 32),
            "frames": pa.repeat(pa.scalar(9_261_000, pa.int64()), count),
            **{name: pa.array(drawn.random(count, np.float32) * -30) for name in ("peak_dbfs", "rms_dbfs", "lufs")},
            "clipped_samples": pa.repeat(pa.scalar(0, pa.int64()), count),
            "levels_dbfs": lists(pa.array(drawn.normal(-24, 6, count * LEVELS).astype(np.int8)), LEVELS),
            "active_ratio": pa.array(drawn.random(count, np.float32)),
            "active_regions": lists(regions(drawn, count), REGIONS),
            "width": pa.array(drawn.random(count, np.float32)),
            "sample_rate_hz": pa.repeat(pa.scalar(44_100, pa.int32()), count),
            "channels": pa.repeat(pa.scalar(2, pa.int32()), count),
        }
        flat = pa.StructArray.from_arrays([columns[field.name] for field in STEM], fields=list(STEM))
        ends = np.arange(0, count + 1, 2, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), flat, mask=pa.compute.invert(is_ok)).cast(RESULT.field("stems").type)


class GivenFlow:
    """A flow whose rows are given."""

    def __init__(self, rows) -> None:
        self._rows = rows

    def rows(self):
        return self._rows

    def watch(self):
        """Do nothing."""

    def is_loading(self, stage):
        return False

    def stop(self):
        """Do nothing."""

    def stats(self):
        return ""


@contextlib.contextmanager
def faked(kill_at: int = 0):
    """Have runs and plans take these stages and no model."""
    stages, spec = Stages(kill_at), PRESETS[MODEL]
    replaced = {
        (choice, "before_planning"): lambda _: choice.Choice("local", "simulated"),
        (choice, "running"): lambda *_: contextlib.nullcontext(choice.Engine(plan_resources(32, 8), stages.build)),
        (prepare, "obtain_model"): lambda _: prepare.Model(spec, "f" * 64, "."),
        (prepare, "model_at_hand"): lambda _name, _before: prepare.Model(spec, "f" * 64, "."),
    }
    kept = {place: getattr(*place) for place in replaced}
    try:
        for (module, name), new in replaced.items():
            setattr(module, name, new)
        yield stages
    finally:
        for (module, name), old in kept.items():
            setattr(module, name, old)


def run(source: str, out: str, *, kill_at: int = 0) -> dict[str, object]:
    """Run the catalog."""
    with faked(kill_at) as stages:
        summary = run_job(source, out, progress=stages.progress)
    told = {"done before": summary.done_before, "ok": summary.ok, "failed": summary.failed.total()}
    return told | {"flow s": round(summary.seconds, 1), "exit code": summary.exit_code}


def plan(source: str, out: str) -> dict[str, object]:
    """Plan it."""
    with faked():
        planned = run_plan(source, out)
    return {"to do": planned.todo, "reasons": planned.reasons}


def status(_source: str, out: str) -> dict[str, object]:
    """Tell the status of OUT."""
    told = run_status(out)
    return {"done": told.done, "failed": sum(told.failed.values()), "pending": told.pending}


def check(source: str, out: str) -> dict[str, object]:
    """Check the published index against the manifest and what becomes of its tracks, by other means than those it was made by."""
    tracks = manifest.read(source).tracks
    fate = fates(tracks.column("uri").to_pylist())
    ends = np.where((fate == PERMANENT) | (fate == CRASHING), "failed", "ok")
    wanted = pa.table({"id": tracks.column("id"), "fate": fate, "wanted_status": ends})
    with duckdb.connect(config={"memory_limit": "2GB", "threads": 2, "temp_directory": f"{out}.spilled"}) as database:
        database.register("wanted", wanted)
        database.execute(f"CREATE VIEW got AS FROM read_parquet('{out}/index.parquet', file_row_number = true)")
        database.execute(
            "CREATE TABLE journal AS SELECT id, max(run_id) AS run_id, count(DISTINCT run_id) AS tries "
            f"FROM read_parquet('{out}/_sep/journal/*.parquet', union_by_name = true) GROUP BY id"
        )
        wrong = {name: database.execute(f"SELECT count(*) {sql}").fetchone()[0] for name, sql in CHECKS.items()}
    return {"rows": len(wanted), "wrong": {name: count for name, count in wrong.items() if count}}


def lay_out(source: str, out: str) -> dict[str, object]:
    """Plan a catalog of which nothing is done, and write the plan's files."""
    begun = time.monotonic()
    tracks = manifest.read(source).tracks
    read = time.monotonic()
    with database.opened(out) as journal:
        blocks = make_plan(tracks, journal, "f" * 64, "transient").blocks()
    made = time.monotonic()
    rows = PLAN_BLOCK_ROWS * blocks_per_file(math.ceil(tracks.num_rows / PLAN_BLOCK_ROWS))
    del tracks
    files = write_plan(blocks, storage.put, f"{out}/_sep/plan/000000-0000", rows_per_file=rows)
    seconds = {"manifest s": read - begun, "plan s": made - read, "write s": time.monotonic() - made}
    return {"files": len(files)} | {name: round(value, 1) for name, value in seconds.items()}


class Passing:
    """A stage that passes on what it is given, and of the tracks little; its first stands for Analyze."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what the stages take."""

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield a block's ids, and how many there were in the block that came out of the plan."""
        if "rows" not in block.column_names:
            rows = pa.repeat(block.num_rows, block.num_rows)
            block = pa.table({"id": block.column("id"), "status": pa.repeat("ok", block.num_rows), "rows": rows})
        yield block


def first_row(_source: str, out: str) -> dict[str, object]:
    """Have Ray Data read the plan's files, through stages that do nothing, up to the first rows, and some more."""
    wanted = Options(gpus=0)
    folder = f"{out}/_sep/plan/000000-0000"
    files = [found.uri for found in storage.find(folder)]
    settings = Settings(weights_sha256="f" * 64, spec=PRESETS[MODEL], stems=PRESETS[MODEL].stems)
    work = RunContext(settings, out, "000000-0000", folder, folder)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    for stage in ("Analyze", "Separate", "Write"):
        setattr(ray_flow, stage, type(stage, (Passing,), {}))
    with engine.running(wanted, MachineRequirements()) as resources:
        before, begun = resident_mib(), time.monotonic()
        rows_per_file = read_plan(files[0]).num_rows
        flow = ray_flow.RayFlow(files, work, ".", resources, blocks_per_file=math.ceil(rows_per_file / PLAN_BLOCK_ROWS))
        rows = flow.rows()
        largest, seen = max(next(rows).column("rows").to_pylist()), 0
        first_s = time.monotonic() - begun
        for batch in rows:
            largest = max(largest, *batch.column("rows").to_pylist())
            if (seen := seen + batch.num_rows) >= ROWS_READ:
                break
        seconds = time.monotonic() - begun - first_s
        grown = resident_mib() - before
        flow.stop()
    told = {"files": len(files), "first row s": round(first_s, 1), "rows a second": round(seen / seconds)}
    return told | {"largest block": largest, "driver grew MiB": grown}


def resident_mib() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) >> 10


def fill(source: str, out: str) -> dict[str, object]:
    """Make an OUT whose journal has a row of every track, as a run would have left it, but without its driver."""
    with faked() as stages:
        catalog = prepare.read_catalog(source, out, Options())
        settings = prepare.settings_of(Options(), prepare.obtain_model(MODEL), catalog, outs.last_run(out))
        listed = catalog.listed
        name, tracks = new_run(out), listed.tracks
        open_out(out, name, settings, listed, Options(model=MODEL))
        work = RunContext(settings, out, name, layout.parts_folder(out, name), layout.parts_folder(out, name))
        with Journal(out, work.run, check=lambda: None) as journal:
            for start in range(0, tracks.num_rows, FLUSH_ROWS):
                journal.add(stages.finished(tracks.slice(start, FLUSH_ROWS), work))
    return {"journal files": len(list(Path(out, "_sep/journal").iterdir()))}


def compact(_source: str, out: str) -> dict[str, object]:
    """Make few files of the journal's many."""
    index.compact(out, "000001-0000", check=lambda: None)
    return {"journal files": len(compaction.needed(storage.find(layout.journal_folder(out))))}


def publish(_source: str, out: str) -> dict[str, object]:
    """Publish the index."""
    index.publish(out, "000001-0000")
    return {"bytes": Path(out, "index.parquet").stat().st_size}


STEPS = {step.__name__: step for step in (run, plan, status, check, lay_out, first_row, fill, compact, publish)}


def measured(step: str, folder: Path, **options: int) -> dict[str, object]:
    """Do a step in a process of its own."""
    given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, __file__, str(folder), "--step", step, *given]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    return {"step": step} | (json.loads(ended.stdout) if ended.stdout else {"ended by signal": -ended.returncode})


def one(step: str, folder: Path, **options: int) -> dict[str, object]:
    """Do a step in this process; what it took is beside what it tells."""
    begun, cpu = time.monotonic(), time.process_time()
    told = STEPS[step](str(folder / "catalog.parquet"), str(folder / "out"), **options)
    peak_kib = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    seconds = {"seconds": round(time.monotonic() - begun, 1), "cpu s": round(time.process_time() - cpu, 1)}
    return seconds | {"peak MiB": peak_kib >> 10} | told


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--alone", action="store_true", help="No run: a journal as one leaves it, then plan, status and publish.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--kill_at", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        options = {"kill_at": given.kill_at} if given.kill_at else {}
        sys.stdout.write(json.dumps(one(given.step, given.folder, **options)))
        return
    given.folder.mkdir(parents=True)
    write_manifest(given.folder / "catalog.parquet", given.rows)
    whole = [("plan", {}), ("run", {"kill_at": given.rows // 2}), ("run", {}), ("run", {}), ("status", {}), ("plan", {})]
    alone = [(step, {}) for step in ("lay_out", "first_row", "fill", "compact", "publish", "plan", "status")]
    for step, options in [*(alone if given.alone else whole), ("check", {})]:
        told = measured(step, given.folder, **options)
        sys.stdout.write(json.dumps(told) + "\n" if given.json else "  ".join(f"{k} {v}" for k, v in told.items()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
