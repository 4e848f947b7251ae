"""GPUs that were given up, each held by an actor that does nothing: Ray places no other actor there.

Ray cannot leave out one GPU, and restarts an actor on the GPU that it had.
"""

from __future__ import annotations

import logging
from typing import Any

import ray

from sep_batch.pipeline import errors
from sep_batch.pipeline.stages.gpu_faults import Gpu, this_gpu

FREE_S = 60.0  # for the actors of a stopped flow to end, and an actor to start in their place
_LOGGER = logging.getLogger("sep_batch")


class _Holder:
    def gpu(self) -> Gpu:
        """Return the GPU that this actor has."""
        return this_gpu()


class HeldGpus:
    """The GPUs that a run has given up."""

    def __init__(self) -> None:
        self._holders = list[Any]()

    def hold(self, gpu: Gpu) -> None:
        """Hold a GPU until Ray ends; no flow may run. Every GPU is taken until it is the one.

        Args:
            gpu: The GPU.

        Raises:
            NotRunnableError: Its node is there, but the GPU does not get free.
        """
        actor: Any = ray.remote(num_cpus=0, num_gpus=1)(_Holder)
        others = list[Any]()
        while True:
            holder = actor.remote()
            try:
                held = ray.get(holder.gpu.remote(), timeout=FREE_S)
            except ray.exceptions.RayError as error:
                ray.kill(holder)
                if gpu.host in {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}:
                    advice = "start again with a CUDA_VISIBLE_DEVICES that leaves it out"
                    raise errors.NotRunnableError(f"{gpu} failed and could not be set aside in {FREE_S:g} s; {advice}") from error
                _LOGGER.warning("the node of %s has left the cluster", gpu)
                break
            if held == gpu:
                self._holders.append(holder)
                break
            others.append(holder)
        for other in others:
            ray.kill(other)

    def release(self) -> None:
        """Hold no GPU any more."""
        while self._holders:
            ray.kill(self._holders.pop())
