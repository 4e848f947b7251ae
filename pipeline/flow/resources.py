"""Actors of each stage, and the CPUs and GPUs that each takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

CPUS_PER_SEPARATE = 8  # more threads than this make one U-Net no faster
CPU_SHARE_OF_SEPARATE = 0.75  # of the CPUs, where there is no GPU: measured on the 8 songs
USABLE_CPUS = 0.9  # what actors may take together; Ray Data hangs where they take all
NICENESS = 10  # of Analyze, Write and joins, where the U-Nets run on the same CPUs: they work while Separate waits


@dataclass(frozen=True)
class Pool:
    """One stage's actors: how many, and what each takes."""

    actors: int
    cpus: float
    gpus: int = 0
    threads: int = 1
    tasks: int | None = None  # in flight at an actor; by default Ray's
    minimum: int = 1  # actors that are there from the start


@dataclass(frozen=True)
class Resources:
    """The pools of a flow. Analyze and Write scale between one actor and their size; Separate has one actor a GPU.

    Attributes:
        analyze: Fetch, decode, STFT.
        separate: U-Nets.
        write: Encode, put.
        device: Torch's name of what Separate runs on.
        nodes: Machines they are spread over.
    """

    analyze: Pool
    separate: Pool
    write: Pool
    device: str
    nodes: int = 1

    def one_at_a_time(self) -> Resources:
        """Return the same with one actor a stage and one task in flight: for tracks that were lost with their process."""
        analyze, separate, write = (
            dataclasses.replace(pool, actors=1, tasks=1, minimum=1) for pool in (self.analyze, self.separate, self.write)
        )
        return dataclasses.replace(self, analyze=analyze, separate=separate, write=write)


def plan_resources(
    cpus: int, gpus: int, *, device: str | None = None, min_gpus: int | None = None, nodes: Sequence[int] | None = None
) -> Resources:
    """Share CPUs and GPUs out among the stages, so that all actors fit and something is left for reading.

    Args:
        cpus: Number of CPUs of the machine or cluster.
        gpus: One Separate actor each; 0 runs the U-Nets on the CPU.
        device: Torch's; by default cuda where there are GPUs.
        min_gpus: Those that are there from the start; by default all.
        nodes: CPUs of each machine of a cluster; an actor has to fit into one.
    """
    if gpus:
        side = max(1, round((cpus - 1) / 2))
        pools = [Pool(side, 1), Pool(gpus, 0, gpus=1, threads=1, minimum=min_gpus or gpus), Pool(side, 1)]
    else:
        largest = max(1, min(cpus, max(nodes or [cpus])))
        on_one = max(1, round(largest * CPU_SHARE_OF_SEPARATE / CPUS_PER_SEPARATE))
        threads = max(1, math.ceil(largest * CPU_SHARE_OF_SEPARATE / on_one))
        actors = max(1, on_one * min(cpus, sum(min(there, largest) for there in nodes or [cpus])) // largest)
        side = max(1, cpus // 8)
        separate = Pool(actors, 1 if largest < CPUS_PER_SEPARATE else threads, threads=threads, tasks=1, minimum=actors)
        pools = [Pool(side, 1), separate, Pool(side, 1)]
    taken = sum(pool.actors * pool.cpus for pool in pools)
    scale = min(1.0, USABLE_CPUS * cpus / taken)
    analyze, separate, write = (dataclasses.replace(p, cpus=_share(p.cpus * scale)) for p in pools)
    return Resources(analyze, separate, write, device or ("cuda" if gpus else "cpu"), len(nodes or [cpus]))


def _share(cpus: float) -> float:
    """Round down to what Ray takes: whole CPUs above one, hundredths below."""
    return math.floor(cpus) if cpus >= 1 else math.floor(cpus * 100) / 100
