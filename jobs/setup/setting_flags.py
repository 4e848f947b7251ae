"""Settings as flags of `run`: those that OUT was made with, and differences between settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sep_batch.jobs.setup.options import DEFAULT_MODEL, flag_of_field
from sep_batch.pipeline.audio.codecs import DEFAULT_BITRATE
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.storage.uris import printable

MODEL = "--model"
VALUE_CHARS = 80
_SHA256, _SPEC, _SPEC_NAME = "weights_sha256", "spec", "spec.name"
_LAYOUT = ("filename", "root")  # OUT keeps its own without a flag
_SHA256_CHARS = 12  # of a digest, in a message
_DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()} | {"bitrate": DEFAULT_BITRATE}


def flag_of(setting: str) -> str:
    """Return the flag of `run` that decides a setting; for a setting of another version of sep-batch, its name and a remark.

    Args:
        setting: Name of a field of `Settings`; fields of the model's description as `spec.name`.
    """
    if setting in (_SHA256, _SPEC_NAME):
        return MODEL
    if setting in _LAYOUT:
        return "--filename"
    if setting.startswith(f"{_SPEC}."):
        return f"{MODEL} ({setting.removeprefix(f'{_SPEC}.')})"
    if setting not in Settings.model_fields:
        return f"{printable(setting, VALUE_CHARS)} (no setting of this version of sep-batch)"
    return flag_of_field(setting)


def differences(differing: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Return a line for each setting that differs, the model's first: its flag, OUT's value, and this run's value.

    For two models with different names only the names are listed. Stems are left out if both settings have all of their model's.

    Args:
        differing: As `Settings.differences` returns it.
    """
    left_out = {"root"}  # it is the template's
    if "mask_extension" in differing:
        left_out.add(f"{_SPEC}.mask_extension")
    if _SPEC_NAME in differing:
        left_out |= {_SHA256, *(name for name in differing if name.startswith(f"{_SPEC}.") and name != _SPEC_NAME)}
    if "stems" in differing and differing["stems"] == differing.get("spec.stems"):
        left_out.add("stems")
    names = sorted(differing.keys() - left_out, key=lambda name: (not flag_of(name).startswith(MODEL), name))
    return [_difference(name, *differing[name]) for name in names]


def words(run_json: Mapping[str, Any]) -> list[str]:
    """Return the flags that give a run the settings of OUT, without flags whose value is the default, or is kept by OUT.

    Args:
        run_json: Content of the last run's run.json, as `outs.last_run` returns it.
    """
    settings = run_json["settings"]
    flags: list[str] = []
    for name in Settings.model_fields:
        value = settings.get(name, _DEFAULTS[name])
        if name in (_SHA256, *_LAYOUT):
            continue
        if name == _SPEC:
            spec = value if isinstance(value, dict) else {}
            model = run_json.get("model") or spec.get("name")  # older versions did not record --model
            flags += [MODEL, str(model)] if model not in (None, DEFAULT_MODEL) else []
        elif name == "stems":
            flags += ["--stems", _text(value)] if isinstance(value, list) and value != spec.get("stems") else []
        elif value is True:
            flags.append(flag_of(name))
        elif value is not None and value != _DEFAULTS[name]:
            flags += [flag_of(name), _text(value)]
    return flags


def source_words(run_json: Mapping[str, Any]) -> list[str]:
    """Return the flags that permit a run to read the rows and sources of OUT's last run."""
    read_with = run_json["manifest"].get("read_with", {})
    flags = ["--allow-http"] if read_with.get("allow_http") else []
    flags += ["--bad-rows", "fail"] if read_with.get("bad_rows") == "fail" else []
    return [*flags, "--input-root", str(root)] if (root := read_with.get("input_root")) else flags


def _difference(name: str, theirs: Any, ours: Any) -> str:
    cut = _SHA256_CHARS if name == _SHA256 else VALUE_CHARS
    before, now = (printable(_text(value), cut) for value in (theirs, ours))
    if name == _SHA256:
        before, now = f"weights of sha256 {before}", f"weights of sha256 {now}"
    return f"{flag_of(name)}: OUT has {before}, this run has {now}"


def _text(value: Any) -> str:
    """Return a value as its flag takes it; none, yes or no where the flag takes no such value."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
