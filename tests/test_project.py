"""What the project promises of itself: imports go one way, types are checked across packages, the README is true."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
import typer
from project_files import DOCS, ROOT

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.failures.advice import ADVICE
from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS
from sep_batch.pipeline.rows import JOURNAL, STEM

ORDER = (  # a folder, or a file at the top of a package; each imports only from those before it
    "model",
    *(f"pipeline.{name}" for name in ("errors", "extras", "packages", "repeats", "rows", "storage", "stem_paths", "audio")),
    *(f"pipeline.{name}" for name in ("settings", "manifest", "out", "stages", "flow", "export", "scoring")),
    *(f"jobs.{name}" for name in ("setup", "engine", "progress", "failures", "run", "demo", "bench", "plan", "status", "verify")),
    *(f"jobs.{name}" for name in ("withdraw", "compare", "evaluate", "show", "export", "submit", "doctor", "manifest", "models")),
    *(f"jobs.{name}" for name in ("cli", "__main__")),
)
ONLY_IN = {  # the one place that knows a library
    "ray": {
        *(f"pipeline/flow/{name}.py" for name in ("ray_flow", "ray_data", "joins", "actors", "held_gpus")),
        *("pipeline/export/flow.py", "jobs/engine/cluster.py", "jobs/engine/engine.py", "jobs/engine/head.py"),
        "jobs/submit/client.py",
    },
    "fsspec": {f"pipeline/storage/{name}.py" for name in ("filesystems", "listing", "objects", "reading", "writing")},
    "av": {f"pipeline/audio/{name}.py" for name in ("containers", "reader", "tag_reader", "encoding", "loudness", "resample")},
    "soundfile": {"pipeline/audio/vorbis.py"},
}
PACKAGES = ("model", "pipeline", "jobs")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FOLDERS = [path.parent for path in SOURCES if path.name == "__init__.py"]


def imported(path):
    """Return the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room(module):
    """Return the folder of ORDER that a module lies in; none for the top of a package."""
    return next((name for name in (module, ".".join(module.split(".")[:2]), module.split(".")[0]) if name in ORDER), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way_and_a_library_stays_in_its_file(path):
    name = str(path.relative_to(ROOT))
    own = room(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    for module in imported(path):
        top, _, rest = module.partition(".")
        if top == "sep_batch" and own is not None:
            assert room(rest) is not None, f"{name} imports {module}, which lies in none of ORDER"
            assert ORDER.index(room(rest)) <= ORDER.index(own), f"{name} imports {module}, which lies higher"
        assert name in ONLY_IN.get(top, {name}), f"{name} imports {module}"


def test_every_folder_and_file_of_the_packages_has_its_place_in_the_order():
    files = {str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in SOURCES if path.name != "__init__.py"}
    assert {name for name in files if room(name) is None} == set()
    assert {name for name in ORDER if not any(room(file) == name for file in files)} == set()


def test_no_imports_go_in_a_circle():
    files = {"sep_batch." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    graph = {
        name: {
            module for full in imported(path) for module in (full, full.rpartition(".")[0]) if module in files and module != name
        }
        for name, path in files.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_map_of_a_folder_has_one_line_for_each_file(folder):
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    listed = re.findall(r"^    (\w+): \S", docstring[docstring.index("\n\nFiles:\n") :], re.MULTILINE)
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    assert sorted(listed) == sorted(files | {path.parent.name for path in folder.glob("*/__init__.py")})


def test_the_type_check_sees_wrong_calls_across_packages(tmp_path):
    for name in (*PACKAGES, ".types", ".mypy_cache"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for place in ("pipeline/wrong.py", "jobs/wrong.py"):  # which no other imports, so that no other is checked again
        (tmp_path / place).write_text("from sep_batch.model.spectrogram import frame_count\n\nframe_count('many', 5)\n")
    told = subprocess.run([sys.executable, "-m", "mypy"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 1, told.stdout
    for place in ("pipeline/wrong.py", "jobs/wrong.py"):
        assert re.search(rf'{place}:\d+: error: .*"frame_count" has incompatible type "str"; expected "int"', told.stdout)


VAGUE = r"(Of|What|Who|Whose|As of|Where there)\b"  # words with which a description says less than a noun


def test_descriptions_begin_with_a_noun_or_a_verb():
    vague = []
    for path in SOURCES:
        text = path.read_text()
        vague += [f"{path.name}: {line[0].strip()}" for line in re.findall(rf"^( +[a-z_, ]+: {VAGUE}.*)", text, re.MULTILINE)]
        vague += [f"{path.name}: its docstring"] if re.match(rf'"""{VAGUE}', text) else []
    for name, command in commands().items():
        helps = [command.help, *(getattr(parameter, "help", None) for parameter in command.params)]
        vague += [f"{name}: {text}" for text in helps if text and re.match(VAGUE, text)]
    assert vague == []


def test_variables_say_what_they_hold():
    vague, names = {"found", "told", "wanted"}, []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        fields = {id(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}  # `doctor --json` has `found`
        for node in ast.walk(tree):
            if isinstance(node, ast.arg) and node.arg in vague:
                names.append(f"{path.name}:{node.lineno}: {node.arg}")
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in vague and id(node) not in fields:
                names.append(f"{path.name}:{node.lineno}: {node.id}")
    assert names == []


def test_neither_ray_nor_torch_is_loaded_before_ray_is_told_its_environment():
    program = "import sys, sep_batch.jobs.run, sep_batch.jobs.engine.engine; print({'ray', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_installed_packages_are_these_folders():
    import sep_batch.jobs
    import sep_batch.model
    import sep_batch.pipeline

    for package in (sep_batch.model, sep_batch.pipeline, sep_batch.jobs):
        assert Path(package.__file__).parent.name == package.__name__.partition(".")[2]


@pytest.mark.parametrize("path", ["constraints.txt", "infra/object-store/requirements.txt"])
def test_constraints_name_versions_and_nothing_else(path):
    lines = (ROOT / path).read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+-]+( ; .+)?", line) for line in lines if line and line[0] != "#")


STAGES = ("manifest", "fetch", "decode", "separate", "write")


def commands():
    group = typer.main.get_command(app)
    return group.commands | {f"models {name}": command for name, command in group.commands["models"].commands.items()}


def own_part(path):
    """Return a page without the flags of other tools: on pages about these, the first cell of each row, and their commands."""
    text = path.read_text()
    if not path.name.startswith("from-"):
        return text
    return re.sub(r"^\|[^|]*\||^(spleeter|demucs|audio-separator) .*$", "", text, flags=re.MULTILINE)


def flags_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def test_readme_and_docs_name_every_flag_and_none_that_is_not_there():
    flags = {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        for name, command in commands().items()
    }
    every = set().union(*flags.values())
    of_others = {
        "--help",
        "--constraint",
        "--editable",
        "--check",
        "--hours",
        "--install-completion",
        "--version",
    }  # of pip, ruff, typer
    of_others |= {"--generate", "--head", "--num-cpus", "--port", "--shm-size"}  # ray's, docker's
    of_others |= {"--no-mono", "--analysis"}  # examples of flags that turn off a switch, which --help leaves out
    of_others |= {"--constraints", "--python", "--torch-backend", "--dist", "--no-loadscope-reorder"}  # uv's, pytest-xdist's
    of_others |= {"--strict"}  # twine's
    named = {path.relative_to(ROOT).as_posix(): flags_in(own_part(path)) for path in DOCS}
    assert set().union(*named.values()) - of_others - every == set()
    assert every - set().union(*named.values()) == set()
    assert flags["run"] - named["docs/reference/run-flags.md"] == set()


def test_readme_and_docs_name_every_command_and_none_that_is_not_there():
    text = "\n".join(path.read_text() for path in DOCS)
    named = set(re.findall(r"sep-batch ((?:models )?[a-z]+)\b", text)) - {"models"}
    assert named - set(commands()) == set()
    assert {name for name in commands() if name != "models"} - named == {"models list", "models show"}  # told by its help


def test_the_docs_name_every_column():
    text = (ROOT / "docs" / "reference" / "the-index.md").read_text()
    table = text[text.index("<!-- columns -->") : text.index("<!-- /columns -->")]
    assert set(re.findall(r"`([a-z_0-9]+)`", table)) == set(JOURNAL.names)
    for field in STEM:
        assert field.name in table


def test_the_docs_name_every_extension_that_a_folder_lists():
    text = (ROOT / "docs" / "reference" / "manifests.md").read_text()
    table = text[text.index("<!-- extensions -->") : text.index("<!-- /extensions -->")]
    assert re.findall(r"`(\.[a-z0-9]+)`", table) == list(AUDIO_EXTENSIONS)


def test_the_docs_name_every_class_of_failure_as_the_code_has_it():
    text = (ROOT / "docs" / "reference" / "failures.md").read_text()
    table = text[text.index("<!-- failures -->") : text.index("<!-- /failures -->")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.TrackError)]
    expected = []
    for name, advice in ADVICE.items():
        own = [one for one in classes if one.error_class == name]
        stages = sorted({one.stage for one in own}, key=STAGES.index) or ["any"]
        expected.append([f"`{name}`", ", ".join(stages), "yes" if any(one.transient for one in own) else "no", advice])
    assert [[name, stage, transient, advice] for name, stage, transient, _, advice in rows] == expected


def test_the_docs_name_every_exit_code():
    text = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    table = text[text.index("<!-- exit codes -->") : text.index("<!-- /exit codes -->")]
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.RunError)]
    codes = {0, errors.SOME_FAILED, errors.OVER_MAX_FAILURES, errors.STOPPED, errors.CHECK_FAILED}
    assert [int(code) for code in re.findall(r"^\| (\d+) ", table, re.MULTILINE)] == sorted(
        codes | {one.exit_code for one in classes}
    )


READING_WORDS, READING_LINES, SENTENCE_WORDS = 1200, 130, 35


def test_the_readme_is_read_in_two_minutes():
    text = (ROOT / "README.md").read_text()
    lines = text.splitlines()
    assert len(text.split()) <= READING_WORDS
    assert len(lines) <= READING_LINES
    assert any("![" in line for line in lines[:15])
    prose = re.sub(r"```.*?```|^\|.*?$|^#.*?$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", prose)
    sentences = re.split(r"(?<=[.?!:])\s|\n\s*\n|\n- ", prose)
    assert max(len(sentence.split()) for sentence in sentences) <= SENTENCE_WORDS


def test_the_queries_of_the_docs_return_from_an_index_what_they_say(tmp_path, monkeypatch):
    vocals = {"stem": "vocals", "uri": "v", "rms_dbfs": -20, "lufs": -21, "active_regions": [{"start_s": 4, "end_s": 18}]}
    row = dict.fromkeys(JOURNAL.names) | {"status": "ok", "audio_s": 35.5}
    tracks = [
        row | {"id": "x", "stems": [vocals]},
        row | {"id": "y", "stems": [vocals | {"rms_dbfs": -40, "active_regions": None}]},
    ]
    (tmp_path / "songs.stems").mkdir()
    pyarrow.parquet.write_table(pa.Table.from_pylist(tracks, JOURNAL), tmp_path / "songs.stems" / "index.parquet")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "reference" / "the-index.md").read_text()
    queries = re.findall(r'duckdb[.]sql\("""(.*?)"""\)', text, re.DOTALL)
    assert [duckdb.sql(query).fetchall() for query in queries] == [
        [("x", "v", -21.0)],
        [("x", "v", -21.0)],
        [("x", "v", 0, 0.6), ("x", "v", 10, 0.8)],
    ]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_file_that_readme_and_docs_link_is_there(path):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link
