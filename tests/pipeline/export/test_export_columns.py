"""A manifest's columns come through every format: any name, any type, equal, or renamed as the card says."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import webdataset
from catalogs import write_tone
from export_outs import wave, write_out

from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline.export import columns

BIG = (1 << 60) + 1  # no double is this number
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901)  # noqa: DTZ001 (of a column without a time zone)
TYPES = [  # type, value, what the index has of it, what JSON has
    (pa.bool_(), True, True, True),
    (pa.int8(), -7, -7, -7),
    (pa.int64(), BIG, BIG, BIG),
    (pa.uint64(), (1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1),
    (pa.float32(), 1.5, 1.5, 1.5),
    (pa.float64(), math.nan, math.nan, None),
    (pa.float64(), -math.inf, -math.inf, None),
    (pa.decimal128(9, 2), Decimal("1.10"), Decimal("1.10"), "1.10"),
    (pa.string(), 'é "日本" \\ \n', 'é "日本" \\ \n', 'é "日本" \\ \n'),
    (pa.large_string(), "", "", ""),
    (pa.binary(), b"\0\xff", b"\0\xff", "00ff"),
    (pa.date32(), AT.date(), AT.date(), "2026-01-02"),
    (pa.timestamp("us"), AT, AT, "2026-01-02 03:04:05.678901"),
    (pa.timestamp("ms", "UTC"), AT.replace(microsecond=0, tzinfo=dt.UTC), AT.replace(microsecond=0, tzinfo=dt.UTC), None),
    (pa.duration("ms"), dt.timedelta(seconds=1.5), 1_500_000, 1_500_000),
    (pa.duration("ns"), dt.timedelta(seconds=1.5), 1_500_000, 1_500_000),
    (pa.list_(pa.float64()), [1.0, math.nan, None], [1.0, math.nan, None], [1.0, None, None]),
    (
        pa.struct([("a", pa.int64()), ("b", pa.float64())]),
        {"a": BIG, "b": math.inf},
        {"a": BIG, "b": math.inf},
        {"a": BIG, "b": None},
    ),
    (pa.struct([("width", pa.int64())]), {"width": 3}, {"width": 3}, {"width": 3}),
    (pa.map_(pa.string(), pa.int64()), [("x", 1), ("y", BIG)], [("x", 1), ("y", BIG)], [["x", 1], ["y", BIG]]),
    (pa.dictionary(pa.int32(), pa.string()), "rock", "rock", "rock"),
    (pa.null(), None, None, None),
]
NAMES = {  # in the manifest, and in the index where that is another
    **dict.fromkeys(("key", "seconds", "start_s", "sample_rate_hz", "track", "recording", "vocals", "vocals_active", "mix")),
    **dict.fromkeys(
        ("Accompaniment", "load_vocals", "json", "__key__", "__url__", "custom", "channel", "type", "_type", "bytes")
    ),
    **dict.fromkeys(("path", "split", "Artist", "TITLE", "__index_level_0__", "a.b", 'quo"te', "it's", "with  blanks", " ")),
    **dict.fromkeys(
        ("SELECT", "order", "group", "extra", "name", "place", "{x}", "`code`", "a/b", "ünï", "日本", "🎵", "|", "%s")
    ),
    "": "manifest_",
    "status": "manifest_status",
    "KEY": "manifest_KEY",
    "manifest_key": "manifest_manifest_key",
}
RENAMED = {"key", "seconds", "start_s", "sample_rate_hz", "track", "recording", "vocals", "vocals_active", "mix"}
RENAMED |= {"Accompaniment", "load_vocals"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A manifest of two tones with these columns, the types in turn; the second row has nulls."""
    folder = tmp_path_factory.mktemp("songs")
    for name in ("a", "b"):
        write_tone(folder / f"{name}.wav", 300, seconds=0.3)
    table = pa.table({"uri": ["a.wav", "b.wav"], "id": ["a", "b"]})
    for number, name in enumerate(NAMES):
        kind, value, *_ = TYPES[number % len(TYPES)]
        table = table.append_column(name, pa.array([value, None], kind))
    pyarrow.parquet.write_table(table, folder / "songs.parquet")
    return folder / "songs.parquet"


def told_by(card):
    """Return the new names by the old ones, as a card has them."""
    line = next((line for line in card.splitlines() if line.startswith("Columns of the manifest that are renamed")), "")
    return dict(re.findall(r"`([^`]+)` is `([^`]+)`", line))


def load_parquet(dest):
    return pyarrow.parquet.read_table(f"{dest}/train").to_pylist()


def load_hf(dest):
    import datasets

    loaded = datasets.load_dataset(str(dest), split="train", cache_dir=f"{dest}.cache")
    return loaded.remove_columns(["vocals", "accompaniment", "mix"]).with_format("arrow")[:].to_pylist()


def load_webdataset(dest):
    return [json.loads(one["json"]) for one in webdataset.WebDataset(f"{dest}/train/000000.tar", shardshuffle=False)]


def load_lhotse(dest):
    from lhotse import CutSet

    cuts = list(CutSet.from_shar(in_dir=f"{dest}/train"))
    assert all(cut.load_vocals().shape == cut.load_audio().shape == (2, 4410) for cut in cuts)
    return [cut.custom | {"id": cut.track} for cut in cuts]


def same(found, expected):
    """Tell whether two values are equal, NaN to NaN."""
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, found, expected))
    is_nan = isinstance(expected, float) and math.isnan(expected)
    return math.isnan(found) if is_nan else found == expected


def in_format(to, number):
    """Return what a format has of a type's value."""
    kind, _, held, as_json = TYPES[number % len(TYPES)]
    if to == "hf" and pa.types.is_map(kind):
        return [{"key": key, "value": value} for key, value in held]
    if to in ("parquet", "hf"):
        return held
    if pa.types.is_timestamp(kind) and kind.tz:
        return "2026-01-02 03:04:05+00:00"
    return json.dumps(as_json) if to == "lhotse" and isinstance(as_json, dict) and "width" in as_json else as_json


def test_forty_odd_names_and_nineteen_types_come_through_every_format(local, inline_export, tiny, catalog, tmp_path, monkeypatch):
    for name, value in (("HF_HOME", str(tmp_path / "hf")), ("HF_HUB_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    assert len(NAMES) >= 40
    assert len({str(kind) for kind, *_ in TYPES}) >= 19
    out = tmp_path / "out"
    assert run_job(str(catalog), str(out), model=tiny, gpus=0).exit_code == 0
    in_index = {name: other or name for name, other in NAMES.items()}
    assert set(in_index.values()) <= set(pyarrow.parquet.read_schema(out / "index.parquet").names)
    for load in (load_parquet, load_hf, load_webdataset, load_lhotse):
        to = load.__name__.removeprefix("load_")
        dest = tmp_path / to
        assert run_export(str(out), str(dest), to=to, excerpt="0.1s", with_mix=True).exit_code == 0
        new_names = told_by((dest / "README.md").read_text())
        assert set(new_names) == RENAMED
        rows = load(dest)
        assert {row["id"] for row in rows} == {"a", "b"}
        for row in rows:
            assert all(row[name] is not None for name in ("start_s", "seconds", "vocals_active"))
            for number, name in enumerate(in_index.values()):
                expected = in_format(to, number) if row["id"] == "a" else None
                assert same(row[new_names.get(name, name)], expected), (to, name, row[new_names.get(name, name)], expected)


def test_a_new_name_is_no_other_columns():
    reserved = columns.reserved(["vocals"])
    assert columns.renamed(["key", "manifest_key", "Vocals", "year"], reserved) == {
        "key": "manifest_manifest_key",
        "manifest_key": "manifest_key",
        "Vocals": "manifest_Vocals",
        "year": "year",
    }


def test_every_format_writes_no_name_that_is_not_reserved(inline_export, tmp_path):
    out = str(tmp_path / "out")
    write_out(out, {"a": {"vocals": wave("xx")}})
    for load in (load_parquet, load_webdataset):
        to = load.__name__.removeprefix("load_")
        run_export(out, str(tmp_path / to), to=to, with_mix=True)
        assert set(load(tmp_path / to)[0]) <= columns.reserved(["vocals"])
    from lhotse import CutSet

    run_export(out, str(tmp_path / "lhotse"), to="lhotse", with_mix=True)
    (cut,) = CutSet.from_shar(in_dir=f"{tmp_path}/lhotse/train")
    assert set(cut.custom) - {"shard_origin", "shar_epoch"} <= columns.reserved(["vocals"])


@pytest.mark.parametrize(("artist", "title"), [("Artist", "Title"), ("ARTIST", "title")])
def test_musdbs_folders_and_groups_take_artist_and_title_in_any_case(inline_export, tmp_path, artist, title):
    stems = ("vocals", "drums", "bass", "other")
    tracks = {f"t{n}": {stem: wave("x", seed=n, level=0.05) for stem in stems} for n in range(2)}
    extra = {name: {artist: "Nord", title: f"No {name}"} for name in tracks}
    write_out(str(tmp_path / "out"), tracks, extra=extra)
    for group_by, shards in (("artist", 1), ("ARTIST", 0)):  # the second finds the first's export
        told = run_export(str(tmp_path / "out"), str(tmp_path / "d"), to="musdb", group_by=group_by, split="0.5/0.5")
        assert told.written == shards
    folders = [path.parent for path in Path(tmp_path, "d").glob("*/*/mixture.wav")]
    assert {folder.name for folder in folders} == {"Nord - No t0", "Nord - No t1"}
    assert len({folder.parent.name for folder in folders}) == 1, "one artist, one split"
