"""What an export leaves out is told, nothing at all is exit 3, and what is written then still loads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import webdataset
from export_outs import wave, write_out
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.export.export import run_export
from sep_batch.pipeline import errors

PATTERNS = {"a": "xxxx", "b": "xx..", "c": "x"}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An OUT of three tracks: four seconds, four of which two are silent, and one."""
    folder = str(tmp_path_factory.mktemp("songs") / "out")
    write_out(folder, {name: {"vocals": wave(pattern, seed=n)} for n, (name, pattern) in enumerate(PATTERNS.items())})
    return folder


def exported(out, dest, **options):
    return run_export(out, str(dest), **({"to": "parquet", "excerpt": "2s"} | options))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"excerpt": "10s"}, "no track is as long as 10 s: the longest has 4.0 s"),
        (
            {"where": "id = 'z'"},
            "no track is chosen: the index of OUT has 3 tracks, 3 of them ok, none of which satisfies --where id = 'z'",
        ),
        (
            {"where": "id = 'b'", "min_active": ("vocals=0.9",), "hop": "1s", "excerpt": "4s"},
            "1 of 1 excerpts left out: vocals active below 0.9",
        ),
    ],
)
def test_nothing_at_all_is_exit_3_with_the_reason(inline_export, out, tmp_path, options, line):
    told = exported(out, tmp_path / "d", **options)
    assert (told.exit_code, told.left_out) == (3, (line,))
    assert line in list(told.words())
    assert json.loads(told.to_json())["left_out"] == [line]
    assert exported(out, tmp_path / "d", **options).exit_code == 3, "and the same again"


def test_an_out_without_a_track_that_is_ok_says_so(inline_export, tmp_path):
    write_out(str(tmp_path / "out"), {"a": {"vocals": wave("xx")}}, statuses={"a": "failed"})
    told = exported(str(tmp_path / "out"), tmp_path / "d")
    assert (told.exit_code, told.left_out) == (3, ("no track is chosen: the index of OUT has 1 track, 0 of them ok",))


@pytest.mark.parametrize("analysed", [True, False])
def test_what_is_left_out_beside_what_is_not_is_told_with_exit_0(inline_export, tmp_path, analysed):
    out = str(tmp_path / "out")
    write_out(out, {name: {"vocals": wave(pattern)} for name, pattern in PATTERNS.items()}, analysed=analysed)
    told = exported(out, tmp_path / "d", min_active=("vocals=0.5",), split="0.0000001/0.9999999")
    assert (told.exit_code, sum(told.excerpts.values())) == (0, 3)
    assert told.left_out == (
        "1 of 3 tracks left out: shorter than 2 s",
        "1 of 4 excerpts left out: vocals active below 0.5",
        "split train is empty: its share is 1e-07 of 3 tracks; try another --seed",
    )


def test_the_command_says_it_and_exits_3(inline_export, out, tmp_path):
    told = CliRunner().invoke(app, ["export", out, str(tmp_path / "d"), "--to", "webdataset", "--excerpt", "10s"])
    assert told.exit_code == 3
    assert "\nno track is as long as 10 s: the longest has 4.0 s\n" in told.stdout


def load_webdataset(dest):
    shards = sorted(map(str, Path(dest, "train").glob("*.tar")))
    return list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))


def load_hf(dest):
    import datasets

    whole = datasets.load_dataset(str(dest), streaming=True)
    assert all(rows.features["vocals"] == datasets.Audio() for rows in whole.values())
    if set(whole) == {"test"}:  # of empty splits `datasets` makes an error where it does not stream, so the card names none
        return [] if datasets.load_dataset(str(dest), cache_dir=f"{dest}.cache")["test"].num_rows == 4 else ["not loaded"]
    assert set(whole) == {"train", "test"}
    return list(whole["train"])


def load_lhotse(dest):
    from lhotse import CutSet

    return list(CutSet.from_shar(in_dir=f"{dest}/train"))


def load_parquet(dest):
    found = pyarrow.parquet.read_table(f"{dest}/train")
    assert {"key", "vocals", "vocals_active"} <= set(found.column_names)
    return found.to_pylist()


@pytest.mark.parametrize("load", [load_webdataset, load_hf, load_lhotse, load_parquet])
def test_splits_without_an_excerpt_are_loaded_by_the_formats_library(inline_export, out, tmp_path, monkeypatch, load):
    for name, value in (("HF_HOME", str(tmp_path / "hf")), ("HF_HUB_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    to = load.__name__.removeprefix("load_")
    exported(out, tmp_path / "none", to=to, excerpt="10s", split="0.5/0.5")
    assert load(tmp_path / "none") == []
    told = exported(out, tmp_path / "one", to=to, split="0.0000001/0.9999999")
    assert (told.exit_code, told.excerpts) == (0, {"test": 4})
    assert load(tmp_path / "one") == []


def test_a_split_that_was_left_empty_and_fills_up_has_the_undisturbed_exports_files(inline_export, tmp_path):
    out, stem = str(tmp_path / "out"), Path(tmp_path / "out" / "stems" / "a" / "vocals.flac")
    write_out(out, {"a": {"vocals": wave("xx")}})
    exported(out, tmp_path / "whole", to="webdataset")
    content = stem.read_bytes()
    stem.unlink()
    assert exported(out, tmp_path / "d", to="webdataset").exit_code == 3
    assert load_webdataset(tmp_path / "d") == []
    stem.write_bytes(content)
    assert exported(out, tmp_path / "d", to="webdataset").exit_code == 0
    whole, found = (Path(tmp_path, name, "train", "000000.tar").read_bytes() for name in ("whole", "d"))
    assert whole == found


def test_the_index_differs_only_where_the_export_reads_it(inline_export, tmp_path):
    out = str(tmp_path / "out")
    write_out(out, {"a": {"vocals": wave("xx"), "accompaniment": wave("xx")}}, extra={"a": {"year": 1970}})
    for name, options in (("plain", {}), ("mix", {"with_mix": True}), ("vocals", {"stems": ("vocals",)})):
        exported(out, tmp_path / name, **options)

    def changed(column, value):
        path = Path(out) / "index.parquet"
        (row,), schema = pyarrow.parquet.read_table(path).to_pylist(), pyarrow.parquet.read_schema(path)
        row[column] = value(row[column])
        pyarrow.parquet.write_table(pa.Table.from_pylist([row], schema=schema), path)

    changed("uri", lambda uri: uri + "2")  # it moved
    changed("run_id", lambda _id: "000002-beef")
    assert exported(out, tmp_path / "plain").written == 0
    with pytest.raises(errors.SettingsDifferError, match="differs in: the index of OUT;"):
        exported(out, tmp_path / "mix", with_mix=True)
    changed("stems", lambda stems: [stems[0], stems[1] | {"sha256": "ab" * 32}])
    assert exported(out, tmp_path / "vocals", stems=("vocals",)).written == 0
    with pytest.raises(errors.SettingsDifferError, match="the index of OUT"):
        exported(out, tmp_path / "plain")
    changed("year", lambda _year: 1971)
    with pytest.raises(errors.SettingsDifferError, match="the index of OUT"):
        exported(out, tmp_path / "vocals", stems=("vocals",))


def as_of_before(dest, row, extra):
    """Have DEST say of itself what exports said before rules had numbers: one track, whose excerpt is the only shard."""
    (stem,) = row["stems"]
    planned = {name: row[name] for name in ("id", "uri", "source_bytes")} | {"offset_s": 0.0, "name": row["id"], "extra": extra}
    told_of_stems = {name: stem[name] for name in ("stem", "uri", "bytes", "sha256", "active_ratio")}
    planned |= {"stems": [told_of_stems], "seconds": 2.0, "rate_hz": 44_100, "numbers": [0]}
    shard = {"split": "train", "shard": 0, "tracks": [planned]}
    path = Path(dest) / "_sep" / "export.json"
    told = json.loads(path.read_text()) | {"index_sha256": hashlib.sha256(json.dumps(shard, sort_keys=True).encode()).hexdigest()}
    del told["rules"]
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(("column", "goes_on"), [("year", True), ("track", False)])
def test_an_export_of_before_rules_had_numbers_goes_on_where_they_change_nothing(inline_export, tmp_path, column, goes_on):
    out = str(tmp_path / "out")
    (row,) = write_out(out, {"a": {"vocals": wave("xx")}}, extra={"a": {column: 1}})
    exported(out, tmp_path / "d")
    row["stems"][0]["active_ratio"] = float(np.float32(row["stems"][0]["active_ratio"]))
    as_of_before(tmp_path / "d", row, {column: 1})
    if goes_on:
        assert exported(out, tmp_path / "d").written == 0
        assert json.loads((tmp_path / "d" / "_sep" / "export.json").read_text())["rules"] == 2
    else:
        with pytest.raises(errors.SettingsDifferError, match="which another version of sep-batch wrote by other rules"):
            exported(out, tmp_path / "d")
