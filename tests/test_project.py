"""What the project promises of itself: imports go one way, types are checked across packages, the README is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"model": {"model"}, "pipeline": {"model", "pipeline"}, "jobs": {"model", "pipeline", "jobs"}}
ONLY_IN = {  # the one place that knows a library
    "ray": {"pipeline/flow.py", "jobs/run.py"},
    "fsspec": {"pipeline/storage.py"},
    "av": {"pipeline/audio.py"},
}
SOURCES = [path for package in ALLOWED for path in sorted((ROOT / package).glob("*.py"))]


def imported(path):
    """Return the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way_and_a_library_stays_in_its_file(path):
    package = path.parent.name
    for module in imported(path):
        top, _, rest = module.partition(".")
        if top == "sep_batch":
            assert rest.split(".")[0] in ALLOWED[package], f"{path.name} imports {module}"
        assert str(path.relative_to(ROOT)) in ONLY_IN.get(top, {str(path.relative_to(ROOT))}), f"{path.name} imports {module}"


def type_check(*arguments):
    """Run the type checker as `make lint` does."""
    return subprocess.run([sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ["pipeline", "jobs"])
def test_the_type_check_sees_a_wrong_call_across_packages(package, tmp_path):
    wrong = tmp_path / f"wrong_{package}.py"
    wrong.write_text("from sep_batch.model.spectrogram import frame_count\n\nframe_count('many', 5)\n")
    (tmp_path / "sep_batch").mkdir()
    told = type_check("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache"), str(wrong))
    assert told.returncode == 1, told.stdout
    assert '"frame_count" has incompatible type "str"; expected "int"' in told.stdout


def test_the_installed_packages_are_these_folders():
    import sep_batch.jobs
    import sep_batch.model
    import sep_batch.pipeline

    for package in (sep_batch.model, sep_batch.pipeline, sep_batch.jobs):
        assert Path(package.__file__).parent.name == package.__name__.partition(".")[2]


def test_constraints_name_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+-]+( ; .+)?", line) for line in lines if line and line[0] != "#")


def readme_flags():
    """Return every flag that the README names, with the command it is named with, where it names one."""
    text = (ROOT / "README.md").read_text()
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)))


def test_every_flag_and_column_that_the_readme_names_is_there():
    import typer

    from sep_batch.jobs.cli import app
    from sep_batch.pipeline.rows import JOURNAL

    group = typer.main.get_command(app)
    commands = [*group.commands.values(), *group.commands["models"].commands.values()]
    flags = {option for command in commands for parameter in command.params for option in parameter.opts}
    others = {"--help", "--no-deps"}  # of every command; pip's
    assert [flag for flag in readme_flags() if flag not in flags | others] == []
    text = (ROOT / "README.md").read_text()
    table = text[text.index("<!-- columns -->") : text.index("<!-- /columns -->")]
    assert set(re.findall(r"`([a-z_0-9]+)`", table)) >= set(JOURNAL.names)
