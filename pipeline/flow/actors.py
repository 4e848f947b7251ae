"""A flow's actors, watched: one whose node is gone is given up after a time, so that what it held is done by others.

Ray starts an actor that has died again, on another node if need be, and its tasks wait for it as long as that takes: on a cluster
that has no room left, for ever. A track that is lost so has no row, and the driver's next pass takes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from sep_batch.pipeline import errors

LOST_S = 300.0  # in which a node that was taken away has been replaced, or will not be
NONE_S = 1800.0  # without a single actor of a stage: as long as an autoscaler may need for a GPU
_LOGGER = logging.getLogger("sep_batch")


class ActorWatch:
    """The actors of one flow."""

    def __init__(self) -> None:
        """Begin to watch."""
        self._gone_since: dict[Any, float] = {}
        self._given_up: set[Any] = set()
        self._empty_since: dict[str, float] = {}

    def look(self, stages: Iterable[tuple[str, Mapping[Any, bool]]], now: float | None = None) -> None:
        """Give up actors that have been gone for `LOST_S`, where others of their stage are there; to be called again and again.

        Args:
            stages: As `RunningDataset.actors` yields them.
            now: On the monotonic clock; by default its time.

        Raises:
            NotRunnableError: A stage has had no actor for `NONE_S`.
        """
        now = time.monotonic() if now is None else now
        for stage, actors in stages:
            gone = [actor for actor, is_gone in actors.items() if is_gone and actor not in self._given_up]
            there = [actor for actor, is_gone in actors.items() if not is_gone and actor not in self._given_up]
            for actor in gone:
                self._miss(actor, stage, now, others=len(there))
            for actor in there:
                self._gone_since.pop(actor, None)
            since = self._empty_since.setdefault(stage, now)
            if there:
                del self._empty_since[stage]
            elif now - since > NONE_S:
                raise errors.NotRunnableError(f"no room for an actor of {stage} in {NONE_S / 60:.0f} min: its nodes are gone")

    def _miss(self, actor: Any, stage: str, now: float, *, others: int) -> None:
        if actor not in self._gone_since:
            _LOGGER.warning("an actor of %s is gone; it starts again where there is room, and %d others go on", stage, others)
        if others and now - self._gone_since.setdefault(actor, now) > LOST_S:
            _LOGGER.warning("an actor of %s found no room in %.0f s; what it held is done by others", stage, LOST_S)
            ray.kill(actor, no_restart=True)
            self._given_up.add(actor)
