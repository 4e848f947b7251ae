"""`withdraw`: nothing of a track stays but its id, the reason and the time; no run brings it back; a killed takedown goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.failures.failures import run_failures
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.status.status import run_status
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.jobs.withdraw.withdraw import run_withdraw
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index, lease
from sep_batch.pipeline.out.database import opened

HZ = (300, 500, 700)
GONE = "song-500"  # no other text of the catalog has it
WHY = "claim 4711"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A manifest of three tones beside its files, with columns of its own of several types."""
    folder = tmp_path_factory.mktemp("catalog")
    for hz in HZ:
        write_tone(folder / "songs" / f"song-{hz}.wav", hz)
    columns = {
        "uri": [f"songs/song-{hz}.wav" for hz in HZ],
        "id": [f"t{hz}" for hz in HZ],
        "title": [f"song-{hz} of spring" for hz in HZ],
        "tags": [[{"key": f"song-{hz}"}] for hz in HZ],
    }
    pyarrow.parquet.write_table(pa.table(columns), folder / "songs.parquet")
    return folder / "songs.parquet"


@pytest.fixture(scope="module")
def made(catalog, tiny):
    """The catalog's OUT after two runs: of 16 bits, then of 24 bits."""
    out = catalog.parent / "songs.stems"
    for depth in ("16", "24"):
        options = {"model": tiny, "engine": "local", "gpus": 0, "bit_depth": depth, "overwrite": depth == "24"}
        assert run_job(str(catalog), str(out), **options).exit_code == 0
    return out


@pytest.fixture
def out(made, local, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "songs.stems"))


def rows_of(out):
    return {row["id"]: row for row in index.read(str(out)).to_pylist()}


def stems_of(out):
    return sorted(Path(out).rglob("*.flac"))


def names_of(out, text):
    """Return the files below OUT whose names or contents have a text, of Parquet also what it holds."""
    found = []
    for path in (path for path in Path(out).rglob("*") if path.is_file()):
        held = repr(pyarrow.parquet.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
        if text in held or text.encode() in path.read_bytes() or text in str(path.relative_to(out)):
            found.append(path.relative_to(out))
    return found


def call(*arguments, text=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


def test_of_a_withdrawn_track_only_id_reason_and_time_stay(out):
    assert len(names_of(out, GONE)) >= 3  # journal, index
    (out / "_sep" / "evaluation").mkdir()
    (out / "_sep" / "evaluation" / "a.json").write_text(GONE)
    (out / "evaluation.parquet").write_text(GONE)
    others = {path: path.read_bytes() for path in stems_of(out) if "t500" not in str(path)}
    result = run_withdraw(str(out), ["t500"], why=WHY)
    assert (result.withdrawn, result.before, result.stems, result.exit_code) == (1, 0, 2, 0)
    row = rows_of(out)["t500"]
    assert {name: value for name, value in row.items() if value is not None} == {
        "id": "t500",
        "status": "withdrawn",
        "error": WHY,
        "finished_at": row["finished_at"],
    }
    assert names_of(out, GONE) == []
    assert {path: path.read_bytes() for path in stems_of(out)} == others
    assert [rows_of(out)[id]["status"] for id in ("t300", "t700")] == ["ok", "ok"]
    assert not list(out.rglob("t500"))


def test_older_files_of_the_journal_hold_nothing_of_it_either(out):
    run_withdraw(str(out), ["t500"], why=WHY)
    with opened(str(out)) as journal:
        rows = journal.database.sql("SELECT * EXCLUDE (_sep_file, _sep_place) FROM whole_rows WHERE id = 't500'").to_arrow_table()
    assert rows.num_rows >= 3
    for row in rows.to_pylist():
        assert {name for name, value in row.items() if value is not None} <= {"id", "status", "error", "finished_at"}


def test_no_run_brings_it_back_but_with_restore(out, catalog, tiny, tmp_path):
    run_withdraw(str(out), ["t500"], why=WHY)
    options = {"model": tiny, "bit_depth": "24"}
    for more in ({}, {"retry": "all"}, {"overwrite": True}):
        summary = run_job(str(catalog), str(out), **options, **more)
        assert (summary.exit_code, summary.run, summary.done_before, summary.withdrawn) == (0, None, 2, 1)
    assert run_plan(str(catalog), str(out), **options).reasons == {"done": 2, "withdrawn": 1}
    (tmp_path / "ids").write_text("# came back\nt500\n\nt300\n")
    restored = options | {"restore": str(tmp_path / "ids")}
    assert run_plan(str(catalog), str(out), **restored).reasons == {"done": 2, "restored": 1}
    summary = run_job(str(catalog), str(out), **restored)
    assert (summary.ok, summary.withdrawn) == (1, 0)
    assert summary.warnings == ("--restore: 1 of its 2 tracks are not withdrawn, or not in the manifest",)
    assert rows_of(out)["t500"]["status"] == "ok"
    assert run_job(str(catalog), str(out), **options).done_before == 3


def test_with_other_settings_it_stays_withdrawn(out, catalog, tiny):
    run_withdraw(str(out), ["t500"], why=WHY)
    summary = run_job(str(catalog), str(out), model=tiny, bit_depth="16", overwrite=True)
    assert (summary.ok, summary.withdrawn, summary.exit_code) == (2, 1, 0)
    assert rows_of(out)["t500"]["status"] == "withdrawn"


def test_status_failures_verify_and_exports_know_it(out, tmp_path, inline_export):
    run_withdraw(str(out), ["t500"], why=WHY)
    status = run_status(str(out))
    assert (status.done, status.withdrawn, status.failed, status.marked, status.pending) == (2, 1, {}, 0, 0)
    assert run_failures(str(out)).failed == 0
    report = run_verify(str(out), deep=True)
    assert (report.exit_code, report.tracks, report.counts) == (0, {"ok": 2, "withdrawn": 1}, {})
    exported = run_export(str(out), str(tmp_path / "d"), to="parquet")
    assert (exported.exit_code, exported.amounts.tracks, exported.in_index) == (0, 2, 3)
    assert names_of(tmp_path / "d", "t500") == []


def test_a_stem_of_it_that_is_in_storage_again_is_an_orphan(out):
    stem = next(path for path in stems_of(out) if "t500" in str(path))
    content = stem.read_bytes()
    run_withdraw(str(out), ["t500"], why=WHY)
    stem.parent.mkdir(parents=True)
    stem.write_bytes(content)
    assert run_verify(str(out)).counts == {"orphan": 1}


def test_a_failed_track_can_be_withdrawn_with_its_message(catalog, tiny, local, tmp_path):
    manifest = tmp_path / "list.txt"
    write_tone(tmp_path / "fine.wav", 300)
    manifest.write_text(f"{tmp_path}/fine.wav\n{tmp_path}/{GONE}-absent.wav\n")
    out = tmp_path / "o"
    run_job(str(manifest), str(out), model=tiny, max_failures="90%")
    (id,) = (row["id"] for row in rows_of(out).values() if row["status"] == "failed")
    assert names_of(out, f"{GONE}-absent.wav")
    run_withdraw(str(out), [id], why=WHY)
    assert names_of(out, f"{GONE}-absent.wav") == []


def test_songs_named_on_the_command_line_leave_no_trace_in_run_json_and_records(tiny, local, tmp_path):
    for hz in (300, 500):
        write_tone(tmp_path / f"song-{hz}.wav", hz)
    out, songs = tmp_path / "o.stems", [str(tmp_path / f"song-{hz}.wav") for hz in (500, 300)]
    run_job(songs[0], str(out), more=songs[1:], model=tiny)
    assert {path.name for path in names_of(out, GONE)} >= {"run.json", "index.parquet"}
    (id,) = (id for id, row in rows_of(out).items() if GONE in row["uri"])
    run_withdraw(str(out), [id], why=WHY)
    assert names_of(out, f"{GONE}.wav") == []
    assert [path for path in out.rglob("*") if path.is_dir() and GONE in path.name] == []
    summary = run_job(songs[0], str(out), more=songs[1:], model=tiny)
    assert (summary.done_before, summary.withdrawn) == (1, 1)
    assert run_status(str(out)).withdrawn == 1


def test_a_source_of_two_tracks_stays_known_for_the_other(tiny, local, tmp_path):
    write_tone(tmp_path / "long.wav", 300, seconds=2.0)
    rows = [{"id": name, "uri": "long.wav", "offset_s": start, "duration_s": 1.0} for name, start in (("a", 0.0), ("b", 1.0))]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    run_job(str(tmp_path / "m.parquet"), str(tmp_path / "o"), model=tiny)
    run_withdraw(str(tmp_path / "o"), ["a"], why=WHY)
    assert (rows_of(tmp_path / "o")["b"]["status"], rows_of(tmp_path / "o")["a"]["uri"]) == ("ok", None)
    assert run_verify(str(tmp_path / "o"), deep=True).exit_code == 0


class KilledError(BaseException):
    """The process dies here."""


def die_at(write_number, patch):
    """Have this process die at a write to storage, and write nothing after it."""
    done = []

    def dying(whole):
        def write(*arguments, **options):
            done.append(arguments)
            if len(done) > write_number:
                raise KilledError
            return whole(*arguments, **options)

        return write

    for name in ("put", "put_file", "remove"):
        patch.setattr(storage, name, dying(getattr(storage, name)))


def left_in(out):
    """Return the names of all files of OUT but the lease and the journal, and the rows of its index."""
    files = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    rows = [row if row["status"] == "ok" else row | {"finished_at": None} for row in rows_of(out).values()]
    return sorted(path for path in files if not {"lease", "journal"} & set(path.parts)), rows


def test_killed_at_any_write_and_called_again_it_leaves_what_an_undisturbed_one_leaves(made, local, tmp_path, monkeypatch):
    undisturbed = Path(shutil.copytree(made, tmp_path / "undisturbed"))
    run_withdraw(str(undisturbed), ["t500", "t300"], why=WHY)
    monkeypatch.setattr(lease, "_lives", lambda _says: False)  # each process is gone when the next one comes
    for write_number in range(100):
        out, was_killed = Path(shutil.copytree(made, tmp_path / f"killed-{write_number}")), False
        with monkeypatch.context() as patch:
            die_at(write_number, patch)
            try:
                run_withdraw(str(out), ["t500", "t300"], why=WHY)
            except KilledError:
                was_killed = True
        result = run_withdraw(str(out), ["t500", "t300"], why=WHY)
        assert result.withdrawn + result.before == 2
        assert left_in(out) == left_in(undisturbed), write_number
        assert names_of(out, GONE) == names_of(out, "song-300") == []
        if not was_killed:
            break
    assert 10 < write_number < 90


def test_a_journal_file_that_cannot_be_read_is_named(out):
    aside = out / "_sep" / "journal" / "000001-aaaa-000000.parquet.unreadable"
    aside.write_bytes(b"torn")
    result = call("withdraw", out, "--ids", "-", "--why", WHY, text="t500\n")
    assert result.exit_code == 8
    assert f"may still name them: {aside}, a journal file that cannot be read; remove it" in result.output


def test_an_unknown_id_a_missing_reason_and_a_missing_list_are_refused_and_nothing_is_withdrawn(out, tmp_path):
    before = rows_of(out)
    (tmp_path / "ids").write_text("t500\nnone\n")
    (tmp_path / "empty").write_text("# nothing\n")
    for ids, why, expected in (
        (tmp_path / "ids", WHY, f"--ids: OUT {out} has no track none; nothing was withdrawn"),
        (tmp_path / "ids", " ", "--why: is empty; expected the reason, which the index keeps"),
        (tmp_path / "empty", WHY, "names no track; expected one id a line"),
        (tmp_path / "absent", WHY, "expected a text with one id a line"),
    ):
        result = call("withdraw", out, "--ids", ids, "--why", why)
        assert (result.exit_code, expected in result.output) == (2, True), result.output
    assert call("withdraw", tmp_path, "--ids", tmp_path / "ids", "--why", WHY).exit_code == 5
    assert rows_of(out) == before


def test_while_a_run_works_on_out_it_ends_with_75(out, tmp_path):
    (tmp_path / "ids").write_text("t500\n")
    with lease.hold(str(out)):
        result = call("withdraw", out, "--ids", tmp_path / "ids", "--why", WHY)
    assert (result.exit_code, "has been working on it since" in result.output) == (75, True)


def test_the_command_tells_what_it_did_in_words_and_as_json(out, tmp_path):
    (tmp_path / "ids").write_text("t500\n")
    result = call("withdraw", out, "--ids", tmp_path / "ids", "--why", WHY)
    assert result.exit_code == 0
    assert "1 track withdrawn; 2 stems removed, " in result.output
    result = call("withdraw", out, "--ids", tmp_path / "ids", "--why", "another", "--json")
    told = json.loads(result.output)
    assert (told["withdrawn"], told["before"], told["stems"], told["journal_files"]) == (0, 1, 0, 0)
    assert rows_of(out)["t500"]["error"] == WHY  # the first reason stays
    assert "removed  1 withdrawn; no run separates them" in call("status", out).output


def test_ids_may_come_as_a_list(out):
    with pytest.raises(errors.UsageError, match="names no track"):
        run_withdraw(str(out), [" "], why=WHY)
    assert run_withdraw(str(out), ["t300", "t500", "t700"], why=WHY).withdrawn == 3
    assert stems_of(out) == []
