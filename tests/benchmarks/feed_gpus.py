"""Whether the CPUs of a GPU machine are idle while work waits: Ray and the flow are real, the stages are not.

    python tests/benchmarks/feed_gpus.py [--cpus 16] [--gpus 1] [--parts 150]

Each stage of a part holds a core, or the GPU, for the time that it takes in truth, and hands on a payload of the true size (by
`--smaller`, a share of it). Cores are files with locks: whoever has none waits, so more actors than cores share them as on a
machine of that size. Each line is one catalog with one division of the CPUs: half for Analyze and half for Write, as before, and
the one of `plan_resources`.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import sys
import tempfile
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

from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import storage
from sep_batch.pipeline.flow import ray_data, ray_flow
from sep_batch.pipeline.flow.resources import Pool, Resources, plan_resources
from sep_batch.pipeline.out.plan import blocks_per_file, rows_per_block, write_plan
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.context import RunContext

SLICE_S = 0.02  # for which a core is held, as a scheduler does
WAVE_BYTES, STEMS_BYTES = 84_000_000, 84_000_000  # of a part of 20 patches: float32, and two stems of int16
SPECTRUM_BYTES = 168_000_000


@dataclass(frozen=True)
class Catalog:
    """Seconds of work for one part of 3 min 57 s, and the bytes that leave Analyze."""

    name: str
    analyze_s: float
    separate_s: float
    write_s: float
    analyze_bytes: int = SPECTRUM_BYTES


CATALOGS = (
    Catalog("FLAC to FLAC", 0.78, 0.13, 1.3),
    Catalog("to MP3", 0.5, 0.13, 8.0),
    Catalog("two parts decode to one write", 1.4, 0.13, 0.7),
)


@dataclass(frozen=True)
class Machine:
    """The machine that is simulated: a folder with one file per core; times and bytes are multiplied."""

    cores: str
    slower: float
    smaller: float


class Fake:
    """A stage that holds a core for some time, and hands on a payload of some bytes."""

    def __init__(self, work: tuple[Machine, Catalog], *_: object, **__: object) -> None:
        self.machine, self.catalog = work
        time.sleep(self.load_s)
        self.cores = [path.open("w") for path in sorted(Path(self.machine.cores).iterdir())]

    load_s = 0.0

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield a row per part, after its time."""
        for id in block.column("id").to_pylist():
            seconds, size = self.what()
            begun = time.monotonic()
            self.hold(seconds * self.machine.slower)
            content = np.ones(int(size * self.machine.smaller), np.uint8)
            payload = pa.LargeBinaryArray.from_buffers(
                pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, len(content)], np.int64)), pa.py_buffer(content)]
            )
            yield pa.table({"id": [id], "begun": [begun], "ended": [time.monotonic()], "payload": payload})

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
    load_s = 15.0  # until a model is on its GPU

    def what(self) -> tuple[float, int]:
        return self.catalog.separate_s, STEMS_BYTES

    def hold(self, seconds: float) -> None:
        """Hold the GPU: each actor has one."""
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
    context.downstream_capacity_backpressure_ratio = 2.0
    side = max(1, round((cpus - 1) / 2))
    share = int(100 * min(1.0, 0.9 * cpus / (2 * side))) / 100
    return Resources(Pool(side, share), Pool(gpus, 0, gpus=1, minimum=gpus), Pool(side, share), "cuda")


def now(cpus: int, gpus: int) -> Resources:
    """Divide the CPUs as the product does."""
    ray_data.configure()
    return plan_resources(cpus, gpus)


def simulate(catalog: Catalog, machine: Machine, resources: Resources, parts: int) -> tuple[float, int]:
    """Run so many parts; return seconds from the first part's end to that of the last fifth, by part, and peak bytes in store."""
    with tempfile.TemporaryDirectory() as folder:
        tracks = pa.table({"id": [f"{number:06d}" for number in range(parts)]})
        rows = rows_per_block(parts, resources.analyze.actors)
        per_file = blocks_per_file(-(-parts // rows))
        plan = write_plan([tracks], storage.put, f"{folder}/plan", rows_per_file=rows * per_file)
        settings = Settings(weights_sha256="f" * 64, spec=PRESETS["spleeter:2stems"], stems=("vocals", "accompaniment"))
        work = RunContext(settings, folder, "000001-0000", folder, folder)
        for name, stage in (("Analyze", Analyze), ("Separate", Separate), ("Write", Write)):
            bound = type(
                name, (stage,), {"__init__": lambda self, *_, stage=stage, **__: stage.__init__(self, (machine, catalog))}
            )
            setattr(ray_flow, name, bound)
        flow = ray_flow.RayFlow(plan, work, ".", resources, blocks_per_file=per_file)
        ended, peak = [], 0
        try:
            for batch in flow._running.tables():  # noqa: SLF001 (without the joins, whose rows are others)
                ended += batch.column("ended").to_pylist()
                peak = max(peak, store().object_store_bytes_used)
        finally:
            flow.stop()
    ended.sort()
    first, last = len(ended) // 5, len(ended) - len(ended) // 5 - 1
    return (ended[last] - ended[first]) / (last - first), peak


def store():
    """Return what Ray says of its object store."""
    return get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats


def main() -> None:
    """Print a line for each catalog and division."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", type=int, default=16)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--parts", type=int, default=100)
    parser.add_argument("--smaller", type=float, default=0.125)
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as cores:
        for number in range(given.cpus):
            Path(cores, f"{number:03d}").touch()
        for divide in (before, now):
            resources = divide(given.cpus, given.gpus)
            parts = 2 * resources.analyze.actors + 2 * resources.write.actors + 6 * given.gpus
            size = int(parts * SPECTRUM_BYTES * given.smaller)
            ray.init(
                num_cpus=given.cpus, num_gpus=given.gpus, object_store_memory=size, include_dashboard=False, log_to_driver=False
            )
            for catalog in CATALOGS[given.only :][:1] if given.only is not None else CATALOGS:
                most = min(given.cpus / (catalog.analyze_s + catalog.write_s), given.gpus / catalog.separate_s)
                spilled, begun = store().spilled_bytes_total, time.monotonic()
                slower = max(1, most / 3)  # the two cores of a small machine give no more
                part_s, peak = simulate(catalog, Machine(cores, slower, given.smaller), resources, given.parts)
                rate = slower / part_s
                sys.stdout.write(
                    f"{catalog.name:32} {divide.__name__:8} {resources.analyze.actors} + {resources.write.actors} actors: "
                    f"{rate:.2f} of {most:.2f} parts/s ({rate / most:.0%}), of {size / given.smaller / 1e9:.1f} GB {peak / given.smaller / 1e9:.1f} GB used, "
                    f"{(store().spilled_bytes_total - spilled) / given.smaller / 1e9:.1f} GB spilled, {time.monotonic() - begun:.0f} s\n"
                )
                sys.stdout.flush()
            ray.shutdown()


if __name__ == "__main__":
    main()
