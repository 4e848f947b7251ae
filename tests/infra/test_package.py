"""What a user installs: wheel and sdist, one version everywhere, the release's notes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from project_files import ROOT

PACKAGES = ("jobs", "model", "pipeline")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MADE = {"build", "demo"}  # at the top only: there is a package jobs/demo
INSTALL_S = 1500


def run(*command, **options):
    """Run a command and return what it printed; what it said is shown where it failed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def not_copied(folder, names):
    """Return what is no source of the project's."""
    hidden = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__")(folder, names)
    return hidden | (MADE & set(names) if Path(folder) == ROOT else set())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build an sdist, and a wheel from it; returns their folder."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "source", ignore=not_copied)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source")
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    """The wheel's path."""
    return next(built.glob("*.whl"))


@pytest.fixture
def trap(tmp_path):
    """A user's folder that holds modules named as our folders are."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in PACKAGES:
        (folder / f"{name}.py").write_text("raise RuntimeError('the user has a module of this name')\n")
    return folder


def package_files():
    """Return what the three folders hold, as it is named when it is installed."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {f"sep_batch/{path.relative_to(ROOT)}" for path in files if path.parent.name != "__pycache__"}


def test_the_wheel_holds_every_file_of_the_packages_and_the_licence_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    about = f"sep_batch-{PROJECT['version']}.dist-info"
    assert {name for name in names if not name.startswith(about)} == package_files()
    assert f"{about}/licenses/LICENSE" in names
    assert wheel.name in (ROOT / "README.md").read_text()


def test_the_sdist_holds_what_the_wheel_is_made_of_and_no_tests(built):
    top = f"sep_batch-{PROJECT['version']}/"
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.removeprefix(top) for name in archive.getnames()}
    assert {name.removeprefix("sep_batch/") for name in package_files()} <= names
    assert {"CHANGELOG.md", "LICENSE", "README.md", "constraints.txt", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_installed_wheel_runs_in_a_folder_that_holds_modules_of_the_same_names(wheel, trap, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(python.parents[1], with_pip=True)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    ours = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (ours / "what_it_needs.pth").write_text(sysconfig.get_path("purelib"))  # as if installed; its own .pth files are not read
    command = python.with_name("sep-batch")
    assert run(command, "--version", cwd=trap) == f"sep-batch {PROJECT['version']}\n"
    assert "Separate every track of MANIFEST" in run(command, "run", "--help", cwd=trap)
    assert "spleeter:2stems" in run(command, "models", "list", cwd=trap)
    modules = [name.removesuffix(".py").replace("/", ".") for name in sorted(package_files()) if name.endswith(".py")]
    imports = "".join(f"import {name}\n" for name in modules if not name.endswith("__main__"))
    told = run(python, "-c", f"{imports}print(sep_batch.jobs.__file__)", cwd=trap)
    assert Path(told.strip()).is_relative_to(ours)


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_S + 600)
def test_the_wheel_runs_with_what_an_index_gives_today(wheel, trap, tmp_path, tiny):
    from catalogs import write_tone

    python = tmp_path / "venv" / "bin" / "python"
    venv.create(python.parents[1], with_pip=True)
    run(python, "-m", "pip", "install", "--quiet", wheel, timeout=INSTALL_S)
    run(python, "-m", "pip", "check")
    write_tone(trap / "songs" / "tone.wav", 300, 1.0)
    run(python.with_name("sep-batch"), "run", "songs", "--model", tiny, "--gpus", "0", "--engine", "ray", cwd=trap, timeout=300)
    assert (trap / "songs.stems" / "index.parquet").exists()


def test_the_changelogs_newest_entry_is_of_this_version():
    newest = re.search(r"^## \[(.+?)\] - (unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest, "expected ## [VERSION] - DATE"
    assert newest[1] == PROJECT["version"]


@pytest.fixture
def release_notes(tmp_path):
    """The script of the notes over a changelog of our own; called with a version, it returns what ended."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "release-notes", tmp_path / ".ci")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [0.3.0] - unreleased\n\n- 3\n\n## [0.2.0] - 2026-12-01\n\n- two\n\n## [0.2] - 2026-11-01\n\n- 1\n"
    )
    return lambda version: subprocess.run(
        [tmp_path / ".ci" / "release-notes", version], capture_output=True, text=True, check=False
    )


def test_the_notes_of_a_release_are_its_entry_of_the_changelog(release_notes):
    assert release_notes("0.2.0").stdout.strip() == "- two"


@pytest.mark.parametrize("version", ["0.3.0", "0.4.0", "0x2x0"])
def test_a_version_without_a_dated_entry_has_no_notes(release_notes, version):
    told = release_notes(version)
    assert told.returncode == 1
    assert told.stderr == f'CHANGELOG.md: expected an entry "## [{version}] - DATE"\n'
