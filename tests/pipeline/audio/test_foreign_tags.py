"""Tags and covers that other programs write are read from every kind of source; mutagen stands for these programs."""

from __future__ import annotations

import base64
import io
import struct

import mutagen
import mutagen.aiff
import mutagen.apev2
import mutagen.asf
import mutagen.id3
import mutagen.mp4
import numpy as np
import pytest
import soundfile
from tagged_files import jpeg, png, tagged

from sep_batch.pipeline import audio
from sep_batch.pipeline.audio import pictures


def edited(format, edit):
    """Return a file without tags of a format, after `edit` has written some into it."""
    file = io.BytesIO(tagged(format, values={}, samples=30_000))
    edit(file)
    return file.getvalue()


def read(content):
    source = audio.read_tags(io.BytesIO(content))
    assert source.warning == ""
    return dict(source.tags.values), source.tags.cover and source.tags.cover.content


def write_id3(file, version=4, **saving):
    frames = mutagen.id3.ID3()
    for frame in (
        mutagen.id3.TIT2(encoding=1, text="T é 音"),
        mutagen.id3.TPE1(encoding=1, text=["A", "B"]),
        mutagen.id3.TSRC(encoding=0, text="USX"),
        mutagen.id3.COMM(encoding=1, lang="eng", desc="", text="c"),
        mutagen.id3.USLT(encoding=1, lang="eng", desc="", text="two\nlines"),
        mutagen.id3.TXXX(encoding=3, desc="replaygain_track_gain", text="-3 dB"),
        mutagen.id3.PRIV(owner="x", data=b"\0\1"),
        mutagen.id3.APIC(encoding=0, mime="image/png", type=4, desc="back", data=png(9)),
        mutagen.id3.APIC(encoding=0, mime="image/jpeg", type=3, desc="front", data=jpeg(4)),
    ):
        frames.add(frame)
    if version == 3:
        frames.update_to_v23()
    frames.save(file, v2_version=version, **saving)


def id3_bytes(content):
    """Return the length of the ID3 tag at the start of a file."""
    return 10 + (content[6] << 21 | content[7] << 14 | content[8] << 7 | content[9])


@pytest.mark.parametrize(("version", "artist"), [(3, "A/B"), (4, "A")])  # FFmpeg reads the first of several values
def test_id3_before_an_mp3(version, artist):
    values, cover = read(edited("mp3", lambda file: write_id3(file, version)))
    assert values == {"title": "T é 音", "artist": artist, "ISRC": "USX", "comment": "c", "lyrics": "two\nlines"}
    assert cover == jpeg(4)  # the front cover, not the first picture


def test_id3v1_behind_an_mp3():
    content = edited("mp3", lambda file: write_id3(file, v1=2))
    values, cover = read(content[id3_bytes(content) :])
    assert (values["title"][0], cover) == ("T", None)


def test_id3_before_a_flac_that_has_comments_of_its_own():
    def edit(file):
        comments = mutagen.File(file)
        comments["album"] = "own"
        file.seek(0)
        comments.save(file)

    content = edited("mp3", write_id3)
    values, cover = read(content[: id3_bytes(content)] + edited("flac", edit))
    assert (values, cover) == ({"album": "own"}, jpeg(4))  # FFmpeg prefers a file's own comments


def test_atoms_of_an_m4a():
    def edit(file):
        tags = mutagen.mp4.MP4(file)
        tags.update({"\xa9nam": "T", "trkn": [(3, 0)], "pgap": True, "----:com.apple.iTunes:ISRC": [b"USX"]})
        tags["----:com.apple.iTunes:iTunSMPB"] = [b"0 1"]
        tags["covr"] = [mutagen.mp4.MP4Cover(jpeg(), mutagen.mp4.MP4Cover.FORMAT_JPEG)]
        file.seek(0)
        tags.save(file)

    assert read(edited("m4a", edit)) == ({"title": "T", "track": "3", "ISRC": "USX"}, jpeg())


def test_attributes_of_a_wma():
    def edit(file):
        tags = mutagen.asf.ASF(file)
        tags.update({"Title": "T", "WM/Year": "1999", "WM/ISRC": "USX"})
        head = b"\3" + struct.pack("<I", len(png())) + "image/png\0\0".encode("utf-16-le")
        tags["WM/Picture"] = mutagen.asf.ASFByteArrayAttribute(head + png())
        file.seek(0)
        tags.save(file)

    assert read(edited("wma", edit)) == ({"title": "T", "date": "1999", "ISRC": "USX"}, png())


@pytest.mark.parametrize("format", ["opus", "ogg"])
def test_comments_of_an_ogg_over_several_pages(format):
    def edit(file):
        tags = mutagen.File(file)
        tags.update({"title": "T", "artist": ["A", "B"], "isrc": "USX", "r128_track_gain": "5"})
        block = pictures.block(pictures.picture(png(2, 200_000)))
        tags["metadata_block_picture"] = base64.b64encode(block).decode()
        file.seek(0)
        tags.save(file)

    assert read(edited(format, edit)) == ({"title": "T", "artist": "A;B", "ISRC": "USX"}, png(2, 200_000))


def test_id3_in_wav_and_aiff():
    aiff = io.BytesIO()
    soundfile.write(aiff, np.zeros((5_000, 2)), 44_100, format="AIFF", subtype="PCM_16")
    for file in (aiff, io.BytesIO(tagged("wav", "16", values={}))):
        file.seek(0)
        tags = mutagen.File(file)
        tags.add_tags()
        tags["TIT2"] = mutagen.id3.TIT2(encoding=3, text="T")
        tags["APIC"] = mutagen.id3.APIC(encoding=0, mime="image/png", type=3, data=png())
        file.seek(0)
        tags.save(file)
        assert read(file.getvalue()) == ({"title": "T"}, png())


def test_an_ape_tag_behind_an_mp3_is_not_read_and_does_no_harm():
    def edit(file):
        tags = mutagen.apev2.APEv2()
        tags["Title"] = "T"
        file.seek(0)
        tags.save(file)

    assert read(edited("mp3", edit)) == ({}, None)
