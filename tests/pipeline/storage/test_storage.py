from __future__ import annotations

import errno
import io
import os
import secrets
from pathlib import Path

import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import uris


@pytest.fixture(params=["disk", "file", "memory"])
def folder(request, tmp_path):
    """A folder of each kind that needs no server."""
    return {"disk": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{secrets.token_hex(4)}"}[request.param]


def files_below(path):
    return sorted(str(found.relative_to(path)) for found in Path(path).rglob("*") if found.is_file())


def test_what_was_put_is_read(folder):
    uri = f"{folder}/deep/er/a.bin"
    storage.put(uri, b"content")
    assert storage.read(uri) == b"content"
    assert storage.exists(uri)
    assert storage.info(uri).bytes == 7
    source, found = storage.open_source(uri)
    with source:
        assert source.read() == b"content"
    assert found.bytes == 7


def test_putting_over_an_object_replaces_it_whole(folder):
    uri = f"{folder}/a.bin"
    storage.put(uri, b"a long first content")
    storage.put(uri, b"short")
    assert storage.read(uri) == b"short"


def test_nothing_else_is_left_after_a_put(tmp_path):
    storage.put(f"{tmp_path}/a/b.bin", b"x")
    storage.put(f"{tmp_path}/a/c.bin", b"x", scratch=f"{tmp_path}/scratch")
    assert files_below(tmp_path) == ["a/b.bin", "a/c.bin"]


def test_a_put_goes_through_the_scratch_folder_and_is_moved_whole(tmp_path, monkeypatch):
    seen, replace = [], Path.replace

    def watched(self, target):
        seen.append((self.parent, self.read_bytes(), Path(target)))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    storage.put(f"{tmp_path}/a.bin", b"x", scratch=f"{tmp_path}/scratch")
    assert seen == [(tmp_path / "scratch", b"x", tmp_path / "a.bin")]


def test_a_put_that_breaks_off_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    storage.put(f"{tmp_path}/a.bin", b"before")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.StorageUnusable, match=r"a\.bin: .*No space left on device"):
        storage.put(f"{tmp_path}/a.bin", b"after")
    assert files_below(tmp_path) == ["a.bin"]
    assert storage.read(f"{tmp_path}/a.bin") == b"before"


def test_what_is_not_there_is_not_found(folder):
    uri = f"{folder}/absent.bin"
    assert not storage.exists(uri)
    for call in (storage.read, storage.info, storage.open_source):
        with pytest.raises(errors.NotFound, match=r"absent\.bin: not found"):
            call(uri)


def test_a_folder_is_no_object(tmp_path):
    assert storage.is_folder(str(tmp_path))
    assert not storage.exists(str(tmp_path))
    for call in (storage.read, storage.info, storage.open_source):
        with pytest.raises(errors.NotFound):
            call(str(tmp_path))


def test_a_path_below_a_file_is_not_found(tmp_path):
    (tmp_path / "file").write_text("x")
    assert not storage.exists(f"{tmp_path}/file/a.wav")
    with pytest.raises(errors.NotFound):
        storage.read(f"{tmp_path}/file/a.wav")


def test_what_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.WriteFailed, match="file/a.bin"):
        storage.put(f"{tmp_path}/file/a.bin", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_denied(tmp_path):
    (tmp_path / "a.bin").write_text("x")
    (tmp_path / "a.bin").chmod(0)
    with pytest.raises(errors.AccessDenied, match=r"a\.bin: access denied"):
        storage.read(str(tmp_path / "a.bin"))


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (FileNotFoundError(), errors.NotFound),
        (PermissionError(13, "Permission denied"), errors.AccessDenied),
        (TimeoutError("slow"), errors.FetchTimeout),
        (ConnectionResetError("reset"), errors.FetchTimeout),
        (OSError(5, "Input/output error"), errors.FetchTimeout),
    ],
)
def test_what_storage_raises_becomes_one_of_ours_and_names_the_object(tmp_path, monkeypatch, raised, error):
    from fsspec.implementations.local import LocalFileSystem

    def broken(*_args, **_options):
        raise raised

    monkeypatch.setattr(LocalFileSystem, "cat_file", broken)
    with pytest.raises(error, match="a.bin"):
        storage.read(f"{tmp_path}/a.bin")


def test_a_mistake_of_ours_is_not_taken_for_one_of_storage(tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    monkeypatch.setattr(LocalFileSystem, "cat_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        storage.read(f"{tmp_path}/a.bin")


def test_a_big_source_is_opened_by_ranges(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.reading, "WHOLE_READ_BYTES", 3)
    storage.put(f"{tmp_path}/a.bin", b"content")
    source, found = storage.open_source(f"{tmp_path}/a.bin")
    with source:
        source.seek(3)
        assert source.read(2) == b"te"
        assert source.seekable()
    assert found.bytes == 7


def test_the_etag_on_a_disk_is_the_time_of_the_change_and_the_size(tmp_path):
    storage.put(f"{tmp_path}/a.bin", b"x")
    os.utime(tmp_path / "a.bin", (0, 1_000_000_000.5))
    first = storage.info(f"{tmp_path}/a.bin").etag
    assert first == "2001-09-09T01:46:40.500000+00:00 1"
    os.utime(tmp_path / "a.bin", (0, 1_000_000_001.5))
    assert storage.info(f"{tmp_path}/a.bin").etag != first
    storage.put(f"{tmp_path}/a.bin", b"xx")
    os.utime(tmp_path / "a.bin", (0, 1_000_000_000.5))
    assert storage.info(f"{tmp_path}/a.bin").etag != first


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://host/a.wav",
        "https://user:hush@host/a.wav",
        "ftp://user:hush@host/a.wav",
        "s3://key:hush@bucket/a.wav",
        "gs://hush@bucket/a.wav",
        "simplecache::s3://bucket/a.wav",
        "simplecache::s3://key:hush@bucket/a.wav",
        "s3://bucket/a.zip::memory://x",
        "zip://a.wav::s3://key:hush@bucket/a.zip",
        "data://hush",
    ],
)
def test_a_uri_that_is_not_read_is_refused_without_its_secret(uri):
    for call in (storage.read, storage.info, storage.open_source, storage.exists, lambda uri: list(storage.find(uri))):
        with pytest.raises(errors.BadUri) as caught:
            call(uri)
        assert "hush" not in str(caught.value) or "@" not in uri
    with pytest.raises(errors.BadUri):
        storage.put(uri, b"x")


@pytest.mark.parametrize("scheme", uris.HTTP)
def test_nothing_is_written_to_the_web(scheme, tmp_path):
    for call in (storage.put, storage.create):
        with pytest.raises(errors.BadUri, match="--allow-http"):
            call(f"{scheme}://127.0.0.1:9/a.wav", b"x")
    with pytest.raises(errors.BadUri):
        storage.remove(f"{scheme}://127.0.0.1:9/a.wav")


def test_find_lists_all_below_in_the_order_of_their_names(folder):
    wanted = ["B.bin", "a b.bin", "a.bin", "a/b.bin", "a/c/d.bin", "\u00e9.bin"]
    for name in reversed(wanted):
        storage.put(f"{folder}/top/{name}", name.encode())
    storage.put(f"{folder}/top2/x.bin", b"x")
    found = list(storage.find(f"{folder}/top"))
    assert [storage.read(info.uri).decode() for info in found] == sorted(wanted)
    assert [info.bytes for info in found] == [len(name.encode()) for name in sorted(wanted)]
    assert [info.uri for info in found] == [f"{folder}/top/{name}" for name in sorted(wanted)]


def test_find_below_nothing_finds_nothing(folder):
    assert list(storage.find(f"{folder}/absent")) == []


def test_a_listing_says_of_each_object_what_asking_for_it_says(folder, tmp_path):
    storage.put(f"{folder}/a.bin", b"x")
    if not folder.startswith("memory"):
        (tmp_path / "aim").write_bytes(b"beyond")
        (tmp_path / "link.bin").symlink_to(tmp_path / "aim")
        os.utime(tmp_path / "link.bin", (1e9, 1e9), follow_symlinks=False)
        os.utime(tmp_path / "aim", (1.5e9, 1.5e9))
    assert [storage.info(found.uri) for found in storage.find(folder)] == list(storage.find(folder))


def test_a_listing_follows_no_link_to_a_folder_and_tells_of_links_to_nowhere(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    for name, aim in (("lost.bin", "nowhere"), ("self.bin", "self.bin")):
        (tmp_path / name).symlink_to(aim)
    assert list(storage.find(str(tmp_path))) == [storage.Info(f"{tmp_path}/{name}.bin", 0, None) for name in ("lost", "self")]


@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_a_file_read_by_ranges_is_the_file(folder, size):
    content = bytes(range(256)) * 400
    storage.put(f"{folder}/a.bin", content[:size])
    with storage.open_ranges(f"{folder}/a.bin", size, 1000) as file:
        assert file.read() == content[:size]
        file.seek(size // 2)
        assert file.read(3000) == content[size // 2 :][: min(3000, size - size // 2)]


def test_a_file_of_known_size_that_is_read_by_ranges_costs_one_request_a_range(s3, monkeypatch):
    storage.put(f"{s3}/ranges.bin", content := bytes(range(250)) * 10)
    asked, call = [], s3fs.S3FileSystem._call_s3

    async def counted(self, method, *args, **options):
        asked.append((method, options.get("Range")))
        return await call(self, method, *args, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    with storage.open_ranges(f"{s3}/ranges.bin", len(content), 1000) as file:
        assert file.read(1000) == content[:1000]
        file.seek(-400, io.SEEK_END)
        assert file.read() == content[-400:]
        file.seek(10)
        assert file.read(20) == content[10:30]
    assert asked == [("get_object", "bytes=0-999"), ("get_object", "bytes=2000-2499")]


def test_a_pattern_is_expanded_in_order(tmp_path):
    for name in ("b.wav", "a.wav", "c.txt"):
        storage.put(f"{tmp_path}/{name}", b"x")
    found = storage.expand(f"{tmp_path}/*.wav")
    assert [info.uri for info in found] == [f"{tmp_path}/a.wav", f"{tmp_path}/b.wav"]
    assert found == [storage.info(info.uri) for info in found]


def test_a_folder_is_removed_with_all_it_holds_and_nothing_beside_it(folder):
    for name in ("a/b.bin", "a/c/d.bin", "ab.bin"):
        storage.put(f"{folder}/{name}", b"x")
    storage.remove(f"{folder}/a")
    storage.remove(f"{folder}/a")
    assert [uris.name(found.uri) for found in storage.find(folder)] == ["ab.bin"]


def fails_once(monkeypatch, kind, name, does):
    """Have another process do something right before a call of a class, which then does not find its file."""
    whole, left = getattr(kind, name), [does]

    def call(*arguments, **options):
        if left:
            left.pop()()
            raise FileNotFoundError(2, "No such file or directory")
        return whole(*arguments, **options)

    monkeypatch.setattr(kind, name, call)


@pytest.mark.parametrize("left", [["b.bin"], []], ids=["some of it", "all of it"])
def test_what_another_process_removes_at_the_same_time_is_removed(left, tmp_path, monkeypatch):
    for name in ("a.bin", "b.bin"):
        storage.put(f"{tmp_path}/x/{name}", b"x")

    def other():
        for path in (tmp_path / "x").iterdir():
            if path.name not in left:
                path.unlink()
        if not left:
            (tmp_path / "x").rmdir()

    fails_once(monkeypatch, LocalFileSystem, "rm", other)
    storage.remove(f"{tmp_path}/x")
    assert not (tmp_path / "x").exists()


def test_what_another_process_adds_at_the_same_time_is_removed_too(tmp_path, monkeypatch):
    storage.put(f"{tmp_path}/x/a.bin", b"x")
    rmdir, left = os.rmdir, ["b.bin"]

    def add_first(path, **options):
        if left:
            storage.put(f"{tmp_path}/x/{left.pop()}", b"x")
        return rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", add_first)
    storage.remove(f"{tmp_path}/x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTEMPTY])
def test_a_folder_that_can_never_be_removed_is_an_error(tmp_path, monkeypatch, number):
    def rm(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(LocalFileSystem, "rm", rm)
    with pytest.raises(errors.WriteFailed):
        storage.remove(str(tmp_path))


def test_an_object_that_is_there_and_removed_before_it_is_read_was_not_created(tmp_path, monkeypatch):
    uri = f"{tmp_path}/1.json"
    assert storage.create(uri, b"theirs")
    fails_once(monkeypatch, LocalFileSystem, "cat_file", (tmp_path / "1.json").unlink)
    assert not storage.create(uri, b"ours")


def test_a_file_that_is_removed_while_a_pattern_is_expanded_is_listed_as_a_folder_lists_it(tmp_path, monkeypatch):
    for name in ("a.wav", "b.wav"):
        storage.put(f"{tmp_path}/{name}", b"x")
    glob = LocalFileSystem.glob

    def globbed(self, path, **options):
        found = glob(self, path, **options)
        (tmp_path / "a.wav").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(LocalFileSystem, "glob", globbed)
    gone, there = storage.expand(f"{tmp_path}/*.wav")
    assert (gone, there.bytes) == (storage.Info(f"{tmp_path}/a.wav", 0, None), 1)


def test_a_remote_folder_is_brought_here_once_for_each_uri(tmp_path):
    folder = f"memory://{secrets.token_hex(4)}"
    storage.put(f"{folder}/model.safetensors", b"weights")
    storage.put(f"{folder}/weights.sha256", b"hash")
    here = storage.bring(folder, tmp_path)
    assert here.parent == tmp_path
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {
        "model.safetensors": b"weights",
        "weights.sha256": b"hash",
    }
    assert storage.bring(folder, tmp_path) == here
    assert storage.bring(f"{folder}x", tmp_path) != here


@pytest.mark.parametrize("opened", [storage.open_source, lambda uri: storage.open_ranges(uri, 3)])
def test_a_pipe_or_device_is_refused_and_not_waited_for(tmp_path, opened):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        with pytest.raises(errors.BadUri, match="expected a file"):
            opened(str(path))
