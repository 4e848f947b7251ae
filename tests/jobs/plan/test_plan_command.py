"""`plan`: it says what the run then does, and why; and leaves no trace of itself."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import stems_below, write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.cli.plan import plan as plan_command
from sep_batch.jobs.cli.run import run
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.model import weights
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import lease
from sep_batch.pipeline.out.journal import Journal
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.settings import Settings

TONES = (300, 500, 700)


@pytest.fixture
def catalog(tmp_path):
    """A manifest of three tones beside its files, with their lengths."""
    for hz in TONES:
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz)
    return write_manifest(tmp_path / "songs.parquet")


def write_manifest(path, **changes):
    columns = {"id": [f"t{hz}" for hz in TONES], "uri": [f"songs/{hz}.wav" for hz in TONES], "duration": [0.5] * 3}
    pyarrow.parquet.write_table(pa.table(columns | changes), path)
    return path


def plan(catalog, tiny, **options):
    return run_plan(str(catalog), model=tiny, **options)


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def below(folder):
    """Return every file and folder with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_without_an_out_every_track_is_new(catalog, tiny):
    found = plan(catalog, tiny)
    assert (found.tracks, found.todo, found.reasons, found.examples) == (3, 3, {"new": 3}, {"new": "t300"})
    assert (found.out, found.exit_code) == (str(catalog.parent / "songs.stems"), 0)


def test_a_plan_names_each_reason_with_an_example_and_its_run_does_that(catalog, tiny, local):
    (catalog.parent / "songs" / "500.wav").unlink()
    run_job(str(catalog), model=tiny)
    write_manifest(catalog, duration_s=[None, None, 0.25])
    found = plan(catalog, tiny)
    assert found.reasons == {"done": 1, "known_failed": 1, "source_changed": 1}
    assert found.examples == {"done": "t300", "known_failed": "t500", "source_changed": "t700 (duration_s)"}
    summary = run_job(str(catalog), model=tiny)
    assert (summary.done_before, summary.known_failed, summary.tried) == (1, 1, found.todo)
    assert plan(catalog, tiny).amounts is None


@pytest.mark.parametrize(("retry", "reason"), [("transient", "known_failed"), ("all", "failed_before")])
def test_what_failed_is_planned_as_the_retry_says(retry, reason, catalog, tiny, local):
    (catalog.parent / "songs" / "500.wav").unlink()
    run_job(str(catalog), model=tiny)
    assert plan(catalog, tiny, retry=retry).reasons == {"done": 2, reason: 1}


def test_other_settings_are_told_with_both_values_and_refused_as_the_run_refuses_them(catalog, tiny, local):
    run_job(str(catalog), model=tiny)
    found = plan(catalog, tiny, bit_depth="24")
    assert found.differing == {"bit_depth": ("16", "24")}
    assert (found.exit_code, found.reasons) == (6, {"settings_differ": 3})
    with pytest.raises(errors.SettingsDifferError) as refused:
        run_job(str(catalog), model=tiny, bit_depth="24")
    assert found.refused == str(refused.value)
    assert plan(catalog, tiny, bit_depth="24", overwrite=True).exit_code == 0


def test_stems_of_one_path_are_refused_as_the_run_refuses_them(catalog, tiny):
    write_manifest(catalog, uri=["songs/300.wav", "songs/500.wav", "more/300.wav"])
    template = "{filename}/{stem}.{ext}"
    found = plan(catalog, tiny, filename=template)
    with pytest.raises(errors.UsageError) as refused:
        run_job(str(catalog), model=tiny, filename=template)
    assert (found.exit_code, found.refused) == (2, str(refused.value))


def test_neither_a_plan_nor_a_dry_run_leaves_a_trace(catalog, tiny, local, tmp_path, monkeypatch):
    monkeypatch.setenv("SEP_BATCH_CACHE", str(tmp_path / "cache"))
    before = below(tmp_path)
    for command in (("plan",), ("run", "--dry-run")):
        assert call(*command, catalog, "-p", tiny).exit_code == 0
        assert below(tmp_path) == before
    run_job(str(catalog), model=tiny, limit=2)
    before = below(tmp_path)
    for command in (("plan",), ("run", "--dry-run")):
        assert call(*command, catalog, "-p", tiny).exit_code == 0
        assert below(tmp_path) == before


def test_a_dry_run_says_what_plan_says(catalog, tiny):
    planned, dry = (call(*command, catalog, "-p", tiny, "-c", "wav") for command in (("plan",), ("run", "--dry-run")))
    assert planned.exit_code == 0
    assert planned.output == dry.output


def test_the_output_of_wav_is_what_the_run_then_writes(catalog, tiny, local):
    much = plan(catalog, tiny, format="wav").amounts
    run_job(str(catalog), model=tiny, format="wav")
    assert much.audio_s == 1.5
    assert much.output_bytes == sum(map(len, stems_below(catalog.parent / "songs.stems").values()))


def test_lengths_and_ratios_come_from_outs_own_journal(catalog, tiny, local):
    write_manifest(catalog, duration=[None] * 3)
    run_job(str(catalog), model=tiny, limit=2)
    out = catalog.parent / "songs.stems"
    found = plan(catalog, tiny, filename="{id}/{stem}.{ext}", overwrite=True).amounts
    assert (found.audio_s, found.estimated_s) == (pytest.approx(1.5, abs=0.001), 0)
    assert found.output_bytes == pytest.approx(1.5 * sum(map(len, stems_below(out).values())), rel=0.01)


def test_weights_that_are_not_here_are_not_fetched_for_a_plan(catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("SEP_BATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "fetch", None)
    spec = PRESETS["spleeter:2stems"]
    assert plan(catalog, "spleeter:2stems").reasons == {"new": 3}
    made = Settings(weights_sha256="f" * 64, spec=spec, stems=spec.stems)
    out = str(catalog.parent / "songs.stems")
    storage.put(f"{out}/_sep/run.json", json.dumps({"settings": made.canonical()}).encode())
    rows = [{"id": "t300", "uri": str(catalog.parent / "songs/300.wav"), "status": "ok", "settings_sha256": made.sha256}]
    with Journal(out, "000001-abcd", check=lambda: None) as journal:
        journal.add(pa.Table.from_pylist(rows, JOURNAL))
    found = plan(catalog, "spleeter:2stems")
    assert (found.reasons, found.differing, found.exit_code) == ({"done": 1, "new": 2}, {}, 0)
    assert "weights of spleeter:2stems are not on this machine yet" in found.warnings[-1]
    assert not (tmp_path / "cache").exists()


def test_a_run_that_is_at_work_is_told_and_not_waited_for(catalog, tiny):
    with lease.hold(str(catalog.parent / "songs.stems")):
        found = plan(catalog, tiny)
    assert "has been working on it since" in found.warnings[-1]
    assert (found.exit_code, found.todo) == (0, 3)


def test_every_flag_of_run_that_changes_what_is_done_is_one_of_plan():
    how = {"max_failures", "ok_with_failures", "scratch", "deadline", "wait", "time_limit", "metrics_port", "log_format"}
    how |= {"metrics_file", "min_gpus", "shared_filesystem", "damaged"}
    flags = {name: set(inspect.signature(command).parameters) for name, command in (("run", run), ("plan", plan_command))}
    assert flags["run"] - how - {"dry_run"} == flags["plan"] - {"calibrate"}


def test_the_next_command_is_the_one_that_was_typed(catalog, tiny):
    told = call("plan", catalog, "-p", tiny, "-f", "{id} {stem}.{ext}", "--overwrite", "--limit", 2, "--json")
    assert json.loads(told.stdout)["todo"] == 2
    told = call("plan", catalog, "-p", tiny, "-f", "{id} {stem}.{ext}", "--overwrite", "--limit", 2)
    expected = f"next: sep-batch run {catalog} --model {tiny} --filename '{{id}} {{stem}}.{{ext}}' --limit 2 --overwrite"
    assert told.stdout.splitlines()[-1] == expected
    told = call("plan", catalog.parent, "-p", tiny, "--include", "*.wav", "--include", "x y*", "--exclude", "none")
    expected = f"next: sep-batch run {catalog.parent} --model {tiny} --include '*.wav' --include 'x y*' --exclude none"
    assert told.stdout.splitlines()[-1] == expected


def test_a_person_is_told_how_much_it_is_and_nothing_more_where_nothing_is_to_do(catalog, tiny, local):
    told = call("plan", catalog, "-p", tiny).stdout
    for words in ("3 tracks, 3 to do", "     3  to do: new  t300", "audio: 1.5 s", "output: ", "memory: the largest part"):
        assert words in told
    assert " of spectrum on its way to the U-Nets" in told
    assert " of wave on its way to the U-Nets" in call("plan", catalog, "-p", tiny, "--stft", "gpu").stdout
    as_json = json.loads(call("plan", catalog, "-p", tiny, "--stft", "gpu", "--json").stdout)["amounts"]
    assert (as_json["stft"], as_json["part_bytes"] > 0) == ("gpu", True)
    run_job(str(catalog), model=tiny)
    told = call("plan", catalog, "-p", tiny).stdout
    assert told.splitlines()[-1] == "nothing to do"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no.parquet"], 5, "no.parquet: not found"),
        (["{catalog}", "-p", "spleeter:3stems"], 2, "spleeter:2stems"),
        (["{catalog}", "-c", "xyz"], 2, "expected one of flac, wav, mp3"),
        (["{catalog}", "--stems", "voc"], 2, "has vocals, accompaniment"),
        (["{catalog}", "-b", "fast", "-c", "mp3"], 2, "as 128k or 320000"),
        (["{catalog}", "--gpus", "64"], 5, "--gpus 64: found"),
    ],
)
def test_every_mistake_is_the_line_and_the_exit_code_of_run(arguments, code, words, catalog, tiny, local):
    given = [argument.format(catalog=catalog) for argument in arguments]
    given += [] if "-p" in given else ["-p", tiny]
    planned, ran = (call(command, *given) for command in ("plan", "run"))
    assert (planned.exit_code, ran.exit_code) == (code, code), planned.output
    assert words in planned.output
    assert (planned.output, len(planned.output.splitlines())) == (ran.output, 1)


@pytest.mark.parametrize(("out", "words"), [("torn", "run.json: not valid ("), ("ftp://host/out", "scheme 'ftp'")])
def test_an_out_that_cannot_be_read_is_one_line_and_exit_5(out, words, catalog, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn" / "_sep").mkdir(parents=True)
    (tmp_path / "torn" / "_sep" / "run.json").write_text("{")
    told = call("plan", catalog, "-p", tiny, "-o", out)
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1)
    assert words in told.output


PEAK = (  # it leaves as the command does, without waiting for headers that do not come
    "import os, re; peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]; "
    "print(peak, {'torch', 'ray'} & set(sys.modules), flush=True); os._exit(0)"
)


def planned_alone(catalog, tiny):
    """Plan in a process of its own; return its peak memory in MB and which heavy libraries it loaded."""
    script = f"import sys; from sep_batch.jobs.plan.plan import run_plan; run_plan({str(catalog)!r}, model={tiny!r}); {PEAK}"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split(maxsplit=1)
    return int(told[0]) / 1024, told[1].strip()


def test_a_plan_loads_neither_torch_nor_ray(catalog, tiny):
    assert planned_alone(catalog, tiny)[1] == "set()"


@pytest.mark.slow
def test_a_plan_of_100_000_tracks_takes_less_than_30_s_and_1_gib(tmp_path, tiny):
    many = 100_000
    uris = [f"s3://bucket/{number:06}.mp3" for number in range(many)]
    pyarrow.parquet.write_table(pa.table({"uri": uris, "size": [5_000_000] * many}), tmp_path / "many.parquet")
    begun = time.monotonic()
    peak_mb, _ = planned_alone(Path(tmp_path / "many.parquet"), tiny)
    assert (time.monotonic() - begun < 30, peak_mb < 1024) == (True, True)
