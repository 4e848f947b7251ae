"""`verify`: each damage is found and named, what can be mended is, and nothing is removed that any row names."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import stems_below, without_analysis, write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.verify import read_stems, repair
from sep_batch.jobs.verify.report import lines
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.out import index, layout, lease

HZ = (300, 500, 700)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A manifest of three tones beside its files, with a column of its own."""
    folder = tmp_path_factory.mktemp("catalog")
    for hz in HZ:
        write_tone(folder / "songs" / f"{hz}.wav", hz)
    table = pa.table({"uri": [f"songs/{hz}.wav" for hz in HZ], "id": [f"t{hz}" for hz in HZ], "artist": ["A", "B", "A"]})
    pyarrow.parquet.write_table(table, folder / "songs.parquet")
    return folder / "songs.parquet"


@pytest.fixture
def out(catalog, tiny, local, tmp_path):
    """The catalog's OUT after one run: made once, copied for every test."""
    made = catalog.parent / "songs.stems"
    if not made.exists():
        assert run_job(str(catalog), model=tiny).exit_code == 0
    return Path(shutil.copytree(made, tmp_path / "songs.stems"))


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def counts(out, **options):
    """Return how many findings of each kind there are."""
    return run_verify(str(out), **options).counts


def stem_of(out, id, place=0):
    """Return the file of a track's stem."""
    (row,) = [row for row in index.read(str(out)).to_pylist() if row["id"] == id]
    return out / row["stems"][place]["uri"]


def journal_files(out):
    return sorted((out / "_sep" / "journal").glob("*.parquet"))


def written(out):
    """Return all files of OUT but its leases, with their times."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and "lease" not in path.parts}


def edit_index(out, change):
    """Rewrite the published index as `change` gives its rows back."""
    table = index.read(str(out))
    pyarrow.parquet.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), out / "index.parquet")


def aged(path, hours=25):
    """Make a file as old as that."""
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    return path


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def changed(**values):
    """Return a change of the index that sets values in its second row."""
    return lambda rows: [row | (values if place == 1 else {}) for place, row in enumerate(rows)]


def test_a_fresh_out_is_clean_shallow_and_deep(out):
    for options in ({}, {"deep": True}):
        report = run_verify(str(out), **options)
        assert (report.exit_code, report.counts, report.tracks, report.stems) == (0, {}, {"ok": 3}, 6)
    assert report.bytes == sum(map(len, stems_below(out).values()))
    assert "nothing wrong was found" in list(lines(report))


def test_verify_writes_nothing(out):
    stem_of(out, "t300").unlink()
    before = written(out)
    run_verify(str(out), deep=True)
    assert written(out) == before


DAMAGES = {  # what is done to OUT; the kinds that are found; words that name it
    "a stem is missing": (lambda out: stem_of(out, "t300").unlink(), {"missing": 1}, "vocals.flac (track t300): not there"),
    "a stem is truncated": (lambda out: truncate(stem_of(out, "t500")), {"size": 1}, "vocals.flac (track t500): "),
    "an orphan": (lambda out: put(out / "stems" / "ab" / "x.flac"), {"orphan": 1}, "  stems/ab/x.flac: 1 bytes, of 20"),
    "no index": (lambda out: (out / "index.parquet").unlink(), {"index": 1}, "  index.parquet: not there"),
    "a torn index": (lambda out: truncate(out / "index.parquet"), {"index": 1}, "  index.parquet: Parquet magic bytes"),
    "an index row edited": (
        lambda out: edit_index(out, changed(artist="Z", audio_s=1.0)),
        {"index": 1},
        "  index.parquet (track t500): differs from the journal in audio_s, artist",
    ),
    "a stem's row edited": (
        lambda out: edit_index(out, lambda rows: [row | {"stems": row["stems"][::-1]} for row in rows]),
        {"index": 3},
        "(track t700): differs from the journal in stems",
    ),
    "an index row twice": (
        lambda out: edit_index(out, lambda rows: [*rows, rows[2]]),
        {"index": 1},
        "(track t700): 2 times in the index",
    ),
    "an index row gone": (
        lambda out: edit_index(out, lambda rows: rows[:2]),
        {"index": 1},
        "(track t700): in the journal, not in the index",
    ),
    "an index out of order": (
        lambda out: edit_index(out, lambda rows: rows[::-1]),
        {"index": 1},
        "not in the order of ids",
    ),
    "a temporary of a part": (
        lambda out: put(out / "_sep" / "parts" / "000009-abcd" / ".x.part"),
        {"leftover": 1},
        "  _sep/parts/000009-abcd/.x.part: 1 bytes",
    ),
    "a plan left over": (
        lambda out: put(out / "_sep" / "plan" / "000009-abcd" / "0" / "000000.parquet"),
        {"leftover": 1},
        "  _sep/plan/000009-abcd/0/000000.parquet",
    ),
    "a temporary beside a stem": (
        lambda out: put(stem_of(out, "t300").parent / ".vocals.flac.0123.part"),
        {"leftover": 1},
        "/.vocals.flac.0123.part: 1 bytes",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_named_and_exit_8(damage, out):
    do, kinds, words = DAMAGES[damage]
    do(out)
    told = call("verify", out)
    assert (told.exit_code, counts(out)) == (8, kinds)
    assert words in told.output


def test_a_flipped_byte_is_found_by_deep_only(out):
    flip(stem_of(out, "t500"))
    assert counts(out) == {}
    report = run_verify(str(out), deep=True)
    assert (report.exit_code, report.counts) == (8, {"bytes": 1})
    (found,) = report.findings["bytes"]
    assert found["id"] == "t500"
    assert "expected" in found["found"]


def edit_journal(out, change):
    """Rewrite the journal's rows, and publish it."""
    (path,) = journal_files(out)
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), path)
    index.publish(str(out), "000001-aaaa")


def with_stem(**values):
    """Return a change of the journal that sets values in the first stem of the first row."""
    return lambda rows: [rows[0] | {"stems": [rows[0]["stems"][0] | values, *rows[0]["stems"][1:]]}, *rows[1:]]


def test_a_stem_of_another_length_than_its_row_says_is_found_by_deep(out):
    path = stem_of(out, "t300")
    wave = np.zeros((2, 22_049), np.float32)
    path.write_bytes(content := encode(wave, codecs.CODECS["flac"]["16"], rate_hz=44_100))
    edit_journal(out, with_stem(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
    assert counts(out) == {}
    report = run_verify(str(out), deep=True)
    assert [found["found"] for found in report.findings["decode"]] == ["22049 samples, expected 22050"]


@pytest.mark.parametrize(
    "values", [{"sample_rate_hz": 44_120}, {"sample_rate_hz": None, "frames": 22_060}], ids=["told", "older"]
)
def test_a_stem_of_another_rate_is_found_by_deep(out, values):
    edit_journal(out, with_stem(**values))
    report = run_verify(str(out), deep=True)
    assert [found["found"] for found in report.findings["decode"]] == ["44100 Hz, expected 44120"]


def test_rows_of_before_stems_had_a_rate_of_their_own_are_verified_too(out):
    (path,) = journal_files(out)
    table = pyarrow.parquet.read_table(path)
    younger = ("sample_rate_hz", "channels")
    stem = pa.struct([field for field in table.schema.field("stems").type.value_type if field.name not in younger])
    place = table.column_names.index("stems")
    without = [[{name: one[name] for name in one if name not in younger} for one in row] for row in table["stems"].to_pylist()]
    pyarrow.parquet.write_table(table.set_column(place, "stems", pa.array(without, pa.list_(stem))), path)
    assert counts(out, deep=True) == {"index": 3}
    index.publish(str(out), "000001-aaaa")
    assert counts(out, deep=True) == {}
    assert [stem["sample_rate_hz"] for stem in index.read(str(out)).to_pylist()[0]["stems"]] == [None, None]


def test_a_stem_that_is_no_audio_is_found_by_deep(out):
    path = stem_of(out, "t300")
    path.write_bytes(content := bytes(len(path.read_bytes())))
    edit_journal(out, with_stem(sha256=hashlib.sha256(content).hexdigest()))
    assert counts(out, deep=True) == {"decode": 1}


def test_what_storage_does_not_give_is_told_and_not_marked_as_broken(out, monkeypatch):
    def refused(uri):
        raise errors.AccessDenied(f"{uri}: access denied")

    monkeypatch.setattr(storage, "open_source", refused)
    report = run_verify(str(out), deep=True, repair=True)
    assert (report.counts, report.repaired["marked"]) == ({"unread": 6}, 0)


@pytest.mark.parametrize(
    ("format", "changes"),
    [*((format, {}) for format in codecs.CODECS if format != "flac"), ("mp3", {"sample_rate_hz": 16_000, "mono": True})],
)
def test_other_formats_and_rates_are_clean_too(format, changes, catalog, tiny, local, tmp_path):
    run_job(str(catalog), str(tmp_path / "o"), model=tiny, format=format, **changes)
    assert counts(tmp_path / "o", deep=True) == {}


def test_an_mp3_may_fill_its_last_frame_and_no_more(tmp_path):
    codec, samples = codecs.CODECS["mp3"][""], 1167  # decodes to 32 more
    content = encode(np.zeros((2, samples), np.float32), codec, rate_hz=44_100, bitrate=128_000)
    put(tmp_path / "a.mp3", content)
    known = (str(tmp_path / "a.mp3"), hashlib.sha256(content).hexdigest())
    for rate_hz in (44_100, None):
        assert read_stems._fault(*known, samples, samples / 44_100, codec.encoder, rate_hz) is None
        assert read_stems._fault(*known, samples - 1152, (samples - 1152) / 44_100, codec.encoder, rate_hz)[0] == "decode"


def test_two_tracks_that_name_one_stem_are_found(out):
    def shared(rows):
        return [row | {"stems": rows[0]["stems"]} for row in rows]

    edit_journal(out, shared)
    found = run_verify(str(out))
    assert found.counts == {"shared": 2, "orphan": 4}
    uri = found.findings["shared"][0]["uri"]
    assert found.findings["shared"][0] == {"id": "t300", "uri": uri, "found": "also named by track t700"}


def test_a_stale_index_is_found(out, tiny, tmp_path):
    before = (out / "index.parquet").read_bytes()
    more = write_tone(tmp_path / "more" / "900.wav", 900)
    run_job(str(more), str(out), model=tiny)
    (out / "index.parquet").write_bytes(before)
    report = run_verify(str(out))
    assert [found["found"] for found in report.findings["index"]] == ["in the journal, not in the index"]


def test_an_index_published_before_a_column_was_added_is_clean(out):
    table = index.read(str(out))
    pyarrow.parquet.write_table(table.drop_columns(["source_etag"]), out / "index.parquet")
    assert counts(out) == {"index": 3}  # the column holds something
    pyarrow.parquet.write_table(table.drop_columns(["error"]), out / "index.parquet")
    assert counts(out) == {}


def test_an_out_from_before_stems_were_analysed_is_clean_resumes_and_is_repaired(out, catalog, tiny):
    for path in (*journal_files(out), out / "index.parquet"):
        without_analysis(path)
    assert counts(out, deep=True) == {}
    assert [call(command, out).exit_code for command in ("status", "failures")] == [0, 0]
    assert json.loads(call("plan", catalog, "-o", out, "-p", tiny, "--json").stdout)["todo"] == 0
    stem_of(out, "t500").unlink()
    assert counts(out, repair=True) == {"missing": 1}
    assert counts(out) == {}
    summary = run_job(str(catalog), str(out), model=tiny)
    assert (summary.exit_code, summary.done_before, summary.ok) == (0, 2, 1)
    widths = {row["id"]: row["stems"][0]["width"] is None for row in index.read(str(out)).to_pylist()}
    assert widths == {"t300": True, "t500": False, "t700": True}
    assert counts(out, deep=True) == {}


def test_rows_from_before_stems_were_analysed_are_taken_back(out):
    without_analysis(out / "index.parquet")
    truncate(journal_files(out)[0])
    assert counts(out, repair=True) == {"journal": 1, "index": 3}
    assert counts(out) == {}


def test_an_index_whose_column_is_of_a_type_that_ours_cannot_be_is_one_finding(out):
    table = index.read(str(out))
    place = table.column_names.index("stems")
    broken = table.set_column(place, "stems", pa.array(["x", "y", "z"]))
    pyarrow.parquet.write_table(broken, out / "index.parquet")
    assert counts(out).keys() == {"index"}


def test_columns_of_a_manifest_may_have_the_names_of_ours(tmp_path, tiny, local):
    song = write_tone(tmp_path / "a.wav")
    names = ("s", "kind", "found", "stem", "findings", "published", "newest", "run", 'quo"te', "it's")
    pyarrow.parquet.write_table(pa.table({"uri": [str(song)], **{name: ["x"] for name in names}}), tmp_path / "a.parquet")
    run_job(str(tmp_path / "a.parquet"), str(tmp_path / "o"), model=tiny)
    assert counts(tmp_path / "o", deep=True) == {}
    edit_index(tmp_path / "o", lambda rows: [rows[0] | {"it's": "y"}])
    next((tmp_path / "o" / "stems").rglob("vocals.flac")).unlink()
    assert counts(tmp_path / "o", repair=True) == {"index": 1, "missing": 1}
    (row,) = index.read(str(tmp_path / "o")).to_pylist()
    assert row["status"] == "deleted"
    assert {row[name] for name in names} == {"x"}


def test_a_torn_journal_file_is_named_and_the_rest_is_read(out, tiny, tmp_path):
    run_job(str(write_tone(tmp_path / "more" / "900.wav", 900)), str(out), model=tiny)
    truncate(journal_files(out)[1])
    report = run_verify(str(out))
    assert report.tracks == {"ok": 3}
    (found,) = report.findings["journal"]
    assert found["uri"] == f"_sep/journal/{journal_files(out)[1].name}"
    assert report.counts == {"journal": 1, "index": 1}  # the index still names the fourth track's stems, so they are no orphans


def test_a_run_on_a_torn_journal_is_one_line_that_names_verify(out, catalog, tiny):
    truncate(journal_files(out)[0])
    with pytest.raises(
        errors.NotRunnableError, match=r"journal .*[.]parquet: Parquet magic bytes .*; sep-batch verify OUT --repair"
    ):
        run_job(str(catalog), str(out), model=tiny)


def test_failed_tracks_are_no_finding(out, tiny, tmp_path):
    (bad := tmp_path / "bad.wav").write_bytes(b"no audio")
    run_job(str(bad), str(out), model=tiny)
    report = run_verify(str(out))
    assert (report.counts, report.tracks) == ({}, {"failed": 1, "ok": 3})


def test_repair_then_run_then_verify_is_clean(out, catalog, tiny):
    before = stems_below(out)
    stem_of(out, "t300").unlink()
    flip(stem_of(out, "t500", 1))
    edit_index(out, lambda rows: rows[2:])
    report = run_verify(str(out), deep=True, repair=True)
    assert report.counts == {"index": 2, "missing": 1, "bytes": 1}
    assert report.repaired == {"marked": 2, "taken_back": 0, "set_aside": 0, "published": 1}
    found = {row["id"]: row for row in index.read(str(out)).to_pylist()}
    assert {id: row["status"] for id, row in found.items()} == {"t300": "deleted", "t500": "deleted", "t700": "ok"}
    row = found["t300"]
    assert (row["stems"], row["error_class"], row["error_stage"], row["artist"]) == (None, "stem_missing", "verify", "A")
    assert row["error"].endswith("vocals.flac: not there")
    assert journal_files(out)[1].name == f"{row['run_id']}-000000.parquet"
    assert (counts(out, deep=True), run_verify(str(out)).tracks) == ({}, {"deleted": 2, "ok": 1})
    summary = run_job(str(catalog), str(out), model=tiny, retry="none")
    assert (summary.ok, summary.done_before, summary.exit_code) == (2, 1, 0)
    assert (counts(out, deep=True), stems_below(out)) == ({}, before)
    assert {row["attempts"] for row in index.read(str(out)).to_pylist()} == {1}


def test_a_repair_of_a_clean_out_writes_nothing_but_its_lease(out):
    before = written(out)
    assert run_verify(str(out), repair=True, yes=True).repaired is None
    assert written(out) == before


def test_repair_leaves_nothing_of_its_own_but_its_journal_rows(out):
    stem_of(out, "t300").unlink()
    before = written(out)
    run_verify(str(out), repair=True)
    assert written(out).keys() - before.keys() == {journal_files(out)[1]}


def test_repair_does_not_start_while_a_run_works_on_out_and_verify_says_so(out):
    stem_of(out, "t300").unlink()
    before = written(out)
    with lease.hold(str(out)) as held:
        held.tell(run="000002-abcd")
        told = call("verify", out, "--repair")
        assert (told.exit_code, len(told.output.splitlines())) == (75, 1)
        assert "run 000002-abcd on" in told.output
        told = call("verify", out)
        assert told.exit_code == 8
        assert "has been working on it since" in told.output
        assert "its unfinished work may be among the findings" in told.output
    assert written(out) == before
    assert run_verify(str(out), repair=True).repaired["marked"] == 1


def test_a_repair_that_was_taken_over_writes_no_more(out, monkeypatch):
    aged(put(out / "stems" / "ab" / "old.flac"))
    stem_of(out, "t300").unlink()
    before, hold = written(out), lease.hold

    @contextmanager
    def taken_over(out):
        with hold(out) as held:
            storage.put(f"{layout.lease_folder(out)}/000099.json", b"{}")
            yield held

    monkeypatch.setattr(lease, "hold", taken_over)
    with pytest.raises(errors.LeaseHeldError):
        run_verify(str(out), repair=True, yes=True)
    assert written(out) == before


def test_a_torn_journal_is_set_aside_and_what_the_index_holds_of_it_is_taken_back(out, catalog, tiny):
    before = index.read(str(out))
    truncate(journal_files(out)[0])
    report = run_verify(str(out), repair=True)
    assert report.repaired == {"marked": 0, "taken_back": 3, "set_aside": 1, "published": 1}
    assert index.read(str(out)).equals(before)
    assert counts(out, deep=True) == {}
    assert run_job(str(catalog), str(out), model=tiny).done_before == 3


def test_what_a_torn_journal_held_and_the_index_does_not_is_separated_again(out, catalog, tiny):
    truncate(journal_files(out)[0])
    edit_index(out, lambda rows: rows[1:])
    assert run_verify(str(out), repair=True).repaired["taken_back"] == 2
    assert run_job(str(catalog), str(out), model=tiny).ok == 1
    assert counts(out, deep=True) == {}


def test_a_repair_says_what_it_did(out):
    stem_of(out, "t300").unlink()
    told = call("verify", out, "--repair", "--yes").output.splitlines()
    assert told[-5:] == [
        "tracks marked for the next run of their manifests: 1",
        "rows restored from the index, which the journal had lost: 0",
        "journal files set aside as *.unreadable: 0",
        "orphans and left-overs removed (not those younger than 24 h; none while a journal file *.unreadable exists): 0",
        "index published again: 1",
    ]


def test_where_the_whole_journal_is_lost_and_no_stem_is_whole_the_index_stays(out):
    journal_files(out)[0].unlink()
    shutil.rmtree(out / "stems")
    before = written(out)
    assert run_verify(str(out), repair=True).repaired["published"] == 0
    assert written(out) == before


def test_an_index_row_with_another_id_is_not_taken_back(out):
    edit_index(out, changed(id="zzz"))
    assert run_verify(str(out), repair=True).repaired["taken_back"] == 0
    assert index.read(str(out)).column("id").to_pylist() == ["t300", "t500", "t700"]


@pytest.mark.parametrize("other", [{"format": "wav"}, {"bit_depth": "24"}], ids=["beside", "in place"])
def test_newer_rows_of_the_index_whose_journal_was_lost_are_taken_back(other, out, catalog, tiny):
    run_job(str(catalog), str(out), model=tiny, overwrite=True, **other)
    journal_files(out)[-1].unlink()
    assert run_verify(str(out), repair=True).repaired == {"marked": 0, "taken_back": 3, "set_aside": 0, "published": 1}
    assert counts(out) == ({"orphan": 6} if "format" in other else {})  # the stems of before, beside which these lie
    assert run_job(str(catalog), str(out), model=tiny, **other).done_before == 3


def test_old_orphans_go_with_yes_only_and_young_ones_stay(out):
    old = aged(put(out / "stems" / "ab" / "old.flac"))
    part = aged(put(out / "_sep" / "parts" / "000009-abcd" / "x" / "0.vocals"))
    young = aged(put(out / "stems" / "ab" / "young.flac"), hours=23)
    kept = [aged(put(out / name)) for name in ("notes.txt", "_sep/plan/000009-abcd/0/0.parquet", "_sep/note.part")]
    before = stems_below(out)
    report = run_verify(str(out), repair=True)
    assert ("removed" in report.repaired, stems_below(out), part.exists()) == (False, before, True)
    report = run_verify(str(out), repair=True, yes=True)
    assert (report.repaired["removed"], old.exists(), part.exists()) == (2, False, False)
    assert all(path.exists() for path in (young, *kept))
    assert counts(out) == {"orphan": 1, "leftover": 1}


def test_nothing_is_removed_while_a_journal_file_that_cannot_be_read_may_name_it(out):
    orphan = aged(put(out / "stems" / "ab" / "old.flac"))
    truncate(journal_files(out)[0])
    for _ in range(2):  # then it lies aside
        assert run_verify(str(out), repair=True, yes=True).repaired["removed"] == 0
        assert orphan.exists()
    next((out / "_sep" / "journal").glob("*.unreadable")).unlink()
    assert run_verify(str(out), repair=True, yes=True).repaired["removed"] == 1


def test_after_manifest_a_then_b_all_of_a_stays(out, tiny, tmp_path):
    of_a = stems_below(out)
    run_job(str(write_tone(tmp_path / "b" / "900.wav", 900)), str(out), model=tiny)
    for path in out.rglob("*"):
        aged(path)
    stem_of(out, "t300").unlink()
    aged(put(out / "stems" / "zz.flac"))
    report = run_verify(str(out), repair=True, yes=True)
    assert report.repaired["removed"] == 1
    assert len(stems_below(out)) == len(of_a) + 2 - 1


def test_stems_that_only_an_older_row_names_are_orphans_but_not_those_of_tracks_that_are_to_be_done_again(out, catalog, tiny):
    run_job(str(catalog), str(out), model=tiny, format="wav", overwrite=True, limit=1)
    before = stems_below(out)
    for path in out.rglob("*"):
        aged(path)
    stem_of(out, "t500").unlink()
    left = before.keys() - {str(stem_of(out, "t500").relative_to(out))}
    assert counts(out) == {"missing": 1, "orphan": 2}
    report = run_verify(str(out), repair=True, yes=True)
    assert (report.repaired["marked"], report.repaired["removed"]) == (1, 2)
    assert set(stems_below(out)) == left - {name for name in before if "t300" in name and name.endswith("flac")}
    assert counts(out) == {}


def test_out_may_lie_in_object_storage(catalog, tiny, local, s3, monkeypatch):
    out = f"{s3}/verify/out"
    run_job(str(catalog), out, model=tiny)
    assert counts(out, deep=True) == {}
    uri = index.read(out).column("stems")[0].as_py()[0]["uri"]
    storage.remove(f"{out}/{uri}")
    storage.put(f"{out}/stems/orphan.flac", b"x")
    storage.put(f"{out}/stems/orphan.flac.keep/x.flac", b"x")
    report = run_verify(out, repair=True, yes=True)
    assert report.counts == {"missing": 1, "orphan": 2}
    assert report.repaired["removed"] == 0  # they are young
    monkeypatch.setattr(repair, "REMOVED_FROM", timedelta(0))
    assert run_verify(out, repair=True, yes=True).repaired["removed"] == 2
    assert run_job(str(catalog), out, model=tiny).ok == 1
    assert counts(out, deep=True) == {}


def test_the_first_twenty_are_shown_and_all_with_json(out):
    for number in range(25):
        put(out / "stems" / "ab" / f"{number:02d}.flac")
    told = call("verify", out)
    assert "25 orphans: no track's newest row names them:" in told.output
    assert "stems/ab/19.flac" in told.output
    assert "stems/ab/20.flac" not in told.output
    assert "and 5 more" in told.output
    told = call("verify", out, "--json")
    (line,) = told.stdout.splitlines()
    found = json.loads(line)
    assert (told.exit_code, found["exit_code"], found["counts"]) == (8, 8, {"orphan": 25})
    assert [one["uri"] for one in found["findings"]["orphan"]] == [f"stems/ab/{number:02d}.flac" for number in range(25)]


def test_a_deep_check_tells_how_far_it_is(out, monkeypatch):
    from sep_batch.jobs.verify import verify

    told = []
    monkeypatch.setattr(verify, "REPORT_EVERY_S", 0)
    run_verify(str(out), deep=True, report_line=told.append)
    assert told == ["6 of 6 stems read"]


def test_storage_that_cannot_be_listed_is_one_line_and_exit_5(out, monkeypatch):
    find = storage.find

    def broken(uri):
        if uri.endswith("/stems"):
            raise errors.FetchTimeout(f"{uri}: slow")
        return find(uri)

    monkeypatch.setattr(storage, "find", broken)
    told = call("verify", out)
    assert (told.exit_code, told.output.splitlines()) == (5, [f"error: OUT {out}/stems: slow"])


def folder(path):
    path.mkdir()
    return path


MISTAKES = {
    "not there": (lambda tmp: [tmp / "no.stems"], 5, "no.stems: not found; expected the folder"),
    "a file": (lambda tmp: [put(tmp / "songs.parquet")], 5, "songs.parquet: a file; expected the folder"),
    "no OUT": (lambda tmp: [folder(tmp / "empty")], 5, "no run wrote to it; found neither index.parquet nor _sep/run.json"),
    "a scheme": (lambda tmp: ["ftp://host/out"], 5, "scheme 'ftp'"),
    "yes alone": (lambda tmp: [tmp, "--yes"], 2, "only with --repair"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_one_clear_line_and_its_exit_code(mistake, tmp_path):
    arguments, code, words = MISTAKES[mistake]
    told = call("verify", *arguments(tmp_path))
    assert (told.exit_code, len(told.output.strip().splitlines())) == (code, 1), told.output
    assert words in told.output


def test_a_run_that_was_killed_before_its_first_row_is_clean(tmp_path):
    put(tmp_path / "o" / "_sep" / "run.json", b"{}")
    report = run_verify(str(tmp_path / "o"))
    assert (report.exit_code, report.tracks) == (0, {})
    assert Path(report.out) == tmp_path / "o"
