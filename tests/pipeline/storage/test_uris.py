from __future__ import annotations

import pytest

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris


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
        ("s3://b/x/", "a.wav", "s3://b/x//a.wav"),  # of the parent of s3://b/x//list.csv
        ("s3://b/", "a.wav", "s3://b//a.wav"),
        ("s3://b", "a.wav", "s3://b/a.wav"),
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
        "file://host/a.wav": "file://host/a.wav",
        "s3://b/music/": "s3://b/music",
        "s3://b/a.wav": "s3://b/a.wav",
        "s3://": "s3://",
    }
    assert {uri: uris.absolute(uri) for uri in expected} == expected


@pytest.mark.parametrize("uri", ["s3://b/x/a.wav", "/x/a.wav", "x/a.wav"])
def test_parent_and_name_are_folder_and_last_component(uri):
    assert uris.name(uri) == "a.wav"
    assert f"{uris.parent(uri)}/a.wav" == uri


@pytest.mark.parametrize(
    "uri",
    [
        *("a.wav", "/x/a.wav", "file:///x/a.wav", "a b#c?.wav", "who? me=you.wav", "a::b.wav", "\u97f3 \u202b.wav", "~/a.wav"),
        *(
            "s3://b/a.wav",
            "s3://my.bucket_1/x//a?.wav",
            "s3://b/a#1.wav",
            "s3://b/a@home.wav",
            "gs://b/a#b.wav",
            "memory://b/a.wav",
        ),
        *("az://box/a.wav", "abfs://$web/a.wav", "s3://b", "s3://b/"),
    ],
)
def test_an_honest_uri_is_let_pass(uri):
    assert uris.check(uri) == (uri.partition("://")[0] if "://" in uri else "file")


@pytest.mark.parametrize("uri", ["http://host/a.wav", "https://host:8443/x/a%20b.wav", "http://127.0.0.1:80/a"])
def test_http_is_let_pass_where_it_is_allowed_and_its_refusal_says_how(uri):
    assert uris.check(uri, allow_http=True) in uris.HTTP
    with pytest.raises(errors.BadUri, match="is read only with --allow-http"):
        uris.check(uri)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://user:hush@host/a.wav", "credentials"),
        ("http://host/a.wav?hush", "holds a query"),
        ("http://host/a.wav#hush", "holds a fragment"),
        ("http://host\\@evil/a.wav", "credentials"),
        ("http://host/../a.wav", "a component . or .."),
        ("http://host/a::b", "chained"),
        ("http:///a.wav", "name of a host"),
        ("http://host:port/a.wav", "name of a host"),
    ],
)
def test_of_http_too_only_honest_uris_are_read_and_no_secret_is_repeated(uri, said):
    with pytest.raises(errors.BadUri, match=said) as refused:
        uris.check(uri, allow_http=True)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/a/b.wav", "/a/b.wav"),
        ("/a/b?.wav", "/a/b?.wav"),
        ("a?sig=hush", "a?..."),
        ("s3://b/a.wav", "s3://b/a.wav"),
        ("s3://key:hush@b/a.wav", "s3://..."),
        ("s3://key:hu/sh@b/a.wav", "s3://..."),
        ("s3://b/a?versionId=hush", "s3://b/a?..."),
        ("http://host:80/a?hush", "http://host:80/a?..."),
        ("http://host/a#hush", "http://host/a"),
        ("ftp://host/a.wav", "ftp://host/a.wav"),
        ("ftp://key:hush/a.wav", "ftp://..."),
        ("hush@x://y", "...://..."),
        ("a\nb\x1b\u202e\ud800", "a\\nb\\x1b\\u202e\\ud800"),
        ("a" * 300, "a" * 200 + "..."),
    ],
)
def test_a_uri_is_shown_on_one_short_line_without_its_secrets(uri, shown):
    assert uris.shown(uri) == shown


def test_a_relative_uri_may_not_leave_its_bucket():
    assert uris.join("s3://b/music", "../../a.wav".removeprefix("../")) == "s3://b/a.wav"
    with pytest.raises(errors.BadUri, match=r"\.\./\.\./c/a\.wav: leads out of s3://b"):
        uris.join("s3://b/music", "../../c/a.wav")


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("/a/b.wav", "/a"),
        ("/b.wav", "/"),
        ("s3://b/x/a.wav", "s3://b/x"),
        ("s3://b/a.wav", "s3://b"),
        ("s3://b/x//a.wav", "s3://b/x/"),
        ("s3://b//a.wav", "s3://b/"),
    ],
)
def test_a_file_is_found_again_from_its_folder_and_its_name(uri, folder):
    assert uris.parent(uri) == folder
    assert uris.join(folder, uris.name(uri)) == uri
