"""A manifest may name its columns as it likes: also as anything that stands in the SQL of this project."""

from __future__ import annotations

import ast
import json
import re

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from project_files import ROOT
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.pipeline.rows import JOURNAL

STATEMENT = re.compile(r"\b(?:SELECT|FROM|JOIN|CREATE|INSERT|WHERE)\b")
RESERVED = {"_sep_file", "_sep_place"}


def texts_of(module):
    """Return the texts of a module that are SQL, the constant pieces of those made with values included."""
    texts = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.JoinedStr):
            texts.append(" ".join(part.value for part in node.values if isinstance(part, ast.Constant)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(ast.parse(module.read_text())) if has_docstring(node)}
    return [text for text in texts if text not in docstrings and STATEMENT.search(text)]


def has_docstring(node):
    return isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))


def identifiers():
    """Return every word that stands in any SQL of ours, once whatever its case."""
    modules = [path for folder in ("pipeline", "jobs") for path in (ROOT / folder).rglob("*.py")]
    words = {word.lower() for path in modules for text in texts_of(path) for word in re.findall(r"[A-Za-z_]\w*", text)}
    return sorted((words | {name.lower() for name in JOURNAL.names}) - {"uri", "id", "offset_s", "duration_s", "source_etag"})


def test_the_words_of_our_sql_are_found():
    assert {"place", "ours", "theirs", "newest", "rows", "kind", "broken", "last_line", "selected", "columns"} <= set(
        identifiers()
    )


@pytest.fixture
def songs(tmp_path):
    """Two tones, a file that is none, and a manifest with a column for each word, its values texts, numbers or structs."""
    (tmp_path / "songs").mkdir()
    for name in ("a", "b"):
        write_tone(tmp_path / "songs" / f"{name}.wav", 300, seconds=0.3)
    (tmp_path / "songs" / "c.wav").write_bytes(b"no audio")
    names = ["a", "b", "c"]
    columns = {"uri": [f"{name}.wav" for name in names], "id": names}
    for number, word in enumerate(identifiers()):
        name = word.upper() if number % 5 == 4 else word
        columns[name] = [[f"{word} {one}", number, {"id": one, "uri": "x"}][number % 3] for one in names]
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "songs" / "songs.parquet")
    return tmp_path / "songs" / "songs.parquet"


def sep_batch(*arguments, expected):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == expected, done.output[-2000:]
    return done.stdout


def test_a_column_of_the_manifest_can_have_any_name(songs, tmp_path, tiny, local, inline_export):
    out = tmp_path / "out"
    run = ("run", songs, "-o", out, "--model", tiny)
    sep_batch(*run, expected=3)
    given = pyarrow.parquet.read_table(songs)
    table = pyarrow.parquet.read_table(out / "index.parquet")
    for name in given.column_names:
        if name not in ("uri", "id"):
            held = name if name in table.column_names and name not in JOURNAL.names else f"manifest_{name}"
            assert table.column(held).to_pylist() == given.column(name).to_pylist(), name
    sep_batch(*run, expected=0)
    assert json.loads(sep_batch("plan", songs, "-o", out, "--model", tiny, "--json", expected=0))["todo"] == 0
    sep_batch("status", out, expected=0)
    sep_batch("failures", out, "--to", tmp_path / "failures.parquet", expected=0)
    again = pyarrow.parquet.read_table(tmp_path / "failures.parquet")
    spelled = {name.lower(): name for name in given.column_names}
    assert again.column(spelled["place"]).to_pylist() == given.column(spelled["place"]).to_pylist()[2:]
    sep_batch("verify", out, "--deep", expected=0)
    stem = table.column("stems")[0].as_py()[0]["uri"]
    (out / stem).unlink()
    (out / "index.parquet").unlink()
    sep_batch("verify", out, "--repair", "--yes", expected=8)
    sep_batch(*run, expected=0)
    sep_batch("verify", out, "--deep", expected=0)
    where = ("--where", "place IS NOT NULL AND name IS NOT NULL")
    sep_batch(
        "export",
        out,
        tmp_path / "data",
        "--to",
        "parquet",
        "--excerpt",
        "0.1s",
        "--group-by",
        spelled["theirs"],
        *where,
        expected=0,
    )
    assert pyarrow.parquet.read_table(next((tmp_path / "data").rglob("*.parquet"))).num_rows
