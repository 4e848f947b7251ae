from __future__ import annotations

import pytest

from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest.patterns import Patterns

FILES = ["a.flac", "live/b.flac", "cd/live/c.wav", "cd/LIVE/d.wav", "cd/x/y/e.wav", "#1.mp3", "!.mp3"]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.flac", ["a.flac", "live/b.flac"]),
        ("live", ["live/b.flac", "cd/live/c.wav"]),
        ("live/", ["live/b.flac", "cd/live/c.wav"]),
        ("/live", ["live/b.flac"]),
        ("cd/*/*.wav", ["cd/live/c.wav", "cd/LIVE/d.wav"]),
        ("cd/**/*.wav", ["cd/live/c.wav", "cd/LIVE/d.wav", "cd/x/y/e.wav"]),
        ("cd/*.wav", []),
        ("**/y/*", ["cd/x/y/e.wav"]),
        ("[ab].*", ["a.flac", "live/b.flac"]),
        ("#*", ["#1.mp3"]),
        ("!*", ["!.mp3"]),
        ("*", FILES),
    ],
)
def test_a_pattern_matches_names_and_paths_as_gitignore_does(pattern, matched):
    assert [file for file in FILES if not Patterns(include=[pattern]).leave_out(file)] == matched
    assert [file for file in FILES if Patterns(exclude=[pattern]).leave_out(file)] == matched


def test_exclude_wins_over_include():
    patterns = Patterns(["*.wav", "*.flac"], ["cd", "b.*"])
    assert [file for file in FILES if not patterns.leave_out(file)] == ["a.flac"]


def test_patterns_that_have_matched_nothing_are_told_though_others_matched_first():
    patterns = Patterns(["*.wav", "*.falc"], ["cd", "x", "none"])
    for file in FILES:
        patterns.leave_out(file)
    assert patterns.unmatched() == ["--exclude none: matches no file", "--include *.falc: matches no file"]


@pytest.mark.parametrize("pattern", ["", " ", "/", "[a", "a\\"])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(errors.UsageError, match="--exclude '.*': not a pattern"):
        Patterns(exclude=[pattern])


def test_a_pattern_in_both_lists_is_refused():
    with pytest.raises(errors.UsageError, match=r"--include and --exclude \*\.wav: given in both; give it in one of them"):
        Patterns(["*.wav"], ["*.wav"])
