from __future__ import annotations

import hashlib

import pytest

from sep_batch.pipeline import errors, stem_paths

ID, URI = "song-1", "/music/The Album/01 - Song.flac"


def rendered(template, *, id=ID, uri=URI, stem="vocals", ext="wav"):
    return stem_paths.render(template, id, uri, stem, ext).removeprefix("stems/")


def path_of(template):
    return lambda track, uri: rendered(template, id=track, uri=uri)


def test_the_default_spreads_tracks_over_256_folders():
    shard = hashlib.sha256(b"song-1").hexdigest()[:2]
    assert rendered(stem_paths.DEFAULT_FILENAME) == f"{shard}/song-1/vocals.wav"
    assert len({rendered("{shard}/{stem}", id=str(n)) for n in range(5000)}) == 256


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{id}_{stem}.{ext}", "song-1_vocals.wav"),
        ("{foldername}/{filename}/{stem}.{ext}", "The Album/01 - Song/vocals.wav"),
        ("{filename}/{instrument}.{codec}", "01 - Song/vocals.wav"),  # Spleeter's own words
        ("{stem}", "vocals"),
        ("a//{stem}/", "a/vocals"),
    ],
)
def test_every_token_is_filled_in(template, path):
    stem_paths.check(template)
    assert rendered(template) == path


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/Album/a.b.mp3", "Album/a.b/vocals"),
        ("/music/.hidden.wav", "music/_hidden/vocals"),
        ("/music/noextension", "music/noextension/vocals"),
        ("/a/b\\c.wav", "a/b_c/vocals"),
        ("/a/line\nbreak\x00.wav", "a/line_break_/vocals"),
        ("/../...wav", "_./_./vocals"),
        ("/\u97f3\u697d/\u00e9t\u00e9.wav", "\u97f3\u697d/\u00e9t\u00e9/vocals"),
    ],
)
def test_no_source_name_leads_out_of_its_folder(uri, path):
    assert rendered("{foldername}/{filename}/{stem}", uri=uri) == path


@pytest.mark.parametrize(
    "template",
    ["{id}/{stem}.{ext}", "{id}-{stem}.{ext}", "{stem}-{id}.{ext}", "{id}.{stem}.{ext}", "{foldername}-{id}-{stem}.{ext}"],
)
def test_stems_of_the_longest_ids_have_different_paths(template):
    ids = ["a" * 199 + end for end in "xyz"]
    paths = {rendered(template, id=id, stem=stem) for id in ids for stem in ("vocals", "accompaniment")}
    assert len(paths) == 6
    assert all(path.endswith(".wav") for path in paths)


@pytest.mark.parametrize("letter", ["a", "\u97f3"])
def test_no_name_is_longer_than_a_file_system_takes(letter):
    uri = f"/{letter * 300}/{letter * 300}.wav"
    path = rendered("{foldername}/{filename}-{stem}.{ext}", uri=uri)
    assert all(len(component.encode()) <= 255 for component in path.split("/"))
    assert path.endswith("-vocals.wav")


@pytest.mark.parametrize(
    "template", [stem_paths.DEFAULT_FILENAME, "{filename}/{stem}.{ext}", "{instrument}.{codec}", "a/b c/{{x}}{stem}"]
)
def test_a_template_that_tells_stems_apart_is_accepted(template):
    stem_paths.check(template)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{id}.{ext}", "no {stem}"),
        ("", "no {stem}"),
        ("{artist}/{stem}", "artist"),
        ("{}/{stem}", "expected tokens"),
        ("{0}/{stem}", "expected tokens"),
        ("{stem", "expected tokens"),
        ("stem}", "expected tokens"),
        ("{stem.__class__}", "stem.__class__"),
        ("{stem[0]}", r"stem[0]"),
        ("{stem:d}", "expected tokens"),
        ("/abs/{stem}", "below OUT/stems"),
        ("../{stem}", "below OUT/stems"),
        ("a/../../{stem}", "below OUT/stems"),
    ],
)
def test_a_template_that_is_none_is_refused_with_the_reason(template, problem):
    with pytest.raises(errors.UsageError) as caught:
        stem_paths.check(template)
    assert problem in str(caught.value)
    assert str(caught.value).startswith("--filename ")


def test_tracks_that_would_share_a_path_are_refused_by_name():
    tracks = [("1", "/a/mix.wav"), ("2", "/b/mix.wav"), ("3", "/b/other.wav")]
    with pytest.raises(errors.UsageError, match="/a/mix.wav and /b/mix.wav both give mix/vocals.wav; add {id}"):
        stem_paths.refuse_collisions("{filename}/{stem}.{ext}", path_of("{filename}/{stem}.{ext}"), tracks)


@pytest.mark.parametrize(
    "template", ["{filename}{id}/{stem}.{ext}", "{id}{filename}-{stem}.{ext}", "{foldername}{id}/{stem}.{ext}"]
)
def test_an_id_beside_another_name_in_one_component_does_not_keep_tracks_apart(template):
    tracks = [("aa", "/a/a.wav"), ("a", "/aa/aa.wav")]
    with pytest.raises(errors.UsageError, match="both give aaa"):
        stem_paths.refuse_collisions(template, path_of(template), tracks)


@pytest.mark.parametrize("uris", [("/a/Mix.wav", "/b/mix.wav"), ("/a/mix.wav", "/a/mix.flac"), ("/a/mix.wav", "/a/mix.wav")])
def test_paths_that_differ_in_case_or_come_of_one_file_are_shared_too(uris):
    with pytest.raises(errors.UsageError, match="add {id}"):
        stem_paths.refuse_collisions(
            "{filename}/{stem}.{ext}", path_of("{filename}/{stem}.{ext}"), list(zip("12", uris, strict=True))
        )


def test_of_many_shared_paths_a_few_are_shown_and_all_are_counted():
    tracks = [(str(n), f"/{n}/mix.wav") for n in range(21)]
    with pytest.raises(errors.UsageError, match="and 15 more"):
        stem_paths.refuse_collisions("{filename}/{stem}.{ext}", path_of("{filename}/{stem}.{ext}"), tracks)


@pytest.mark.parametrize("template", ["{foldername}/{filename}/{stem}.{ext}", "{id}/{stem}.{ext}", stem_paths.DEFAULT_FILENAME])
def test_tracks_that_share_no_path_are_accepted(template):
    tracks = [("1", "/a/mix.wav"), ("2", "/b/mix.wav")]
    assert stem_paths.refuse_collisions(template, path_of(template), tracks) is None
    assert len({rendered(template, id=id, uri=uri) for id, uri in tracks}) == 2


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/music/disc 1/02 song.flac", "disc 1/02 song/vocals.flac"),
        ("/music/song.mp3", "song/vocals.flac"),
        ("/music/a/b/.hidden/x.mp3", "a/b/_hidden/x/vocals.flac"),
        ("/music2/song.mp3", "music2/song/vocals.flac"),  # outside
        ("s3://bucket/a/song.mp3", "a/song/vocals.flac"),
        ("/music/_sep/x.mp3", "__sep/x/vocals.flac"),
        ("/music/_SEP.mp3", "__SEP/vocals.flac"),
        ("/music/index.parquet.mp3", "_index.parquet/vocals.flac"),
    ],
)
def test_a_tree_is_kept_below_its_root_and_never_reaches_files_of_our_own(uri, path):
    assert stem_paths.render(stem_paths.TREE, "1", uri, "vocals", "flac", root="/music") == path
    below = stem_paths.render(stem_paths.TREE.removeprefix("./"), "1", uri, "vocals", "flac", root="/music")
    assert below.removeprefix("stems/") == path.replace("__", "_").replace("_index", "index")


def test_a_template_lies_below_stems_or_with_a_dot_in_out_itself():
    assert stem_paths.render("{model}/{stem}.{ext}", "1", URI, "vocals", "flac", model="spleeter:2stems") == (
        "stems/spleeter-2stems/vocals.flac"
    )
    assert stem_paths.render(stem_paths.ONE_SONG, "1", URI, "vocals", "flac") == "vocals.flac"


@pytest.mark.parametrize(
    ("template", "path"), [(stem_paths.ONE_SONG, "vocals-6b86b273.flac"), (stem_paths.SONGS, "01 - Song-6b86b273/vocals.flac")]
)
def test_a_mark_stands_where_a_person_sees_it(template, path):
    assert stem_paths.render(template, "1", URI, "vocals", "flac", mark=stem_paths.mark("1")) == path


@pytest.mark.parametrize(
    ("template", "out", "stems", "is_recognizable"),
    [
        (stem_paths.TREE, "/a/album.stems", ("voice", "rest"), True),
        (stem_paths.TREE, "/a/out", ("vocals", "drums"), True),
        (stem_paths.TREE, "/a/out", ("voice", "rest"), False),
        ("./{filename}-{stem}.{ext}", "/a/out", ("vocals", "drums"), False),
    ],
)
def test_stems_in_out_itself_can_be_told_from_sources_by_their_names(template, out, stems, is_recognizable):
    assert stem_paths.is_recognizable(template, out, stems) == is_recognizable
    if is_recognizable and not out.endswith(".stems"):
        assert all(
            stem_paths.may_be_stem(stem_paths.render(template, "1", URI, stem, "flac").rpartition("/")[2]) for stem in stems
        )
