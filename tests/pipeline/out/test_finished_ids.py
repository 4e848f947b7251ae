from __future__ import annotations

import pyarrow as pa
import pytest

from sep_batch.pipeline import manifest, storage
from sep_batch.pipeline.out.finished_ids import FinishedIds
from sep_batch.pipeline.out.plan import write_plan

IDS = [f"t{number:03}" for number in range(100)]


@pytest.fixture
def plan(tmp_path):
    tracks = manifest.check(pa.table({"uri": [f"{id}.wav" for id in IDS], "id": IDS, "n": range(100)}), "m", "/music").tracks
    return write_plan([tracks], storage.put, str(tmp_path), rows_per_file=7)


def lost(seen, plan):
    return [row for block in seen.lost(plan) for row in block.to_pylist()]


@pytest.mark.parametrize("gone", [[], [0], [99], [3, 4, 50], range(100)])
def test_what_was_not_seen_is_lost_with_all_its_columns_and_in_its_order(plan, gone):
    seen = FinishedIds()
    seen.add(id for place, id in reversed(list(enumerate(IDS))) if place not in gone)
    found = lost(seen, plan)
    assert [(row["id"], row["extra"]["n"]) for row in found] == [(IDS[place], place) for place in gone]
    assert seen.distinct == len(seen) == 100 - len(gone)


def test_what_came_twice_is_no_replacement_for_what_was_lost(plan):
    seen = FinishedIds()
    seen.add([*IDS[:99], IDS[0]])
    assert (len(seen), seen.distinct) == (100, 99)
    assert [row["id"] for row in lost(seen, plan)] == [IDS[99]]


def test_an_id_that_was_never_planned_hides_nothing(plan):
    seen = FinishedIds()
    seen.add([*IDS[1:], "stranger"])
    assert [row["id"] for row in lost(seen, plan)] == [IDS[0]]
