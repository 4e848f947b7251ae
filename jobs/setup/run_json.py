"""Checks of run.json: it is read back from storage, where anybody may have changed it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sep_batch.pipeline import errors, stem_paths
from sep_batch.pipeline.audio.downmix import Downmix
from sep_batch.pipeline.manifest.bad_rows import BadRows

_Stem = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
_STRICT = ConfigDict(strict=True, extra="allow")  # later versions may add fields


def _checked(template: str) -> str:
    try:
        stem_paths.check(template)
    except errors.UsageError as error:
        raise ValueError(str(error)) from error
    return template


class _Settings(BaseModel):
    model_config = _STRICT

    spec: dict[str, Any] = {}
    stems: list[_Stem] = []
    residual: _Stem | None = None
    format: str | None = None
    filename: Annotated[str, AfterValidator(_checked)] = stem_paths.DEFAULT_FILENAME
    root: str | None = None
    offset_s: float = 0.0
    duration_s: float | None = None
    mono: bool = False
    downmix: Downmix | None = None


class _ReadWith(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")  # these become arguments

    uri_column: str | None = None
    id_column: str | None = None
    input_root: str | None = None
    allow_http: bool = False
    more: list[str] = []
    include: list[str] = []
    exclude: list[str] = []
    bad_rows: BadRows = "refuse"


class _Manifest(BaseModel):
    model_config = _STRICT

    uri: str | None = None
    sha256: str | None = None
    read_with: _ReadWith = _ReadWith()
    tracks: int | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    sample: Annotated[int, Field(ge=1)] | None = None


class RunJson(BaseModel):
    """Fields of run.json that commands read."""

    model_config = _STRICT

    settings: _Settings
    settings_sha256: str = ""
    model: str | None = None
    manifest: _Manifest = _Manifest()
    versions: dict[str, str] = {}
