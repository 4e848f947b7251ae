"""`bench`: every step has a rate, every option changes something, nothing is left behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sep_batch.jobs.bench import catalog, steps
from sep_batch.jobs.cli.main import app
from sep_batch.jobs.demo import synthesis
from sep_batch.model import weights
from sep_batch.model.separator import Separator
from sep_batch.pipeline import errors, storage

STEPS = ["decode mp3", "decode flac", "STFT", "U-Nets", "masks + inverse", "encode flac", "put"]


@pytest.fixture(autouse=True)
def _short(monkeypatch, tmp_path):
    """Measure once, with a short song, and keep temporary folders where they can be seen."""
    monkeypatch.setattr(steps, "REPEATS", 1)
    monkeypatch.setattr(catalog, "SONG_S", 0.5)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def puts(monkeypatch):
    """The URIs that were written, in order."""
    seen, whole = [], storage.put

    def put(uri, content, **options):
        seen.append(uri)
        whole(uri, content, **options)

    monkeypatch.setattr(storage, "put", put)
    return seen


def call(tiny, *arguments):
    """Run the command line in this process."""
    given = ("bench", "--seconds", 2, "-p", tiny, *arguments)
    return CliRunner().invoke(app, [str(argument) for argument in given])


def as_json(tiny, *arguments):
    told = call(tiny, "--json", *arguments)
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)


def test_every_step_and_the_run_have_a_rate_and_nothing_is_left(tiny, local, tmp_path):
    told = as_json(tiny)
    assert [rate["name"] for rate in told["rates"]] == STEPS
    assert all(rate["x_real_time"] > 0 for rate in told["rates"])
    assert [rate["name"] for rate in told["rates"] if rate["mb_s"]] == ["put"]
    assert told["x_real_time"] == pytest.approx(told["run"]["audio_s"] / told["run"]["seconds"])
    assert told["run"]["bottleneck"].startswith(("Analyze busy", "Separate busy"))
    assert list(tmp_path.iterdir()) == []


def test_without_json_a_table_and_the_sentence_are_told(tiny, local):
    told = call(tiny)
    assert told.exit_code == 0, told.output
    for step in (*STEPS, "whole run"):
        assert f"{step} " in told.stdout
    assert "Separate busy" in told.stdout.splitlines()[-1]


def test_seconds_decides_how_much_audio_is_separated(tiny, local):
    assert as_json(tiny, "--seconds", 3)["run"]["audio_s"] == pytest.approx(3, abs=0.1)


def test_cpus_changes_the_pools(tiny, local):
    for cpus in (1, 16):
        as_json(tiny, "--cpus", cpus)
    assert local[0].separate.threads < local[1].separate.threads


def test_more_gpus_than_there_are_is_exit_5_in_one_line(tiny, local, tmp_path):
    told = call(tiny, "--gpus", 64)
    assert told.exit_code == 5
    assert "--gpus 64: found" in told.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["wav", "opus"])
def test_format_is_what_is_encoded(format, tiny, local, puts):
    names = [rate["name"] for rate in as_json(tiny, "--format", format)["rates"]]
    assert f"encode {format}" in names
    assert any(uri.endswith(f"vocals.{format}") for uri in puts)


def test_stft_and_precision_are_what_is_run_and_measured(tiny, local, monkeypatch):
    seen, whole = [], Separator.separate_parts

    def separate_parts(self, parts, *stems, **options):
        seen.append((parts[0].is_wave, self.precision))
        return whole(self, parts, *stems, **options)

    monkeypatch.setattr(Separator, "separate_parts", separate_parts)
    told = as_json(tiny, "--stft", "gpu", "--precision", "bfloat16")
    assert sorted(rate["name"] for rate in told["rates"]) == sorted(STEPS)
    assert seen[0] == (True, "bfloat16")


def test_model_is_what_is_measured(tiny_models, local, puts):
    assert as_json(str(tiny_models["4stems"]))["run"]["ok"] == 2
    assert {uri.rpartition("/")[2] for uri in puts if "/put/" in uri} == {"vocals", "drums", "bass", "other"}


def test_out_is_read_from_and_written_to_and_left_as_it_was(tiny, local, puts, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    as_json(tiny, "--out", tmp_path / "out")
    assert all(uri.startswith(f"{tmp_path}/out/bench-") for uri in puts)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--seconds", 0), 2, "--seconds 0: expected 1 or more"),
        (("--seconds", "nan"), 2, "--seconds nan: expected 1 or more"),
        (("--format", "xyz"), 2, "--format xyz: expected one of flac, wav, mp3"),
        (("--gpus", "all"), 2, "--gpus all: expected auto or a number"),
        (("--out", "/proc/nowhere"), 5, "--out /proc/nowhere"),
        (("--out", "ftp://host/out"), 5, "--out ftp://host/out"),
    ],
)
def test_every_mistake_is_one_clear_line_and_its_exit_code(arguments, code, words, tiny, local):
    told = call(tiny, *arguments)
    assert told.exit_code == code, told.output
    assert words in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_a_run_that_failed_is_refused_with_its_own_exit_code(tiny, local, monkeypatch):
    monkeypatch.setattr(catalog, "encode", lambda *_, **__: b"no audio at all")
    told = call(tiny)
    assert told.exit_code == errors.SOME_FAILED
    assert "error: the run failed, so nothing was measured: 2 unsupported_format" in told.stderr


def test_a_catalog_is_tracks_of_about_a_minute_in_two_formats(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "TRACK_S", 1.0)
    assert catalog.write_catalog(str(tmp_path), 3.0) == 3
    assert sorted(path.name for path in (tmp_path / "catalog").iterdir()) == ["0000.mp3", "0001.flac", "0002.mp3"]


def test_without_unets_a_separator_gives_each_stem_an_equal_share(tiny):
    separator = steps.WithoutUNets(*weights.load(Path(tiny))[:2])
    wave = torch.from_numpy(sum(synthesis.song(1, 1.0).values()))
    stems = separator.separate(wave)
    assert torch.equal(stems["vocals"], stems["accompaniment"])
