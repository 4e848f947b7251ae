"""What headers say, against what decoding finds; and that a file without a readable one is not lost."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from catalogs import decoded, write_tone
from signals import tone

from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.audio import codecs, decoding
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.manifest import lists, probe, scan
from sep_batch.pipeline.manifest.per_file import SHOWN

MP3 = codecs.CODECS["mp3"][""]
FLAC = codecs.CODECS["flac"]["24"]
S = 1.5
FORMS = [
    ("a.wav", codecs.CODECS["wav"]["16"], 44_100, 2),
    ("b.flac", FLAC, 48_000, 1),
    ("c.mp3", MP3, 22_050, 2),
    ("d.wav", codecs.CODECS["wav"]["float"], 96_000, 1),
]


@pytest.fixture
def songs(tmp_path):
    for name, codec, rate_hz, channels in FORMS:
        wave = tone(300, round(S * rate_hz), channels=channels, rate_hz=rate_hz)
        bitrate = None if codec.samples.startswith("s") else 64_000
        (tmp_path / name).write_bytes(encode(wave, codec, rate_hz=rate_hz, bitrate=bitrate))
    return tmp_path


def probed(*sources):
    """Return the manifest probed as rows, and what was told."""
    table, told = probe.probe(scan.scan([str(source) for source in sources]).table, lambda _count: None)
    return table.to_pylist(), told


def test_a_header_says_what_decoding_finds(songs):
    rows, told = probed(songs)
    assert told == []
    assert [row["uri"] for row in rows] == [f"{songs}/{name}" for name, *_ in FORMS]
    for row, (name, _, rate_hz, channels) in zip(rows, FORMS, strict=True):
        heard = decoded((songs / name).read_bytes(), rate_hz=rate_hz)
        assert row["probed_s"] == pytest.approx(heard.wave.shape[1] / rate_hz, abs=0.06)  # MP3's delay and padding
        assert (row["probed_rate_hz"], row["probed_channels"]) == (rate_hz, channels) == (heard.rate_hz, heard.channels)
        assert row["probed_codec"] == heard.codec
        assert row["size"] == (songs / name).stat().st_size


class FirstBytes(io.BytesIO):
    """A file of which only the first bytes may be read."""

    def read(self, size=-1):
        assert self.tell() + size <= probe.HEAD_BYTES
        return super().read(size)


@pytest.mark.parametrize("behind", [b"", b"TAG" + bytes(125), b"TAG" + bytes(125) + bytes(300_000)], ids=["", "title", "zeros"])
def test_an_mp3_that_declares_its_length_is_probed_without_its_end(behind):
    wave = tone(300, 30 * 44_100)
    content = encode(wave, MP3, rate_hz=44_100, bitrate=128_000) + behind
    assert len(content) > probe.HEAD_BYTES
    assert decoding.probe(FirstBytes(content)).seconds == pytest.approx(30, abs=0.06)


def test_probed_columns_ask_nothing_of_a_run_and_are_carried_as_they_are(songs):
    table, _ = probe.probe(scan.scan([str(songs)]).table, lambda _count: None)
    lists.write(table, f"{songs}/m.parquet")
    read = manifest.read(f"{songs}/m.parquet")
    assert read.warnings == ()
    assert read.tracks.column("duration_s").null_count == table.num_rows
    assert [field.name for field in read.tracks.schema.field("extra").type] == ["size", *probe.PROBED.names]


def test_a_file_that_cannot_be_probed_is_listed_and_told_of(songs):
    for number in range(SHOWN + 2):
        (songs / f"bad{number}.mp3").write_bytes(b"no audio" * 100)
    (songs / "empty.wav").touch()
    (songs / "lost.wav").symlink_to("nowhere")
    rows, (told,) = probed(songs)
    nulls = [row for row in rows if row["probed_s"] is None]
    assert len(rows) == len(FORMS) + SHOWN + 4
    assert len(nulls) == SHOWN + 4
    assert all(row[name] is None for row in nulls for name in probe.PROBED.names)
    assert told.startswith(f"{SHOWN + 4} files could not be probed")
    assert told.count(".mp3: ") == SHOWN
    assert told.endswith("; ...")


def test_what_a_list_does_not_say_is_asked_for_and_what_it_says_stays(songs):
    (songs / "l.csv").write_text("uri,size,source_etag\na.wav,,\nb.flac,,mine\nabsent.wav,,\n")
    rows, (told,) = probed(songs / "l.csv")
    known = [storage.info(row["uri"]) for row in rows[:2]]
    assert [row["size"] for row in rows] == [known[0].bytes, known[1].bytes, None]
    assert [row["source_etag"] for row in rows] == [known[0].etag, "mine", None]
    assert "1 file could not be probed (listed anyway)" in told
    assert "absent.wav: not found" in told


def test_probing_again_replaces_what_was_probed(songs):
    table, _ = probe.probe(scan.scan([str(songs)]).table, lambda _count: None)
    wrong = table.set_column(table.column_names.index("probed_s"), "probed_s", pa.array([99.0] * table.num_rows))
    lists.write(wrong, f"{songs}/m.csv")
    rows, _ = probed(songs / "m.csv")
    assert [row["probed_s"] for row in rows] == table.column("probed_s").to_pylist()


def test_of_a_large_file_only_the_header_is_read(s3, tmp_path, monkeypatch):
    path = write_tone(tmp_path / "a.wav", seconds=60)
    storage.put(f"{s3}/probe/a.wav", path.read_bytes())
    fetched, read_range = [], storage.reading._read_range
    monkeypatch.setattr(storage.reading, "_read_range", lambda *args: fetched.append(read_range(*args)) or fetched[-1])
    ((row,), told) = probed(f"{s3}/probe")
    assert (row["probed_s"], told) == (60.0, [])
    assert sum(map(len, fetched)) < path.stat().st_size / 10


def test_every_form_that_lies_about_itself_is_null_or_within_bounds(tmp_path):
    wave = np.zeros((2, 44_100), np.float32)
    good = bytearray(encode(wave, codecs.CODECS["wav"]["16"], rate_hz=44_100))
    good[24:28] = (0).to_bytes(4, "little")  # a rate of 0
    (tmp_path / "zero.wav").write_bytes(good)
    good[24:28] = (2**31 - 1).to_bytes(4, "little")
    (tmp_path / "fast.wav").write_bytes(good)
    rows, (told,) = probed(tmp_path)
    assert [row["probed_rate_hz"] for row in rows] == [None, None]
    assert "2 files" in told


def test_storage_that_gives_nothing_at_all_ends_it(s3):
    table = pa.table(
        {"uri": ["s3://no-such-bucket/a.wav"], "size": pa.array([None], pa.int64()), "source_etag": pa.array([None], pa.string())}
    )
    with pytest.raises(errors.NotRunnableError, match="NoSuchBucket"):
        probe.probe(table, lambda _count: None)


def test_excerpts_of_one_file_read_its_header_once(songs, monkeypatch):
    (songs / "l.csv").write_text("uri,offset_s\na.wav,0\nb.flac,0\na.wav,1\n")
    opened, open_ranges = [], storage.open_ranges
    monkeypatch.setattr(storage, "open_ranges", lambda uri, *args: opened.append(uri) or open_ranges(uri, *args))
    rows, _ = probed(songs / "l.csv")
    assert [row["probed_rate_hz"] for row in rows] == [44_100, 48_000, 44_100]
    assert sorted(opened) == [f"{songs}/a.wav", f"{songs}/b.flac"]


def test_storage_that_answers_for_none_of_many_files_ends_it(monkeypatch):
    asked = []

    def never(uri):
        asked.append(uri)
        raise errors.FetchTimeout(f"{uri}: no answer")

    monkeypatch.setattr(storage, "info", never)
    columns = {"uri": [f"s3://songs/{n}.wav" for n in range(5000)], "size": pa.nulls(5000, pa.int64())}
    with pytest.raises(errors.NotRunnableError, match="no answer"):
        probe.probe(pa.table(columns | {"source_etag": pa.nulls(5000, pa.string())}), lambda _count: None)
    assert len(asked) < 1000
