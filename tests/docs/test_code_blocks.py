"""Python of the README and the docs, run as it stands there over a small catalog; paths that they name."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from types import SimpleNamespace

import pytest
from catalogs import write_tone
from project_files import DOCS, ROOT

from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.run.run import run_job
from sep_batch.model import separator

ELSEWHERE = {"datasets.md", "recipes.md"}  # tests/jobs/export/test_recipes.py, tests/infra/test_scheduling_recipes.py
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|ya?ml|json|toml|sbatch|service|timer|ipynb))(?:::\w+)?`")


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def export_of(*places, **flags):
    """Check the arguments of a call; return a result of which nothing is asked but its names."""
    inspect.signature(run_export).bind(*places, **flags)
    result = typing.get_type_hints(run_export)["return"]
    return SimpleNamespace(**dict.fromkeys(field.name for field in dataclasses.fields(result)))


PAGES = [path for path in DOCS if path.name not in ELSEWHERE and blocks(path)]


@pytest.fixture
def catalog(tmp_path, tiny, monkeypatch):
    """A folder with a manifest, and its stems; the published weights are a small model's."""
    write_tone(tmp_path / "songs" / "a.wav", 300, 12.0)
    monkeypatch.chdir(tmp_path)
    run_job("songs", out="songs.stems", model=tiny, gpus=0, engine="local")

    class Small(separator.Separator):
        @classmethod
        def load(cls, model, **options):
            return super().load(tiny if model == "spleeter:2stems" else model, **options)

    monkeypatch.setattr(separator, "Separator", Small)
    return tmp_path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_code_of_a_page_runs(path, catalog, tiny, capsys, monkeypatch):
    names = {}
    for number, block in enumerate(blocks(path)):
        code = block.replace('run_job("songs.parquet", out="songs.stems"', f'run_job("songs", out="out {number}", model={tiny!r}')
        code = code if "import duckdb" in code or "duckdb." not in code else f"import duckdb\n{code}"
        if "run_export" in code:  # which needs Ray: tests/jobs/export run it, here its arguments are checked
            monkeypatch.setattr("sep_batch.jobs.export.export.run_export", export_of)
        exec(code, names)
    if "summary" in names:
        assert (names["summary"].ok, names["summary"].exit_code) == (1, 0)
    if "stems" in names:
        assert {wave.shape for wave in names["stems"].values()} == {(2, 10 * 44_100)}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_path_of_the_project_that_a_page_names_exists(path):
    for name in PATH.findall(path.read_text()):
        assert "_sep/" in name or (ROOT / name).exists(), name
