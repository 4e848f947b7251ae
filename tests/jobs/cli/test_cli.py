"""The command line: every flag changes something, every mistake is one clear line and its exit code."""

from __future__ import annotations

import functools
import http.server
import inspect
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import decoded, write_tone
from channel_files import tones, wav
from project_files import TESTS
from signals import RATE_HZ, tone
from tagged_files import VALUES, png, read_back, tagged
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.cli.run import run
from sep_batch.jobs.engine import choice
from sep_batch.model.separator import Separator
from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import codecs, containers
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.audio.tags import MAX_COVER_BYTES
from sep_batch.pipeline.out import index, lease
from sep_batch.pipeline.stages import analyze
from sep_batch.pipeline.storage import retries

SECONDS = 0.5


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def subprocess_run(*arguments, folder, timeout=60):
    """Run the command line as a user does, in a folder."""
    command = [sys.executable, "-m", "sep_batch.jobs", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def catalog(tmp_path):
    """A manifest of two tones, with a second column of URIs and of ids, beside its files."""
    for hz in (300, 500):
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz, SECONDS)
    table = pa.table({"uri": ["songs/300.wav", "songs/500.wav"], "where": ["songs/500.wav"] * 2, "key": ["x", "y"]})
    pyarrow.parquet.write_table(table, tmp_path / "songs.parquet")
    return tmp_path / "songs.parquet"


def rows(out):
    """Return the index's rows."""
    return index.read(str(out)).to_pylist()


def stem(out, place=0):
    """Return the first stem of a row, as the index says and as bytes."""
    found = rows(out)[place]["stems"][0]
    return found, (Path(out) / found["uri"]).read_bytes()


def default_run(catalog, tiny, out):
    assert call("run", catalog, "-o", out, "-p", tiny).exit_code == 0
    return stem(out)


def run_with(catalog, tiny, out, *flags):
    told = call("run", catalog, "-o", out, "-p", tiny, *flags)
    assert told.exit_code == 0, told.output
    return told


def check_out(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "elsewhere")
    assert (tmp / "elsewhere" / "index.parquet").exists()


def check_model(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o")
    assert rows(tmp / "o")[0]["model"] == "2stems"


def check_gpus(catalog, tiny, tmp, local):
    told = call("run", catalog, "-o", tmp / "o", "-p", tiny, "--gpus", "64")
    assert told.exit_code == 5
    assert "--gpus 64: found" in told.output


def check_cpus(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "a", "--cpus", 1)
    run_with(catalog, tiny, tmp / "b", "--cpus", 16)
    assert local[0].separate.threads < local[1].separate.threads


def check_format(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--format", "mp3")
    found, content = stem(tmp / "o")
    assert found["codec"] == "libmp3lame"
    assert containers.container_of(content) == "mp3"


def check_bit_depth(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--bit-depth", "24")
    assert len(stem(tmp / "o")[1]) > len(default_run(catalog, tiny, tmp / "p")[1])


def check_bitrate(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "a", "-c", "mp3", "-b", "64k")
    run_with(catalog, tiny, tmp / "b", "-c", "mp3", "-b", "256k")
    assert 2 * len(stem(tmp / "a")[1]) < len(stem(tmp / "b")[1])


def check_sample_rate(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--sample-rate", "16000")
    found, content = stem(tmp / "o")
    assert (found["sample_rate_hz"], found["channels"], found["frames"]) == (16_000, 2, SECONDS * 16_000)
    assert decoded(content, rate_hz=16_000).rate_hz == 16_000


def check_mono(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--mono")
    found, content = stem(tmp / "o")
    assert (found["sample_rate_hz"], found["channels"]) == (44_100, 1)
    assert decoded(content).channels == 1


def check_downmix(catalog, tiny, tmp, local):
    path = tmp / "five.wav"
    path.write_bytes(wav(tones(6), ("FL", "FR", "FC", "LFE", "BL", "BR")))
    default = [run_with(path, tiny, tmp / "o"), stem(tmp / "o")[1]][1]
    for how in ("itu", "first-two"):
        run_with(path, tiny, tmp / how, "--downmix", how)
        assert (stem(tmp / how)[1] == default) == (how == "itu")
    told = call("run", path, "-o", tmp / "p", "-p", tiny, "--downmix", "loudest")
    assert told.exit_code == 2
    assert "--downmix loudest: expected one of itu, first-two" in told.output


def check_precision(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--precision", "bfloat16")
    assert rows(tmp / "o")[0]["precision"] == "bfloat16"
    assert stem(tmp / "o")[1] != default_run(catalog, tiny, tmp / "p")[1]


def check_stft(catalog, tiny, tmp, local):
    with pytest.MonkeyPatch.context() as patch:
        seen, whole = [], Separator.separate_parts
        patch.setattr(
            Separator,
            "separate_parts",
            lambda self, parts, *stems, **options: seen.extend(parts) or whole(self, parts, *stems, **options),
        )
        run_with(catalog, tiny, tmp / "o", "--stft", "gpu")
    assert all(part.is_wave for part in seen)
    assert stem(tmp / "o")[1] == default_run(catalog, tiny, tmp / "p")[1]


def check_no_analysis(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--no-analysis")
    (found, content), (analysed, same) = stem(tmp / "o"), default_run(catalog, tiny, tmp / "p")
    assert content == same
    names = ("levels_dbfs", "active_ratio", "active_regions", "width")
    assert found == analysed | dict.fromkeys(names)
    assert None not in [analysed[name] for name in names]
    assert call("run", catalog, "-o", tmp / "o", "-p", tiny).exit_code == 0  # it is not a setting


def check_scratch(catalog, tiny, tmp, local):
    long = write_tone(tmp / "long.wav", seconds=25)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyze, "PATCHES_PER_PART", 1)
        run_with(long, tiny, f"memory://{tmp.name}", "--scratch", tmp / "scratch")
    assert list(tmp.glob("scratch")) == [tmp / "scratch"]
    assert not list((tmp / "scratch").iterdir())


def check_filename(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "-f", "{foldername}/{filename}-{stem}.{ext}")
    assert (tmp / "o" / "stems" / "songs" / "300-vocals.flac").exists()


def check_stems(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--stems", "accompaniment")
    assert [[found["stem"] for found in row["stems"]] for row in rows(tmp / "o")] == [["accompaniment"]] * 2


def check_mask_extension(catalog, tiny, tmp, local):
    path = tmp / "high.wav"
    path.write_bytes(encode(0.3 * tone(15_000, 2 * RATE_HZ), codecs.CODECS["wav"]["16"], rate_hz=RATE_HZ))
    levels = {}
    for rule in ("zeros", "average", None):
        run_with(path, tiny, tmp / f"{rule}", *(() if rule is None else ("--mask-extension", rule)))
        (row,) = rows(tmp / f"{rule}")
        levels[rule] = (row["settings_sha256"], [stem["rms_dbfs"] for stem in row["stems"]])
    assert levels[None] == levels["zeros"]  # the model's own rule makes no other settings
    assert min(levels["average"][1]) > max(levels["zeros"][1]) + 20
    result = call("run", path, "--model", tiny, "--out", tmp / "refused", "--mask-extension", "full")
    assert (result.exit_code, "--mask-extension full: expected one of zeros, average" in result.output) == (2, True)


def check_mwf(catalog, tiny, tmp, local):
    contents = []
    for number, flags in enumerate(((), ("--mwf",))):
        run_with(catalog, tiny, tmp / f"o{number}", *flags)
        contents.append([stem["sha256"] for row in rows(tmp / f"o{number}") for stem in row["stems"]])
    assert not set(contents[0]) & set(contents[1])


def check_residual(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--residual", "rest")
    for row in rows(tmp / "o"):
        assert [stem["stem"] for stem in row["stems"]] == ["vocals", "accompaniment", "rest"]
    for name, flags, expected in (
        ("rest", ("--format", "mp3"), "mp3 is lossy"),
        ("rest", ("--mono",), "--mono changes each stem"),
        ("rest", ("--sample-rate", 22050), "--sample-rate changes each stem"),
        ("vocals", (), "expected two or more different names"),
        ("a/b", (), "expected names of letters"),
    ):
        result = call("run", catalog, "--model", tiny, "--out", tmp / "refused", "--residual", name, *flags)
        assert (result.exit_code, f"--residual {name}: " in result.output, expected in result.output) == (2, True, True)


def check_write_mix(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--write-mix", "--residual", "rest")
    for row in rows(tmp / "o"):
        assert [stem["stem"] for stem in row["stems"]] == ["vocals", "accompaniment", "rest", "mix"]
        waves = [decoded((tmp / "o" / stem["uri"]).read_bytes()).wave * 32_768 for stem in row["stems"]]
        assert (sum(waves[:3]) == waves[3]).all()


def check_copy_tags(catalog, tiny, tmp, local):
    (tmp / "tagged").mkdir()
    (tmp / "tagged" / "a.mp3").write_bytes(tagged("mp3", cover=png(), samples=50_000))
    (tmp / "tagged" / "b.flac").write_bytes(tagged("flac", cover=b"GIF89a", values={"title": "x"}, samples=50_000))
    output = run_with(tmp / "tagged", tiny, tmp / "o", "--copy-tags", "--format", "m4a").output
    assert "lack tags" not in output
    for row in rows(tmp / "o"):
        names, cover = (VALUES, png()) if row["uri"].endswith("mp3") else ({"title": "x"}, b"")
        for own in row["stems"]:
            assert read_back((tmp / "o" / own["uri"]).read_bytes(), "m4a", names) == (names, cover)
        assert row["tags_warning"] is None
    (tmp / "tagged" / "c.flac").write_bytes(tagged("flac", cover=png(2, MAX_COVER_BYTES), samples=50_000))
    again = run_with(tmp / "tagged", tiny, tmp / "o", "--copy-tags", "--format", "m4a").output
    assert "1 of the separated tracks lack tags or the cover: see tags_warning in the index" in again


def check_tag_provenance(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--tag-provenance")
    row, names = rows(tmp / "o")[0], ("SEP_BATCH_ID", "SEP_BATCH_MODEL", "SEP_BATCH_STEM", "SEP_BATCH_WEIGHTS_SHA256")
    for own in row["stems"]:
        values, _ = read_back((tmp / "o" / own["uri"]).read_bytes(), "flac", names)
        assert tuple(values.values()) == (row["id"], row["model"], own["stem"], row["weights_sha256"])


def check_limit(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--limit", 1)
    assert len(rows(tmp / "o")) == 1


def check_sample(catalog, tiny, tmp, local):
    result = call("run", catalog, "--model", tiny, "--out", tmp / "o", "--gpus", 0, "--sample", 1)
    assert (result.exit_code, len(rows(tmp / "o"))) == (0, 1)
    assert "a sample of 1 of 2 tracks; the same command without --sample separates the others too" in result.output
    (first,) = rows(tmp / "o")
    run_with(catalog, tiny, tmp / "o", "--sample", 2)  # more than one: the sample holds the smaller one
    assert first in rows(tmp / "o")
    assert len(rows(tmp / "o")) == 2
    result = call("run", catalog, "--model", tiny, "--out", tmp / "refused", "--sample", 2, "--limit", 1)
    assert (result.exit_code, "--sample 2: also --limit 1; leave one of them out" in result.output) == (2, True)


def check_restore(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o")
    (tmp / "ids").write_text(f"{rows(tmp / 'o')[0]['id']}\n")
    assert call("withdraw", tmp / "o", "--ids", tmp / "ids", "--why", "claim").exit_code == 0
    run_with(catalog, tiny, tmp / "o")
    assert sorted(row["status"] for row in rows(tmp / "o")) == ["ok", "withdrawn"]
    run_with(catalog, tiny, tmp / "o", "--restore", tmp / "ids")
    assert [row["status"] for row in rows(tmp / "o")] == ["ok", "ok"]


def check_offset(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "-s", 0.4)
    assert rows(tmp / "o")[0]["audio_s"] == pytest.approx(SECONDS - 0.4)


def check_duration(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "-d", 0.25)
    assert rows(tmp / "o")[0]["audio_s"] == pytest.approx(0.25)


def check_max_failures(catalog, tiny, tmp, local):
    pyarrow.parquet.write_table(pa.table({"uri": [f"{n}.wav" for n in range(20)]}), tmp / "gone.parquet")
    for bound, code in (("19", 4), ("100%", 3)):
        assert call("run", tmp / "gone.parquet", "-o", tmp / bound, "-p", tiny, "--max-failures", bound).exit_code == code


def check_ok_with_failures(catalog, tiny, tmp, local):
    (catalog.parent / "songs" / "300.wav").unlink()
    assert call("run", catalog, "-o", tmp / "a", "-p", tiny).exit_code == 3
    run_with(catalog, tiny, tmp / "b", "--ok-with-failures")


def check_retry(catalog, tiny, tmp, local):
    (catalog.parent / "songs" / "300.wav").unlink()
    run_with(catalog, tiny, tmp / "o", "--ok-with-failures")
    assert "nothing to do" in run_with(catalog, tiny, tmp / "o").output
    assert call("run", catalog, "-o", tmp / "o", "-p", tiny, "--retry", "all").exit_code == 3


def check_damaged(catalog, tiny, tmp, local):
    path = catalog.parent / "songs" / "300.wav"
    path.write_bytes(path.read_bytes()[: 3 * path.stat().st_size // 5])
    run_with(catalog, tiny, tmp / "a")
    assert call("run", catalog, "-o", tmp / "b", "-p", tiny, "--damaged", "fail").exit_code == 3
    assert call("run", catalog, "-o", tmp / "c", "-p", tiny, "--damaged", "drop").exit_code == 2


def check_overwrite(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o")
    assert call("run", catalog, "-o", tmp / "o", "-p", tiny, "-c", "wav").exit_code == 6
    run_with(catalog, tiny, tmp / "o", "-c", "wav", "--overwrite")


def check_deadline(catalog, tiny, tmp, local):
    told = call("run", catalog, "-o", tmp / "o", "-p", tiny, "--deadline", "0s")
    assert told.exit_code == 7
    assert "stopped at its deadline; run the same command again" in told.output
    passed = time.strftime("%H:%M")
    told = call("run", catalog, "-o", tmp / "late", "-p", tiny, "--deadline", passed)
    assert (told.exit_code, (tmp / "late").exists()) == (7, False)
    assert re.search(rf"--deadline {passed} was [01]m ago: nothing was started", told.output)


def check_wait(catalog, tiny, tmp, local):
    with lease.hold(str(tmp / "o")):
        for wait, at_least_s in ((0, 0), (1, 1)):
            begun = time.monotonic()
            assert call("run", catalog, "-o", tmp / "o", "-p", tiny, "--wait", wait).exit_code == 75
            assert at_least_s <= time.monotonic() - begun < 20


def check_time_limit(catalog, tiny, tmp, local):
    seen = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyze, "limited", lambda rows, _ids, work: seen.add(work.limit_s) or rows)
        run_with(catalog, tiny, tmp / "o", "--time-limit", 12.5)
    assert seen == {12.5}


def check_input_root(catalog, tiny, tmp, local):
    (tmp / "other").mkdir()
    assert call("run", catalog, "-o", tmp / "o", "-p", tiny, "--input-root", tmp / "other").exit_code == 5
    run_with(catalog, tiny, tmp / "o", "--input-root", catalog.parent)


def check_allow_http(catalog, tiny, tmp, local):
    serving = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(catalog.parent))
    )
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    (tmp / "web.csv").write_text(f"uri\nhttp://127.0.0.1:{serving.server_port}/songs/300.wav\n")
    told = call("run", tmp / "web.csv", "-o", tmp / "o", "-p", tiny)
    assert (told.exit_code, "--allow-http" in told.output) == (5, True)
    run_with(tmp / "web.csv", tiny, tmp / "o", "--allow-http")
    assert rows(tmp / "o")[0]["audio_s"] == pytest.approx(SECONDS)
    serving.shutdown()


def check_endpoint_url(catalog, tiny, tmp, local):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retries, "TRIES", 1)
        told = call("run", "s3://b/m.csv", "-o", tmp / "o", "-p", tiny, "--endpoint-url", "http://127.0.0.1:9")
    storage.use({})
    assert told.exit_code == 5
    assert "http://127.0.0.1:9/b/m.csv" in told.output
    told = call("run", "s3://b/m.csv", "-o", tmp / "o", "-p", tiny, "--endpoint-url", "http://me:hush@127.0.0.1:9")
    assert (told.exit_code, "holds credentials" in told.output, "hush" in told.output) == (2, True, False)


def check_storage_options(catalog, tiny, tmp, local):
    (tmp / "options.json").write_text('{"s3://b/": {"endpoint_url": "http://127.0.0.1:9"}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retries, "TRIES", 1)
        told = call("run", "s3://b/m.csv", "-o", tmp / "o", "-p", tiny, "--storage-options", tmp / "options.json")
    storage.use({})
    assert told.exit_code == 5
    assert "http://127.0.0.1:9/b/m.csv" in told.output


def check_address(catalog, tiny, tmp, local):
    told = subprocess_run("run", catalog, "-o", tmp / "o", "-p", tiny, "--address", "127.0.0.1:1", folder=tmp)
    assert told.returncode == 5, told.stderr
    assert "no cluster at 127.0.0.1:1 (from --address): connection refused" in told.stderr


def check_min_gpus(catalog, tiny, tmp, local):
    told = subprocess_run("run", catalog, "-o", tmp / "o", "-p", tiny, "--gpus", 2, "--min-gpus", 1, folder=tmp)
    assert told.returncode == 2, told.stderr
    assert "--min-gpus 1: expected a cluster" in told.stderr


def check_shared_filesystem(catalog, tiny, tmp, local):
    disks, running = [], choice.running
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "running", lambda *wanted: disks.append(wanted[2].disk) or running(*wanted))
        run_with(catalog, tiny, tmp / "a", "--address", "head:6379")
        run_with(catalog, tiny, tmp / "b", "--address", "head:6379", "--shared-filesystem")
    assert (disks[0] is None, disks[1]) == (False, None)


def check_engine(catalog, tiny, tmp, local):
    summary = json.loads(run_with(catalog, tiny, tmp / "o", "--engine", "local", "--json").stdout.splitlines()[-1])
    assert summary["engine"] == "local"
    result = call("run", catalog, "-o", tmp / "p", "-p", tiny, "--engine", "local", "--gpus", 2)
    assert (result.exit_code, "--engine local uses at most one GPU, but --gpus is 2; use --engine ray" in result.output) == (
        2,
        True,
    )
    result = call("run", catalog, "-o", tmp / "p", "-p", tiny, "--engine", "local", "--address", "head:6379")
    assert (result.exit_code, "--engine local: expected no cluster, but there is one at head:6379" in result.output) == (2, True)
    result = call("run", catalog, "-o", tmp / "p", "-p", tiny, "--engine", "spark")
    assert (result.exit_code, "--engine spark: expected one of auto, local, ray" in result.output) == (2, True)


def check_bad_rows(catalog, tiny, tmp, local):
    table = pyarrow.parquet.read_table(catalog)
    pyarrow.parquet.write_table(table.append_column("duration_s", pa.array([None, 0.0])), tmp / "bad.parquet")
    told = call("run", tmp / "bad.parquet", "-o", tmp / "o", "-p", tiny)
    assert (told.exit_code, "--bad-rows fail" in told.output) == (5, True)
    told = call("run", tmp / "bad.parquet", "-o", tmp / "o", "-p", tiny, "--bad-rows", "fail")
    assert (told.exit_code, "1 track separated, 1 failed" in told.output) == (3, True)
    assert call("run", tmp / "bad.parquet", "-o", tmp / "o", "-p", tiny, "--bad-rows", "skip").exit_code == 2


def check_uri_column(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--uri-column", "where")
    assert {row["uri"].rpartition("/")[2] for row in rows(tmp / "o")} == {"500.wav"}


def check_id_column(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--id-column", "key")
    assert [row["id"] for row in rows(tmp / "o")] == ["x", "y"]


def check_include(catalog, tiny, tmp, local):
    (catalog.parent / "songs" / "other.bin").write_bytes((catalog.parent / "songs" / "300.wav").read_bytes())
    told = run_with(catalog.parent / "songs", tiny, tmp / "o", "--include", "*.bin", "--include", "5*")
    assert {row["uri"].rpartition("/")[2] for row in rows(tmp / "o")} == {"500.wav", "other.bin"}
    assert "left out: 1 file by --include" in told.stderr
    again = run_with(catalog.parent / "songs", tiny, tmp / "o", "--include", "*.bin", "--include", "5*", "--dry-run")
    assert "2 tracks, 0 to do" in again.output
    assert json.loads(call("status", tmp / "o", "--json").output)["pending"] == 0
    told = call("run", catalog, "-o", tmp / "o", "-p", tiny, "--include", "*.wav")
    assert (told.exit_code, "--include: " in told.output, "is a manifest, which names its tracks" in told.output) == (
        2,
        True,
        True,
    )


def check_exclude(catalog, tiny, tmp, local):
    told = run_with(catalog.parent / "songs", tiny, tmp / "o", "--exclude", "3*", "--exclude", "*.flac")
    assert {row["uri"].rpartition("/")[2] for row in rows(tmp / "o")} == {"500.wav"}
    assert "left out: 1 file by --exclude" in told.stderr
    assert "--exclude *.flac: matches no file" in told.stderr


def check_dry_run(catalog, tiny, tmp, local):
    assert "2 tracks, 2 to do" in run_with(catalog, tiny, tmp / "o", "--dry-run").output
    assert not (tmp / "o").exists()


def check_metrics_port(catalog, tiny, tmp, local):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = call("run", catalog, "-o", tmp / "o", "-p", tiny, "--metrics-port", taken.getsockname()[1])
    assert (told.exit_code, "Address already in use" in told.output, len(told.output.splitlines())) == (5, True, 1)
    assert "metrics: http://127.0.0.1:" in run_with(catalog, tiny, tmp / "o", "--metrics-port", "127.0.0.1:0").stderr


def check_metrics_file(catalog, tiny, tmp, local):
    run_with(catalog, tiny, tmp / "o", "--metrics-file", tmp / "songs.prom")
    assert "sep_batch_run_exit_code{" in (tmp / "songs.prom").read_text()
    told = call("sync", catalog.parent / "songs", tmp / "s", "-p", tiny, "--metrics-file", tmp / "sync.prom")
    assert (told.exit_code, f'out="{tmp / "s"}"' in (tmp / "sync.prom").read_text()) == (0, True)


def check_log_format(catalog, tiny, tmp, local):
    assert not run_with(catalog, tiny, tmp / "a").stderr.startswith("{")
    told = run_with(catalog, tiny, tmp / "b", "--log-format", "json").stderr
    assert "2/2 tracks" in json.loads(told.splitlines()[-1])["message"]


def last_event(told):
    """Return the last line of what was told, all of it JSON."""
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert next(event["event"] for event in events if event["event"] != "progress") == "start"
    return events[-1]


def check_as_json(catalog, tiny, tmp, local):
    (catalog.parent / "songs" / "broken.wav").write_bytes(b"no audio")
    told = last_event(call("run", catalog.parent / "songs", "-o", tmp / "p", "-p", tiny, "--json"))
    assert (told["ok"], told["failed"], told["exit_code"]) == (2, {"unsupported_format": 1}, 3)
    told = last_event(run_with(catalog, tiny, tmp / "o", "--json"))
    assert (told["ok"], told["exit_code"], told["tracks"]) == (2, 0, 2)


OPTIONS = [name for name in inspect.signature(run).parameters if name not in ("context", "manifest")]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_run_changes_something(option, catalog, tiny, tmp_path, local):
    globals()[f"check_{option}"](catalog, tiny, tmp_path, local)


def test_spleeters_short_flags_are_there(catalog, tiny, tmp_path, local):
    flags = (
        "-p",
        tiny,
        "-o",
        tmp_path / "o",
        "-c",
        "mp3",
        "-b",
        "192k",
        "-f",
        "{filename}/{instrument}.{codec}",
        "-s",
        0.1,
        "-d",
        0.3,
    )
    assert call("run", catalog, *flags).exit_code == 0
    assert (tmp_path / "o" / "stems" / "500" / "vocals.mp3").exists()


def write(path, columns):
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


MISTAKES = {
    "manifest missing": (lambda tmp: [tmp / "no.parquet"], 5, "no.parquet: not found"),
    "not Parquet": (
        lambda tmp: [Path(tmp / "bad.parquet").write_text("x") and tmp / "bad.parquet"],
        5,
        "not readable as Parquet",
    ),
    "no uri column": (lambda tmp: [write(tmp / "a.parquet", {"x": ["a"]})], 5, "no uri column; found x, expected uri or url"),
    "duplicate ids": (
        lambda tmp: [write(tmp / "a.parquet", {"uri": ["a", "b"], "id": ["q", "q"]})],
        5,
        "1 bad row: row 2: id q",
    ),
    "no rows": (lambda tmp: [write(tmp / "a.parquet", {"uri": pa.array([], pa.string())})], 5, "a.parquet: holds no rows"),
    "no audio": (lambda tmp: [Path(tmp / "a.m4p").write_text("x") and tmp], 5, "found no audio in "),
    "an empty folder": (lambda tmp: [tmp], 5, ": no files"),
    "no such prefix": (lambda tmp: ["memory://not/there"], 5, "memory://not/there: not found"),
    "a glob": (lambda tmp: [tmp / "*.mp3"], 5, "--include '*.mp3'"),
    "no pattern": (lambda tmp: [tmp, "--include", ""], 2, "--include '': not a pattern"),
    "OUT not writable": (
        lambda tmp: [write(tmp / "a.parquet", {"uri": ["a"]}), "-o", tmp / "a.parquet" / "o"],
        5,
        "could not be written",
    ),
    "unknown model": (lambda tmp: [write(tmp / "a.parquet", {"uri": ["a"]}), "-p", "spleeter:3stems"], 2, "spleeter:2stems"),
    "unknown format": (
        lambda tmp: [write(tmp / "a.parquet", {"uri": ["a"]}), "-c", "xyz"],
        2,
        "expected one of flac, wav, mp3, m4a",
    ),
    "unknown stem": (lambda tmp: [write(tmp / "a.parquet", {"uri": ["a"]}), "--stems", "voc"], 2, "has vocals, accompaniment"),
    "bitrate of flac": (lambda tmp: [tmp, "-b", "128k"], 2, "flac is lossless"),
    "bitrate no number": (lambda tmp: [tmp, "-c", "mp3", "-b", "fast"], 2, "as 128k or 320000"),
    "bitrate of opus": (lambda tmp: [tmp, "-c", "opus", "-b", "600k"], 2, "opus takes 6000 to 256000 bits per second"),
    "rate of opus": (
        lambda tmp: [tmp, "-c", "opus", "--sample-rate", "44100"],
        2,
        "--sample-rate 44100: opus takes 8000, 12000, 16000, 24000 or 48000 Hz",
    ),
    "rate of mp3": (lambda tmp: [tmp, "-c", "mp3", "--sample-rate", "96000"], 2, "44100 or 48000 Hz"),
    "rate of flac": (lambda tmp: [tmp, "--sample-rate", "16"], 2, "--sample-rate 16: flac takes 8000 to 192000 Hz"),
    "unknown stft": (lambda tmp: [tmp, "--stft", "tpu"], 2, "expected one of auto, cpu, gpu"),
    "unknown precision": (lambda tmp: [tmp, "--precision", "int8"], 2, "expected one of float32, tf32, bfloat16, float16"),
    "precision of a GPU": (lambda tmp: [tmp, "--gpus", "0", "--precision", "float16"], 2, "on the CPU here"),
    "bit depth of mp3": (lambda tmp: [tmp, "-c", "mp3", "--bit-depth", "24"], 2, "mp3 has no bit depth"),
    "gpus no number": (lambda tmp: [tmp, "--gpus", "all"], 2, "expected auto or a number"),
    "unknown token": (lambda tmp: [tmp, "-f", "{artist}/{stem}.{ext}"], 2, "expected tokens {id}"),
    "no stem token": (lambda tmp: [tmp, "-f", "{id}.{ext}"], 2, "no {stem}"),
    "a path upwards": (lambda tmp: [tmp, "-f", "../{stem}.{ext}"], 2, "below OUT/stems"),
    "max failures": (lambda tmp: [tmp, "--max-failures", "some"], 2, "as 100 or 5%"),
    "log format": (lambda tmp: [tmp, "--log-format", "xml"], 2, "expected text or json"),
    "metrics port": (lambda tmp: [tmp, "--metrics-port", "http"], 2, "expected PORT or HOST:PORT"),
    "metrics file": (lambda tmp: [tmp, "--metrics-file", tmp / "metrics.txt"], 2, "expected a file whose name ends in .prom"),
    "metrics folder": (lambda tmp: [tmp, "--metrics-file", tmp / "no" / "m.prom"], 5, "its folder cannot be written to"),
    "retry": (lambda tmp: [tmp, "--retry", "never"], 2, "none, transient, suspect, all"),
    "neither": (lambda tmp: [Path(tmp / "a.doc").write_text("x") and tmp / "a.doc"], 5, "neither a manifest"),
    "a scheme": (lambda tmp: ["ftp://host/a.parquet"], 5, "scheme 'ftp'"),
}


def test_a_folder_of_parquet_is_run_resumed_and_its_partitions_are_in_the_index(catalog, tiny, tmp_path, local):
    for hz, genre in ((300, "rock"), (500, "R%26B")):
        folder = catalog.parent / "lists.parquet" / f"genre={genre}"
        folder.mkdir(parents=True)
        write(folder / "part-0.parquet", {"uri": [f"songs/{hz}.wav"]})
    run_with(folder.parent, tiny, tmp_path / "o")
    assert {row["uri"]: row["genre"] for row in rows(tmp_path / "o")} == {
        f"{tmp_path}/songs/300.wav": "rock",
        f"{tmp_path}/songs/500.wav": "R&B",
    }
    assert json.loads(call("status", tmp_path / "o", "--json").output)["pending"] == 0
    assert "nothing to do: 2 tracks, 2 done before" in run_with(folder.parent, tiny, tmp_path / "o").output


@pytest.mark.parametrize("mistake", ["no rows", "no audio", "an empty folder", "no such prefix", "a glob"])
def test_a_source_in_which_nothing_was_found_is_exit_5_of_plan_too(mistake, tiny, tmp_path):
    arguments, code, words = MISTAKES[mistake]
    told = call("plan", *arguments(tmp_path), "-p", tiny)
    assert (told.exit_code, words in told.output, len(told.output.strip().splitlines())) == (code, True, 1), told.output


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_one_clear_line_and_its_exit_code(mistake, tiny, tmp_path, local):
    arguments, code, words = MISTAKES[mistake]
    given = arguments(tmp_path)
    told = call("run", *given, *(() if "-p" in given else ("-p", tiny)))
    assert told.exit_code == code, told.output
    assert words in told.output
    assert len(told.output.strip().splitlines()) == 1


def test_a_typo_in_a_flag_is_exit_2_and_suggests_the_flag():
    told = call("run", "songs", "--bitrte", "5")
    assert told.exit_code == 2
    assert "--bitrate" in told.output


def test_gpus_where_there_are_none_is_exit_5_in_under_15_seconds(catalog, tiny, tmp_path):
    begun = time.monotonic()
    told = subprocess_run("run", catalog, "-p", tiny, "--gpus", 8, folder=tmp_path)
    assert (told.returncode, len(told.stderr.strip().splitlines())) == (5, 1), told.stderr
    assert "--gpus 8: found" in told.stderr
    assert time.monotonic() - begun < 15


def test_help_loads_neither_torch_nor_ray():
    script = (
        "import sys; sys.argv = ['sep-batch', '--help']\n"
        "from sep_batch.jobs.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print({'torch', 'ray', 'pyarrow', 'av', 'duckdb'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith("set()")


def test_models_convert_show_and_list(tmp_path, monkeypatch):
    monkeypatch.setenv("SEP_BATCH_CACHE", str(tmp_path / "cache"))
    golden, mine = TESTS / "golden" / "4stems", tmp_path / "mine"
    told = call(
        "models", "convert", "--checkpoint", golden / "model", "--config", golden / "config.json", "--out", tmp_path / "mine"
    )
    assert told.exit_code == 0, told.output
    shown = json.loads(call("models", "show", mine).output)
    assert shown["spec"]["stems"] == ["vocals", "drums", "bass", "other"]
    assert len(call("models", "list").output.splitlines()) == 6


def test_models_fetch_refuses_a_file_that_was_not_published(tmp_path, monkeypatch):
    monkeypatch.setenv("SEP_BATCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "2stems.tar.gz").write_bytes(b"other")
    told = call("models", "fetch", "spleeter:2stems", "--from", tmp_path / "2stems.tar.gz")
    assert told.exit_code == 5
    assert "expected 7802e9a5c8fa46bfae0f3abf47092c473489b1180c154cd35f9947fb2a8036f2" in told.output
    assert call("models", "fetch", "spleeter:9stems").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (("song.mp3", "-o", "x"), "sep-batch run song.mp3 -o x"),
        (("s3://b/songs",), "sep-batch run s3://b/songs"),
        (("separate", "-o", "out", "a b.mp3"), "sep-batch run -o out 'a b.mp3'"),
        (("separate", "--codec", "wav", "a.mp3"), "sep-batch run --format wav a.mp3"),
    ],
)
def test_a_song_or_spleeters_command_is_answered_with_the_command_to_type(arguments, typed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = call(*arguments)
    assert (result.exit_code, f"To separate: {typed} " in result.output) == (2, True)


@pytest.mark.parametrize(
    ("flag", "own"),
    [("--codec", "--format"), ("--output_path", "--out"), ("--params_filename", "--model"), ("--filename_format", "--filename")],
)
def test_a_long_flag_of_spleeter_is_answered_with_the_flag_to_type(flag, own):
    result = call("run", "a.mp3", flag, "x")
    assert (result.exit_code, re.search(rf"No such option: {flag} .*: {own}\W", result.output) is not None) == (2, True)


@pytest.mark.parametrize(("name", "found"), [("vocals.wav", "found a name that ends in .wav"), ("songs.parquet", "found a file")])
def test_an_out_that_is_no_folder_is_refused_in_one_line(name, found, catalog, tiny, local):
    result = call("run", catalog, "-o", catalog.parent / name, "-p", tiny)
    assert (result.exit_code, len(result.output.splitlines()), found in result.output) == (2, 1, True)


def test_the_end_of_a_small_run_names_its_stems(catalog, tiny, tmp_path, local):
    lines = run_with(catalog, tiny, tmp_path / "o").stdout.splitlines()
    named = [line.strip() for line in lines if line.startswith("  ")]
    assert sorted(named) == sorted(str(path) for path in (tmp_path / "o" / "stems").rglob("*.flac"))
    assert not [line for line in lines if "busy" in line]  # of a minute of audio no bottleneck is lines
