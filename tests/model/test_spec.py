from __future__ import annotations

import dataclasses
import json

import golden_models
import pytest

from sep_batch.model.spec import PRESETS, ModelSpec, SpecError

CONFIG = golden_models.config("2stems")
STEMS = {
    "spleeter:2stems": ("vocals", "accompaniment"),
    "spleeter:4stems": ("vocals", "drums", "bass", "other"),
    "spleeter:5stems": ("vocals", "piano", "drums", "bass", "other"),
}


def changed(**fields):
    return {**CONFIG, **fields}


def network(**params):
    return changed(model={"type": "unet.unet", "params": {**CONFIG["model"]["params"], **params}})


def test_there_are_six_presets():
    assert set(PRESETS) == {*STEMS, *(f"{name}-16kHz" for name in STEMS)}


@pytest.mark.parametrize("name", STEMS)
def test_a_preset_holds_what_spleeter_was_trained_with(name):
    spec = PRESETS[name]
    assert spec.name == name
    assert spec.stems == STEMS[name]
    assert (spec.sample_rate_hz, spec.channels, spec.frame_length, spec.hop) == (44_100, 2, 4096, 1024)
    assert (spec.patch_frames, spec.bins, spec.separation_exponent, spec.mask_extension) == (512, 1024, 2.0, "zeros")
    assert spec.filters == (16, 32, 64, 128, 256, 512)
    leaky = name == "spleeter:2stems"
    assert (spec.conv_activation, spec.deconv_activation) == (("LeakyReLU", "ReLU") if leaky else ("ELU", "ELU"))
    assert spec.head == ("softmax" if name == "spleeter:5stems" else "sigmoid")


@pytest.mark.parametrize("name", STEMS)
def test_a_16khz_preset_differs_from_its_sibling_in_name_and_bins_only(name):
    assert PRESETS[f"{name}-16kHz"] == dataclasses.replace(PRESETS[name], name=f"{name}-16kHz", bins=1536)


def test_bins_that_travel_are_those_a_stem_can_hold():
    assert PRESETS["spleeter:2stems"].kept_bins == 1024
    assert dataclasses.replace(PRESETS["spleeter:2stems"], mask_extension="average").kept_bins == 2049


@pytest.mark.parametrize("name", golden_models.SETS)
def test_spleeters_own_configuration_is_read(name):
    config = golden_models.config(name)
    spec = ModelSpec.from_spleeter(config, name="mine")
    params = config["model"]["params"]
    assert spec.name == "mine"
    assert spec.stems == tuple(config["instrument_list"])
    assert (spec.bins, spec.patch_frames) == (config["F"], config["T"])
    assert (spec.separation_exponent, spec.mask_extension) == (config["separation_exponent"], config["mask_extension"])
    assert spec.filters == tuple(params["conv_n_filters"])
    assert spec.conv_activation == params.get("conv_activation", "LeakyReLU")
    assert spec.deconv_activation == params.get("deconv_activation", "ReLU")
    assert spec.head == {"unet.unet": "sigmoid", "unet.softmax_unet": "softmax"}[config["model"]["type"]]


def test_what_a_configuration_leaves_out_is_spleeters_default():
    short = {key: value for key, value in CONFIG.items() if key not in ("separation_exponent", "mask_extension")}
    spec = ModelSpec.from_spleeter(short | {"model": {"type": "unet.unet"}}, name="spleeter:2stems")
    assert spec == PRESETS["spleeter:2stems"]


@pytest.mark.parametrize(
    "field", ["instrument_list", "sample_rate", "frame_length", "frame_step", "T", "F", "n_channels", "model"]
)
def test_a_missing_field_is_refused_and_named(field):
    short = {key: value for key, value in CONFIG.items() if key != field}
    with pytest.raises(SpecError, match=rf"found no {field}\b"):
        ModelSpec.from_spleeter(short, name="mine")


@pytest.mark.parametrize(
    ("config", "field", "found"),
    [
        (changed(instrument_list=["vocals"]), "stems", "vocals"),
        (changed(instrument_list=["vocals", "vocals"]), "stems", "vocals"),
        (changed(instrument_list=["vocals", "../up"]), "stems", "../up"),
        (changed(instrument_list=["vocals", "Mix"]), "stems", "Mix"),
        (changed(instrument_list=["vocals", ""]), "stems", "vocals"),
        (changed(n_channels=1), "channels", "1"),
        (changed(sample_rate=0), "sample_rate_hz", "0"),
        (changed(frame_step=2048), "hop", "2048"),
        (changed(T=500), "patch_frames", "500"),
        (changed(F=1000), "bins", "1000"),
        (changed(F=4096), "bins", "4096"),
        (changed(separation_exponent=0), "separation_exponent", "0"),
        (changed(mask_extension="mirror"), "mask_extension", "mirror"),
        (network(conv_n_filters=[16, 32]), "filters", "16, 32"),
        (network(conv_n_filters=[0, 1, 2, 4, 8, 16]), "filters", "0, 1"),
        (network(conv_activation="GELU"), "activation", "GELU"),
        (network(deconv_activation="GELU"), "activation", "GELU"),
        (changed(model={"type": "unet.blstm"}), "model.type", "unet.blstm"),
        (changed(model="blstm"), "model.type", "blstm"),
    ],
)
def test_what_the_network_cannot_do_is_refused_with_field_and_value(config, field, found):
    with pytest.raises(SpecError) as caught:
        ModelSpec.from_spleeter(config, name="mine")
    assert field in str(caught.value)
    assert found in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (changed(T="many"), "T"),
        (changed(sample_rate=None), "sample_rate"),
        (changed(instrument_list=2), "instrument_list"),
        (network(conv_n_filters="all"), "conv_n_filters"),
        (changed(separation_exponent="two"), "separation_exponent"),
    ],
)
def test_a_field_of_another_type_is_refused_and_named(config, field):
    with pytest.raises(SpecError, match=rf"\b{field}\b"):
        ModelSpec.from_spleeter(config, name="mine")


@pytest.mark.parametrize("model", ["unet.unet", {"type": "unet.unet", "params": None}, {"type": ["unet.unet"]}, None])
def test_a_network_of_another_form_is_refused_and_named(model):
    with pytest.raises(SpecError, match="model"):
        ModelSpec.from_spleeter(changed(model=model), name="mine")


@pytest.mark.parametrize("spec", [*PRESETS.values(), golden_models.spec("2stems-16kHz-average")], ids=lambda spec: spec.name)
def test_a_spec_survives_json(spec):
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_json_of_a_spec_is_one_line_with_sorted_keys():
    text = PRESETS["spleeter:2stems"].to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"name": "x"}', '{"stems": ["a", "b"], "filters": [1], "speed": 3}'])
def test_json_that_describes_no_model_is_refused(text):
    with pytest.raises(SpecError):
        ModelSpec.from_json(text)


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["spleeter:2stems"].bins = 1536
