"""A catalog on an S3 server that is far away: 50 ms before every answer, 40 MB/s a connection; against the same on a disk.

    python tests/benchmarks/slow_s3.py FOLDER OUT

FOLDER holds the songs, OUT is a new folder. The server is moto's, in a process of its own, behind a proxy; all of it on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

LATENCY_S = 0.05
BYTES_PER_S = 40e6
PIECE = 1 << 16
HOST, SERVER_PORT, PROXY_PORT = "127.0.0.1", 15_901, 15_902


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
    """Copy one direction of a connection; what comes after a pause begins late."""
    before = 0.0
    while piece := await reader.read(PIECE):
        if late and time.monotonic() - before > LATENCY_S:
            await asyncio.sleep(LATENCY_S)
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(len(piece) / BYTES_PER_S)
        before = time.monotonic()
    writer.close()


async def _connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    far_reader, far_writer = await asyncio.open_connection(HOST, SERVER_PORT)
    await asyncio.gather(_pump(reader, far_writer, late=True), _pump(far_reader, writer, late=False), return_exceptions=True)


def _proxy() -> None:
    async def serve() -> None:
        async with await asyncio.start_server(_connected, HOST, PROXY_PORT) as server:
            await server.serve_forever()

    asyncio.run(serve())


def _server() -> None:
    from moto.server import ThreadedMotoServer

    ThreadedMotoServer(ip_address=HOST, port=SERVER_PORT, verbose=False).start()
    time.sleep(3600)


def _timed(source: str, out: str) -> float:
    from sep_batch.jobs.run.run import run_job

    summary = run_job(source, out, gpus="0")
    if summary.failed:
        raise SystemExit(f"failed: {dict(summary.failed)}")
    return summary.seconds


def main() -> None:
    """Run the catalog on the disk, then on the far server, and print both times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": f"http://{HOST}:{PROXY_PORT}",
    }
    others = [multiprocessing.Process(target=target, daemon=True) for target in (_server, _proxy)]
    for other in others:
        other.start()
    time.sleep(5)
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="songs")
    for path in sorted(given.folder.iterdir()):
        client.upload_file(str(path), "songs", f"in/{path.name}")
    seconds = {
        "disk_s": _timed(str(given.folder), str(given.out)),
        "s3_s": _timed("s3://songs/in", "s3://songs/out"),
    }
    sys.stdout.write(json.dumps({name: round(value, 1) for name, value in seconds.items()}) + "\n")
    for other in others:
        other.terminate()


if __name__ == "__main__":
    main()
