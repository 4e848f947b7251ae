"""Whether the CPUs of a GPU machine are idle while work waits: Ray and the flow are real, the stages are not.

    python tests/benchmarks/feed_gpus.py [--cpus 16] [--gpus 1] [--parts 150]

Each stage of a part holds a core, or the GPU, for some time, and hands on a payload. Cores are files with locks: whoever has none
waits, so more actors than cores share them as on a machine of that size. Times are those of a part of 3 min 57 s, longer where a
small machine would not keep up; payloads are an eighth of the true ones, and so are blocks
and the object store, which the product sizes.
Separate takes `LOAD_S` to start, as a model on its way to a GPU.

Each line is one catalog: with half of the CPUs for each of Analyze and Write, bounds in bytes, and an object store of 800 MiB, as
before; and with `plan_resources` and `ray_data.configure`. Speed is that of the middle half of the parts, and idle are the
cores that no stage held meanwhile, though parts were left.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from ray.data import DataContext
from ray.data._internal.execution import backpressure_policy

from sep_batch.jobs.setup.check_machine import OBJECT_STORE_BYTES, SPECTRUM_BYTES, way_bytes
from sep_batch.jobs.setup.options import Options
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import storage
from sep_batch.pipeline.flow import ray_data, ray_flow
from sep_batch.pipeline.flow.resources import Pool, Resources, plan_resources
from sep_batch.pipeline.out.plan import blocks_per_file, rows_per_block, write_plan
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.context import RunContext

SLICE_S = 0.02  # for which a core is held, as a scheduler does
LOAD_S = 15.0
SMALLER = 8  # than the true payloads
MOST_PER_S = 3.0  # parts that two real cores hand on
STEMS_BYTES = 84_000_000  # of a part: two stems of int16


@dataclass(frozen=True)
class Catalog:
    """Seconds of work for one part of 3 min 57 s, and the bytes that leave Analyze."""

    name: str
    analyze_s: float
    separate_s: float
    write_s: float
    analyze_bytes: int = SPECTRUM_BYTES


CATALOGS = {
    "flac": Catalog("FLAC to FLAC, 1 : 1.7", 0.78, 0.13, 1.3),
    "mp3": Catalog("to MP3, 1 : 16", 0.5, 0.13, 8.0),
    "decode": Catalog("two parts decode to one write", 1.4, 0.13, 0.7),
}


@dataclass(frozen=True)
class Machine:
    """The machine that is simulated: a folder with one file per core, and how much slower it is."""

    cores: str
    slower: float


class Fake:
    """A stage that holds a core for some time, and hands on a payload of some bytes."""

    work: tuple[Machine, Catalog]
    load_s = 0.0

    def __init__(self, *_: object, **__: object) -> None:
        self.machine, self.catalog = self.work
        time.sleep(self.load_s)
        self.gpu = threading.Lock()
        self.cores = [path.open("w") for path in sorted(Path(self.machine.cores).iterdir())]

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield a row per part, after its time."""
        for id in block.column("id").to_pylist():
            seconds, size = self.what()
            self.hold(seconds * self.machine.slower)
            content = np.ones(size // SMALLER, np.uint8)
            payload = pa.LargeBinaryArray.from_buffers(
                pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, len(content)], np.int64)), pa.py_buffer(content)]
            )
            yield pa.table({"id": [id], "ended": [time.monotonic()], "payload": payload})

    def what(self) -> tuple[float, int]:
        raise NotImplementedError

    def hold(self, seconds: float) -> None:
        """Hold any core for so long in all, a slice at a time."""
        held, place = 0.0, hash((id(self), time.monotonic())) % len(self.cores)
        while held < seconds:
            for core in self.cores[place:] + self.cores[:place]:
                try:
                    fcntl.flock(core, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                begun = time.monotonic()
                time.sleep(min(SLICE_S, seconds - held))
                held += time.monotonic() - begun
                fcntl.flock(core, fcntl.LOCK_UN)
                break
            else:
                time.sleep(SLICE_S / 4)


class Analyze(Fake):
    def what(self) -> tuple[float, int]:
        return self.catalog.analyze_s, self.catalog.analyze_bytes


class Separate(Fake):
    load_s = LOAD_S

    def what(self) -> tuple[float, int]:
        return self.catalog.separate_s, STEMS_BYTES

    def hold(self, seconds: float) -> None:
        """Hold the GPU: each actor has one, and computes one batch at a time."""
        with self.gpu:
            time.sleep(seconds)


class Write(Fake):
    def what(self) -> tuple[float, int]:
        return self.catalog.write_s, 1


def before(cpus: int, gpus: int) -> Resources:
    """Divide the CPUs, and bound the parts on their way, as it was: halves, and by bytes."""
    ray_data.configure()
    context = DataContext.get_current()
    context.set_config(
        backpressure_policy.ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, backpressure_policy.ENABLED_BACKPRESSURE_POLICIES
    )
    context.target_max_block_size = (128 << 20) // SMALLER
    context.downstream_capacity_backpressure_ratio = 2.0
    side = max(1, round((cpus - 1) / 2))
    share = int(100 * min(1.0, 0.9 * cpus / (2 * side))) / 100
    return Resources(Pool(side, share), Pool(gpus, 0, gpus=1, minimum=gpus), Pool(side, share), "cuda")


def now(cpus: int, gpus: int) -> Resources:
    """Divide the CPUs as the product does."""
    ray_data.configure()
    DataContext.get_current().target_max_block_size = ray_data.BLOCK_BYTES // SMALLER
    return plan_resources(cpus, gpus)


def simulate(catalog: Catalog, machine: Machine, resources: Resources, parts: int) -> tuple[float, int]:
    """Run so many parts; return the seconds from one part to the next in the middle half, and peak bytes in the store."""
    with tempfile.TemporaryDirectory() as folder:
        tracks = pa.table({"id": [f"{number:06d}" for number in range(parts)]})
        rows = rows_per_block(parts, resources.analyze.actors)
        per_file = blocks_per_file(-(-parts // rows))
        plan = write_plan([tracks], storage.put, f"{folder}/plan", rows_per_file=rows * per_file)
        settings = Settings(weights_sha256="f" * 64, spec=PRESETS["spleeter:2stems"], stems=("vocals", "accompaniment"))
        work = RunContext(settings, folder, "000001-0000", folder, folder)
        for stage in (Analyze, Separate, Write):
            setattr(ray_flow, stage.__name__, type(stage.__name__, (stage,), {"work": (machine, catalog)}))
        flow = ray_flow.RayFlow(plan, work, ".", resources, blocks_per_file=per_file)
        ended, peak = list[float](), 0
        try:
            for batch in flow._running.tables():  # not flow.rows(), which joins the parts of tracks
                ended += batch.column("ended").to_pylist()
                peak = max(peak, store().object_store_bytes_used)
        finally:
            flow.stop()
    quarter = len(ended) // 4
    ended = sorted(ended)[quarter : len(ended) - quarter]
    return (ended[-1] - ended[0]) / (len(ended) - 1), peak


def store():
    """Return what Ray tells of its object store."""
    return get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats


def line(catalog: Catalog, cores: str, resources: Resources, given: argparse.Namespace) -> str:
    """Simulate one catalog, and return its results."""
    most = min(given.cpus / (catalog.analyze_s + catalog.write_s), given.gpus / catalog.separate_s)
    spilled, slower = store().spilled_bytes_total, max(1.0, most / MOST_PER_S)
    part_s, peak = simulate(catalog, Machine(cores, slower), resources, given.parts)
    rate = slower / part_s
    idle = given.cpus - rate * (catalog.analyze_s + catalog.write_s)
    gigabytes = (SMALLER * count / 1e9 for count in (peak, store().spilled_bytes_total - spilled))
    used, spilled_gb = gigabytes
    return (
        f"{catalog.name:30} {resources.analyze.actors:3} + {resources.write.actors} actors: {rate:5.2f} of {most:.2f} parts/s, "
        f"{idle:4.1f} of {given.cpus} cores idle, at most {used:.1f} GB in store, {spilled_gb:.1f} GB spilled"
    )


def main() -> None:
    """Print a line for each catalog and division."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", type=int, default=16)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--parts", type=int, default=120)
    parser.add_argument("--only", choices=CATALOGS)
    parser.add_argument("--now", action="store_true", help="Leave out what was before.")
    given = parser.parse_args()
    options = Options(cpus=given.cpus, gpus=given.gpus, stft="cpu")
    with tempfile.TemporaryDirectory() as cores:
        for number in range(given.cpus):
            Path(cores, f"{number:03d}").touch()
        for divide in (now,) if given.now else (before, now):
            resources = divide(given.cpus, given.gpus)
            store_bytes = OBJECT_STORE_BYTES * given.gpus if divide is before else way_bytes(options, resources)
            machine = {"num_cpus": given.cpus, "num_gpus": given.gpus, "object_store_memory": store_bytes // SMALLER}
            ray.init(**machine, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            sys.stdout.write(f"{divide.__name__}: object store of {store_bytes / 1e9:.1f} GB\n")
            for name in [given.only] if given.only else CATALOGS:
                sys.stdout.write(f"{line(CATALOGS[name], cores, resources, given)}\n")
                sys.stdout.flush()
            ray.shutdown()


if __name__ == "__main__":
    main()
