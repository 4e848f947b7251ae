"""What OUT holds of its last run is anybody's: what no run writes is one line and exit 5, and never a traceback."""

from __future__ import annotations

import json

import pytest

from sep_batch.jobs.setup import outs
from sep_batch.pipeline import errors

SOUND = {"settings": {"stems": ["vocals"], "spec": {"name": "x"}, "offset_s": 0}, "manifest": {"uri": "/m", "read_with": {}}}


def written(tmp_path, text):
    (tmp_path / "_sep").mkdir(exist_ok=True)
    (tmp_path / "_sep" / "run.json").write_text(text)
    return str(tmp_path)


def test_what_a_run_of_any_version_writes_is_read(tmp_path):
    for told in (SOUND, {"settings": {}}, SOUND | {"later": [1]}, {"settings": SOUND["settings"] | {"later": [1]}}):
        assert outs.last_run(written(tmp_path, json.dumps(told))) == {"settings": {}, "manifest": {}, "versions": {}} | told


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("settings",), [], "settings"),
        (("settings", "stems"), 5, "settings.stems"),
        (("settings", "stems"), None, "settings.stems"),
        (("settings", "stems"), "vocals", "settings.stems"),
        (("settings", "stems"), ["../../x"], "settings.stems.0"),
        (("settings", "spec"), "x", "settings.spec"),
        (("settings", "offset_s"), "abc", "settings.offset_s"),
        (("settings", "mono"), "no", "settings.mono"),
        (("settings", "downmix"), "odd", "settings.downmix"),
        (("settings_sha256",), 5, "settings_sha256"),
        (("manifest",), None, "manifest"),
        (("manifest", "uri"), 5, "manifest.uri"),
        (("manifest", "limit"), "5", "manifest.limit"),
        (("manifest", "limit"), -1, "manifest.limit"),
        (("manifest", "read_with"), [1], "manifest.read_with"),
        (("manifest", "read_with"), {"bad": 1}, "manifest.read_with.bad"),
        (("versions",), None, "versions"),
        (("model",), ["a"], "model"),
    ],
)
def test_a_value_that_no_run_writes_is_named(tmp_path, place, value, named):
    told = json.loads(json.dumps(SOUND))
    inner = told if len(place) == 1 else told[place[0]]
    inner[place[-1]] = value
    with pytest.raises(errors.NotRunnableError, match=rf"run.json: not valid \({named}: "):
        outs.last_run(written(tmp_path, json.dumps(told)))


@pytest.mark.parametrize("text", ["[1]", "null", "{", "[" * 100_000, '"x"', "{}"])
def test_a_text_that_no_run_writes_is_one_line(tmp_path, text):
    with pytest.raises(errors.NotRunnableError, match="run.json: not valid") as caught:
        outs.last_run(written(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1
