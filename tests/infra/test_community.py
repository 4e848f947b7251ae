"""Files for those who cite, report and contribute: valid, and they name only what is there."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from infra_files import ROOT, passes, tool
from test_words import CALL, options

FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
FILES = [*PAGES, *FORMS]
MADE = {".venv", "build", "dist"}  # folders that commands make
IN_OUT = {"OUT", "_sep"}  # paths of OUT, not of the repository
IN_MANY = {"__init__.py"}  # a file of many folders


def code(path):
    """Return the pieces of code in a file: those between backticks, and of Markdown the blocks."""
    text = path.read_text()
    return re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```\w*\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)


def paths(path):
    """Return the words in a file's code that are paths of the repository."""
    words = {word.rstrip(":,;") for piece in code(path) for word in piece.split()}
    named = {word for word in words if re.fullmatch(r"[\w.-]+(/[\w.-]*)+|[\w-]+\.(md|toml|txt|py|cff|in)", word)}
    return {word for word in named if word.partition("/")[0] not in MADE | IN_OUT | IN_MANY}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_fits_its_schema(path):
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-issue-forms", path)


def test_the_chooser_fits_its_schema_and_allows_blank_issues():
    config = ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-issue-config", config)
    assert yaml.safe_load(config.read_text())["blank_issues_enabled"] is True


def test_the_citation_fits_its_schema_and_is_of_this_version_and_the_licences_authors():
    citation = ROOT / "CITATION.cff"
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.citation-file-format", citation)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    content = yaml.safe_load(citation.read_text())
    assert (content["version"], content["license"]) == (project["version"], project["license"])
    (holder,) = re.findall(r"^Copyright \(c\) \d+ (.+)$", (ROOT / "LICENSE").read_text(), re.MULTILINE)
    assert [author["name"] for author in content["authors"]] == [holder]
    assert content["references"][0]["doi"] == "10.21105/joss.02154"


def test_a_bug_is_asked_for_doctors_output_and_the_runs_record_and_warns_of_secrets():
    warning, *fields = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())["body"]
    assert "No secrets" in warning["attributes"]["value"]
    text = {field["id"]: f"{field['attributes']['label']} {field['attributes'].get('description')}" for field in fields}
    assert "`sep-batch doctor`" in text["doctor"]
    assert "`OUT/_sep/runs/<run>.json`" in text["record"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_only_commands_and_flags_that_are_there(path):
    named = [match for piece in code(path) for match in CALL.findall(piece)]
    for of_models, command, rest in named:
        if command != "config":  # which has commands of its own
            assert f"{of_models}{command}" in options()
            assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) - options()[f"{of_models}{command}"] == set(), command


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_only_paths_and_targets_of_make_that_are_there(path):
    assert {name for name in paths(path) if not (ROOT / name).exists()} == set()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {name for piece in code(path) for name in re.findall(r"^make ([a-z]+)", piece, re.MULTILINE)}
    assert targets - set(phony.split()) == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_name_that_is_said_to_be_in_a_file_is_there(path):
    text = " ".join(path.read_text().split())
    for name, file in re.findall(r"`(\w+)`(?: there)?,? (?:in|of|to) `([\w/]+\.py)`", text):
        assert re.search(rf"^(class |def |)?{name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{name} in {file}"


def test_what_is_looked_for_is_found():
    contributing, security = PAGES
    assert {"tests/jobs/test_older_out.py", "pipeline/audio/codecs.py", ".ci/run", "docs/", "CHANGELOG.md"} <= paths(contributing)
    assert {"pipeline/audio/sandbox.py", "infra/object-store"} <= paths(security)
    assert "CODECS" in contributing.read_text()
