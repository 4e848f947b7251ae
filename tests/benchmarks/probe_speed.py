"""Headers of files on object storage, read by `manifest --probe`, beside plain ranged GETs of the same files by s3fs, in turn.

    python tests/benchmarks/probe_speed.py [--files 300] [--rounds 4] [--latency 0.0]

The server is a plain one on loopback, in a process of its own: it answers HEAD, ranged GET and list requests, and checks nothing.
Half of the files are MP3, half FLAC, of 20 to 23 seconds. The last line is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import http.server
import multiprocessing
import os
import re
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

from signals import noise

from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.manifest import probe, scan
from sep_batch.pipeline.storage.filesystems import filesystem_of
from sep_batch.pipeline.storage.threads import in_threads

BUCKET, PREFIX = "songs", "in"
CODECS = {"mp3": codecs.CODECS["mp3"][""], "flac": codecs.CODECS["flac"]["16"]}
DIFFERENT, SHORTEST_S = 8, 20.0


class Server(http.server.ThreadingHTTPServer):
    """Serves objects by name, each answer late by so many seconds."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self, objects: Mapping[str, bytes], latency_s: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects, self.latency_s, self.requests = objects, latency_s, Counter[str]()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does."""

    protocol_version, wbufsize = "HTTP/1.1", 1 << 16
    server: Server

    def do_GET(self) -> None:
        """Answer a list request, or with an object's bytes."""
        url = urlsplit(self.path)
        name = unquote(url.path).removeprefix(f"/{BUCKET}").strip("/")
        if name == "counts":
            content = " ".join(f"{count} {kind}" for kind, count in self.server.requests.items()).encode()
            self.server.requests.clear()
            self._answer(200, content)
        elif not name:
            self.server.requests["LIST"] += 1
            self._answer(200, self._listing())
        else:
            self.server.requests["GET"] += 1
            content = self.server.objects[name]
            asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
            begin, end = int(asked[1]), min(len(content), int(asked[2] or len(content)) + 1)
            span = f"bytes {begin}-{end - 1}/{len(content)}"
            self._answer(206, content[begin:end], **{"Content-Range": span, "ETag": '"etag"'})

    def do_HEAD(self) -> None:
        """Answer with an object's size."""
        self.server.requests["HEAD"] += 1
        content = self.server.objects.get(unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/"))
        if content is None:
            self._answer(404, b"")
            return
        modified = "Mon, 30 Nov 2026 00:00:00 GMT"
        self._answer(200, content, **{"ETag": '"etag"', "Last-Modified": modified})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _listing(self) -> bytes:
        entries = (
            f"<Contents><Key>{name}</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified><ETag>&quot;etag&quot;</ETag>"
            f"<Size>{len(content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, content in self.server.objects.items()
        )
        count = f"<KeyCount>{len(self.server.objects)}</KeyCount><IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult><Name>{BUCKET}</Name>{count}{''.join(entries)}</ListBucketResult>".encode()

    def _answer(self, status: int, content: bytes, **headers: str) -> None:
        time.sleep(self.server.latency_s)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/xml", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def serve(objects: Mapping[str, bytes], latency_s: float, ports: multiprocessing.Queue[int]) -> None:
    """Serve for as long as the parent lives."""
    server = Server(objects, latency_s)
    ports.put(server.server_port)
    server.serve_forever()


def files(count: int) -> dict[str, bytes]:
    """Return files by name, half of them MP3, half FLAC."""
    made = {}
    for kind, codec in CODECS.items():
        bitrate = 192_000 if kind == "mp3" else None
        for number in range(DIFFERENT):
            wave = 0.2 * noise(round((SHORTEST_S + number / 3) * 44_100), seed=number)
            made[kind, number] = encode(wave, codec, rate_hz=44_100, bitrate=bitrate)
    kinds = list(CODECS)
    return {f"{PREFIX}/{n:05d}.{kinds[n % 2]}": made[kinds[n % 2], n // 2 % DIFFERENT] for n in range(count)}


def get_each(names: list[str]) -> None:
    """Get the first bytes of each file, as `storage.open_ranges` has s3fs do, in as many threads as a probe."""

    def get(name: str) -> int:
        filesystem, path = filesystem_of(f"s3://{BUCKET}/{name}")
        return len(filesystem.cat_file(path, start=0, end=probe.HEAD_BYTES))

    assert all(in_threads(get, names))


def probe_each(count: int) -> None:
    """Probe the prefix as `sep-batch manifest --probe` does."""
    table, told = probe.probe(scan.scan([f"s3://{BUCKET}/{PREFIX}"]).table, lambda _: None)
    assert (table.num_rows, table.column("probed_s").null_count, told) == (count, 0, []), told


def rate(call: Callable[[], None], count: int) -> float:
    """Return how many files a second a call takes."""
    begun = time.monotonic()
    call()
    return count / (time.monotonic() - begun)


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--latency", type=float, default=0.0, help="Seconds before each of the server's answers.")
    given = parser.parse_args()
    objects, ports = files(given.files), multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(objects, given.latency, ports), daemon=True)
    server.start()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{ports.get()}",
    }
    rates: dict[str, list[float]] = {"GET": [], "probe": []}
    calls = {"GET": lambda: get_each(list(objects)), "probe": lambda: probe_each(given.files)}
    for number in range(given.rounds + 1):
        for name, call in calls.items():
            found = rate(call, given.files)
            counts = urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL_S3']}/{BUCKET}/counts").read().decode()
            sys.stdout.write(f"{name}: {found:.0f} files a second ({counts})\n")
            sys.stdout.flush()
            if number:  # the first round starts the decoders, and connects
                rates[name].append(found)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    told = ", ".join(f"{name} {found:.0f}" for name, found in medians.items())
    sys.stdout.write(f"files a second, medians: {told}; ratio {medians['probe'] / medians['GET']:.2f}\n")
    server.terminate()


if __name__ == "__main__":
    main()
