"""Actors of each stage, and the CPUs and GPUs that each takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

CPUS_PER_SEPARATE = 8  # one U-Net is no faster with more threads
CPU_SHARE_OF_SEPARATE = 0.75  # of the CPUs, where there is no GPU: chosen by measurements on 8 songs
CALLS_PER_GPU = 3  # blocks at work: while the patches of two are computed, the stems of the third are measured and handed on
BATCHES_PER_GPU = 2  # one is computed, one is copied; measured with a device that sleeps (tests/benchmarks/batch_padding.py)
BLOCKS_PER_CALL = 2  # on their way to a stage, for each call that it takes at once: one at work, one that waits
BYTES_PER_PAIR = 850_000_000  # memory of an actor of Analyze (600 MB with its decoder and a part) and one of Write
PAIRS_MEMORY = 0.5  # share of the memory that these pairs may take
USABLE_CPUS = 0.9  # share for all actors together; Ray Data hangs where they take all
NICENESS = 10  # of Analyze, Write and joins: they run while Separate waits, which computes there or feeds a GPU


@dataclass(frozen=True)
class Pool:
    """One stage's actors: their number, and the resources of each."""

    actors: int
    cpus: float
    gpus: int = 0
    threads: int = 1
    calls: int = 1  # that an actor takes at once
    tasks: int | None = None  # in flight at an actor; by default Ray's, two a call
    minimum: int = 1  # actors from the start on


@dataclass(frozen=True)
class Resources:
    """The pools of a flow. Separate has one actor a GPU; without GPUs, Analyze and Write grow from one actor to their size.

    Attributes:
        analyze: Actors of Analyze: fetch, decode, STFT.
        separate: Actors of Separate: U-Nets.
        write: Actors of Write: encode, put.
        device: Torch's name of Separate's device.
        nodes: Number of machines of the cluster.
    """

    analyze: Pool
    separate: Pool
    write: Pool
    device: str
    nodes: int = 1

    def on_their_way(self) -> tuple[int, int]:
        """Return the most parts in Ray's object store at once before the U-Nets, and the most parts with their stems after them.

        Each stage has `BLOCKS_PER_CALL` before it, and each task keeps what it has made until the next stage has room.
        """
        separate = BLOCKS_PER_CALL * self.separate.calls * self.separate.actors
        return self.analyze.actors + separate, separate + BLOCKS_PER_CALL * self.write.actors

    def one_at_a_time(self) -> Resources:
        """Return the same with one actor per stage and one task in flight: for tracks whose process died."""
        analyze, separate, write = (
            dataclasses.replace(pool, actors=1, calls=1, tasks=1, minimum=1) for pool in (self.analyze, self.separate, self.write)
        )
        return dataclasses.replace(self, analyze=analyze, separate=separate, write=write)


def plan_resources(
    cpus: int,
    gpus: int,
    *,
    device: str | None = None,
    min_gpus: int | None = None,
    nodes: Sequence[int] | None = None,
    memory_bytes: int | None = None,
) -> Resources:
    """Divide CPUs and GPUs among the stages, so that all actors fit and some CPU is left for reading.

    Args:
        cpus: Number of CPUs of the machine or cluster.
        gpus: Number of GPUs, with one Separate actor each; 0 runs the U-Nets on the CPU.
        device: Torch device of Separate; by default cuda where there are GPUs.
        min_gpus: Number of GPUs available from the start; by default all.
        nodes: CPUs of each machine of a cluster; an actor must fit on one machine.
        memory_bytes: Memory of the machine or cluster, which bounds the actors beside GPUs; None is no bound.
    """
    if gpus:
        fit = cpus if memory_bytes is None else max(1, min(cpus, int(PAIRS_MEMORY * memory_bytes / BYTES_PER_PAIR)))
        write = Pool(fit, 1, minimum=fit)  # whatever a format costs in one of them, no CPU is idle while work waits
        analyze = dataclasses.replace(write, tasks=1)  # a second task would make a block while the first one's waits
        separate = Pool(gpus, 0, gpus=1, threads=BATCHES_PER_GPU, calls=CALLS_PER_GPU, minimum=min_gpus or gpus)
        pools = [analyze, separate, write]
    else:
        largest = max(1, min(cpus, max(nodes or [cpus])))
        per_node = max(1, round(largest * CPU_SHARE_OF_SEPARATE / CPUS_PER_SEPARATE))
        threads = max(1, math.ceil(largest * CPU_SHARE_OF_SEPARATE / per_node))
        actors = max(1, per_node * min(cpus, sum(min(node, largest) for node in nodes or [cpus])) // largest)
        side = max(1, cpus // 8)
        separate = Pool(actors, 1 if largest < CPUS_PER_SEPARATE else threads, threads=threads, tasks=1, minimum=actors)
        pools = [Pool(side, 1), separate, Pool(side, 1)]
    taken = sum(pool.actors * pool.cpus for pool in pools)
    scale = min(1.0, USABLE_CPUS * cpus / taken)
    analyze, separate, write = (dataclasses.replace(p, cpus=_share(p.cpus * scale)) for p in pools)
    return Resources(analyze, separate, write, device or ("cuda" if gpus else "cpu"), len(nodes or [cpus]))


def _share(cpus: float) -> float:
    """Round CPUs down to numbers that Ray accepts: whole ones from 1 up, hundredths below."""
    return math.floor(cpus) if cpus >= 1 else math.floor(cpus * 100) / 100
