"""Words for files that are no audio."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import containers
from sep_batch.pipeline.audio.lookalikes import HEAD_BYTES, looks_like


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a.txt", "a")
    return content.getvalue()


FILES = {
    "text: 'no audio'": b"no audio",
    "text: 'Seite nicht gefunden: über'": b"\xef\xbb\xbfSeite nicht\r\ngefunden: \xc3\xbcber\n",
    "text: '" + "x" * 40 + "...'": b"x" * 5000,
    "text: 'äää'": "äää".encode()[:-1] + "ä".encode()[1:],
    "a web page": b"\n<!DOCTYPE html><html>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "a pointer of Git LFS, in place of its file": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
    "a gzip archive": gzip.compress(b"a"),
    "a ZIP archive": zipped(),
    "a tar archive": bytes(257) + b"ustar\0",
    "a PDF": b"%PDF-1.7\n",
    "a PNG image": b"\x89PNG\r\n\x1a\n",
    "a JPEG image": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "a MIDI file, notes without sound": b"MThd\0\0\0\x06",
    "a Parquet file; is it a manifest?": b"PAR1\x15\x04",
    "a program": b"\x7fELF\x02\x01",
    "zeros": bytes(100),
    "": b"\x9d\x12\x80\x04\x81",
}


@pytest.mark.parametrize("look", FILES)
def test_a_file_that_is_no_audio_is_named_for_what_it_looks_like(look):
    assert looks_like(FILES[look][:HEAD_BYTES]) == look


def test_an_empty_file_looks_like_nothing():
    assert looks_like(b"") == ""


def test_the_error_of_a_file_without_audio_says_it_before_the_bytes():
    with pytest.raises(errors.UnsupportedFormat) as refused:
        containers.identify(io.BytesIO(b"no audio"))
    assert str(refused.value) == (
        "no supported audio container; looks like text: 'no audio'; first bytes 6e 6f 20 61 75 64 69 6f"
    )
