"""`evaluate`: SDR and SI-SDR of stems against true stems, what each is scored against, and what cannot be scored."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import decoded
from signals import snr_db
from true_stems import SAMPLES, STEMS, wave_of, write, write_manifest, write_song, write_stem_mp4
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.evaluate import evaluate, picture, run_evaluate, scores, statistics
from sep_batch.jobs.evaluate.report import lines
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index, lease
from sep_batch.pipeline.scoring import bsseval, track

HZ = {"a": 200, "b": 300, "c": 350}
EXACT_DB = 1e-6


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Three songs in MUSDB's layout, and manifests of them."""
    folder = tmp_path_factory.mktemp("musdb") / "musdb"
    for name, hz in HZ.items():
        write_song(folder / ("test" if name == "c" else "train") / name, hz)
    for stems in (("vocals",), STEMS):
        rows = [
            {"id": name, "uri": f"{here(name)}/mixture.wav"} | {f"ref_{stem}": f"{here(name)}/{stem}.wav" for stem in stems}
            for name in HZ
        ]
        write_manifest(folder.parent / f"{len(stems)}.parquet", rows)
    return folder


def here(name):
    return f"musdb/{'test' if name == 'c' else 'train'}/{name}"


@pytest.fixture
def evaluated(songs, tiny, local, tmp_path):
    """Return a function that evaluates a manifest of the songs; the separation is done once a module."""

    def run(source="1.parquet", **options):
        out = songs.parent / "stems"
        if not out.exists():
            assert run_job(str(songs.parent / "1.parquet"), str(out), model=tiny, format="wav", bit_depth="float").exit_code == 0
        return run_evaluate(
            str(songs.parent / source), estimates=str(out), **{"output": str(tmp_path / "rows.parquet")} | options
        )

    return run


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows_of(result):
    return pyarrow.parquet.read_table(result.output).to_pylist()


def estimate(songs, id, stem):
    """Return a stem of OUT, decoded."""
    out = songs.parent / "stems"
    (row,) = [row for row in index.read(str(out)).to_pylist() if row["id"] == id]
    return decoded(next((out / item["uri"]).read_bytes() for item in row["stems"] if item["stem"] == stem)).wave


def reference(songs, id, stem):
    return decoded((songs.parent / here(id) / f"{stem}.wav").read_bytes()).wave


def test_each_stem_has_the_sdr_of_its_decoded_samples(songs, evaluated):
    result = evaluated()
    rows = rows_of(result)
    assert (result.exit_code, result.scored, len(rows)) == (0, 3, 6)
    for row in rows:
        vocals = reference(songs, row["id"], "vocals")
        true = vocals if row["stem"] == "vocals" else reference(songs, row["id"], "mixture").astype(np.float64) - vocals
        assert row["sdr_db"] == pytest.approx(snr_db(true, estimate(songs, row["id"], row["stem"])), abs=EXACT_DB)
        assert row["audio_s"] == SAMPLES / 44_100
    assert {row["reference"] for row in rows} == {"vocals", "mix - vocals"}


def test_an_accompaniment_is_the_sum_of_all_other_references(songs, evaluated):
    result = evaluated("4.parquet")
    for row in rows_of(result):
        if row["stem"] == "accompaniment":
            true = sum(reference(songs, row["id"], stem).astype(np.float64) for stem in STEMS[1:])
            assert row["reference"] == "drums + bass + other"
            assert row["sdr_db"] == pytest.approx(snr_db(true, estimate(songs, row["id"], "accompaniment")), abs=EXACT_DB)
    assert result.unused == []


def test_the_table_has_median_mean_and_lowest_of_each_stem(evaluated):
    result = evaluated()
    values = {row["id"]: row["sdr_db"] for row in rows_of(result) if row["stem"] == "vocals"}
    statistics = result.stems["vocals"]["sdr"]
    assert statistics["median_db"] == pytest.approx(np.median(list(values.values())))
    assert statistics["mean_db"] == pytest.approx(np.mean(list(values.values())))
    assert values[statistics["lowest_id"]] == statistics["lowest_db"] == min(values.values())
    assert f"{statistics['median_db']:.2f}" in "\n".join(lines(result))


def test_a_musdb_folder_is_separated_and_scored_and_then_nothing_is_done_again(songs, tiny, local, tmp_path, monkeypatch):
    result = run_evaluate(str(songs), str(tmp_path / "o"), model=tiny)
    assert (result.exit_code, result.scored) == (0, 3)
    assert {row["id"] for row in rows_of(result)} == set(HZ)
    assert result.output == str(tmp_path / "o" / "evaluation.parquet")
    before = rows_of(result)
    monkeypatch.setattr(scores, "score", lambda *_: pytest.fail("scored again"))
    assert rows_of(run_evaluate(str(songs), str(tmp_path / "o"), model=tiny)) == before


def test_a_stem_mp4_is_scored_as_the_files_of_its_streams_are(songs, tiny, local, tmp_path):
    write_stem_mp4(tmp_path / "mp4" / "test" / "a.stem.mp4", HZ["a"])
    result = run_evaluate(str(tmp_path / "mp4"), model=tiny)
    expected = {
        row["stem"]: row for row in rows_of(run_evaluate(str(songs), str(tmp_path / "o"), model=tiny)) if row["id"] == "a"
    }
    assert (result.exit_code, result.out, result.unused) == (0, str(tmp_path / "mp4.stems"), [])
    for row in rows_of(result):
        assert (row["id"], row["reference"]) == ("a", expected[row["stem"]]["reference"])
        assert row["sdr_db"] == pytest.approx(expected[row["stem"]]["sdr_db"], abs=0.01)


def test_a_folder_with_stems_and_no_mixture_is_left_out_with_a_warning(songs, tiny, local, tmp_path):
    write_song(tmp_path / "musdb" / "a", HZ["a"])
    write(tmp_path / "musdb" / "b" / "vocals.wav", wave_of("vocals", HZ["b"]))
    result = run_evaluate(str(tmp_path / "musdb"), model=tiny)
    assert result.scored == 1
    assert f"folders with stems and no mixture are left out: 1; the first is {tmp_path}/musdb/b" in result.warnings


def test_an_evaluation_that_was_interrupted_goes_on_where_it_was(songs, tiny, local, tmp_path, monkeypatch):
    out, done, score = str(tmp_path / "o"), [], track.score

    def interrupted(scored_track, metrics):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(scored_track.id)
        return score(scored_track, metrics)

    monkeypatch.setattr(scores, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_evaluate(str(songs), out, model=tiny, cpus=1)
    again = []
    monkeypatch.setattr(scores, "score", lambda one, metrics: again.append(one.id) or score(one, metrics))
    assert run_evaluate(str(songs), out, model=tiny, cpus=1).scored == 3
    assert sorted(done + again) == sorted(HZ)


def test_a_changed_reference_is_scored_again_and_no_other(songs, evaluated, monkeypatch):
    before, again, score = {row["id"]: row for row in rows_of(evaluated()) if row["stem"] == "vocals"}, [], track.score
    monkeypatch.setattr(scores, "score", lambda one, metrics: again.append(one.id) or score(one, metrics))
    write(songs / "train" / "a" / "vocals.wav", wave_of("vocals", HZ["a"]) / 2)
    try:
        after = {row["id"]: row for row in rows_of(evaluated()) if row["stem"] == "vocals"}
    finally:
        write(songs / "train" / "a" / "vocals.wav", wave_of("vocals", HZ["a"]))
    assert again == ["a"]
    assert after["a"]["sdr_db"] != before["a"]["sdr_db"]
    assert after["b"] == before["b"]


def test_a_median_that_is_not_reached_makes_the_exit_code_8(evaluated):
    median = evaluated().stems["vocals"]["sdr"]["median_db"]
    assert evaluated(min_sdr=(f"vocals={median - 0.01}",)).exit_code == 0
    result = evaluated(min_sdr=(f"vocals={median + 0.01}", "drums=1"))
    assert result.exit_code == 8
    assert result.below == [
        f"vocals: median SDR {median:.2f} dB, --min-sdr requires {median + 0.01:g} dB",
        "drums: no SDR, --min-sdr requires 1 dB; scored stems: accompaniment, vocals",
    ]


UNUSABLE = {  # references that cannot be used: the class and words of the failed row
    "musdb/train/a/nothing.wav": ("not_found", "reference "),
    "": ("not_found", "no reference: ref_vocals are empty"),
    "ftp://x/y.wav": ("bad_uri", "reference "),
    "short.wav": ("decode_error", "0.250 s, the stems 0.500 s; expected the same length"),
    "noise.wav": ("unsupported_format", "reference "),
}


@pytest.mark.parametrize("uri", UNUSABLE)
def test_a_track_without_a_usable_reference_fails_with_its_reason_and_the_others_are_scored(uri, songs, evaluated):
    write(songs.parent / "short.wav", wave_of("vocals", 200)[:, : SAMPLES // 2])
    (songs.parent / "noise.wav").write_bytes(b"no audio" * 100)
    rows = [{"id": name, "uri": f"{here(name)}/mixture.wav", "ref_vocals": f"{here(name)}/vocals.wav"} for name in HZ]
    write_manifest(songs.parent / "bad.parquet", [rows[0] | {"ref_vocals": uri}, *rows[1:]])
    result = evaluated("bad.parquet")
    kind, words = UNUSABLE[uri]
    assert (result.exit_code, result.scored, result.failed) == (3, 2, {kind: 1})
    assert result.failures[0]["id"] == "a"
    assert words in result.failures[0]["error"]
    assert evaluated("bad.parquet", ok_with_failures=True).exit_code == 0


def test_tracks_are_matched_by_uri_where_their_ids_differ(songs, evaluated):
    rows = [{"uri": f"{here(name)}/mixture.wav", "ref_vocals": f"{here(name)}/vocals.wav"} for name in HZ]
    write_manifest(songs.parent / "no-ids.parquet", rows)
    assert evaluated("no-ids.parquet").scored == 3
    write_manifest(songs.parent / "others.parquet", [{"uri": "x.wav", "ref_vocals": "musdb/train/a/vocals.wav"}])
    result = evaluated("others.parquet")
    assert (result.exit_code, result.failures[0]["error"]) == (3, "OUT has no track with this id or URI")


def test_a_silent_reference_has_no_sdr_and_does_not_fail(songs, evaluated):
    write(songs.parent / "silence.wav", np.zeros((2, SAMPLES), np.float32))
    rows = [{"id": name, "uri": f"{here(name)}/mixture.wav", "ref_vocals": f"{here(name)}/vocals.wav"} for name in HZ]
    write_manifest(songs.parent / "silent.parquet", [rows[0] | {"ref_vocals": "silence.wav"}, *rows[1:]])
    result = evaluated("silent.parquet")
    assert (result.exit_code, result.silent) == (0, {"vocals": 1})
    assert (result.stems["vocals"]["sdr"]["tracks"], result.stems["accompaniment"]["sdr"]["tracks"]) == (2, 3)


def test_a_reference_of_no_stem_is_named(songs, evaluated):
    columns = {"ref_vocals": "vocals", "ref_accompaniment": "drums", "ref_vocal": "bass"}
    rows = [
        {"id": name, "uri": f"{here(name)}/mixture.wav"}
        | {column: f"{here(name)}/{stem}.wav" for column, stem in columns.items()}
        for name in HZ
    ]
    write_manifest(songs.parent / "typo.parquet", rows)
    assert evaluated("typo.parquet").unused == ["vocal"]


def test_a_bad_row_fails_and_the_others_are_scored(songs, evaluated):
    rows = [{"id": name, "uri": f"{here(name)}/mixture.wav", "ref_vocals": f"{here(name)}/vocals.wav"} for name in HZ]
    write_manifest(songs.parent / "bad-rows.parquet", [rows[0] | {"uri": None}, *rows[1:]])
    with pytest.raises(errors.ManifestError, match="row 1"):
        evaluated("bad-rows.parquet")
    result = evaluated("bad-rows.parquet", bad_rows="fail")
    assert (result.exit_code, result.scored) == (3, 2)


def test_references_stems_and_scores_may_lie_in_object_storage(songs, tiny, local, s3):
    for file in songs.rglob("*.wav"):
        storage.put(f"{s3}/{file.relative_to(songs.parent)}", file.read_bytes())
    storage.put(f"{s3}/songs.parquet", (songs.parent / "4.parquet").read_bytes())
    result = run_evaluate(f"{s3}/songs.parquet", model=tiny)
    assert (result.exit_code, result.scored, result.output) == (0, 3, f"{s3}/songs.stems/evaluation.parquet")
    assert len(list(storage.find(f"{s3}/songs.stems/_sep/evaluation"))) == 3
    assert run_evaluate(f"{s3}/musdb", estimates=f"{s3}/songs.stems").stems == result.stems


def test_a_run_that_is_at_work_on_the_stems_is_a_warning(songs, evaluated):
    assert evaluated().warnings == ()
    with lease.hold(str(songs.parent / "stems")):
        (warning,) = evaluated().warnings
    assert warning.endswith("; tracks that it has not finished fail here")


def test_json_is_one_line(songs, evaluated, tmp_path):
    evaluated()
    arguments = ("--estimates", songs.parent / "stems", "--output", tmp_path / "r.parquet", "--json")
    told = call("evaluate", songs.parent / "1.parquet", *arguments)
    (line,) = told.stdout.splitlines()
    assert told.exit_code == 0
    assert json.loads(line)["stems"]["vocals"]["sdr"]["tracks"] == 3


def test_the_difference_to_an_earlier_evaluation_is_paired_over_tracks_in_both(evaluated, tmp_path):
    rows = rows_of(evaluated())
    shift = {"a": 1.0, "b": 2.0}
    earlier = [row | {"sdr_db": row["sdr_db"] - shift[row["id"]]} for row in rows if row["id"] in shift]
    pyarrow.parquet.write_table(pa.Table.from_pylist(earlier, schema=track.SCORES), tmp_path / "earlier.parquet")
    result = evaluated(baseline=str(tmp_path / "earlier.parquet"))
    difference = result.differences["vocals"]
    assert (difference["tracks"], difference["mean_db"]) == (2, pytest.approx(1.5))
    assert (difference["low_db"], difference["high_db"]) == (pytest.approx(1.0), pytest.approx(2.0))
    assert "  vocals: +1.50 dB (+1.00 to +2.00), 2 tracks" in list(lines(result))


def test_the_interval_of_a_mean_has_the_width_that_the_normal_distribution_gives():
    values = np.random.default_rng(1).standard_normal(400)
    low, high = statistics._interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.05)


def test_bsseval_is_what_museval_gives_on_the_decoded_waves(songs, evaluated):
    pytest.importorskip("scipy")
    result = evaluated(metrics="bsseval", cpus=1)
    stems = ("vocals", "accompaniment")
    for id in HZ:
        vocals, mix = (reference(songs, id, name).astype(np.float64) for name in ("vocals", "mixture"))
        true, ours = np.stack([vocals.T, (mix - vocals).T]), np.stack([estimate(songs, id, stem).T for stem in stems])
        expected = bsseval.load().bss_eval(true, ours.astype(np.float64), window=44_100, hop=44_100)
        for number, stem in enumerate(stems):
            (row,) = [row for row in rows_of(result) if (row["id"], row["stem"]) == (id, stem)]
            for name, values in zip(bsseval.NAMES, expected, strict=False):
                expected_db = np.nanmedian(values[number]) if not np.isnan(values[number]).all() else None
                assert row[f"bsseval_{name}_db"] == (expected_db if expected_db is None else pytest.approx(expected_db, abs=1e-6))


def test_bsseval_without_museval_is_one_line_that_names_what_to_install(songs, monkeypatch):
    bsseval.load.cache_clear()
    monkeypatch.setattr(bsseval.importlib.util, "find_spec", lambda _name: None)
    told = call("evaluate", songs.parent / "1.parquet", "--metrics", "bsseval")
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1)
    assert "--metrics bsseval: needs the package museval; install the extra bsseval: " in told.output


def test_the_distribution_is_drawn_as_a_png(evaluated, tmp_path):
    pytest.importorskip("matplotlib")
    result = evaluated(png=str(tmp_path / "sdr.png"))
    assert (tmp_path / "sdr.png").read_bytes().startswith(b"\x89PNG")
    assert list(lines(result))[-1] == f"picture: {tmp_path}/sdr.png"


def test_a_picture_without_matplotlib_is_refused_before_anything_is_done(songs, monkeypatch):
    monkeypatch.setattr(picture.importlib.util, "find_spec", lambda _name: None)
    told = call("evaluate", songs.parent / "1.parquet", "--png", "x.png")
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1)
    assert "--png: needs the package matplotlib; install the extra plots: " in told.output


WRONG = {  # arguments: exit code, and words of the message
    "no ref_ column": (("mixes.parquet",), 2, "no column ref_<stem>; found artist, expected one column ref_<stem> for each"),
    "no such file": (("nothing.parquet",), 5, "nothing.parquet: not found"),
    "no such folder": (("nothing",), 5, "REFERENCES {folder}/nothing: not found; expected a manifest or a folder"),
    "an empty folder": (("empty",), 2, "no song in MUSDB's layout; expected <song>/mixture.wav with vocals.wav, "),
    "no such OUT": (("1.parquet", "--estimates", "nowhere"), 5, "nowhere: not found; expected the folder"),
    "OUT twice": (("1.parquet", "--estimates", "stems", "--out", "x"), 2, "--estimates is an OUT that is there already"),
    "a flag of a separation": (("1.parquet", "--estimates", "stems", "--model", "m"), 2, "--model: with --estimates nothing is"),
    "a metric": (("1.parquet", "--metrics", "snr"), 2, "--metrics snr: expected sdr or bsseval"),
    "no number": (("1.parquet", "--min-sdr", "vocals"), 2, "--min-sdr vocals: expected a stem and its median SDR in dB"),
    "no baseline": (("1.parquet", "--baseline", "nothing.parquet"), 5, "--baseline "),
    "another baseline": (("1.parquet", "--baseline", "1.parquet"), 5, "no column sdr_db, status, stem; expected a file that"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_one_line_that_names_it(wrong, songs, evaluated, monkeypatch):
    evaluated()
    monkeypatch.chdir(songs.parent)
    (songs.parent / "empty").mkdir(exist_ok=True)
    write_manifest(songs.parent / "mixes.parquet", [{"uri": f"{here('a')}/mixture.wav", "artist": "x"}])
    arguments, code, words = WRONG[wrong]
    told = call("evaluate", *arguments)
    assert (told.exit_code, len(told.output.splitlines())) == (code, 1), told.output
    assert words.format(folder=songs.parent) in told.output


def test_a_separation_that_was_stopped_ends_the_evaluation(songs, monkeypatch, tmp_path):
    stopped = Summary(out=str(tmp_path), tracks=3)
    stopped.exit_code = errors.STOPPED
    monkeypatch.setattr(evaluate, "run_job", lambda *_, **__: stopped)
    assert run_evaluate(str(songs.parent / "1.parquet"), str(tmp_path)) is stopped
