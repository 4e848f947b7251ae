"""The flow under Ray: what it adds to the stages, and what it must not take away; what both engines promise."""

from __future__ import annotations

import json
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path

import golden_models
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import ray
from catalogs import decoded, write_tone
from golden_models import FOLDER, SETS
from signals import RATE_HZ, frequency_hz, noise, snr_db

from sep_batch.jobs.engine import engine
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup.options import Options
from sep_batch.model import weights
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.flow import ray_data
from sep_batch.pipeline.flow.resources import plan_resources
from sep_batch.pipeline.out import index
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements

GOLDEN_DB = 90.0
TONE_HZ = 2.0  # how far a stem's pitch may lie from its track's: the tones are 30 Hz apart
FORMATS = {  # by extension; the encoder's form of samples beside it
    "wav": codecs.CODECS["wav"]["16"],
    "flac": codecs.CODECS["flac"]["16"],
    "mp3": codecs.CODECS["mp3"][""],
    "m4a": codecs.Codec("ipod", "aac", "fltp"),
    "mka": codecs.Codec("matroska", "flac", "s16"),
    "aiff": codecs.Codec("aiff", "pcm_s16be", "s16"),
}


def test_a_ray_that_is_not_up_in_time_is_one_line(monkeypatch):
    def late(**_options):
        raise Exception("The current node timed out during startup.\nIts logs tell more.")  # noqa: TRY002 - as Ray's own

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", late)
    with (
        pytest.raises(errors.NotRunnableError, match=r"^Ray: The current node timed out during startup\.$"),
        engine.running(Options(), MachineRequirements()),
    ):
        pass


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_run_to_float_wav_equals_tensorflow_spleeter(one_ray, tiny_models, tmp_path, engine, name):
    song = str(FOLDER / "input.flac")
    out = tmp_path / "out"
    run_job(song, str(out), model=str(tiny_models[name]), gpus=0, format="wav", bit_depth="float", engine=engine)
    expected = np.load(FOLDER / name / "expected.npz")
    (row,) = index.read(str(out)).to_pylist()
    for stem in row["stems"]:
        wave = decoded((out / stem["uri"]).read_bytes()).wave
        assert wave.shape[1] == stem["frames"] == expected["samples"]
        ours = np.stack([wave[:, begin:end].T for begin, end in expected["windows"]])
        assert snr_db(expected[stem["stem"]], ours) > GOLDEN_DB


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_sixty_tones_in_six_formats_keep_their_own_tone_with_an_actor_a_gpu_and_a_broken_file_among_them(
    one_ray, tiny, tmp_path, engine
):
    pitches = {f"t{number:02d}": 300 + 30 * number for number in range(60)}
    extensions = list(FORMATS) * 10
    for (name, hz), extension in zip(pitches.items(), extensions, strict=True):
        write_tone(tmp_path / f"{name}.{extension}", hz, 0.4, FORMATS[extension])
    (tmp_path / "bad.wav").write_bytes(b"broken")
    uris = ["bad.wav", *(f"{name}.{extension}" for name, extension in zip(pitches, extensions, strict=True))]
    random.Random(7).shuffle(uris)
    pyarrow.parquet.write_table(pa.table({"uri": uris, "id": [uri[:3] for uri in uris]}), tmp_path / "tones.parquet")
    out = tmp_path / "out"
    on = {"engine": engine, "gpus": 2 if engine == "ray" else 0, "device": "cpu"}
    summary = run_job(str(tmp_path / "tones.parquet"), str(out), model=tiny, format="wav", **on)
    assert (summary.exit_code, summary.ok, summary.failed) == (3, 60, {"unsupported_format": 1})
    for row in index.read(str(out)).to_pylist():
        for stem in row["stems"] or []:
            wave = decoded((out / stem["uri"]).read_bytes()).wave
            assert abs(frequency_hz(wave[0]) - pitches[row["id"]]) < TONE_HZ, (row["id"], stem["stem"])
    if engine == "local":
        return
    operators = [line.partition(":")[0] for line in summary.stats.splitlines() if line.startswith("Operator")]
    assert operators == [
        "Operator 1 Read",
        "Operator 2 MapBatches(Analyze)",
        "Operator 3 MapBatches(Separate)",
        "Operator 4 MapBatches(Write)",
    ]


def test_every_gpu_has_one_separate_actor():
    resources = plan_resources(16, 8)
    assert (resources.separate.actors, resources.separate.gpus, resources.separate.cpus) == (8, 1, 0)


@pytest.mark.slow  # tests/jobs/cli has a run that asks for GPUs where there are none
def test_an_actor_whose_gpu_torch_cannot_use_ends_the_run_and_fails_no_track(one_ray, tiny, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    write_tone(tmp_path / "in" / "a.wav")
    with pytest.raises(errors.NotRunnableError, match="(?i)cuda|nvidia") as refused:
        run_job(str(tmp_path / "in"), str(tmp_path / "out"), model=tiny, gpus=1, device="cuda")
    assert len(str(refused.value).splitlines()) == 1
    assert Path(str(refused.value).partition("Ray's logs: ")[2]).is_dir()
    assert not storage.exists(str(tmp_path / "out" / "index.parquet"))


def test_a_catalog_on_s3_gives_the_stems_of_the_whole_tracks_and_shows_no_secret(one_ray, s3, tmp_path):
    model, _ = weights.convert(*golden_models.files("2stems"), golden_models.small_spec("2stems"), tmp_path / "model")
    parts = {"a": 1, "b": 2, "c": 3}  # of each track
    waves = {name: noise(170_000 * number - 40_000, seed=ord(name)) for name, number in parts.items()}
    for name, wave in waves.items():
        storage.put(f"{s3}/in/{name}.wav", encode(wave, codecs.CODECS["wav"]["float"], rate_hz=RATE_HZ))
    table = pa.table({"uri": [f"in/{name}.wav" for name in parts], "id": list(parts)})
    pyarrow.parquet.write_table(table, tmp_path / "m.parquet")
    storage.put(f"{s3}/m.parquet", (tmp_path / "m.parquet").read_bytes())
    canary = f"canary-{secrets.token_hex(8)}"
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"s3://elsewhere/": {"key": "k", "secret": canary}}))
    summary = run_job(f"{s3}/m.parquet", f"{s3}/out", model=str(model), gpus=0, storage_options=str(options))
    assert (summary.exit_code, summary.ok) == (0, 3)
    separator = golden_models.small_separator("2stems")
    for row in index.read(f"{s3}/out").to_pylist():
        assert row["parts"] == parts[row["id"]]
        stems = separator.separate(waves[row["id"]])
        for stem in row["stems"]:
            expected = encode(stems[stem["stem"]].numpy(), codecs.CODECS["flac"]["16"], rate_hz=RATE_HZ)
            assert storage.read(f"{s3}/out/{stem['uri']}") == expected
    left = {found.uri.partition("/out/")[2]: storage.read(found.uri) for found in storage.find(f"{s3}/out")}
    assert not [uri for uri in left if uri.startswith(("_sep/plan", "_sep/parts"))]
    logs = [path.read_bytes() for path in Path(ray_data.logs()).rglob("*") if path.is_file()]
    assert len(logs) > 10
    assert not [content for content in (*left.values(), *logs) if canary.encode() in content]
    again = run_job(f"{s3}/m.parquet", f"{s3}/out", model=str(model), gpus=0, storage_options=str(options))
    assert (again.done_before, again.tried) == (3, 0)
    storage.use({})


DRIVER = """
import sys
from sep_batch.jobs.run import run_job
from sep_batch.model import weights
summary = run_job(sys.argv[1], sys.argv[2], model=sys.argv[3], gpus=0, flush_s=0.05, engine=sys.argv[4])
sys.exit(summary.exit_code)
"""


def driver(manifest, out, tiny, engine):
    """Start a run in a process group of its own, as a scheduler would."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(manifest), str(out), tiny, engine], start_new_session=True, stderr=subprocess.DEVNULL
    )


def journaled(out: Path) -> int:
    """Return how many tracks OUT's journal has."""
    files = sorted((out / "_sep" / "journal").glob("[0-9]*.parquet"))
    return sum(pyarrow.parquet.read_metadata(path).num_rows for path in files)


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_run_told_to_stop_keeps_what_is_finished_and_exits_7(tiny, tmp_path, engine):
    for number in range(60):
        write_tone(tmp_path / "in" / f"{number:02d}.wav", 300 + 20 * number, 20 if engine == "ray" else 6)
    told = driver(tmp_path / "in", tmp_path / "out", tiny, engine)
    limit = time.monotonic() + 120
    while not journaled(tmp_path / "out") and time.monotonic() < limit:
        time.sleep(0.05)
    told.terminate()
    assert told.wait(60) == 7
    assert 0 < index.read(str(tmp_path / "out")).num_rows < 60
