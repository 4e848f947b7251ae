"""An OUT of before decoding rules had numbers: it resumes with nothing to do, and says what of it is suspect."""

from __future__ import annotations

import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import decoded, finished, stems_below
from channel_files import caf, gains, tones, wav
from older_outs import BROKEN, FINE, FOLDER, SUSPECT, put_sources, sources
from signals import snr_db
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.status.status import run_status
from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.out import index

REASONS = {"done": len(FINE), "done_suspect": len(SUSPECT), "known_failed": 1}
SIXTEEN_BITS_DB = 60  # of a mix that peaks at a tenth or more


@pytest.fixture
def tiny(tiny_models):
    """The model that the older OUT was made with."""
    return str(tiny_models["2stems"])


@pytest.fixture
def older(tmp_path):
    """A copy of the older OUT, and its sources' manifest."""
    shutil.copytree(FOLDER, tmp_path / "out")
    return put_sources(), str(tmp_path / "out")


def call(*arguments):
    return CliRunner().invoke(app, list(arguments))


def mixes(dest):
    """Return the mixes of an export of whole tracks, by id."""
    found = {}
    for shard in sorted(dest.rglob("*.tar")):
        with tarfile.open(shard) as files:
            for member in files:
                if member.name.endswith(".mix.flac"):
                    found[member.name.partition(".")[0]] = decoded(files.extractfile(member).read()).wave
    return found


def test_nothing_of_it_is_to_do_and_what_is_suspect_is_counted(older, local, tiny, tmp_path):
    manifest, out = older
    planned = run_plan(manifest, out, model=tiny)
    assert (planned.todo, planned.reasons, planned.differing, planned.exit_code) == (0, REASONS, {}, 0)
    before = stems_below(tmp_path / "out")
    summary = run_job(manifest, out=out, model=tiny, gpus=0)
    assert (summary.exit_code, summary.tried, summary.done_before, summary.known_failed) == (0, 0, 4, 1)
    assert stems_below(tmp_path / "out") == before
    rows = index.read(out).to_pylist()
    assert {row["id"] for row in rows} == {*FINE, *SUSPECT, BROKEN}
    assert {(row["decode_rules"], row["source_stream"], row["source_streams"]) for row in rows} == {(None, None, None)}
    status = run_status(out)
    assert (status.done, status.suspect, status.pending) == (4, 2, 0)
    assert "suspect  2 done, decoded by older rules, perhaps wrong; --retry suspect redoes them" in call("status", out).output
    told = call("plan", manifest, "-o", out, "-p", tiny).output
    assert "2  done, decoded by older rules, perhaps wrong; --retry suspect redoes it" in told


def test_retry_suspect_does_these_again_and_no_others_and_only_once(older, local, tiny, tmp_path):
    manifest, out = older
    planned = run_plan(manifest, out, model=tiny, retry="suspect")
    assert planned.reasons == {"done": len(FINE), "suspect": len(SUSPECT), "known_failed": 1}
    before, was = stems_below(tmp_path / "out"), finished(out)
    summary = run_job(manifest, out=out, model=tiny, gpus=0, retry="suspect")
    assert (summary.exit_code, summary.tried, summary.ok, summary.done_before) == (0, 2, 2, 2)
    rows, after = finished(out), stems_below(tmp_path / "out")
    for name, channels in SUSPECT.items():
        row = rows[name]
        assert (row.decode_rules, row.source_stream, row.source_streams) == (audio.DECODE_RULES, 0, 1)
        assert (row.source_channels, row.attempts) == (channels, 1)
    assert {name: vars(rows[name]) for name in FINE} == {name: vars(was[name]) for name in FINE}
    changed = {name.split("/")[2] for name in before if before[name] != after[name]}
    assert {"six"} <= changed <= set(SUSPECT)
    assert set(before) == set(after)
    assert run_plan(manifest, out, model=tiny, retry="suspect").reasons == {"done": 4, "known_failed": 1}
    assert run_status(out).suspect == 0
    assert "suspect " not in call("status", out).output


@pytest.mark.parametrize("retry", ["none", "transient", "all"])
def test_no_other_retry_does_what_is_suspect_again(older, tiny, retry):
    manifest, out = older
    reasons = run_plan(manifest, out, model=tiny, retry=retry).reasons
    assert (reasons["done_suspect"], reasons.get("suspect")) == (2, None)


def test_the_mix_of_an_older_track_is_what_its_stems_were_made_of(older, local, inline_export, tiny, tmp_path):
    manifest, out = older
    run_export(out, str(tmp_path / "old"), to="webdataset", with_mix=True)
    run_job(manifest, out=out, model=tiny, gpus=0, retry="suspect")
    run_export(out, str(tmp_path / "new"), to="webdataset", with_mix=True)
    content = sources()["memory://songs/six.wav"]
    for folder, how in (("old", "first-two"), ("new", "itu")):
        expected = decoded(content, downmix=how).wave
        assert snr_db(expected, mixes(tmp_path / folder)["six"]) > SIXTEEN_BITS_DB


@pytest.mark.parametrize(("how", "centre"), [("itu", np.sqrt(0.5)), ("first-two", 0)])
def test_a_run_separates_and_an_export_mixes_as_the_downmix_says(local, inline_export, tiny, tmp_path, how, centre):
    (tmp_path / "songs").mkdir()
    names = ("FC", "FL", "FR", "SL", "SR", "LFE")
    (tmp_path / "songs" / "six.caf").write_bytes(caf(tones(6), names))
    (tmp_path / "songs" / "three.wav").write_bytes(wav(tones(3), ("FL", "FR", "FC")))
    out = str(tmp_path / "out")
    summary = run_job(str(tmp_path / "songs"), out=out, model=tiny, gpus=0, bit_depth="24", downmix=how)
    assert (summary.exit_code, summary.ok) == (0, 2)
    run_export(out, str(tmp_path / "d"), to="webdataset", with_mix=True)
    rows = {uri.rpartition("/")[2]: row for row in finished(out).values() for uri in (row.uri,)}
    for name, channels, place in (("three.wav", 3, 2), ("six.caf", 6, 0 if how == "itu" else 5)):
        row = rows[name]
        assert (row.source_channels, row.decode_rules, row.source_stream, row.source_streams) == (channels, 1, 0, 1)
        waves = [decoded(storage.read(f"{out}/{stem['uri']}")).wave for stem in row.stems]
        mix = mixes(tmp_path / "d")[row.id]
        assert gains(mix, channels)[:, place] == pytest.approx(centre, abs=1e-3)
        assert np.abs(sum(waves) - mix).max() < 0.02  # the stems of a tiny model, whose masks sum to one, are the mix again
    other = {"itu": "first-two", "first-two": "itu"}[how]
    told = call("run", str(tmp_path / "songs"), "-o", out, "-p", tiny, "--bit-depth", "24", "--downmix", other)
    assert (told.exit_code, "made with other settings: --downmix: OUT has " in told.output) == (6, True)


def test_a_mix_of_another_stream_than_the_stems_are_of_fails_its_track(local, inline_export, tiny, tmp_path):
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "a.wav").write_bytes(wav(tones(2), None))
    out = tmp_path / "out"
    run_job(str(tmp_path / "songs"), out=str(out), model=tiny, gpus=0)
    rows = pyarrow.parquet.read_table(out / "index.parquet")
    place = rows.column_names.index("source_stream")
    assert rows["source_stream"].to_pylist() == [0]
    of_second = rows.set_column(place, rows.schema.field(place), pa.array([1], pa.int32()))
    pyarrow.parquet.write_table(of_second, out / "index.parquet")
    told = run_export(str(out), str(tmp_path / "d"), to="webdataset", with_mix=True)
    assert dict(told.failed) == {"decode_error": 1}
    assert "its stems are of audio stream 1, but stream 0 is read now" in told.first_failed[0]["error"]
