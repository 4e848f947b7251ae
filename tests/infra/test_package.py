"""Wheel and sdist: their files, their metadata for a package index, one version everywhere, the release's notes."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from packaging.metadata import Metadata
from project_files import ROOT

PACKAGES = ("jobs", "model", "pipeline")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MADE = {"build", "demo"}  # at the top only: there is a package jobs/demo
INSTALL_S = 1500
REPOSITORY = "https://host.example/owner/name"
TAG = f"v{PROJECT['version']}"
SETUP = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
README = (ROOT / "README.md").read_text()
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}  # without other checkouts
PROGRAM = """\
from sep_batch.jobs.run.run import run_job
from sep_batch.model.separator import Separator
from sep_batch.pipeline.settings import Settings

reveal_type(Separator.load("spleeter:2stems"))
Separator.load(2)
reveal_type(run_job("songs"))
reveal_type(Settings.load({}))
"""


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
    """Build an sdist, and a wheel from it, as a release is built; returns their folder."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "source", ignore=not_copied)
    environment = os.environ | {"SEP_BATCH_REPOSITORY_URL": REPOSITORY}
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source", env=environment)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    """The wheel's path."""
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel into a new environment; returns its Python, which has this one's packages too."""
    python = tmp_path_factory.mktemp("installed") / "venv" / "bin" / "python"
    venv.create(python.parents[1], with_pip=True)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, env=ENVIRONMENT)
    ours = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", env=ENVIRONMENT).strip())
    (ours / "what_it_needs.pth").write_text(sysconfig.get_path("purelib"))  # as if installed; its own .pth files are not read
    return python


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
    assert wheel.name in (ROOT / "docs" / "start" / "install.md").read_text()


def test_the_sdist_holds_what_the_wheel_is_made_of_and_no_tests(built):
    top = f"sep_batch-{PROJECT['version']}/"
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.removeprefix(top) for name in archive.getnames()}
    assert {name.removeprefix("sep_batch/") for name in package_files()} <= names
    assert {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"} <= names
    assert {"constraints.txt", "pyproject.toml", "setup.py"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_the_installed_wheel_runs_in_a_folder_that_holds_modules_of_the_same_names(installed, trap):
    command = installed.with_name("sep-batch")
    assert run(command, "--version", cwd=trap, env=ENVIRONMENT) == f"sep-batch {PROJECT['version']}\n"
    assert "Separate every track of MANIFEST" in run(command, "run", "--help", cwd=trap, env=ENVIRONMENT)
    assert "spleeter:2stems" in run(command, "models", "list", cwd=trap, env=ENVIRONMENT)
    modules = [name.removesuffix(".py").replace("/", ".") for name in sorted(package_files()) if name.endswith(".py")]
    imports = "".join(f"import {name}\n" for name in modules if not name.endswith("__main__"))
    file = run(installed, "-c", f"{imports}print(sep_batch.jobs.__file__)", cwd=trap, env=ENVIRONMENT)
    assert Path(file.strip()).is_relative_to(installed.parents[1])


def test_a_type_checker_sees_the_types_of_the_installed_wheel(installed, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*,numpy.*,pydantic.*]\nfollow_imports = skip\n")  # to take seconds
    command = [installed, "-m", "mypy", "program.py"]
    result = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    lines = [line.partition(": ")[2] for line in result.stdout.splitlines() if ": " in line]
    assert lines == [
        'note: Revealed type is "sep_batch.model.separator.Separator"',
        'error: Argument 1 to "load" of "Separator" has incompatible type "int"; expected "str"  [arg-type]',
        'note: Revealed type is "sep_batch.jobs.progress.summary.Summary"',
        'note: Revealed type is "sep_batch.pipeline.settings.Settings"',
    ]


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


class Targets(HTMLParser):
    """Targets of a Markdown text, in order: its links, and its pictures."""

    def __init__(self, markdown):
        super().__init__()
        self.links, self.pictures = [], []
        self.feed(MarkdownIt("commonmark").enable("table").render(markdown))

    def handle_starttag(self, tag, attrs):
        for name, text in attrs:
            if name in ("href", "src", "srcset"):
                (self.links if name == "href" else self.pictures).append(text)


def metadata(built):
    """Return the metadata of the wheel, and of the sdist."""
    wheel, sdist = next(built.glob("*.whl")), next(built.glob("*.tar.gz"))
    yield Metadata.from_email(zipfile.ZipFile(wheel).read(f"sep_batch-{PROJECT['version']}.dist-info/METADATA"))
    with tarfile.open(sdist) as archive:
        yield Metadata.from_email(archive.extractfile(f"sep_batch-{PROJECT['version']}/PKG-INFO").read())


def test_wheel_and_sdist_pass_the_check_of_a_package_index(built):
    pytest.importorskip("twine")
    assert run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built.iterdir()).count("PASSED") == 2


def test_wheel_and_sdist_have_the_readme_with_absolute_links_and_the_addresses_of_the_repository(built):
    for fields in metadata(built):
        assert fields.description.strip() == SETUP["absolute"](README, REPOSITORY, PROJECT["version"]).strip()
        assert fields.description_content_type == "text/markdown"
        assert fields.project_urls == {
            "Source": REPOSITORY,
            "Documentation": f"{REPOSITORY}/tree/{TAG}/docs",
            "Changelog": f"{REPOSITORY}/blob/{TAG}/CHANGELOG.md",
            "Issues": f"{REPOSITORY}/issues",
        }


def test_every_link_and_picture_of_the_readme_leads_to_the_file_of_this_version():
    before, after = Targets(README), Targets(SETUP["absolute"](README, REPOSITORY, PROJECT["version"]))
    assert before.links
    for kind, relative, targets in (("blob", before.links, after.links), ("raw", before.pictures, after.pictures)):
        assert targets == [
            target if re.match(r"https?:|#", target) else f"{REPOSITORY}/{kind}/{TAG}/{target}" for target in relative
        ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/a.md#b)", "[a](R/blob/v1/docs/a.md#b)"),
        ('[`a`](./a.py "title")', '[`a`](R/blob/v1/a.py "title")'),
        ("![a](docs/a.png)", "![a](R/raw/v1/docs/a.png)"),
        ("[![a](a.svg)](LICENSE)", "[![a](R/raw/v1/a.svg)](R/blob/v1/LICENSE)"),
        ('<a href="b/"><img alt="c" src="a.png"></a>', '<a href="R/blob/v1/b"><img alt="c" src="R/raw/v1/a.png"></a>'),
        ("[a](https://host.example/a.md) [b](#b)", "[a](https://host.example/a.md) [b](#b)"),
        ("`[a](b.md)` ``[a](`b.md)``", "`[a](b.md)` ``[a](`b.md)``"),
        ("```md\n[a](b.md)\n```\n[a](b.md)", "```md\n[a](b.md)\n```\n[a](R/blob/v1/b.md)"),
    ],
)
def test_what_is_relative_becomes_absolute_but_in_code(text, expected):
    assert SETUP["absolute"](text, REPOSITORY, "1") == expected.replace("R/", f"{REPOSITORY}/")


def test_without_an_address_the_metadata_has_the_readme_as_it_is_and_no_addresses():
    assert SETUP["metadata"]("") == {"long_description": README, "long_description_content_type": "text/markdown"}


def test_a_slash_behind_the_address_changes_nothing():
    assert SETUP["metadata"](f"{REPOSITORY}/") == SETUP["metadata"](REPOSITORY)


@pytest.mark.parametrize("address", ["host.example/a/b", "https://host.example", "https://u:p@host.example/a/b", "git@h:a/b"])
def test_an_address_of_another_form_ends_the_build_with_one_line(address):
    with pytest.raises(SystemExit, match="SEP_BATCH_REPOSITORY_URL: expected an address such as https://host/owner/name, found"):
        SETUP["metadata"](address)


def test_the_classifiers_are_those_of_package_indexes_and_name_the_supported_pythons():
    trove = pytest.importorskip("trove_classifiers")
    assert set(PROJECT["classifiers"]) <= trove.classifiers
    oldest, above = map(int, re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    pythons = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", text)]
    assert pythons == [f"3.{minor}" for minor in range(oldest, above)]


def test_a_release_is_built_with_the_address_of_its_repository_and_checked():
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]["release"]["steps"]
    build, check, publish = steps[-3:]
    assert build["env"]["SEP_BATCH_REPOSITORY_URL"] == "${{ github.server_url }}/${{ github.repository }}"
    assert check["run"] == "python -m twine check --strict dist/*"
    assert publish["run"].startswith("gh release create")


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
