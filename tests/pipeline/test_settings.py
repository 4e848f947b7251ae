from __future__ import annotations

import json
import subprocess
import sys

import pydantic
import pytest

from sep_batch.model.spec import PRESETS
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.settings import Settings

SPEC = PRESETS["spleeter:2stems"]
SHA256_OF = (
    "import sys, json; from sep_batch.pipeline.settings import Settings; print(Settings.load(json.load(sys.stdin)).sha256)"
)
CHANGES = {
    "weights_sha256": "b" * 64,
    "spec": PRESETS["spleeter:2stems-16kHz"],
    "stems": ("vocals",),
    "format": "wav",
    "bit_depth": "24",
    "bitrate": 192_000,
    "filename": "{id}/{stem}.{ext}",
    "root": "/music",
    "offset_s": 1.0,
    "duration_s": 10.0,
    "precision": "float16",
    "sample_rate_hz": 16_000,
    "mono": True,
    "downmix": "first-two",
    "residual": "rest",
    "mask_extension": "average",
    "mwf": True,
    "write_mix": True,
    "copy_tags": True,
    "tag_provenance": True,
}
OF_FIRST_OUTS = "b9ae9f856cf75fcf975f28a125c6f74716c72f96af8bf16a60b5898693fb8b5e"


def settings(**changes):
    return Settings(**{"weights_sha256": "a" * 64, "spec": SPEC, "stems": SPEC.stems} | changes)


def test_settings_survive_json():
    given = settings(duration_s=10.0, bit_depth="24")
    again = Settings.load(json.loads(json.dumps(given.canonical())))
    assert again == given
    assert again.sha256 == given.sha256


def test_every_field_is_changed_by_these_tests():
    assert set(CHANGES) == set(Settings.model_fields)


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_hash_and_is_named_where_it_differs(name):
    changed = settings(**{name: CHANGES[name]})
    assert changed.sha256 != settings().sha256
    differing = settings().differing(changed.canonical())
    assert differing == (["spec.bins", "spec.name"] if name == "spec" else [name])


def test_what_differs_is_told_with_both_values():
    changed = settings(bit_depth="24", spec=PRESETS["spleeter:2stems-16kHz"]).canonical()
    expected = {"bit_depth": ("24", "16"), "spec.bins": (1536, 1024), "spec.name": ("spleeter:2stems-16kHz", "spleeter:2stems")}
    assert settings().differences(changed) == expected


def test_equal_settings_have_one_hash_and_differ_in_nothing():
    assert settings().sha256 == settings().sha256
    assert settings().differing(settings().canonical()) == []
    assert settings(offset_s=1).sha256 == settings(offset_s=1.0).sha256


def test_settings_of_before_there_were_rates_and_mono_have_the_hash_they_had():
    """On it rests that a track which an older version separated is not separated again."""
    assert settings().sha256 == OF_FIRST_OUTS
    added = {"sample_rate_hz", "mono", "downmix", "residual", "mask_extension", "mwf", "write_mix", "copy_tags", "tag_provenance"}
    assert not added & settings().canonical().keys()
    assert settings(mono=True).differing(settings().canonical()) == ["mono"]


def test_the_hash_is_the_same_in_another_process():
    given = json.dumps(settings().canonical())
    found = subprocess.run([sys.executable, "-c", SHA256_OF], input=given, capture_output=True, check=True, text=True).stdout
    assert found.strip() == settings().sha256


def test_a_setting_that_another_version_did_not_know_differs_by_name():
    other = settings().canonical()
    del other["precision"]
    assert settings().differing(other | {"speed": 2}) == ["precision", "speed"]


@pytest.mark.parametrize(
    ("format", "depth", "codec"),
    [
        ("flac", "16", "flac"),
        ("flac", "24", "flac"),
        ("wav", "16", "pcm_s16le"),
        ("wav", "24", "pcm_s24le"),
        ("wav", "float", "pcm_f32le"),
        ("mp3", "16", "libmp3lame"),
        ("m4a", "16", "aac"),
        ("opus", "16", "libopus"),
        ("ogg", "16", "vorbis"),
        ("wma", "16", "wmav2"),
    ],
)
def test_format_and_depth_name_a_codec(format, depth, codec):
    chosen = settings(format=format, bit_depth=depth).codec
    assert chosen.encoder == codec
    assert chosen in codecs.CODECS[format].values()


def test_settings_cannot_be_changed():
    given = settings()
    with pytest.raises(pydantic.ValidationError):
        given.format = "wav"


@pytest.mark.parametrize("changes", [{"bit_depth": "8"}, {"offset_s": "soon"}, {"stems": 2}, {"bitrate": "fast"}])
def test_settings_of_another_type_are_refused(changes):
    with pytest.raises(pydantic.ValidationError):
        settings(**changes)
