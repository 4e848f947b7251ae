"""Tags and covers: written into every format as other programs read them, and read from every format, hostile ones too."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tagged_files
from catalogs import decoded
from tagged_files import FORMATS, VALUES, jpeg, png, read_back, tagged

from sep_batch.pipeline import audio
from sep_batch.pipeline.audio import pictures, tags
from sep_batch.pipeline.audio.codecs import CODECS, DEFAULT_BITRATE, is_lossy, raw
from sep_batch.pipeline.audio.encoding import encode, open_encoder

COVERS = {"png": png(3), "jpeg": jpeg(5), "large": png(3, 300_000)}
WITHOUT_COVER = ("wma",)


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize(("format", "depth"), FORMATS)
def test_mutagen_reads_the_tags_and_the_cover_of_every_format(format, depth, cover):
    values, own = read_back(tagged(format, depth, cover=COVERS[cover]), format)
    assert values == VALUES
    assert own == (b"" if format in WITHOUT_COVER else COVERS[cover])


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize(("format", "depth"), FORMATS)
def test_the_decoder_reads_the_tags_and_the_cover_that_were_written(format, depth, cover):
    source = audio.read_tags(io.BytesIO(tagged(format, depth, cover=COVERS[cover])))
    assert dict(source.tags.values) == VALUES
    assert source.warning == ""
    own = source.tags.cover
    assert (own and own.content) == (None if format in WITHOUT_COVER else COVERS[cover])


@pytest.mark.parametrize(("format", "depth"), FORMATS)
def test_tags_change_no_sample_and_the_same_tags_give_the_same_bytes(format, depth):
    first, second = (tagged(format, depth, cover=COVERS["large"]) for _ in range(2))
    assert first == second
    plain = tagged(format, depth, values={})
    assert len(plain) < len(first) - (1_000 if format in WITHOUT_COVER else 300_000) or format in WITHOUT_COVER
    assert np.array_equal(decoded(first).wave, decoded(plain).wave)


@pytest.mark.parametrize(("format", "depth"), FORMATS)
def test_a_file_on_a_disk_has_the_bytes_of_one_in_memory(format, depth, tmp_path):
    codec, rate_hz = CODECS[format][depth], CODECS[format][depth].rate_for(44_100)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 5_000)).astype(np.float32)
    bitrate, own = DEFAULT_BITRATE if is_lossy(format) else None, tagged_files.tags(cover=png())
    with open_encoder(str(tmp_path / "stem"), codec, channels=2, rate_hz=rate_hz, bitrate=bitrate, tags=own) as encoder:
        encoder.add(raw(wave, codec))
    assert (tmp_path / "stem").read_bytes() == tagged(format, depth, cover=png())


def test_the_tags_of_a_file_without_tags_are_none():
    source = audio.read_tags(io.BytesIO(encode(np.zeros((2, 5_000), np.float32), CODECS["flac"]["16"], rate_hz=44_100)))
    assert source == audio.SourceTags()


def test_text_becomes_tags_of_plain_lines_under_one_name():
    raw = {
        "Title": " a\r\nb\x00\x07\x9fc ",
        "TITLE": "second",
        "TSRC": "X",
        "Mood": "m",
        "empty": " \0",
        "encoder": "Lavf",
        "REPLAYGAIN_TRACK_GAIN": "-3 dB",
        "iTunSMPB": "0",
        "account_id": "me@example.com",
        "lyrics-eng": "la la",
        "SEP_BATCH_ID": "old",
        "WAVEFORMATEXTENSIBLE_CHANNEL_MASK": "0x3f",
        "a\ud800": "x",
        "bad\ud800": "y",
    }
    values, left_out = tags.cleaned([*raw.items(), ("half", "\ud800")])
    assert values == (("HALF", "?"), ("ISRC", "X"), ("MOOD", "m"), ("lyrics", "la la"), ("title", "a\nbc"))
    assert left_out == 2


@pytest.mark.parametrize(
    ("raw", "kept", "left_out"),
    [
        ([(f"n{number}", "x") for number in range(300)], tags.MAX_TAGS, 300 - tags.MAX_TAGS),
        ([("a", "x" * tags.MAX_VALUE_BYTES), ("b", "x" * (tags.MAX_VALUE_BYTES + 1))], 1, 1),
        ([(f"n{number}", "ü" * (tags.MAX_VALUE_BYTES // 2)) for number in range(20)], 15, 5),
        ([("a=b", "x"), ("ü", "x"), ("n" * 65, "x"), ("", "x"), ("fine", "x")], 1, 4),
    ],
    ids=["many", "long", "much", "names"],
)
def test_tags_beyond_the_bounds_are_left_out_and_counted(raw, kept, left_out):
    values, count = tags.cleaned(raw)
    assert (len(values), count) == (kept, left_out)
    assert "expected at most 256 of 16 KiB" in tags.warning(count)


def test_the_most_tags_that_are_kept_pass_from_the_decoder_and_into_every_format():
    values = {f"N{number:03}": 'ü\n"\\' * 200 + "😀" * 20 for number in range(tags.MAX_TAGS)}
    own = tagged_files.tags(values)
    for format, depth in FORMATS:
        source = audio.read_tags(io.BytesIO(tagged(format, depth, values=values)))
        assert source.tags == own, format
        assert source.warning == "", format


def test_a_cover_beyond_the_bound_is_left_out_with_a_warning_and_one_just_below_is_kept():
    cover = png(2, tags.MAX_COVER_BYTES - len(png(2)))
    kept = audio.read_tags(io.BytesIO(tagged("flac", cover=cover)))
    assert (len(kept.tags.cover.content), kept.warning) == (tags.MAX_COVER_BYTES, "")
    source = audio.read_tags(io.BytesIO(tagged("flac", cover=png(2, tags.MAX_COVER_BYTES))))
    assert source.tags.cover is None
    assert dict(source.tags.values) == VALUES
    assert source.warning == f"cover left out: {len(png(2, tags.MAX_COVER_BYTES)):,} bytes, expected at most 8,388,608"


def test_a_cover_that_is_neither_jpeg_nor_png_is_left_out_with_a_warning():
    gif = b"GIF89a" + bytes(40)
    content = tagged("mp3", cover=png(2)).replace(png(2), gif.ljust(len(png(2)), b"\0"))
    source = audio.read_tags(io.BytesIO(content))
    assert (source.tags.cover, source.warning) == (None, "cover left out: neither JPEG nor PNG")
    assert dict(source.tags.values) == VALUES


def test_pictures_have_their_size_and_broken_ones_are_none():
    assert (pictures.picture(png(7)).width, pictures.picture(jpeg(9)).height) == (7, 9)
    for content in (b"", b"\xff\xd8\xff", jpeg()[:12], png()[:20], b"\xff\xd8\xff\xe0\0\0" * 2_000, jpeg(0), b"\xff" * 5_000):
        assert pictures.picture(content) is None


def test_the_tags_before_an_mp3_are_read_although_the_decoder_skips_them():
    silence = encode(np.zeros((2, 50_000), np.float32), CODECS["mp3"][""], rate_hz=44_100)
    tag = tagged("mp3", cover=png())[: -len(tagged("mp3", values={}))]
    assert dict(audio.read_tags(io.BytesIO(tag + silence)).tags.values) == VALUES


def test_a_chained_ogg_has_the_tags_of_its_first_link():
    first, second = tagged("ogg", values={"title": "first"}), tagged("ogg", values={"title": "second", "artist": "b"})
    assert audio.read_tags(io.BytesIO(first + second)).tags.values == (("title", "first"),)


def test_a_file_whose_tags_cannot_be_read_has_none_and_a_warning():
    source = audio.read_tags(io.BytesIO(b"fLaC" + bytes(100)))
    assert not source.tags
    assert source.warning.startswith("tags left out: ")
