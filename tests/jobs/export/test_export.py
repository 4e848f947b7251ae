"""`export`: from an OUT to a dataset that its library reads back, resumed, split, and no track's failure another's."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import webdataset
from catalogs import decoded, write_tone
from export_outs import LOUD, QUIET, STEMS, stored, wave, write_out
from signals import RATE_HZ, snr_db
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.export import driver
from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio import activity
from sep_batch.pipeline.export import journal as export_journal
from sep_batch.pipeline.export.cutting import cuts
from sep_batch.pipeline.export.shards import SHARD
from sep_batch.pipeline.out import index, lease

PATTERNS = {"a.1": "xxxx....xx", "b": "....xxxx", "c": "xxx", "d": "........", "e": "x.x.x.x.x", "f": "xxxxxx"}
ARTISTS = {"a.1": "Björk", "b": "Björk", "c": "Can", "d": None, "e": None, "f": ""}


@pytest.fixture(scope="module")
def waves():
    """Of each track its stems: vocals by its pattern, and an accompaniment that never rests."""
    return {
        name: {"vocals": wave(pattern, seed=place), "accompaniment": wave("x" * len(pattern), seed=90 + place)}
        for place, (name, pattern) in enumerate(PATTERNS.items())
    }


@pytest.fixture(scope="module")
def out(waves, tmp_path_factory):
    """An OUT of these tracks."""
    folder = str(tmp_path_factory.mktemp("songs") / "out")
    extra = {name: {"artist": ARTISTS[name], "title": f"No. {name}", "year": 1970 + n} for n, name in enumerate(PATTERNS)}
    write_out(folder, waves, extra=extra, statuses={"f": "failed"})
    return folder


def read(dest, split="train"):
    """Read a WebDataset back with its own loader: a row an excerpt, its JSON and its files."""
    shards = sorted(str(path) for path in Path(dest, split).glob("*.tar"))
    for found in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False) if shards else ():
        files = {name.partition(".")[0]: content for name, content in found.items() if name.endswith(".flac")}
        yield found["__key__"], json.loads(found["json"]), files


def files_of(dest):
    """Return every file of an export with its bytes, but for what it keeps for itself."""
    dest = Path(dest)
    paths = (path for path in sorted(dest.rglob("*")) if path.is_file() and path.relative_to(dest).parts[0] != "_sep")
    return {str(path.relative_to(dest)): path.read_bytes() for path in paths}


def exported(out, dest, **options):
    """Export, two seconds an excerpt where nothing else is said."""
    return run_export(out, str(dest), **({"to": "webdataset", "excerpt": "2s"} | options))


def test_excerpts_are_the_stems_samples_and_satisfy_the_condition(inline_export, out, waves, tmp_path):
    told = exported(out, tmp_path / "d", min_active=("vocals=0.5", "accompaniment=0.9"))
    assert (told.exit_code, told.failed, told.warnings) == (0, {}, ())
    found = list(read(tmp_path / "d"))
    assert sorted(key for key, _, _ in found) == [
        *("a%2E1-00000", "a%2E1-00001", "a%2E1-00004", "b-00002", "b-00003", "c-00000"),
        *("e-00000", "e-00001", "e-00002", "e-00003"),
    ]
    for key, known, files in found:
        assert key == f"{known['id']}-{round(known['start_s'] / 2):05d}".replace(".", "%2E")
        assert (known["seconds"], known["sample_rate_hz"], known["artist"]) == (2.0, RATE_HZ, ARTISTS[known["id"]])
        assert set(files) == set(STEMS)
        begin = round(known["start_s"] * RATE_HZ)
        for stem, content in files.items():
            cut = decoded(content).wave
            assert np.array_equal(cut, stored(waves[known["id"]][stem])[:, begin : begin + 2 * RATE_HZ])
            share = activity.of_wave(cut.T, RATE_HZ).ratio
            assert share == known[f"{stem}_active"]
            assert share >= {"vocals": 0.5, "accompaniment": 0.9}[stem]


def test_an_index_without_analysis_gives_the_same_excerpts_with_a_warning(inline_export, out, waves, tmp_path):
    unknown = str(tmp_path / "out")
    write_out(unknown, {name: waves[name] for name in "bce"}, analysed=False)
    told = exported(unknown, tmp_path / "d", min_active=("vocals=0.5",))
    assert "3 tracks have no activity" in told.warnings[0]
    exported(out, tmp_path / "e", min_active=("vocals=0.5",), where="id IN ('b', 'c', 'e')")
    assert [(key, files) for key, _, files in read(tmp_path / "d")] == [(key, files) for key, _, files in read(tmp_path / "e")]


def test_the_index_lets_in_all_that_the_audio_lets_in(inline_export, tmp_path):
    drawn = np.random.default_rng(5)
    tracks = {}
    for number in range(6):
        level = 10 ** (drawn.uniform(-55, -25, 120) / 20)  # of windows of 100 ms, around both thresholds
        samples = drawn.standard_normal((2, 120 * 4410))
        tracks[f"t{number}"] = {"vocals": (samples * np.repeat(level, 4410)).astype(np.float32)}
    options = {"excerpt": "3s", "hop": "0.37s", "min_active": ("vocals=0.6",)}
    for name, analysed in (("known", True), ("unknown", False)):
        write_out(str(tmp_path / name), tracks, analysed=analysed)
        exported(str(tmp_path / name), tmp_path / f"{name}.d", **options)
    with_index, without = ({key for key, _, _ in read(tmp_path / f"{name}.d")} for name in ("known", "unknown"))
    assert with_index == without
    assert 0 < len(without) < 6 * 25


def test_splits_share_no_artist_and_those_without_one_go_by_themselves(inline_export, tmp_path):
    short = {"vocals": wave("x", level=LOUD)}
    artists = {f"t{number:03d}": f"artist {number % 20}" if number < 60 else [None, "", " "][number % 3] for number in range(120)}
    write_out(str(tmp_path / "out"), dict.fromkeys(artists, short), extra={name: {"artist": a} for name, a in artists.items()})
    options = {"to": "parquet", "excerpt": "1s", "split": "0.6/0.2/0.2", "group_by": "artist"}
    told = exported(str(tmp_path / "out"), tmp_path / "d", **options)
    assert sum(told.excerpts.values()) == 120
    import pyarrow.parquet

    ids = {s: pyarrow.parquet.read_table(tmp_path / "d" / s).column("id").to_pylist() for s in ("train", "validation", "test")}
    of = {split: {artists[name] for name in names if name < "t060"} for split, names in ids.items()}
    assert all(of.values())
    assert sum(map(len, of.values())) == len(set().union(*of.values())) == 20
    lonely = [sum(name >= "t060" for name in names) for names in ids.values()]
    assert min(lonely) > 0, "tracks without an artist are no group"


def test_a_journal_of_shards_that_is_removed_while_it_is_read_is_listed_anew(inline_export, out, tmp_path, monkeypatch):
    dest = str(tmp_path / "d")
    exported(out, dest)
    before = export_journal.done(dest)
    (file,) = (Path(dest) / "_sep" / "journal").iterdir()
    read, left = storage.read, [file.with_name("000009-aaaa-000000.parquet")]

    def replaced(uri):
        if left:
            file.rename(left.pop())
        return read(uri)

    monkeypatch.setattr(storage, "read", replaced)
    assert export_journal.done(dest) == before != {}


def test_the_same_seed_gives_the_same_bytes_and_another_another_order(inline_export, out, tmp_path):
    options = {"min_active": ("vocals=0.3",), "split": "0.5/0.5", "shard_size": 3}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        exported(out, tmp_path / name, seed=seed, **options)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "again")
    assert files_of(tmp_path / "one") != files_of(tmp_path / "other")


@pytest.mark.parametrize("place", ["disk", pytest.param("s3", marks=pytest.mark.slow)])
def test_what_was_killed_halfway_ends_as_the_undisturbed(inline_export, out, tmp_path, monkeypatch, request, place):
    dest = str(tmp_path / "killed") if place == "disk" else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    options = {"shard_size": 2, "split": "0.7/0.3"}
    exported(out, tmp_path / "whole", **options)
    taken = driver.ExportDriver._take

    def dies(drive, row, journal):
        taken(drive, row, journal)
        if drive.exported.written == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(driver.ExportDriver, "_take", dies)
        with pytest.raises(KeyboardInterrupt):
            exported(out, dest, **options)
    told = exported(out, dest, **options)
    assert (told.done_before, told.written) == (3, told.shards - 3)
    expected = files_of(tmp_path / "whole")
    found = {info.uri.removeprefix(f"{dest}/"): storage.read(info.uri) for info in storage.find(dest)}
    assert {name: content for name, content in found.items() if not name.startswith("_sep/")} == expected
    assert not [name for name in found if name.startswith(("_sep/parts", "_sep/plan"))]
    assert exported(out, dest, **options).written == 0


def test_a_stem_that_is_missing_or_changed_fails_its_track_alone_and_is_tried_again(inline_export, waves, tmp_path):
    out = str(tmp_path / "out")
    write_out(out, waves)
    exported(out, tmp_path / "whole", shard_size=100)
    gone, changed = (Path(out, "stems", name, "vocals.flac") for name in ("b", "c"))
    before = changed.read_bytes(), gone.read_bytes()
    gone.unlink()
    changed.write_bytes(before[0][:-1] + bytes([before[0][-1] ^ 1]))
    told = exported(out, tmp_path / "d", shard_size=100)
    assert (told.exit_code, dict(told.failed)) == (3, {"not_found": 1, "decode_error": 1})
    assert {one["id"] for one in told.first_failed} == {"b", "c"}
    assert {known["id"] for _, known, _ in read(tmp_path / "d")} == set(PATTERNS) - {"b", "c"}
    changed.write_bytes(before[0])
    gone.write_bytes(before[1])
    assert exported(out, tmp_path / "d", shard_size=100).exit_code == 0
    assert files_of(tmp_path / "d") == files_of(tmp_path / "whole")


def test_another_export_on_the_same_dest_is_refused_unless_overwrite(inline_export, out, tmp_path):
    exported(out, tmp_path / "d", shard_size=2)
    with pytest.raises(errors.SettingsDifferError, match=r"differs in: excerpt_s, hop_s, index_sha256|the index of OUT"):
        exported(out, tmp_path / "d", shard_size=2, excerpt="3s")
    told = exported(out, tmp_path / "d", shard_size=100, excerpt="3s", overwrite=True)
    exported(out, tmp_path / "new", shard_size=100, excerpt="3s")
    assert told.done_before == 0
    assert files_of(tmp_path / "d") == files_of(tmp_path / "new")


def test_a_dest_that_another_export_works_on_or_that_is_something_else_is_refused(inline_export, out, tmp_path):
    with lease.hold(str(tmp_path / "busy")), pytest.raises(errors.LeaseHeldError):
        exported(out, tmp_path / "busy")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(errors.NotRunnableError, match="holds files that no export wrote, such as cat.jpg"):
        exported(out, tmp_path / "photos")
    for dest in (out, f"{out}/dataset"):
        with pytest.raises(errors.UsageError, match="lies in OUT"):
            run_export(out, dest, to="parquet")


def test_a_shard_that_turns_out_empty_is_committed_and_leaves_no_file(inline_export, tmp_path):
    tracks = {"a": {"vocals": wave("....", level=QUIET)}, "b": {"vocals": wave("xxxx")}}
    write_out(str(tmp_path / "out"), tracks, analysed=False)
    for seed in range(20):  # until the quiet one is in the first shard
        dest, options = tmp_path / f"d{seed}", {"min_active": ("vocals=0.5",), "shard_size": 2, "seed": seed}
        told = exported(str(tmp_path / "out"), dest, **options)
        assert (told.exit_code, told.written, told.excerpts) == (0, 2, {"train": 2})
        if list(files_of(dest)) == ["README.md", "train/000001.tar"]:
            break
    assert list(files_of(dest)) == ["README.md", "train/000001.tar"]
    assert exported(str(tmp_path / "out"), dest, **options).done_before == 2


def test_mono_at_another_rate_is_the_resampled_whole(inline_export, out, waves, tmp_path):
    exported(out, tmp_path / "d", sample_rate=16_000, mono=True, min_active=("vocals=0.9",))
    found = list(read(tmp_path / "d"))
    assert found
    for _, known, files in found:
        content = (Path(out) / "stems" / known["id"] / "vocals.flac").read_bytes()
        whole = decoded(content, rate_hz=16_000).wave.mean(axis=0, keepdims=True)
        begin = round(known["start_s"] * 16_000)
        cut = decoded(files["vocals"], rate_hz=16_000)
        assert (cut.rate_hz, cut.channels) == (16_000, 1)
        assert snr_db(whole[:, begin : begin + 32_000], cut.wave[:1]) > 55  # of 16 bits, at this level
        assert activity.of_wave(cut.wave[:1].T, 16_000).ratio >= 0.9


def test_what_a_run_wrote_as_one_channel_at_another_rate_stays_so(local, inline_export, tiny, tmp_path):
    write_tone(tmp_path / "songs" / "a.wav", 300, 1.0)
    write_tone(tmp_path / "songs" / "short.wav", 300, 0.0101)
    run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny, gpus=0, sample_rate_hz=16_000, mono=True)
    told = exported(str(tmp_path / "out"), tmp_path / "d", excerpt=None)
    found = {known["id"]: files["vocals"] for _, known, files in read(tmp_path / "d")}
    assert (len(found), told.failed) == (2, {})
    stems = {row["id"]: row["stems"][0]["uri"] for row in index.read(str(tmp_path / "out")).to_pylist()}
    for name, content in found.items():
        stem = tmp_path / "out" / stems[name]
        ours, theirs = (decoded(each, rate_hz=16_000) for each in (content, stem.read_bytes()))
        assert (ours.rate_hz, ours.channels, ours.wave.shape) == (16_000, 1, theirs.wave.shape)
        assert np.array_equal(ours.wave, theirs.wave)


def test_the_mix_is_the_source_from_where_separation_began(inline_export, tmp_path):
    mix = wave("xxxxxx", seed=7)
    extra = {"a": {"offset_s": 1.0}}  # of the row itself
    write_out(str(tmp_path / "out"), {"a": {"vocals": mix[:, RATE_HZ:] * 0.5, "mix": mix}}, extra=extra)
    exported(str(tmp_path / "out"), tmp_path / "d", with_mix=True)
    found = list(read(tmp_path / "d"))
    assert len(found) == 2
    for _, known, files in found:
        begin = round((1 + known["start_s"]) * RATE_HZ)
        assert np.array_equal(decoded(files["mix"]).wave, stored(mix)[:, begin : begin + 2 * RATE_HZ])


def test_whole_tracks_of_chosen_stems_in_another_codec(inline_export, out, waves, tmp_path):
    exported(out, tmp_path / "d", excerpt=None, stems=("vocals",), codec="mp3", limit=2)
    shard = next(Path(tmp_path / "d" / "train").glob("*.tar"))
    found = list(webdataset.WebDataset([str(shard)], shardshuffle=False))
    assert len(found) == 2
    for one in found:
        known = json.loads(one["json"])
        assert {name for name in one if not name.startswith("__")} == {"json", "vocals.mp3"}
        original = stored(waves[known["id"]]["vocals"])
        wave_of_mp3 = decoded(one["vocals.mp3"]).wave
        assert 0 <= wave_of_mp3.shape[1] - original.shape[1] <= 1152
        assert known["seconds"] == original.shape[1] / RATE_HZ


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "tfrecord"}, "--to tfrecord: expected one of"),
        ({"excerpt": "10 bars"}, "--excerpt 10 bars: expected up to 600 seconds"),
        ({"hop": "1s", "excerpt": None}, "--hop: is for excerpts, and needs --excerpt"),
        ({"min_active": ("vocals",)}, "--min-active vocals: expected a stem and a share"),
        ({"min_active": ("piano=0.5",)}, "--min-active piano: OUT has vocals, accompaniment"),
        ({"stems": ("drums",)}, "--stems drums: OUT has vocals, accompaniment"),
        ({"codec": "tape"}, "--codec tape: expected one of flac"),
        ({"codec": "mp3", "sample_rate": 96_000}, "--sample-rate 96000: mp3 takes 8000, 11025"),
        ({"split": "0.9/0.2"}, "--split 0.9/0.2: expected one to three shares that sum to 1"),
        ({"group_by": "label"}, "--group-by label: no column of the index"),
        ({"to": "musdb", "excerpt": None}, "--to musdb: needs bass, drums, other, vocals; OUT, or --stems, has vocals, acc"),
        ({"where": "yaer > 3"}, 'yaer > 3: Binder Error: Referenced column "yaer" not found'),
        ({"where": "year >"}, "--where year >: Parser Error"),
        ({"where": "true)); DROP TABLE tracks; SELECT ((1"}, "Parser Error"),
        ({"where": "1=1) OR (1=1"}, 'Parser Error: syntax error at or near ")"'),
        ({"where": "true, false"}, "only a single expression"),
        ({"where": "EXISTS (FROM read_text('/etc/hostname'))"}, "Permission Error: Cannot access file"),
        ({"where": "EXISTS (FROM read_csv('http://127.0.0.1:9/x'))"}, "Permission Error: Cannot access file"),
    ],
)
def test_what_cannot_be_meant_is_one_line(inline_export, out, tmp_path, options, words):
    with pytest.raises(errors.UsageError) as refused:
        exported(out, tmp_path / "d", **options)
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_stem_outside_of_out_is_never_read(inline_export, tmp_path):
    secret = write_out(str(tmp_path / "elsewhere"), {"a": {"vocals": wave("xx")}})[0]["stems"][0]
    out = str(tmp_path / "out")
    write_out(out, {"a": {"vocals": wave("xx")}})
    for uri in ("../elsewhere/stems/a/vocals.flac", f"{tmp_path}/elsewhere/stems/a/vocals.flac"):
        track = {"stems": [secret | {"uri": uri}], "rate_hz": RATE_HZ, "numbers": [0], "seconds": 2.0, "offset_s": 0.0}
        from sep_batch.jobs.export.options import ExportOptions, settings_of
        from sep_batch.pipeline.export.settings import Export

        export = Export(settings_of(ExportOptions(excerpt="1s"), ("vocals",)), out, str(tmp_path / "d"), str(tmp_path))
        with pytest.raises(errors.BadUri, match="expected one relative to OUT"):
            list(cuts(track, export))


def test_what_dest_says_of_itself_names_no_folder_beside_it(inline_export, out, tmp_path):
    exported(out, tmp_path / "d", shard_size=100)
    precious = tmp_path / "precious" / "letter.txt"
    precious.parent.mkdir()
    precious.write_text("dear")
    told = tmp_path / "d" / "_sep" / "export.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"splits": {"../precious": 1}}))
    with pytest.raises(errors.NotRunnableError, match=r"not what an export writes .*[.][.]/precious"):
        exported(out, tmp_path / "d", shard_size=100, excerpt="3s", overwrite=True)
    assert precious.read_text() == "dear"


def test_hidden_files_in_the_journal_of_shards_are_not_of_it(inline_export, out, tmp_path):
    first = exported(out, tmp_path / "d", shard_size=100)
    for name in ("._000001-abcd-000000.parquet", ".nfs0001"):
        (tmp_path / "d" / "_sep" / "journal" / name).write_bytes(b"\0\5\x16\7")
    assert exported(out, tmp_path / "d", shard_size=100).done_before == first.shards


def test_a_shard_whose_files_were_removed_or_changed_is_written_again(inline_export, out, tmp_path):
    first = exported(out, tmp_path / "d", shard_size=1)
    files = {path: path.read_bytes() for path in (tmp_path / "d" / "train").iterdir()}
    assert len(files) > 2
    (removed, changed, *_) = files
    removed.unlink()
    changed.write_bytes(b"cut")
    again = exported(out, tmp_path / "d", shard_size=1)
    assert (again.done_before, again.exit_code) == (first.shards - 2, 0)
    assert {path: path.read_bytes() for path in files} == files


def table_of(**columns):
    content = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), content)
    return content.getvalue()


@pytest.mark.parametrize("content", [b"x", table_of(a=[1]), table_of(**{name: ["x"] for name in SHARD.names})])
def test_a_file_of_the_journal_that_no_export_wrote_is_named(inline_export, out, tmp_path, content):
    exported(out, tmp_path / "d", shard_size=100)
    (tmp_path / "d" / "_sep" / "journal" / "000009-aaaa-000000.shards").write_bytes(content)
    with pytest.raises(
        errors.NotRunnableError, match=r"000009-aaaa-000000.shards: not a journal file of an export .*; remove it"
    ):
        exported(out, tmp_path / "d", shard_size=100)


def test_an_index_whose_rows_no_run_published_is_refused_with_the_id(inline_export, tmp_path):
    write_out(str(tmp_path / "out"), {"a": {"vocals": wave("xx")}})
    path = tmp_path / "out" / "index.parquet"
    table = pyarrow.parquet.read_table(path)
    stems = table.schema.field("stems")
    for changed, words in (
        (pa.concat_tables([table, table]), "track a has more than one row"),
        (table.set_column(table.column_names.index("stems"), stems, pa.array([[]], stems.type)), "track a is ok, but has no"),
        (table.set_column(table.column_names.index("audio_s"), "audio_s", pa.array([None], pa.float64())), "track a is ok, but"),
    ):
        pyarrow.parquet.write_table(changed, path)
        with pytest.raises(errors.NotRunnableError, match=words):
            exported(str(tmp_path / "out"), tmp_path / "d")


def test_a_link_leads_no_export_into_out(inline_export, out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    for source, dest in ((out, tmp_path / "link" / "d"), (tmp_path / "link", f"{out}/d")):
        with pytest.raises(errors.UsageError, match="lies in OUT"):
            run_export(str(source), str(dest), to="parquet")


def test_an_empty_condition_is_not_all_tracks(inline_export, out, tmp_path):
    for where in ("", "  "):
        with pytest.raises(errors.UsageError, match="--where: is empty, expected an SQL condition"):
            run_export(out, str(tmp_path / "d"), to="parquet", where=where)


def test_a_condition_sees_columns_of_the_index_alone(inline_export, out, tmp_path):
    with pytest.raises(errors.UsageError, match='"place" not found'):
        run_export(out, str(tmp_path / "d"), to="parquet", where="place = 1")


def test_an_index_that_no_run_published_is_refused_with_the_column(inline_export, tmp_path):
    write_out(str(tmp_path / "out"), {"a": {"vocals": wave("xx")}})
    path = tmp_path / "out" / "index.parquet"
    table = pyarrow.parquet.read_table(path)
    for changed, words in (
        (table.drop_columns(["stems"]), "column stems is missing, expected list"),
        (table.set_column(0, "id", pa.array([7])), "column id is int64, expected string"),
    ):
        pyarrow.parquet.write_table(changed, path)
        with pytest.raises(errors.NotRunnableError, match=words):
            exported(str(tmp_path / "out"), tmp_path / "d")


def test_a_missing_library_is_one_line_with_the_command_that_installs_it(inline_export, out, tmp_path, monkeypatch):
    from sep_batch.pipeline.export.formats import choose

    monkeypatch.setattr(choose, "find_spec", lambda _name: None)
    with pytest.raises(errors.NotRunnableError, match="the package lhotse is missing; install the extra export: .*'lhotse>="):
        exported(out, tmp_path / "d", to="lhotse")
    assert exported(out, tmp_path / "p", to="parquet").exit_code == 0


def test_the_command_says_what_dest_holds_and_what_failed(inline_export, waves, tmp_path):
    out, dest = str(tmp_path / "out"), str(tmp_path / "d")
    write_out(out, waves)
    (Path(out) / "stems" / "b" / "vocals.flac").unlink()
    asked = [out, dest, "--to", "parquet", "--excerpt", "1s", "--min-active", "vocals=0.5", "--split", "0.5/0.5"]
    told = CliRunner().invoke(app, ["export", *asked])
    assert told.exit_code == 3, told.output
    assert "6 tracks chosen" in told.stdout
    assert "failed tracks, missing or incomplete in DEST: 1 not_found" in told.stdout
    assert "  b: not_found: " in told.stdout
    as_json = json.loads(CliRunner().invoke(app, ["export", *asked, "--json"]).stdout)
    assert (as_json["exit_code"], as_json["failed"]) == (3, {"not_found": 1})
    assert sum(shard.excerpts for shard in export_journal.done(dest).values()) == sum(as_json["excerpts"].values())


def test_the_card_says_what_the_dataset_holds(inline_export, out, tmp_path):
    exported(out, tmp_path / "d", to="hf", min_active=("vocals=0.5",), where="year < 1974", group_by="artist", codec="flac")
    card = (tmp_path / "d" / "README.md").read_text()
    assert card.startswith("---\n")
    for words in ("train/*.parquet", "vocals 50 %", "`year < 1974`", "-35 dBFS", "`spleeter:2stems`", "ab" * 32, "`000001-beef`"):
        assert words in card
    assert "| train | 6 | 0.003 | 0.00" in card
    assert io.StringIO(card).readline() == "---\n"


def test_a_shard_whose_process_dies_three_times_fails_and_is_tried_again(inline_export, out, tmp_path, monkeypatch):
    from sep_batch.pipeline.export import flow as export_flow

    alive, passes = export_flow.ExportFlow, []

    class Dies(alive):
        def rows(self):
            passes.append(len(self._plan))
            return (row for row in super().rows() if row["shard"] != 1)

    with monkeypatch.context() as dying:
        dying.setattr(export_flow, "ExportFlow", Dies)
        told = exported(out, tmp_path / "d", shard_size=4)
    assert passes == [told.shards, 1, 1]
    assert (told.exit_code, set(told.failed)) == (3, {"worker_crash"})
    exported(out, tmp_path / "whole", shard_size=4)
    assert exported(out, tmp_path / "d", shard_size=4).exit_code == 0
    assert files_of(tmp_path / "d") == files_of(tmp_path / "whole")


def test_a_signal_ends_it_in_order_and_the_same_command_goes_on(inline_export, out, tmp_path, monkeypatch):
    taken = driver.ExportDriver._take

    def signalled(drive, row, journal):
        taken(drive, row, journal)
        drive.stop.ask("stopped by SIGTERM")

    with monkeypatch.context() as stopped:
        stopped.setattr(driver.ExportDriver, "_take", signalled)
        told = exported(out, tmp_path / "d", shard_size=2)
    assert (told.exit_code, told.written) == (7, 1)
    assert not (tmp_path / "d" / "README.md").exists()
    assert exported(out, tmp_path / "d", shard_size=2).done_before == 1


def test_an_index_from_before_there_was_activity_reads_on(inline_export, waves, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    out = str(tmp_path / "out")
    write_out(out, {name: waves[name] for name in "be"}, analysed=False)
    table = pyarrow.parquet.read_table(f"{out}/index.parquet")
    kept = pa.struct([field for field in table.schema.field("stems").type.value_type if not field.name.startswith("active")])
    rows = [[{field.name: stem[field.name] for field in kept} for stem in stems] for stems in table.column("stems").to_pylist()]
    place = table.column_names.index("stems")
    pyarrow.parquet.write_table(table.set_column(place, "stems", pa.array(rows, pa.list_(kept))), f"{out}/index.parquet")
    told = exported(out, tmp_path / "d", min_active=("vocals=0.5",))
    assert "2 tracks have no activity" in told.warnings[0]
    assert told.excerpts == {"train": 6}


def test_no_format_imports_the_library_of_another(tmp_path):
    code = """
import sys
from pathlib import Path
import pyarrow as pa
import sep_batch.jobs.export
from sep_batch.jobs.export.options import ExportOptions, settings_of
from sep_batch.pipeline.export.formats.base import ShardFolder
from sep_batch.pipeline.export.formats.choose import writer
writer(ShardFolder(Path(sys.argv[1]), "train", 0, settings_of(ExportOptions(to="parquet"), ("vocals",)), pa.schema([])))
sys.exit(" ".join({"datasets", "lhotse", "ray", "torch", "webdataset"} & set(sys.modules)) or 0)
"""
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


def with_etags(out, etag_of):
    """Have the index say of each source the etag that a function makes of what storage says of it."""
    path = Path(out) / "index.parquet"
    table = pyarrow.parquet.read_table(path)
    etags = [etag_of(storage.info(uri)) for uri in table.column("uri").to_pylist()]
    at = table.schema.get_field_index("source_etag")
    pyarrow.parquet.write_table(table.set_column(at, "source_etag", pa.array(etags, pa.string())), path)


@pytest.mark.parametrize(
    "etag_of",
    [
        lambda info: info.etag,
        lambda info: info.etag.rpartition(" ")[0],  # of rows from before the size was in it
        lambda info: f'"{info.etag}"',  # as some manifests bring it
        lambda _info: None,
    ],
)
def test_the_mix_of_a_source_that_is_as_it_was_is_written(inline_export, tmp_path, etag_of):
    out = str(tmp_path / "out")
    write_out(out, {"a": {"vocals": wave("xx"), "mix": wave("xx")}})
    with_etags(out, etag_of)
    told = exported(out, tmp_path / "d", with_mix=True)
    assert (told.exit_code, told.excerpts) == (0, {"train": 1})


def test_a_mix_of_another_song_of_the_same_size_is_never_paired_with_the_stems(inline_export, tmp_path):
    out = str(tmp_path / "out")
    write_out(out, {name: {"vocals": wave("xx", seed=n), "mix": wave("xx", seed=n)} for n, name in enumerate("ab")})
    with_etags(out, lambda info: info.etag)
    source = Path(f"{out}.sources") / "a.flac"
    source.write_bytes(source.read_bytes()[::-1])
    told = exported(out, tmp_path / "d", with_mix=True)
    assert (told.exit_code, dict(told.failed), told.excerpts) == (3, {"source_changed": 1}, {"train": 1})
    assert told.first_failed[0]["id"] == "a"
    assert "a.flac: has changed since it was separated (its etag is " in told.first_failed[0]["error"]
    assert {known["id"] for _, known, _ in read(tmp_path / "d")} == {"b"}
    assert "next: sep-batch run with the folder" in list(told.words())[-1]
    assert exported(out, tmp_path / "e").exit_code == 0, "without the mix no source is read"


def test_the_journal_of_shards_is_no_parquet_file_to_readers_of_dest(inline_export, out, tmp_path):
    exported(out, tmp_path / "d", to="parquet", shard_size=3)
    assert {path.parent.name for path in (tmp_path / "d").glob("**/*.parquet")} == {"train"}
    assert {path.suffix for path in (tmp_path / "d" / "_sep" / "journal").iterdir()} == {".shards"}


def test_an_export_whose_journal_has_the_ending_of_before_goes_on(inline_export, out, tmp_path):
    first = exported(out, tmp_path / "d", shard_size=3)
    for number, file in enumerate(sorted((tmp_path / "d" / "_sep" / "journal").iterdir())):
        file.rename(file.with_name(f"000007-abcd-{number:06d}.parquet"))
    again = exported(out, tmp_path / "d", shard_size=3)
    assert (again.done_before, again.written) == (first.shards, 0)
    assert export_journal.new_run(str(tmp_path / "d")).startswith("000008-")


def test_a_residual_is_exported_as_the_stem_that_it_is_and_adds_up_to_the_mix(inline_export, tiny, local, tmp_path):
    write_tone(tmp_path / "songs" / "a.wav", 300, 4.0)
    run_job(str(tmp_path / "songs"), str(tmp_path / "out.stems"), model=tiny, residual="rest")
    result = exported(str(tmp_path / "out.stems"), tmp_path / "d", with_mix=True)
    assert (result.exit_code, result.failed, result.warnings) == (0, {}, ())
    for _, known, files in read(tmp_path / "d"):
        assert {"vocals_active", "accompaniment_active", "rest_active"} <= known.keys()
        waves = {name: np.round(decoded(content).wave * 32768.0) for name, content in files.items()}
        assert waves.keys() == {"vocals", "accompaniment", "rest", "mix"}
        assert np.array_equal(waves.pop("mix"), sum(waves.values()))
