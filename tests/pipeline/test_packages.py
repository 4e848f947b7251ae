"""Versions of packages: a checkout that is not installed runs under its own version, and a missing package is one line."""

from __future__ import annotations

import json
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from catalogs import write_tone
from project_files import ROOT
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors, packages
from sep_batch.pipeline.out import index
from sep_batch.pipeline.stages import machine_requirements

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def remove(monkeypatch):
    """A function that removes the metadata of a package, as where it was not installed."""
    version = metadata.version

    def remove_one(package):
        machine_requirements._versions.cache_clear()

        def version_of_others(name):
            if name == package:
                raise metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(metadata, "version", version_of_others)

    yield remove_one
    machine_requirements._versions.cache_clear()


@pytest.fixture
def song(tmp_path):
    """The path of a tone."""
    write_tone(tmp_path / "tone.wav", 300)
    return str(tmp_path / "tone.wav")


def recorded_version(out):
    """Return the version of sep-batch in OUT's run.json."""
    return json.loads((Path(out) / "_sep" / "run.json").read_text())["versions"]["sep-batch"]


def test_a_run_from_a_checkout_that_is_not_installed_records_the_checkouts_version(song, tiny, local, remove):
    remove("sep-batch")
    summary = run_job(song, model=tiny)
    assert (summary.ok, recorded_version(summary.out)) == (1, f"{VERSION}+checkout")


def test_another_version_resumes_an_out_and_makes_the_same_bytes_under_the_same_settings(song, tiny, local, remove, tmp_path):
    first = run_job(song, model=tiny, out=str(tmp_path / "1"))
    version = recorded_version(first.out)
    remove("sep-batch")
    assert run_job(song, model=tiny, out=first.out).done_before == 1
    second = run_job(song, model=tiny, out=str(tmp_path / "2"))
    assert recorded_version(second.out) != version
    (before,), (after,) = (index.read(summary.out).to_pylist() for summary in (first, second))
    assert before["settings_sha256"] == after["settings_sha256"]
    assert [stem["sha256"] for stem in before["stems"]] == [stem["sha256"] for stem in after["stems"]]


def test_version_names_a_checkout_that_is_not_installed(remove):
    remove("sep-batch")
    assert CliRunner().invoke(app, ["--version"]).stdout == f"sep-batch {VERSION}+checkout\n"


def test_a_run_without_a_package_that_it_needs_is_one_line_that_names_it(song, tiny, local, remove):
    remove("torchaudio")
    result = CliRunner().invoke(app, ["run", song, "--model", tiny])
    assert result.exit_code == errors.NotRunnableError.exit_code == 5
    assert result.stderr.startswith(f"error: the package torchaudio is not installed for {sys.executable}; install sep-batch")
    assert len(result.stderr.splitlines()) == 1


def test_the_version_of_bare_sources_is_one_line(remove, monkeypatch, tmp_path):
    remove("sep-batch")
    monkeypatch.setattr(packages, "_PYPROJECT", tmp_path / "pyproject.toml")
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (5, "")
    assert "the package sep-batch is not installed" in result.stderr


def test_the_pyproject_of_another_project_around_the_sources_is_not_theirs(remove, monkeypatch, tmp_path):
    remove("sep-batch")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "3"\n')
    monkeypatch.setattr(packages, "_PYPROJECT", tmp_path / "pyproject.toml")
    with pytest.raises(errors.NotRunnableError, match="the package sep-batch is not installed"):
        packages.version("sep-batch")
