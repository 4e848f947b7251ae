"""Config files: flags from TOML below those that are typed, mistakes in one line each, and what `config show` says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest
import typer
from catalogs import write_tone
from project_files import ROOT
from typer.testing import CliRunner

from sep_batch.jobs.cli import configured, flags
from sep_batch.jobs.cli.config_file import parameters_of
from sep_batch.jobs.cli.main import app
from sep_batch.pipeline import errors
from sep_batch.pipeline.out import index

VARIABLES = ("SEP_BATCH_CONFIG", "SEP_BATCH_PROFILE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, without variables that the command line reads."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def config(text, name="run.toml"):
    """Write a config file, and return its name."""
    with open(name, "w") as file:
        file.write(text)
    return name


GROUP = typer.main.get_command(app)
COMMANDS = {name: command for name, command in GROUP.commands.items() if isinstance(command, configured.ConfiguredCommand)}


def context_of(command, *words, **options):
    """Return the context that a command would be called with."""
    root = GROUP.make_context("sep-batch", [command], **options)
    return COMMANDS[command].make_context(command, list(words), parent=root, **options)


def parsed(command, *words):
    """Return the parameters that a command would be called with."""
    return context_of(command, *words).params


def shown(*words):
    """Return value, source and origin of the flags that `config show` prints, by command and flag."""
    result = call("config", "show", *words, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["flags"]
    return {(row["command"], row["flag"]): (row["value"], row["source"], row["origin"]) for row in rows}


LAYERS = """
[run]
manifest = "songs.parquet"
gpus = 1
cpus = 1
limit = 1
include = ["*.flac", "*.wav"]
mono = true
overwrite = true

[profile.night.run]
gpus = 2
cpus = 2
overwrite = false

[profile.day.run]
gpus = 7
"""


def test_the_command_line_wins_over_the_profile_over_the_table_over_the_default():
    params = parsed("run", "--config", config(LAYERS), "--profile", "night", "--gpus", "3")
    assert (params["gpus"], params["cpus"], params["limit"], params["format"]) == ("3", 2, 1, "flac")


def test_lists_are_lists_and_a_typed_one_replaces_the_files():
    file = config(LAYERS)
    assert list(parsed("run", "--config", file)["include"]) == ["*.flac", "*.wav"]
    assert list(parsed("run", "--config", file, "--include", "a", "--include", "b")["include"]) == ["a", "b"]


@pytest.mark.parametrize("stems", ['["vocals", "drums"]', '"vocals,drums"'])
def test_stems_are_a_list_or_the_text_that_is_typed(stems):
    assert parsed("run", "songs", "--config", config(f"[run]\nstems = {stems}"))["stems"] == "vocals,drums"


def test_a_switch_of_the_file_is_turned_off_by_a_profile_or_by_its_no_flag():
    file = config(LAYERS + "[sync]\nno-analysis = true\n")
    assert parsed("run", "--config", file)["mono"] is True
    assert parsed("run", "--config", file, "--profile", "night")["overwrite"] is False
    assert parsed("run", "--config", file, "--no-mono")["mono"] is False
    assert parsed("sync", "a", "b", "--config", file)["no_analysis"] is True
    assert parsed("sync", "a", "b", "--config", file, "--analysis")["no_analysis"] is False


def test_a_required_argument_of_the_file_need_not_be_typed():
    file = config('[run]\nmanifest = "a"\n[manifest]\nsources = ["a", "b"]\n[export]\nto = "hf"\nout = "o"\ndest = "d"\n')
    assert list(parsed("run", "--config", file)["manifest"]) == ["a"]
    assert list(parsed("manifest", "--config", file)["sources"]) == ["a", "b"]
    assert list(parsed("manifest", "c", "--config", file)["sources"]) == ["c"]
    assert parsed("export", "--config", file)["dest"] == "d"
    assert "Missing argument" in call("sync", "--config", file).output


def test_the_limit_of_a_run_is_no_limit_of_the_history():
    assert parsed("status", "o", "--config", config("[run]\nlimit = 3"))["runs"] is None
    assert parsed("status", "o", "--config", config("[status]\nlimit = 3"))["runs"] == 3


def test_variables_name_the_file_and_the_profile_and_typed_names_win(monkeypatch):
    monkeypatch.setenv("SEP_BATCH_CONFIG", config(LAYERS))
    assert parsed("run")["gpus"] == "1"
    monkeypatch.setenv("SEP_BATCH_PROFILE", "night")
    assert parsed("run")["gpus"] == "2"
    assert parsed("run", "--profile", "day")["gpus"] == "7"
    other = config("[run]\ngpus = 9\n[profile.night]", "other.toml")
    assert parsed("run", "songs", "--config", other)["gpus"] == "9"


def test_commands_over_runs_out_read_its_table_below_their_own_except_json():
    file = config(
        '[run]\nout = "o"\ngpus = 1\ncpus = 1\nlimit = 1\nendpoint-url = "http://a"\njson = true\n'
        "[sync]\ncpus = 2\n[profile.night.run]\ncpus = 3\n[profile.night.sync]\ngpus = 4\n"
    )
    sync = parsed("sync", "songs", "--config", file)
    assert (sync["out"], sync["gpus"], sync["cpus"], sync["as_json"], "limit" in sync) == ("o", "1", 2, False, False)
    sync = parsed("sync", "songs", "--config", file, "--profile", "night")
    assert (sync["gpus"], sync["cpus"]) == ("4", 3)
    assert parsed("plan", "songs", "--config", file)["limit"] == 1
    for command in ("status", "failures", "verify"):
        params = parsed(command, "--config", file)
        assert (params["out"], params["endpoint_url"], params["as_json"]) == ("o", "http://a", False)
    for command, words in (("export", ("o", "d", "--to", "hf")), ("bench", ()), ("manifest", ("s",)), ("submit", ())):
        assert parsed(command, *words, "--config", file) == parsed(command, *words)


SAMPLES = {
    bool: ("true", True),
    int: ("7", 7),
    float: ("7.5", 7.5),
    str: ('"seven"', "seven"),
    list[str]: ('["a", "b"]', ["a", "b"]),
}


def settable():
    for name, command in COMMANDS.items():
        for key, parameter in parameters_of(command).items():
            yield pytest.param(name, key, parameter, id=f"{name} {key}")


@pytest.mark.parametrize(("command", "key", "parameter"), list(settable()))
def test_every_flag_and_argument_of_every_command_is_settable(command, key, parameter):
    text, expected = SAMPLES[parameter.type_descriptor.annotation]
    required = [f'{name} = "x"\n' for name, other in parameters_of(COMMANDS[command]).items() if other.required and name != key]
    lines = [f"{key} = {text}\n", *(line.replace('"x"', '["x"]') if line.startswith("sources") else line for line in required)]
    value = parsed(command, "--config", config(f"[{command}]\n{''.join(lines)}"))[parameter.name]
    assert (list(value) if isinstance(value, tuple) else value) == expected


def test_all_commands_but_those_without_flags_take_a_config_file():
    assert set(GROUP.commands) - set(COMMANDS) == {"demo", "models", "config"}


MISTAKES = {
    "no such file": (None, ("--config", "no.toml"), "--config no.toml: no such file or directory"),
    "a folder": (None, ("--config", "."), "--config .: is a directory"),
    "not TOML": (
        "[run]\ngpus: 8\n",
        (),
        "--config run.toml: not TOML: Expected '=' after a key in a key/value pair (at line 2, column 5)",
    ),
    "not UTF-8": ("\udcff", (), "--config run.toml: not TOML, which is UTF-8"),
    "a key twice": ("[run]\ngpus = 8\ngpus = 9\n", (), "(at line 3, column 9)"),
    "no table": ("gpus = 8", (), "run.toml: gpus = 8: expected in a table of a command, as [run]"),
    "a table": ("[rnu]", (), "run.toml: [rnu]: unknown table; did you mean run?"),
    "another table": ("[demo]", (), "run.toml: [demo]: unknown table; expected one of run, plan, sync,"),
    "a key": ("[run]\nmax-failure = 5", (), "run.toml: [run] max-failure: unknown key; did you mean max-failures?"),
    "underscores": ("[run]\nmax_failures = 5", (), "run.toml: [run] max_failures: unknown key; did you mean max-failures?"),
    "a short flag": ("[run]\no = 'x'", (), "run.toml: [run] o: unknown key; "),
    "a key of nothing": ("[run]\nxyz = 5", (), "run.toml: [run] xyz: unknown key; sep-batch run --help lists the flags"),
    "the file itself": ("[run]\nconfig = 'x'", (), "run.toml: [run] config: unknown key"),
    "a key of another command": ("[export]\ntoo = 'hf'", (), "run.toml: [export] too: unknown key; did you mean to?"),
    "text for a number": ("[run]\nlimit = 'ten'", (), 'run.toml: [run] limit = "ten": expected a whole number'),
    "a fraction": ("[run]\nlimit = 1.5", (), "run.toml: [run] limit = 1.5: expected a whole number"),
    "a boolean for a number": ("[run]\nwait = true", (), "run.toml: [run] wait = true: expected a number"),
    "text for a boolean": ("[run]\nmono = 'true'", (), 'run.toml: [run] mono = "true": expected true or false'),
    "a number for a boolean": ("[run]\nmono = 1", (), "run.toml: [run] mono = 1: expected true or false"),
    "a time": ("[run]\ndeadline = 06:00:00", (), "run.toml: [run] deadline = 06:00:00: expected text in quotes"),
    "a list for text": ("[run]\nout = ['a']", (), 'run.toml: [run] out = ["a"]: expected text in quotes'),
    "text for a list": (
        "[run]\ninclude = '*.wav'",
        (),
        'run.toml: [run] include = "*.wav": expected a list of text, as ["a", "b"]',
    ),
    "a list of lists": ("[run]\nstems = [['a']]", (), 'run.toml: [run] stems = [["a"]]: expected a list of text'),
    "a table for text": ("[run.out]\na = 1", (), "run.toml: [run] out = {...}: expected text in quotes"),
    "out of range": ("[run]\nlimit = 0", (), "run.toml: [run] limit = 0: Input should be greater than or equal to 1"),
    "in a profile": ("[profile.night.run]\nlimt = 1", (), "run.toml: [profile.night.run] limt: unknown key; did you mean limit?"),
    "out of range in a profile": (
        "[profile.night.run]\nlimit = 0",
        ("--profile", "night"),
        "run.toml: [profile.night.run] limit = 0: Input",
    ),
    "a table of a profile": ("[profile.night.rnu]", (), "run.toml: [profile.night.rnu]: unknown table; did you mean run?"),
    "no table of a profile": (
        "[profile.night]\ngpus = 8",
        (),
        "run.toml: [profile.night] gpus = 8: expected in a table of a command, as [profile.night.run]",
    ),
    "no profile": ("profile = 'night'", (), 'run.toml: profile = "night": expected tables, as [profile.night.run]'),
    "no tables": ("[profile]\nnight = 1", (), "run.toml: [profile] night = 1: expected tables, as [profile.night.run]"),
    "an unknown profile": (
        "[profile.day.run]\n[profile.night.run]",
        ("--profile", "nigth"),
        "--profile nigth: not in run.toml, which has day, night",
    ),
    "a profile of none": ("[run]", ("--profile", "night"), "--profile night: not in run.toml, which has no profiles"),
    "a profile without a file": (None, ("--profile", "night"), "--profile night: needs a config file; give --config FILE"),
    "a secret": ("[run]\nlimit = 's3://key:hush@b/x'", (), 'run.toml: [run] limit = "s3://...": expected a whole number'),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_one_line_with_its_place(mistake, folder):
    text, words, expected = MISTAKES[mistake]
    if text is not None:
        (folder / "run.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
        words = ("--config", "run.toml", *words)
    with pytest.raises(errors.UsageError) as raised:
        parsed("run", "songs", *words)
    message = str(raised.value)
    assert (expected in message, len(message.splitlines()), "hush" in message) == (True, 1, False), message


def test_a_mistake_in_the_file_is_exit_2():
    result = call("run", "songs", "--config", config("[run]\nlimit = 0"))
    line = "error: run.toml: [run] limit = 0: Input should be greater than or equal to 1\n"
    assert (result.exit_code, result.output) == (2, line)


def test_a_value_that_only_the_command_can_check_is_refused_as_a_typed_one():
    result = call("run", "songs", "--config", config("[run]\nformat = 'xyz'"))
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1), result.output
    assert "--format xyz: expected one of flac" in result.output


def test_variables_are_named_where_they_are_wrong(monkeypatch):
    for name, value, expected in (
        ("PROFILE", "night", "SEP_BATCH_PROFILE night: needs a config file"),
        ("CONFIG", "no.toml", "SEP_BATCH_CONFIG no.toml: no such file or directory"),
    ):
        monkeypatch.setenv(f"SEP_BATCH_{name}", value)
        with pytest.raises(errors.UsageError, match=expected):
            parsed("status", "o")


def test_help_and_completion_read_no_file(monkeypatch):
    monkeypatch.setenv("SEP_BATCH_CONFIG", "no.toml")
    assert call("run", "--help").exit_code == 0
    assert context_of("run", resilient_parsing=True).default_map is None


def test_the_next_command_of_a_plan_has_the_file_and_the_flags_of_the_plans_own_table():
    file = config("[run]\ngpus = 1\nmono = true\n[plan]\nlimit = 5\noverwrite = true\ncalibrate = true\n")
    for command, expected in (("plan", "--limit 5 --overwrite"), ("run", "")):
        context = context_of(command, "a b", "--config", file, "--no-mono")
        line = flags.retyped(context, "run", without=("calibrate", "dry_run", "as_json"))
        words = {"--config", file, "--no-mono", *expected.split()}
        assert (line.startswith("sep-batch run 'a b' "), set(line.split()[4:])) == (True, words)
        assert parsed("run", *shlex.split(line)[2:])["limit"] == (5 if expected else None)


def test_a_run_and_its_status_need_nothing_but_the_file(tiny, local, folder):
    write_tone(folder / "songs" / "a.wav", seconds=0.2)
    file = config(f'[run]\nmanifest = "songs"\nout = "o"\nmodel = "{tiny}"\nmono = true\nstems = ["vocals"]\n')
    result = call("run", "--config", file)
    assert result.exit_code == 0, result.output
    assert [(stem["stem"], stem["channels"]) for stem in index.read("o").to_pylist()[0]["stems"]] == [("vocals", 1)]
    status = call("status", "--config", file)
    assert (status.exit_code, "done     1 track" in status.output) == (0, True), status.output


SHOWN = """
[run]
out = "s3://bucket/stems"
gpus = 8
endpoint-url = "http://me:hush@host"

[export]
to = "webdataset"

[profile.night.run]
deadline = "06:00"
"""


def test_config_show_says_where_each_value_comes_from(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    rows = shown("run", "--config", config(SHOWN), "--profile", "night", "--limit", "5", "-p", "mine")
    assert rows["run", "--limit"] == (5, "command line", None)
    assert rows["run", "--model"] == ("mine", "command line", None)
    assert rows["run", "--deadline"] == ("06:00", "profile", "profile.night.run")
    assert rows["run", "--gpus"] == ("8", "file", "run")
    assert rows["run", "--address"] == ("head:6379", "environment variable", "RAY_ADDRESS")
    assert rows["run", "--format"] == ("flac", "default", None)
    assert rows["run", "manifest"] == (None, "default", None)
    assert rows["run", "--endpoint-url"] == ("http://...", "file", "run")
    sources = [source for _, source, _ in rows.values()]
    assert "default" not in sources[:7]
    assert set(sources[7:]) == {"default"}
    assert {flag for _, flag in rows} == {
        flags[0] if (flags := [name for name in parameter.opts if name.startswith("--")]) else parameter.name
        for parameter in parameters_of(COMMANDS["run"]).values()
    }


def test_config_show_without_a_command_has_what_is_set_for_each():
    rows = shown("--config", config(SHOWN))
    assert rows["export", "--to"] == ("webdataset", "file", "export")
    assert rows["status", "out"] == ("s3://bucket/stems", "file", "run")
    assert ("run", "--format") not in rows
    assert ("bench", "--gpus") not in rows


def test_config_show_is_a_table():
    result = call("config", "show", "status", "--config", config(SHOWN), "--profile", "night")
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines == [
        "config file: run.toml, profile night",
        "flag value source",
        "out s3://bucket/stems file [run]",
        "--endpoint-url http://... file [run]",
        "--history false default",
        "--limit - default",
        "--storage-options - default",
        "--json false default",
    ]
    assert call("config", "show").output == "config file: none; give --config FILE, or set SEP_BATCH_CONFIG\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("demo",), "demo: takes no config file"),
        (("rnu",), "Did you mean 'run'?"),
        (("run", "--lmit", "3"), "--limit"),
        (("--config", "no.toml"), "--config no.toml: no such file"),
        (("run", "--config", "no.toml"), "--config no.toml: no such file"),
    ],
)
def test_mistakes_in_config_show_are_exit_2(words, expected):
    result = call("config", "show", *words)
    assert (result.exit_code, expected in result.output) == (2, True), result.output


CONFIGS = [("docs/reference/configuration.md", ("--profile", "night")), ("infra/README.md", ())]


@pytest.mark.parametrize(("path", "words"), CONFIGS)
def test_the_files_of_the_docs_make_a_nightly_sync(path, words):
    (text,) = re.findall(
        r"(?:^```toml|stems.toml <<'END')\n(.+?)^(?:```|END)$", (ROOT / path).read_text(), re.MULTILINE | re.DOTALL
    )
    params = parsed("sync", "--config", config(text), *words)
    assert (params["source"], params["out"]) == ("s3://bucket/songs", "s3://bucket/stems")
    assert (params["deadline"], params["log_format"]) == ("06:00", "json")


def test_a_run_without_a_file_loads_no_reader_of_toml():
    script = (
        "import sys; from sep_batch.jobs.cli.main import app; print({'tomllib', 'sep_batch.pipeline.storage'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
