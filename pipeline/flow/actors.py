"""Watch over a flow's actors: one that lost its node is given up after a time, so that its tracks are processed by others.

Ray restarts an actor that has died, on another node if need be, and its tasks wait for the restart: on a cluster without room,
forever. The tracks of an actor that is given up have no row, and the driver's next pass processes them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray

from sep_batch.pipeline import errors

LOST_S = 300.0  # for the replacement of a lost node
NONE_S = 1800.0  # without any actor of a stage: as long as an autoscaler may need for a GPU
_LOGGER = logging.getLogger("sep_batch")


class ActorWatch:
    """The actors of one flow."""

    def __init__(self) -> None:
        """Begin to watch."""
        self._gone_since: dict[Any, float] = {}
        self._told: set[Any] = set()
        self._given_up: set[Any] = set()
        self._empty_since: dict[str, float] = {}

    def look(self, stages: Iterable[tuple[str, Mapping[Any, bool]]], now: float | None = None) -> None:
        """Give up actors that have been gone for `LOST_S`, where others of their stage are alive; call this repeatedly.

        Args:
            stages: Stages and their actors, as `RunningDataset.actors` yields them.
            now: Time on the monotonic clock; by default the present.

        Raises:
            NotRunnableError: A stage has had no actor for `NONE_S`.
        """
        now = time.monotonic() if now is None else now
        for stage, actors in stages:
            gone = [actor for actor, is_gone in actors.items() if is_gone and actor not in self._given_up]
            alive = [actor for actor, is_gone in actors.items() if not is_gone and actor not in self._given_up]
            for actor in gone:
                self._miss(actor, stage, now, others=len(alive))
            for actor in alive:
                self._gone_since.pop(actor, None)
            since = self._empty_since.setdefault(stage, now)
            if alive:
                del self._empty_since[stage]
            elif now - since > NONE_S:
                limit = f"{NONE_S / 60:.0f} min"
                raise errors.NotRunnableError(f"no node had room for an actor of {stage} in {limit}; add nodes and run again")

    def _miss(self, actor: Any, stage: str, now: float, *, others: int) -> None:
        if actor not in self._told:  # once: an actor that a track kills dies several times
            self._told.add(actor)
            _LOGGER.warning("an actor of %s died or lost its node; Ray restarts it if a node has room; %d go on", stage, others)
        if others and now - self._gone_since.setdefault(actor, now) > LOST_S:
            _LOGGER.warning("an actor of %s could not restart in %.0f s and is given up; others retry its tracks", stage, LOST_S)
            ray.kill(actor, no_restart=True)
            self._given_up.add(actor)
