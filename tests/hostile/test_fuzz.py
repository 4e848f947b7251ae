"""Mutated files through decode: no crash, no hang, no growth, and nothing but the classes of failures.py."""

from __future__ import annotations

import sys

import pytest
from fuzz import campaign, mutated

GROWN_MB = 60
DECODING = {"ok", "unsupported_format", "decode_error", "empty_audio", "too_long", "nonfinite", "damaged"}


def test_a_mutated_file_is_made_by_its_number():
    assert [mutated(number) for number in range(40)] == [mutated(number) for number in range(40)]
    assert len({mutated(number) for number in range(200)}) > 190  # some are cut down to their first bytes


def test_sixty_mutated_files_are_read_or_fail_as_one_of_ours():
    found = campaign(0, 60)
    assert found.culprits == {}
    assert found.counts.keys() <= DECODING
    assert found.counts.total() == 60
    assert found.counts["ok"] > 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_mutated_files_are_read_or_fail_as_one_of_ours():
    found = campaign(0, 2000)
    sys.stdout.write(f"{found}\n")
    assert found.culprits == {}
    assert found.counts.keys() <= DECODING
    assert found.counts.total() == 2000
    assert found.after_mb - found.before_mb < GROWN_MB
