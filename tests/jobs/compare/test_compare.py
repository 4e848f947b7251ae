"""`compare`: the difference of every stem that two OUTs have, and each stem or track that cannot be compared."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from catalogs import decoded, write_tone
from signals import snr_db
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.compare import compare, run_compare
from sep_batch.jobs.compare.report import lines
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.out import index, lease

SECONDS = 0.4
DEPTH_DB = (60, 100)  # 24 bits against 16: the rounding of a tone's stems


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Two tones, and silence."""
    folder = tmp_path_factory.mktemp("songs") / "songs"
    for hz in (300, 500):
        write_tone(folder / f"{hz}.wav", hz, SECONDS)
    silence = encode(np.zeros((2, 17_640), np.float32), codecs.CODECS["wav"]["16"], rate_hz=44_100)
    (folder / "silence.wav").write_bytes(silence)
    return folder


@pytest.fixture
def separated(songs, tiny, local):
    """Return OUTs of the songs, by options of the run; each is made once."""

    def out(**options):
        path = songs.parent / ("-".join(f"{name}-{value}" for name, value in options.items()) or "default")
        if not path.exists():
            assert run_job(str(songs), str(path), **{"model": tiny, "ok_with_failures": True} | options).exit_code == 0
        return path

    return out


@pytest.fixture
def copied(separated, tmp_path):
    """Return a copy of an OUT, to be damaged."""
    return lambda **options: Path(shutil.copytree(separated(**options), tmp_path / "copy"))


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def stem_of(out, file, stem="vocals"):
    (row,) = [row for row in index.read(str(out)).to_pylist() if row["uri"].endswith(file)]
    return row["id"], next(out / item["uri"] for item in row["stems"] if item["stem"] == stem)


def test_an_out_and_itself_are_equal_and_nothing_is_decoded(separated, monkeypatch):
    monkeypatch.setattr(compare, "difference", lambda *_: pytest.fail("decoded"))
    result = run_compare(str(separated()), str(separated()), min_snr_db=200)
    assert (result.exit_code, result.tracks, result.counts, result.lowest) == (0, 3, {}, [])
    assert {stem: (row["compared"], row["equal"]) for stem, row in result.stems.items()} == dict.fromkeys(
        ("accompaniment", "vocals"), (3, 3)
    )


def test_a_stem_has_the_snr_of_its_decoded_samples_and_silence_equals_silence(separated):
    result = run_compare(str(separated()), str(separated(bit_depth="24")))
    assert (result.exit_code, result.counts) == (0, {})
    for row in result.lowest:
        waves = [
            decoded(next(path for id, path in (stem_of(out, f"{row['id'][:3]}.wav", row["stem"]),)).read_bytes()).wave
            for out in (separated(), separated(bit_depth="24"))
        ]
        assert row["snr_db"] == pytest.approx(snr_db(*waves), abs=1e-6)
        assert row["level_db"] == pytest.approx(0, abs=0.1)
    assert len(result.lowest) == 4
    for row in result.stems.values():
        assert (row["compared"], row["equal"]) == (3, 1)
        assert row["snr_lowest_db"] <= row["snr_median_db"]


def test_a_stem_below_the_lowest_snr_is_a_finding(separated):
    places = (str(separated()), str(separated(bit_depth="24")))
    lowest = run_compare(*places).lowest[0]
    assert run_compare(*places, min_snr_db=lowest["snr_db"] - 0.01).exit_code == 0
    result = run_compare(*places, min_snr_db=lowest["snr_db"] + 0.01)
    assert (result.exit_code, result.counts, result.findings["below"][0]["id"]) == (8, {"below": 1}, lowest["id"])


@pytest.mark.parametrize(
    ("options", "kind", "detail"),
    [
        ({"duration_s": 0.2}, "length", "17640 samples in OUT_A, 8820 in OUT_B"),
        ({"sample_rate_hz": 22_050}, "sample_rate", "44100 Hz in OUT_A, 22050 in OUT_B"),
        ({"mono": True}, "channels", "2 channels in OUT_A, 1 in OUT_B"),
    ],
)
def test_stems_of_another_shape_are_findings(options, kind, detail, separated):
    result = run_compare(str(separated()), str(separated(**options)))
    assert (result.exit_code, result.counts) == (8, {kind: 6, "nothing": 1})
    assert result.findings[kind][0]["detail"] == detail


def test_tracks_and_stems_that_only_one_has_are_told_from_each_other(separated):
    result = run_compare(str(separated(limit=2)), str(separated(bit_depth="24", stems=("vocals",))))
    assert (result.exit_code, result.tracks, list(result.stems)) == (8, 2, ["vocals"])
    assert result.counts == {"ok_in_one": 1, "stem_in_one": 2}
    assert result.findings["ok_in_one"][0]["detail"] == "ok in OUT_B only, missing in the other"
    assert {finding["detail"] for finding in result.findings["stem_in_one"]} == {"in OUT_A only"}


def test_a_missing_or_damaged_stem_is_a_finding_and_the_others_are_compared(separated, copied):
    out = copied(bit_depth="24")
    missing, path = stem_of(out, "300.wav")
    path.unlink()
    torn, path = stem_of(out, "500.wav")
    path.write_bytes(path.read_bytes()[:-200])
    result = run_compare(str(separated()), str(out))
    assert (result.exit_code, result.counts) == (8, {"unreadable": 2})
    assert {finding["id"] for finding in result.findings["unreadable"]} == {missing, torn}
    assert result.stems["vocals"]["compared"] == 1
    assert result.stems["accompaniment"]["compared"] == 3
    assert f"2 stems cannot be read or decoded:\n  {missing} vocals: " in "\n".join(lines(result))


def test_a_run_that_is_at_work_on_an_out_is_named(separated):
    with lease.hold(str(separated())):
        result = run_compare(str(separated()), str(separated(bit_depth="24")))
    assert len(result.at_work) == 1
    assert list(lines(result))[1].endswith("; stems that it has not finished are missing here")


def test_json_is_one_line_with_null_for_infinite(separated):
    told = call("compare", separated(), separated(), "--json")
    (line,) = told.stdout.splitlines()
    assert json.loads(line)["stems"]["vocals"] == {
        "compared": 3,
        "equal": 3,
        "lowest_id": None,
        **dict.fromkeys(("snr_median_db", "snr_mean_db", "snr_lowest_db", "level_mean_db", "level_largest_db")),
    }
    assert "Infinity" not in line


def test_every_row_goes_to_a_parquet_file(separated, tmp_path):
    told = call("compare", separated(), separated(bit_depth="24"), "--output", tmp_path / "rows.parquet")
    assert told.exit_code == 0, told.output
    rows = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(rows) == 6
    assert sum(math.isinf(row["snr_db"]) for row in rows) == 2
    assert all(DEPTH_DB[0] < row["snr_db"] < DEPTH_DB[1] for row in rows if not math.isinf(row["snr_db"]))


def test_the_table_names_the_track_with_the_lowest_snr(separated):
    told = call("compare", separated(), separated(bit_depth="24"))
    assert told.exit_code == 0
    assert "3 tracks ok in both" in told.stdout
    assert told.stdout.splitlines()[-1] == "no findings"
    assert run_compare(str(separated()), str(separated(bit_depth="24"))).stems["vocals"]["lowest_id"] in told.stdout


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("{out}", "{out}x"), 5, "OUT_B {out}x: not found; expected the folder or prefix that a run wrote to"),
        (("{songs}", "{out}"), 5, "OUT_A {songs}: no run wrote to it"),
        (("{out}", "{out}", "--min-snr", "nan"), 2, "--min-snr nan: expected a number of decibels, as 60"),
        (("{out}", "{out}", "--output", "ftp://x/y"), 5, "--output "),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(change, code, words, separated, songs):
    names = {"out": separated(), "songs": songs}
    told = call("compare", *(word.format(**names) for word in change))
    assert (told.exit_code, len(told.output.splitlines())) == (code, 1), told.output
    assert words.format(**names) in told.output
