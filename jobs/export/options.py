"""Options of an export, and the checks that need nothing but their values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast, get_args

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.export import splits
from sep_batch.pipeline.export.settings import MUSDB_STEMS, ExportSettings, Format

EXCERPTS_A_SHARD, TRACKS_A_SHARD = 500, 20  # of FLAC, 10 s and 4 min of two stems: 0.7 GB
LONGEST_EXCERPT_S = 600.0  # of each stem, one excerpt is in memory
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for besides OUT and DEST; the same words as the command line's flags.

    Attributes:
        to: The form of what is written.
        where: An SQL condition over the index's columns.
        stems: Those to write; None is all.
        excerpt: Length of an excerpt, as 10s; None writes whole tracks.
        hop: From one excerpt's begin to the next one's; by default its length.
        min_active: As vocals=0.5.
        sample_rate: In Hz; None is the stems' own.
        mono: Write one channel.
        codec: Name of a codec of the registry.
        split: Shares, as 0.98/0.01/0.01.
        group_by: A column of the index.
        shard_size: Excerpts a shard, or tracks.
        seed: Seed of splits and order.
        with_mix: Write the mix too.
        limit: Only so many tracks.
        overwrite: Replace what DEST holds of an export with other settings.
        wait_s: How long to wait where another export works on DEST.
        cpus: Bound on the CPUs used; None is all.
        scratch: Folder for shards that are being written, where DEST is object storage.
        address: Address of a running Ray cluster.
        endpoint_url: URL of the S3 server.
        storage_options: A JSON file of fsspec's options by URI prefix; it may hold secrets.
    """

    to: str = "webdataset"
    where: str | None = None
    stems: tuple[str, ...] | None = None
    excerpt: str | None = None
    hop: str | None = None
    min_active: tuple[str, ...] = ()
    sample_rate: int | None = None
    mono: bool = False
    codec: str | None = None
    split: str = "1"
    group_by: str | None = None
    shard_size: int | None = None
    seed: int = 0
    with_mix: bool = False
    limit: int | None = None
    overwrite: bool = False
    wait_s: float = 0.0
    cpus: int | None = None
    scratch: str | None = None
    address: str | None = None
    endpoint_url: str | None = None
    storage_options: str | None = None


def settings_of(asked: ExportOptions, has: tuple[str, ...], *, mono: bool = False) -> ExportSettings:
    """Return an export's settings.

    Args:
        asked: For what.
        has: OUT's stems.
        mono: Whether they have one channel.

    Raises:
        UsageError: Names the flag, what was found and what was expected.
    """
    excerpt_s = _seconds("--excerpt", asked.excerpt)
    _check_words(asked)
    _refuse_unknown("--stems", asked.stems or (), has)
    settings = ExportSettings(
        to=cast("Format", asked.to),
        where=asked.where,
        stems=tuple(stem for stem in has if stem in (asked.stems or has)),
        excerpt_s=excerpt_s,
        hop_s=_seconds("--hop", asked.hop) or excerpt_s,
        min_active=_min_active(asked, has),
        sample_rate_hz=asked.sample_rate,
        mono=asked.mono or mono,
        codec=asked.codec or ("wav" if asked.to == "musdb" else "flac"),
        splits=splits.shares(asked.split),
        group_by=asked.group_by,
        shard_size=asked.shard_size or (EXCERPTS_A_SHARD if excerpt_s else TRACKS_A_SHARD),
        seed=asked.seed,
        with_mix=asked.with_mix or asked.to == "musdb",
        limit=asked.limit,
    )
    if settings.to == "musdb":
        _check_musdb(settings)
    return settings


def _check_words(asked: ExportOptions) -> None:
    if asked.to not in get_args(Format):
        raise errors.UsageError(f"--to {asked.to}: expected one of {', '.join(get_args(Format))}")
    if asked.codec is not None and asked.codec not in codecs.CODECS:
        raise errors.UsageError(f"--codec {asked.codec}: expected one of {', '.join(codecs.CODECS)}")
    for name, number in (("--shard-size", asked.shard_size), ("--limit", asked.limit), ("--cpus", asked.cpus)):
        if number is not None and number <= 0:
            raise errors.UsageError(f"{name} {number}: expected more than 0")
    if asked.where is not None and not asked.where.strip():
        raise errors.UsageError("--where: is empty, expected an SQL condition; without the flag all tracks are chosen")
    if asked.excerpt is None and (asked.hop or asked.min_active):
        flag = "--hop" if asked.hop else "--min-active"
        raise errors.UsageError(f"{flag}: is of excerpts, and needs --excerpt; whole tracks are chosen with --where")


def _check_musdb(settings: ExportSettings) -> None:
    if settings.excerpt_s is not None:
        raise errors.UsageError("--excerpt: musdb holds whole tracks")
    if settings.codec != "wav":
        raise errors.UsageError(f"--codec {settings.codec}: musdb holds wav")
    if sorted(settings.stems) != sorted(MUSDB_STEMS):
        raise errors.UsageError(f"--to musdb: has {', '.join(MUSDB_STEMS)}; OUT, or --stems, has {', '.join(settings.stems)}")
    if unknown := set(settings.splits) - {"train", "test"}:
        raise errors.UsageError(f"--split: musdb has train and test, two shares, and no {', '.join(unknown)}")


def _seconds(flag: str, text: str | None) -> float | None:
    """Read 10s, 2.5, 500ms."""
    if text is None:
        return None
    match = _SECONDS.fullmatch(text.strip())
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    if not 0 < seconds <= LONGEST_EXCERPT_S:
        raise errors.UsageError(f"{flag} {text}: expected up to {LONGEST_EXCERPT_S:g} seconds, as 10s")
    return seconds


def _min_active(asked: ExportOptions, has: tuple[str, ...]) -> dict[str, float]:
    """Read vocals=0.5, vocals=50%."""
    shares = dict[str, float]()
    for text in asked.min_active:
        stem, _, share = (word.strip() for word in text.partition("="))
        try:
            shares[stem] = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
        except ValueError:
            shares[stem] = -1
        if not 0 < shares[stem] <= 1:
            raise errors.UsageError(f"--min-active {text}: expected a stem and a share of the excerpt, as vocals=0.5")
    _refuse_unknown("--min-active", tuple(shares), has)
    return shares


def _refuse_unknown(flag: str, stems: tuple[str, ...], has: tuple[str, ...]) -> None:
    if unknown := set(stems) - set(has):
        raise errors.UsageError(f"{flag} {', '.join(sorted(unknown))}: OUT has {', '.join(has)}")
