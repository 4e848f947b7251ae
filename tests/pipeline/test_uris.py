from __future__ import annotations

import pytest

from sep_batch.pipeline import uris


@pytest.mark.parametrize(
    ("base", "uri", "joined"),
    [
        ("/music", "a.wav", "/music/a.wav"),
        ("/music", "../a.wav", "/a.wav"),
        ("/music", "/abs/a.wav", "/abs/a.wav"),
        ("/music", "s3://b/a.wav", "s3://b/a.wav"),
        ("s3://b/music", "a.wav", "s3://b/music/a.wav"),
        ("s3://b/music", "./a.wav", "s3://b/music/a.wav"),
        ("s3://b/music", "../a.wav", "s3://b/a.wav"),
        ("s3://b/music", "gs://c/a.wav", "gs://c/a.wav"),
        ("s3://b/music", "a//b.wav", "s3://b/music/a//b.wav"),  # a key may hold an empty component
    ],
)
def test_a_uri_is_resolved_against_its_folder(base, uri, joined):
    assert uris.join(base, uri) == joined


def test_a_local_path_becomes_absolute_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    expected = {
        "a.wav": f"{tmp_path}/a.wav",
        "./x/../a.wav": f"{tmp_path}/a.wav",
        "~/a.wav": "/home/me/a.wav",
        "/abs/": "/abs",
        "file:///abs/a.wav": "/abs/a.wav",
        "s3://b/music/": "s3://b/music",
        "s3://b/a.wav": "s3://b/a.wav",
    }
    assert {uri: uris.absolute(uri) for uri in expected} == expected


@pytest.mark.parametrize("uri", ["s3://b/x/a.wav", "/x/a.wav", "x/a.wav"])
def test_parent_and_name_are_folder_and_last_component(uri):
    assert uris.name(uri) == "a.wav"
    assert f"{uris.parent(uri)}/a.wav" == uri
