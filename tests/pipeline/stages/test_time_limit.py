from __future__ import annotations

import subprocess
import sys
import time

import pytest

from sep_batch.pipeline.stages import time_limit
from sep_batch.pipeline.stages.context import RunContext

HANGS = """
import sys, time
from sep_batch.pipeline.stages import time_limit
from sep_batch.pipeline.stages.context import RunContext
work = RunContext(None, out="out", run="r", parts="parts", scratch="parts", limit_s=0.3)
list(time_limit.limited(iter(lambda: time.sleep(60), 1), sys.argv[1:], work))
"""


def work(limit_s=60.0, folder="."):
    return RunContext(None, out="out", run="r", parts=f"{folder}/parts", scratch=f"{folder}/parts", limit_s=limit_s)


def test_rows_that_come_in_time_come_as_they_are():
    assert list(time_limit.limited(iter([1, 2, 3]), ["a"], work())) == [1, 2, 3]


def test_the_time_between_two_rows_is_not_the_stages():
    rows = time_limit.limited(iter([1, 2]), ["a"], work(limit_s=2.0))
    assert next(rows) == 1
    time.sleep(2.5)
    assert next(rows) == 2


@pytest.mark.parametrize(("ids", "is_known"), [(["a"], True), (["a", "b"], False)])
def test_who_is_over_the_limit_dies_and_leaves_word_where_it_is_clear_of_whom(tmp_path, ids, is_known):
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", HANGS, *ids], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "in limited" in ended.stderr  # where it hung
    assert time.monotonic() - begun < 30
    assert time_limit.was_over("a", work(folder=tmp_path)) == is_known
    assert not time_limit.was_over("b", work(folder=tmp_path))
