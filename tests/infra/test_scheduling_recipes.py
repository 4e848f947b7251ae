"""The recipes: queries of the index in three libraries, an Airflow DAG, a nightly workflow of GitHub Actions."""

from __future__ import annotations

import importlib.util
import math
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from infra_files import INFRA, ROOT, documents

from sep_batch.pipeline.rows import JOURNAL

DOC = (ROOT / "docs" / "guides" / "recipes.md").read_text()
NIGHTLY = INFRA / "github-actions" / "nightly.yml"


def meanings():
    """Return what the docs say that a scheduler does about each exit code."""
    text = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    return {int(code): does for code, does in re.findall(r"^\| (\d+) \| .* \| (.*) \|$", text, re.MULTILINE)}


def stem(name, rms_dbfs, regions=None):
    times = regions and [{"start_s": start_s, "end_s": end_s} for start_s, end_s in regions]
    return {"stem": name, "uri": f"{name}.wav", "rms_dbfs": rms_dbfs, "active_regions": times}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The result of each block of code of the page, run one after another over an index of four tracks."""
    pytest.importorskip("polars")
    row = dict.fromkeys(JOURNAL.names) | {"status": "ok"}
    other = stem("accompaniment", -12.0)
    tracks = [
        row | {"id": "a", "audio_s": 35.5, "above_f_db": -20.0, "stems": [stem("vocals", -20.0, [(4, 18)]), other]},
        row | {"id": "b", "audio_s": 12.0, "above_f_db": -9.0, "stems": [stem("vocals", -40.0), other]},
        row | {"id": "c", "audio_s": 20.0, "stems": [stem("vocals", -29.0, [(0, 20)]), other]},
        row | {"id": "d", "status": "failed", "error_class": "decode_error"},
    ]
    folder = tmp_path / "songs.stems"
    folder.mkdir()
    pyarrow.parquet.write_table(pa.Table.from_pylist(tracks, JOURNAL), folder / "index.parquet")
    soundfile.write(folder / "vocals.wav", np.zeros((4410, 2)), 44_100)
    monkeypatch.chdir(tmp_path)
    names, collected = {}, []
    for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL):
        names.pop("result", None)
        exec(block, names)
        collected.append(names.get("result"))
    assert (names["wave"].shape, names["rate_hz"]) == ((4410, 2), 44_100)
    return collected


def rows(result):
    """Return a result's rows, whichever library it is of; missing values are None."""
    lines = result.to_numpy().tolist if isinstance(result, pd.DataFrame) else getattr(result, "fetchall", None) or result.rows
    return [tuple(None if isinstance(cell, float) and math.isnan(cell) else cell for cell in line) for line in lines()]


def test_the_queries_of_the_three_libraries_agree(results):
    _, counts, polars_counts, *others = results
    assert counts.reset_index().to_numpy().tolist()[0] == ["failed", "decode_error", 1, 0.0]
    assert sorted(map(str, polars_counts.rows())) == ["('failed', 'decode_error', 1, 0.0)", "('ok', None, 3, 0.01875)"]
    duck, pandas, polars, duck_above, pandas_above, polars_above, duck_active, pandas_active, _ = others
    assert rows(duck) == rows(pandas) == rows(polars) == [("a", "vocals.wav", -20.0), ("c", "vocals.wav", -29.0)]
    assert rows(duck_above) == rows(pandas_above) == rows(polars_above) == [("b", -9.0), ("a", -20.0), ("c", None)]
    assert rows(duck_active) == rows(pandas_active) == [("a", 0, 0.6), ("a", 10, 0.8), ("c", 0, 1.0), ("c", 10, 1.0)]


@pytest.fixture
def dag():
    """The DAG's module, loaded as Airflow loads it."""
    spec = importlib.util.spec_from_file_location("nightly", INFRA / "airflow" / "sep_batch_nightly.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dag_treats_each_exit_code_as_the_docs_say(dag):
    does = {"alert": {"fail", "retry"}, "success": {"success"}, "run again later": {"success", "skip"}}
    for code, meaning in meanings().items():
        assert dag.outcome(code) in does[meaning.partition(",")[0].partition(":")[0]], code
    assert [dag.outcome(code) for code in (2, 4, 5, 6, 8)] == ["fail"] * 5


@pytest.mark.parametrize(("code", "state"), [(0, "success"), (3, "success"), (75, "skipped"), (5, "failed")])
def test_airflow_runs_the_dag(dag, code, state, tmp_path, monkeypatch):
    pytest.importorskip("airflow", reason="Airflow, which pins versions of its own, is not installed")
    (tmp_path / "sep-batch").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "sep-batch").chmod(0o755)
    monkeypatch.setattr(dag, "COMMAND", str(tmp_path / "sep-batch"))
    exceptions = pytest.importorskip("airflow.sdk.exceptions")
    expected = {"skipped": exceptions.AirflowSkipException, "failed": exceptions.AirflowFailException}
    if state == "success":
        assert dag.separate() == code
    else:
        with pytest.raises(expected[state], match=f"exit code {code}"):
            dag.separate()


def test_the_nightly_workflow_treats_each_exit_code_as_the_docs_say():
    (workflow,) = documents(NIGHTLY.read_text())
    (script,) = (step["run"] for step in workflow["jobs"]["sync"]["steps"] if "case $code" in step.get("run", ""))
    accepted = {0, *map(int, re.findall(r"^\s*(\d+)\)", script, re.MULTILINE))}
    assert accepted == {code for code, does in meanings().items() if not does.startswith("alert")}
