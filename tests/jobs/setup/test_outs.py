"""What OUT holds of its last run is anybody's: what no run writes is one line and exit 5, and never a traceback."""

from __future__ import annotations

import json

import pytest
from catalogs import write_tone

from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import outs
from sep_batch.pipeline import errors
from sep_batch.pipeline.stages import machine_requirements

OURS = machine_requirements.versions()["torch"]

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


@pytest.mark.parametrize(
    ("theirs", "is_told"), [(None, False), ("2.0.1+cpu", True), (OURS, False), (f"{OURS.partition('+')[0]}+other", False)]
)
def test_an_out_that_was_made_with_another_torch_is_told_where_there_is_work(theirs, is_told, tiny, local, tmp_path):
    song = write_tone(tmp_path / "in" / "a.wav", 300, 0.2)
    run_job(str(song.parent), str(tmp_path / "out"), model=tiny)
    path = tmp_path / "out" / "_sep" / "run.json"
    content = json.loads(path.read_text())
    content["versions"] = {"torch": theirs} if theirs else {}
    path.write_text(json.dumps(content))
    assert run_job(str(song.parent), str(tmp_path / "out"), model=tiny).warnings == ()
    path.write_text(json.dumps(content))
    write_tone(tmp_path / "in" / "b.wav", 300, 0.2)
    line = f"OUT was made with torch {theirs}, this is {OURS}: stems may differ in the last bit; for the same bytes use {theirs}"
    for job in (run_plan, run_job):
        warnings = job(str(song.parent), str(tmp_path / "out"), model=tiny).warnings
        assert list(warnings) == [line] * is_told
