from __future__ import annotations

import numpy as np
import pytest

from sep_batch.pipeline.repeats import repeated


@pytest.mark.parametrize(
    ("hashes", "expected"),
    [([], []), ([5], [False]), ([5, 7, 5, -1], [True, False, True, False]), ([2, 2, 2], [True] * 3), ([3, 1, 2], [False] * 3)],
)
def test_equal_hashes_are_told_the_first_of_them_too(hashes, expected):
    assert repeated(np.array(hashes, np.int64)).tolist() == expected
