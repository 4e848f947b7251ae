"""What holds on S3, on Google Cloud Storage and on Azure Blob Storage alike."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import secrets
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import objects, retries, uris

ODD = "a b#c%25[1]*+é?"  # as it may stand in a key of S3 and Google; Azure's client would take ? for a query


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.01)
    yield
    storage.use({})


@pytest.fixture
def folder(cloud):
    """A prefix that holds nothing yet."""
    return f"{cloud.uri}/{secrets.token_hex(4)}"


def test_what_was_put_is_read_whole_by_ranges_and_as_a_source(folder):
    content, uri = bytes(range(256)) * 400, f"{folder}/deep/er/a.bin"
    storage.put(uri, memoryview(content))
    assert storage.read(uri) == content
    source, info = storage.open_source(uri)
    assert (source.read(), info, storage.exists(uri)) == (content, storage.info(uri), True)
    assert (info.bytes, abs(time.time() - info.modified.timestamp()) < 60) == (len(content), True)
    with storage.open_ranges(uri, len(content), 1000) as file:
        file.seek(50_000)
        assert file.read(3000) == content[50_000:53_000]


def test_an_empty_object_is_read(folder):
    storage.put(f"{folder}/a.bin", b"")
    assert storage.read(f"{folder}/a.bin") == b""
    assert storage.open_source(f"{folder}/a.bin")[0].read() == b""


def test_putting_over_an_object_replaces_it_whole_and_changes_its_etag(folder):
    etags = set()
    for content in (b"a long first content", b"short"):
        storage.put(f"{folder}/a.bin", content)
        assert storage.read(f"{folder}/a.bin") == content
        etags.add(storage.info(f"{folder}/a.bin").etag)
    assert (len(etags), None in etags) == (2, False)


@pytest.mark.parametrize("size", [0, 6 << 20])  # gcsfs puts more than 5 MiB by a resumable upload
def test_a_file_is_put_whole_twice(folder, size, tmp_path):
    (tmp_path / "file").write_bytes(secrets.token_bytes(size))
    for _ in range(2):
        storage.put_file(f"{folder}/a.bin", tmp_path / "file")
    assert storage.read(f"{folder}/a.bin") == (tmp_path / "file").read_bytes()


def test_a_key_of_odd_characters_is_the_key(folder):
    name = ODD.rstrip("?") if folder.startswith("az") else ODD
    storage.put(f"{folder}/{name}/{name}", b"odd")
    assert storage.read(f"{folder}/{name}/{name}") == b"odd"
    assert [info.uri for info in storage.find(folder)] == [f"{folder}/{name}/{name}"]
    storage.remove(f"{folder}/{name}")
    assert list(storage.find(folder)) == []


def test_what_is_not_there_is_not_found(folder):
    uri = f"{folder}/absent.bin"
    assert (storage.exists(uri), storage.is_folder(uri)) == (False, False)
    for call in (storage.read, storage.info, storage.open_source):
        with pytest.raises(errors.NotFound, match=r"absent\.bin: not found"):
            call(uri)
    storage.remove(uri)


def test_a_prefix_is_a_folder_and_no_object(folder):
    storage.put(f"{folder}/a/b.bin", b"x")
    assert storage.is_folder(f"{folder}/a")
    assert storage.is_folder(folder.rpartition("/")[0])
    assert not storage.is_folder(f"{folder}/a/b.bin")
    with pytest.raises(errors.NotFound):
        storage.info(f"{folder}/a")


def test_a_listing_comes_by_pages_in_order_and_says_what_info_says(folder, monkeypatch):
    names = [f"pages/{number}.bin" for number in range(4)] + ["pages/4/deep.bin"]
    for name in names:
        storage.put(f"{folder}/{name}", name.encode())
    storage.put(f"{folder}/pages2.bin", b"beside")
    monkeypatch.setattr(objects, "PAGE_OBJECTS", 2)
    asked, kind = [], type(objects.bucket_of(folder)[0])
    page = kind.page
    monkeypatch.setattr(kind, "page", lambda *args: asked.append(args) or page(*args))
    found = list(storage.find(f"{folder}/pages/"))
    assert [info.uri for info in found] == [f"{folder}/{name}" for name in names]
    assert len(asked) == 3
    assert found == [storage.info(info.uri) for info in found]
    assert list(storage.find(f"{folder}/page")) == []


def test_a_pattern_is_expanded_in_order_and_in_its_own_scheme(cloud, folder):
    for name in ("b.wav", "a.wav", "c.txt", "deeper/d.wav"):
        storage.put(f"{folder}/{name}", b"x")
    scheme, _, path = folder.partition("://")
    for other in {"gs": ("gs", "gcs"), "az": ("az", "abfs", "abfss")}.get(scheme, (scheme,)):
        storage.use({f"{other}://": options for options in cloud.options.values()})
        found = storage.expand(f"{other}://{path}/*.wav")
        assert [info.uri for info in found] == [f"{other}://{path}/a.wav", f"{other}://{path}/b.wav"]
        assert found == [storage.info(info.uri) for info in found]
        assert found == list(storage.find(f"{other}://{path}"))[:2]
    storage.use(cloud.options)
    assert storage.expand(f"{folder}/*.mp3") == []


def test_of_eight_that_create_one_object_at_once_one_wins(folder):
    for number in range(3):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda who, uri=f"{folder}/{number}.json": storage.create(uri, b"%d" % who), range(8)))
        assert sum(won) == 1
        assert storage.read(f"{folder}/{number}.json") == b"%d" % won.index(True)
        assert storage.create(f"{folder}/{number}.json", b"%d" % won.index(True))  # ours, whose answer was lost


def test_a_prefix_is_removed_by_pages_with_all_it_holds_and_nothing_beside_it(folder, monkeypatch):
    monkeypatch.setattr(objects, "PAGE_OBJECTS", 2)
    for name in ("a", *(f"a/{number}.bin" for number in range(5)), "a/c/d.bin", "ab.bin", "x/1", "[x]/1"):
        storage.put(f"{folder}/{name}", b"x")
    for name in ("a", "a", "[x]"):
        storage.remove(f"{folder}/{name}")
    assert [uris.name(info.uri) for info in storage.find(folder)] == ["ab.bin", "1"]


def test_many_that_remove_one_prefix_at_once_all_succeed(folder):
    for number in range(20):
        storage.put(f"{folder}/a/{number}", b"x")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(storage.remove, [f"{folder}/a"] * 4))
    assert list(storage.find(folder)) == []


READS = {
    "info": storage.info,
    "exists": storage.exists,
    "read": storage.read,
    "open_source": storage.open_source,
    "open_ranges": lambda uri: storage.open_ranges(uri, 10).read(),
    "is_folder": storage.is_folder,
    "find": lambda uri: list(storage.find(uri)),
    "expand": lambda uri: storage.expand(f"{uri}*"),
}
WRITES = {
    "put": lambda uri: storage.put(uri, b"x"),
    "put_file": lambda uri: storage.put_file(uri, Path(__file__)),
    "create": lambda uri: storage.create(uri, b"x"),
    "remove": storage.remove,
}


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_a_bucket_that_is_not_there_is_the_storages_fault_in_every_call(cloud, name):
    uri = f"{cloud.uri.partition('://')[0]}://no-such-bucket/a.bin"
    with pytest.raises(errors.StorageUnusable, match="NoSuchBucket|ContainerNotFound") as raised:
        (READS | WRITES)[name](uri)
    assert raised.type is (errors.OutUnusable if name in WRITES else errors.StorageUnusable)


@pytest.mark.parametrize("key", [base64.b64encode(b"0" * 64).decode(), "no-base64!"])
@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_a_wrong_key_of_azure_is_the_storages_fault_in_every_call(az_server, name, key):
    options = dict(az_server.options["az://"])
    before, _, rest = options["connection_string"].partition("AccountKey=")
    options["connection_string"] = f"{before}AccountKey={key};{rest.partition(';')[2]}"
    storage.use({"az://": options})
    with pytest.raises(errors.StorageUnusable) as raised:
        (READS | WRITES)[name](f"{az_server.uri}/a.bin")
    assert key not in str(raised.value)


class Answer(http.server.BaseHTTPRequestHandler):
    """A server that gives one answer to every request, and counts them."""

    def do_GET(self):
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, code = self.server.answer
        time.sleep(self.server.seconds)
        google = json.dumps({"error": {"code": status, "message": code}})
        azure = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        kind, text = ("xml", azure) if "x-ms-version" in self.headers else ("json", google)
        body = text.encode()
        self.send_response(status)
        for name, value in (
            ("x-ms-error-code", code),
            ("Content-Type", f"application/{kind}"),
            ("Content-Length", str(len(body))),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (named by http.server)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def answering(status, code, seconds=0.0):
    """Have every request to Google and to Azure answered so, after so many seconds."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.answer, server.seconds, server.requests = (status, code), seconds, 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    text = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=AAAA;BlobEndpoint={endpoint}/a;"
    storage.use({"gs://": {"endpoint_url": endpoint, "token": "anon"}, "az://": {"connection_string": text}})
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ANSWERS = [
    ("gs", 401, "Invalid Credentials", errors.StorageUnusable),
    ("gs", 401, "Anonymous caller does not have storage.objects.get access", errors.StorageUnusable),
    ("gs", 403, "No storage.objects.get access", errors.AccessDenied),
    ("gs", 400, "invalid", errors.FetchTimeout),
    ("gs", 503, "Backend Error", errors.FetchTimeout),
    ("az", 403, "AuthenticationFailed", errors.StorageUnusable),
    ("az", 401, "NoAuthenticationInformation", errors.StorageUnusable),
    ("az", 403, "AccountIsDisabled", errors.StorageUnusable),
    ("az", 403, "AuthorizationPermissionMismatch", errors.AccessDenied),
    ("az", 409, "BlobArchived", errors.Archived),
    ("az", 409, "BlobBeingRehydrated", errors.Archived),
    ("az", 503, "ServerBusy", errors.FetchTimeout),
]


@pytest.mark.parametrize(("scheme", "status", "code", "kind"), ANSWERS)
def test_what_a_server_answers_becomes_one_of_ours_and_only_what_may_pass_is_asked_again(scheme, status, code, kind):
    with answering(status, code) as server:
        begun = time.monotonic()
        with pytest.raises(errors.TrackError) as raised:
            storage.read(f"{scheme}://bucket/a.bin")
        assert (raised.type, server.requests) == (kind, retries.TRIES if kind is errors.FetchTimeout else 1)
        assert time.monotonic() - begun < 10  # no client waits between tries of its own
        with pytest.raises(errors.TrackError) as raised:
            storage.put(f"{scheme}://bucket/a.bin", b"x")
        assert raised.type is (errors.OutUnusable if kind is errors.StorageUnusable else errors.WriteFailed)


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_server_that_does_not_answer_is_told_soon(scheme):
    with answering(503, "gone"):
        pass
    begun = time.monotonic()
    with retries.brief(), pytest.raises(errors.FetchTimeout):
        storage.read(f"{scheme}://bucket/a.bin")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_server_that_stalls_is_not_waited_for_for_ever(scheme, monkeypatch):
    monkeypatch.setattr(storage.filesystems, "_READ_S", 0.5)
    with answering(404, "BlobNotFound", seconds=5), retries.brief(1), pytest.raises(errors.FetchTimeout):
        storage.read(f"{scheme}://bucket/a.bin")


PACKAGES = {"gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs"), "az": ("adlfs", "azure"), "abfs": ("adlfs", "azure")}


@pytest.mark.parametrize("scheme", PACKAGES)
def test_a_package_that_is_missing_is_the_storages_fault_and_named_with_its_extra(scheme, monkeypatch):
    package, extra = PACKAGES[scheme]
    monkeypatch.setitem(sys.modules, package, None)
    for call, kind in ((storage.read, errors.StorageUnusable), (lambda uri: storage.put(uri, b""), errors.OutUnusable)):
        with pytest.raises(
            errors.StorageUnusable, match=rf"{package} .*; install the extra {extra}: .*pip install .*'{package}>=20"
        ) as raised:
            call(f"{scheme}://bucket/a.bin")
        assert raised.type is kind


@pytest.mark.parametrize("options", [{}, {"connection_string": "no-connection-string"}, {"account_name": "a", "account_key": 5}])
def test_what_azures_client_does_not_take_is_the_storages_fault_and_no_secret_is_shown(options, monkeypatch):
    for name in ("ACCOUNT_NAME", "ACCOUNT_KEY", "CONNECTION_STRING", "SAS_TOKEN", "CLIENT_ID"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    storage.use({"az://": options})
    with pytest.raises(errors.StorageUnusable, match="az://") as raised:
        storage.read("az://bucket/a.bin")
    assert "no-connection-string" not in str(raised.value)


def test_a_token_of_google_that_is_no_token_is_not_shown(monkeypatch):
    import requests

    def refused(url, params, **_):
        raise requests.exceptions.ConnectionError(f"{url}?access_token={params['access_token'].replace('/', '%2F')}")

    monkeypatch.setattr(requests, "get", refused)
    storage.use({"gs://": {"token": "/hidden/key.json"}})
    with retries.brief(1), pytest.raises(errors.TrackError, match="gs://bucket/a.bin") as raised:
        storage.read("gs://bucket/a.bin")
    assert "hidden" not in str(raised.value)
