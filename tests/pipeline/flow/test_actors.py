"""Actors whose node is gone: waited for, then given up; the clock and the actors are played."""

from __future__ import annotations

import pytest
import ray

from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.actors import LOST_S, NONE_S, ActorWatch


@pytest.fixture
def killed(monkeypatch):
    """Return the actors that were killed for good."""
    found = []

    def kill(actor, *, no_restart):
        assert no_restart
        found.append(actor)

    monkeypatch.setattr(ray, "kill", kill)
    return found


def stages(**gone):
    """Play a flow whose Separate has these actors, each gone or not."""
    return [("Separate", gone)]


def test_an_actor_that_is_gone_for_too_long_is_given_up_once_where_others_are_there(killed):
    pools = ActorWatch()
    pools.look(stages(a=False, b=True), now=0)
    pools.look(stages(a=False, b=True), now=LOST_S)
    assert not killed
    for later in (1, 2):
        pools.look(stages(a=False, b=True), now=LOST_S + later)
    assert killed == ["b"]


def test_an_actor_that_comes_back_in_time_is_kept_and_its_next_absence_counts_anew(killed):
    pools = ActorWatch()
    pools.look(stages(a=False, b=True), now=0)
    pools.look(stages(a=False, b=False), now=LOST_S)
    for later in (1, LOST_S):
        pools.look(stages(a=False, b=True), now=LOST_S + later)
    assert not killed


def test_the_last_actor_of_a_stage_is_never_given_up_and_the_run_ends_where_none_comes_back(killed):
    pools = ActorWatch()
    for now in (0, LOST_S + 1, NONE_S):
        pools.look(stages(a=True), now=now)
    with pytest.raises(errors.NotRunnableError, match="no node had room for an actor of Separate in 30 min"):
        pools.look(stages(a=True), now=NONE_S + 1)
    assert not killed


def test_a_stage_that_is_done_and_a_flow_that_has_not_begun_need_no_actors():
    pools = ActorWatch()
    for now in (0, NONE_S + 1):
        pools.look([], now=now)
