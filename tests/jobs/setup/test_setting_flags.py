"""OUT's settings in flags: a refusal names each with both values, and the flags that it tells are taken and give the same run."""

from __future__ import annotations

import json
import shlex

import pytest
from catalogs import write_tone
from typer.main import get_command
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import outs, setting_flags
from sep_batch.model import weights
from sep_batch.pipeline.settings import Settings

FLAGS = {  # of each setting: flags that change it, and the lines of the refusal of a run without them
    "stems": (["--stems", "vocals"], ["--stems: OUT has vocals, this run has vocals,accompaniment"]),
    "format": (["--format", "wav"], ["--format: OUT has wav, this run has flac"]),
    "bit_depth": (["--bit-depth", "24"], ["--bit-depth: OUT has 24, this run has 16"]),
    "bitrate": (
        ["--format", "mp3", "--bitrate", "192k"],
        ["--bitrate: OUT has 192000, this run has none", "--format: OUT has mp3, this run has flac"],
    ),
    "offset_s": (["--offset", "0.05"], ["--offset: OUT has 0.05, this run has 0"]),
    "duration_s": (["--duration", "5"], ["--duration: OUT has 5, this run has none"]),
    "precision": (["--precision", "bfloat16"], ["--precision: OUT has bfloat16, this run has float32"]),
    "sample_rate_hz": (["--sample-rate", "22050"], ["--sample-rate: OUT has 22050, this run has none"]),
    "mono": (["--mono"], ["--mono: OUT has yes, this run has no"]),
    "mask_extension": (["--mask-extension", "average"], ["--mask-extension: OUT has average, this run has none"]),
    "mwf": (["--mwf"], ["--mwf: OUT has yes, this run has no"]),
    "write_mix": (["--write-mix"], ["--write-mix: OUT has yes, this run has no"]),
    "residual": (["--residual", "rest"], ["--residual: OUT has rest, this run has none"]),
    "copy_tags": (["--copy-tags"], ["--copy-tags: OUT has yes, this run has no"]),
    "tag_provenance": (["--tag-provenance"], ["--tag-provenance: OUT has yes, this run has no"]),
    "downmix": (["--downmix", "first-two"], ["--downmix: OUT has first-two, this run has itu"]),
}
OF_MODEL = {"weights_sha256", "spec"}
OF_LAYOUT = {"filename", "root"}


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def catalog(tmp_path):
    """A folder with a space in its name, of one tone."""
    write_tone(tmp_path / "my songs" / "a.wav", 300, 0.2)
    return tmp_path / "my songs"


def refused(*arguments):
    """Return what differs, a line a setting, and OUT's own flags, as a run that is refused tells them."""
    told = call("run", *arguments)
    assert (told.exit_code, len(told.output.splitlines())) == (6, 1), told.output
    words = told.output.strip().partition("made with other settings: ")[2]
    differing, _, advice = words.partition("; run with OUT's own (")
    return differing.split("; "), shlex.split(advice.partition("), use another --out")[0])


def test_every_setting_has_a_flag_that_run_takes_and_a_case_here():
    taken = {name for parameter in get_command(app).commands["run"].params for name in parameter.opts}
    assert {setting_flags.flag_of(name) for name in {*Settings.model_fields} - {"spec"} | {"spec.name"}} <= taken
    assert FLAGS.keys() | OF_MODEL | OF_LAYOUT == Settings.model_fields.keys()


@pytest.mark.parametrize("setting", FLAGS)
def test_a_refusal_names_each_setting_that_differs_with_both_values_and_the_flags_that_it_tells_are_right(
    setting, catalog, tiny, local
):
    asked, lines = FLAGS[setting]
    assert call("run", catalog, "--model", tiny, *asked).exit_code == 0
    differing, own = refused(catalog, "--model", tiny)
    assert differing == lines
    again = call("run", catalog, *own)
    assert (again.exit_code, "nothing to do: 1 track, 1 done before" in again.output) == (0, True), again.output


def test_the_paths_of_stems_are_kept_without_a_flag_and_others_are_refused(catalog, tiny, local):
    assert call("run", catalog, "--model", tiny, "--filename", "{reldir}/{id}-{stem}.{ext}").exit_code == 0
    assert "nothing to do: 1 track, 1 done before" in call("run", catalog, "--model", tiny).output
    differing, own = refused(catalog, "--model", tiny, "--filename", "{id}-{stem}.{ext}")
    assert differing == ["--filename: OUT has {reldir}/{id}-{stem}.{ext}, this run has {id}-{stem}.{ext}"]
    assert "nothing to do: 1 track, 1 done before" in call("run", catalog, *own).output


def test_other_models_are_told_by_their_names_and_not_by_all_they_hold(catalog, tiny_models, local):
    assert call("run", catalog, "--model", tiny_models["4stems"]).exit_code == 0
    differing, own = refused(catalog, "--model", tiny_models["2stems"])
    assert differing == ["--model: OUT has 4stems, this run has 2stems"]
    assert "nothing to do" in call("run", catalog, *own).output


def test_one_model_with_other_weights_is_told_by_their_sha256(catalog, tiny_models, tmp_path, local):
    import golden_models

    assert call("run", catalog, "--model", tiny_models["2stems"]).exit_code == 0
    other = golden_models.spec("2stems")
    files = golden_models.files("2stems-16kHz-average")
    folder, _ = weights.convert(*files, other, tmp_path / "other")
    differing, _ = refused(catalog, "--model", folder)
    before, now = (weights.expected_sha256(place)[:12] for place in (tiny_models["2stems"], folder))
    assert differing == [f"--model: OUT has weights of sha256 {before}..., this run has weights of sha256 {now}..."]


def test_one_model_of_another_description_is_told_by_what_differs():
    differing = {"spec.bins": (1536, 1024), "duration_s": (None, 5.5)}
    lines = ["--model (bins): OUT has 1536, this run has 1024", "--duration: OUT has none, this run has 5.5"]
    assert setting_flags.differences(differing) == lines


def test_a_setting_of_another_version_is_named_without_a_flag():
    (line,) = setting_flags.differences({"speed": (2, None)})
    assert line == "speed (no setting of this version of sep-batch): OUT has 2, this run has none"


def test_plan_tells_what_differs_in_the_same_words(catalog, tiny, local):
    assert call("run", catalog, "--model", tiny, "--duration", "5").exit_code == 0
    told = call("plan", catalog, "--model", tiny, "--mono")
    assert told.exit_code == 6
    assert "setting --duration: OUT has 5, this run has none\n" in told.output
    assert "setting --mono: OUT has no, this run has yes\n" in told.output


def test_status_shows_outs_settings_as_flags_and_as_an_object(catalog, tiny, local):
    out = catalog.parent / "my songs.stems"
    assert call("run", catalog, "--model", tiny, "--duration", "5", "--mono").exit_code == 0
    told = call("status", out).output
    assert f"settings --model {tiny} --duration 5 --mono; all others are the defaults\n" in told
    found = json.loads(call("status", out, "--json").stdout)
    assert found["settings"]["duration_s"] == 5.0
    assert found["flags"] == ["--model", tiny, "--duration", "5", "--mono"]


def test_an_out_of_a_version_that_did_not_write_its_model_down_names_the_models_description(catalog, tiny, local):
    run_job(str(catalog), model=tiny)
    run_json = outs.last_run(f"{catalog}.stems")
    del run_json["model"]
    assert setting_flags.words(run_json) == ["--model", "2stems"]
    run_json["settings"]["spec"]["name"] = "spleeter:2stems"
    assert setting_flags.words(run_json) == []
