"""What a manifest may name, and the manifests that are fenced in."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import source_policy
from sep_batch.pipeline.manifest.source_policy import SourcePolicy


@pytest.fixture
def music(tmp_path):
    """A folder of music, with links into it and out of it."""
    (tmp_path / "music" / "deep").mkdir(parents=True)
    (tmp_path / "musical.wav").write_bytes(b"x")
    for name in ("a.wav", "deep/b.wav"):
        (tmp_path / "music" / name).write_bytes(b"x")
    (tmp_path / "music" / "in.wav").symlink_to("deep/b.wav")
    (tmp_path / "music" / "out.wav").symlink_to("../musical.wav")
    (tmp_path / "music" / "up").symlink_to("..")
    (tmp_path / "door").symlink_to("music")
    return tmp_path / "music"


INSIDE = ("a.wav", "./deep/../a.wav", "deep/b.wav", "in.wav", "up/music/a.wav", "../door/a.wav", "absent.wav", "s3://b/a.wav")
OUTSIDE = ("out.wav", "../musical.wav", "up/musical.wav", "/etc/passwd", "deep/../../musical.wav", "/proc/self/environ", "..")


@pytest.mark.parametrize("uri", INSIDE)
def test_what_lies_below_the_root_is_read(music, uri):
    assert SourcePolicy.around(str(music), allow_http=False).resolve(uri, str(music))


@pytest.mark.parametrize("uri", OUTSIDE)
def test_what_lies_outside_the_root_is_not_whatever_links_lead_there(music, uri):
    with pytest.raises(errors.BadUri, match="lies outside --input-root"):
        SourcePolicy.around(str(music), allow_http=False).resolve(uri, str(music))


def test_the_root_may_itself_be_a_link(music):
    around = SourcePolicy.around(str(music.parent / "door"), allow_http=False)
    assert around.resolve(str(music / "a.wav"), "/elsewhere")
    assert SourcePolicy.around("/", allow_http=False).resolve("/etc/passwd", "/elsewhere")


@pytest.mark.parametrize("root", ["absent", "musical.wav", "s3://b/music", "http://host"])
def test_a_root_that_is_no_folder_of_this_machine_is_a_wrong_argument(music, root):
    with pytest.raises(errors.UsageError, match="--input-root .*expected a folder on this machine"):
        manifest.read(str(music), input_root=root if "://" in root else str(music.parent / root))


def test_without_a_root_a_manifest_of_this_machine_may_name_any_path_and_one_from_elsewhere_none(music):
    assert source_policy.OPEN.resolve("/etc/passwd", str(music)) == "/etc/passwd"
    for folder in ("s3://b/lists", "memory://lists", "http://host/lists"):
        for uri in ("/etc/passwd", "file:///etc/passwd"):
            with pytest.raises(
                errors.BadUri, match="a path on this machine, in a remote manifest; allow its folder by --input-root"
            ):
                source_policy.OPEN.resolve(uri, folder)


def listed(**options):
    return manifest.read("memory://fenced/m.csv", **options).tracks.column("uri").to_pylist()


def test_a_manifest_from_elsewhere_names_local_files_below_the_root_only(music):
    storage.put("memory://fenced/m.csv", f"uri\nx.wav\n{music}/a.wav\n".encode())
    with pytest.raises(errors.ManifestError, match=r"1 bad row: row 2: .*a\.wav: a path on this machine"):
        listed()
    assert listed(input_root=str(music)) == ["memory://fenced/x.wav", f"{music}/a.wav"]
    with pytest.raises(errors.ManifestError, match=r"1 bad row: row 2: .*lies outside --input-root"):
        listed(input_root=str(music / "deep"))


def test_of_many_rows_outside_the_root_twenty_are_shown_and_all_are_counted(music):
    (music / "m.csv").write_text("uri\n" + "".join(f"/etc/{number}.wav\n" for number in range(50)) + "a.wav\n")
    with pytest.raises(errors.ManifestError, match="50 bad rows: row 1: ") as refused:
        manifest.read(str(music / "m.csv"), input_root=str(music))
    assert str(refused.value).count("lies outside") == 20


def test_a_folder_that_stands_for_a_manifest_is_fenced_too(music):
    with pytest.raises(errors.ManifestError, match=r"1 bad row: row \d: .*out\.wav: lies outside"):
        manifest.read(str(music), input_root=str(music))
    (music / "out.wav").unlink()
    assert manifest.read(str(music), input_root=str(music)).tracks.num_rows == 3


def test_sources_are_http_only_where_that_is_allowed(tmp_path):
    (tmp_path / "m.csv").write_text("uri\nhttps://host/a.wav\n")
    with pytest.raises(errors.ManifestError, match="1 bad row: row 1: https://host/a.wav: https is read only with --allow-http"):
        manifest.read(str(tmp_path / "m.csv"))
    found = manifest.read(str(tmp_path / "m.csv"), allow_http=True)
    assert found.tracks.column("uri").to_pylist() == ["https://host/a.wav"]


def test_relative_sources_of_a_manifest_on_http_are_on_http():
    table = pa.table({"uri": ["../b/a.wav"]})
    found = manifest.check(table, "m", "https://host/lists", around=SourcePolicy(None, allow_http=True))
    assert found.tracks.column("uri").to_pylist() == ["https://host/b/a.wav"]


def test_a_manifest_is_http_only_where_that_is_allowed():
    with pytest.raises(
        errors.ManifestError, match=r"http://127\.0\.0\.1:9/m\.csv\?\.\.\.: http is read only with --allow-http"
    ) as refused:
        manifest.read("http://127.0.0.1:9/m.csv?sig=hush")
    assert "hush" not in str(refused.value)
