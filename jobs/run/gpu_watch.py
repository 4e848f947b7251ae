"""Watch over a run's GPUs: one that ends workers whatever their tracks are is given up."""

from __future__ import annotations

import logging
import time
from collections import defaultdict

from sep_batch.pipeline import errors
from sep_batch.pipeline.stages import gpu_faults
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.gpu_faults import Gpu, GpuFault

MOST_FAULTS = 3  # of a GPU, before it is given up
LOOK_S = 5.0  # between two listings of the marks
_LOGGER = logging.getLogger("sep_batch")


class GpuWatch:
    """CUDA errors of a run, by GPU.

    Attributes:
        given_up: The GPUs that were given up, each with its last error.
    """

    def __init__(self, work: RunContext) -> None:
        """Begin to watch the workers of a run."""
        self.given_up = dict[Gpu, str]()
        self._work, self._looked_s = work, time.monotonic()
        self._known = frozenset[str]()
        self._alone = dict[str, str]()  # the last error of each track that was alone
        self._faults: defaultdict[Gpu, list[GpuFault]] = defaultdict(list)

    def look(self, gpus: int, *, is_due: bool = False) -> Gpu | None:
        """Return a GPU to give up now, if there is one; call this repeatedly.

        A GPU is kept if all its errors came from one track that had one on another GPU too, or if there is no other GPU: the
        track is tried alone, and then fails. The last GPU is given up after twice as many errors without a finished track.

        Args:
            gpus: Number of GPUs at work.
            is_due: List the marks now, not only every `LOOK_S`.

        Raises:
            NotRunnableError: The driver and torch of a machine cannot use its GPU.
        """
        if not is_due and time.monotonic() - self._looked_s < LOOK_S:
            return None
        self._looked_s = time.monotonic()
        for uri, fault in gpu_faults.faults(self._work, self._known):
            self._known |= {uri}
            self._take(fault)
        return next((gpu for gpu in self._faults if gpu not in self.given_up and self._is_at_fault(gpu, gpus)), None)

    def forget(self) -> None:
        """Forget the errors so far; called when the last GPU has finished a track."""
        self._faults.clear()

    def give_up(self, gpu: Gpu) -> None:
        """Record that a GPU was given up."""
        faults = self._faults[gpu]
        self.given_up[gpu] = faults[-1].error
        _LOGGER.warning("%s is given up after %d CUDA errors; the last one: %s", gpu, len(faults), faults[-1].error)

    def last_error(self, id: str) -> str:
        """Return the last CUDA error that ended a worker which worked on this track alone; empty if there is none."""
        return self._alone.get(id, "")

    def _take(self, fault: GpuFault) -> None:
        if fault.is_unusable:
            raise errors.NotRunnableError(gpu_faults.unusable(fault.gpu, fault.error))
        self._faults[fault.gpu].append(fault)
        if len(fault.ids) == 1:
            self._alone[fault.ids[0]] = fault.error
        count = len(self._faults[fault.gpu])
        _LOGGER.warning("%s: a CUDA error, its %d. in this run; its worker starts again: %s", fault.gpu, count, fault.error)

    def _is_at_fault(self, gpu: Gpu, gpus: int) -> bool:
        faults = self._faults[gpu]
        if len(faults) < (MOST_FAULTS if gpus > 1 else 2 * MOST_FAULTS):
            return False
        common = set.intersection(*(set(fault.ids) for fault in faults))
        elsewhere = {id for other, faults in self._faults.items() if other != gpu for fault in faults for id in fault.ids}
        return not (common if gpus == 1 else common & elsewhere)
