"""Options of an export, and checks of their values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast, get_args

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.export import splits
from sep_batch.pipeline.export.settings import MUSDB_STEMS, ExportSettings, Format

EXCERPTS_A_SHARD, TRACKS_A_SHARD = 500, 20  # two stems as FLAC, excerpts of 10 s or tracks of 4 min: 0.7 GB a shard
LONGEST_EXCERPT_S = 600.0  # one excerpt of each stem is held in memory
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s)?")


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export besides OUT and DEST, named as the command line's flags.

    Attributes:
        to: Format of the dataset, one of `Format`.
        where: SQL condition over the index's columns that chooses tracks; None is all ok tracks.
        stems: Stems to write; None is all.
        excerpt: Length of an excerpt, as 10s; None writes whole tracks.
        hop: Time from the start of one excerpt to the start of the next; None is the length of an excerpt.
        min_active: Smallest shares of an excerpt in which stems must be active, as vocals=0.5.
        sample_rate: Sample rate of the dataset in Hz; None is the stems' own.
        mono: Write one channel.
        codec: Name of a codec in `codecs.CODECS`; None is wav for musdb, else flac.
        split: Shares of the splits, as 0.98/0.01/0.01.
        group_by: Column of the index whose values are each in one split only.
        shard_size: Number of excerpts in a shard, or of tracks.
        seed: Seed of splits and order.
        with_mix: Write the mix too.
        limit: Largest number of tracks; None is all.
        overwrite: Replace DEST's export if it has other settings.
        wait_s: Seconds to wait for another export that works on DEST.
        cpus: Largest number of CPUs to use; None is all.
        scratch: Folder for shards that are being written, if DEST is object storage.
        address: Address of a running Ray cluster to join.
        endpoint_url: URL of an S3-compatible server other than AWS.
        storage_options: JSON file with fsspec options by URI prefix; it may hold secrets.
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


def settings_of(options: ExportOptions, stems: tuple[str, ...], *, mono: bool = False) -> ExportSettings:
    """Return the settings of an export.

    Args:
        options: Options of the export.
        stems: OUT's stems.
        mono: OUT's stems have one channel.

    Raises:
        UsageError: An option is invalid; the message names the flag, its value and what was expected.
    """
    excerpt_s = _seconds("--excerpt", options.excerpt)
    _check_words(options)
    _refuse_unknown("--stems", options.stems or (), stems)
    settings = ExportSettings(
        to=cast("Format", options.to),
        where=options.where,
        stems=tuple(stem for stem in stems if stem in (options.stems or stems)),
        excerpt_s=excerpt_s,
        hop_s=_seconds("--hop", options.hop) or excerpt_s,
        min_active=_min_active(options, stems),
        sample_rate_hz=options.sample_rate,
        mono=options.mono or mono,
        codec=options.codec or ("wav" if options.to == "musdb" else "flac"),
        splits=splits.shares(options.split),
        group_by=options.group_by,
        shard_size=options.shard_size or (EXCERPTS_A_SHARD if excerpt_s else TRACKS_A_SHARD),
        seed=options.seed,
        with_mix=options.with_mix or options.to == "musdb",
        limit=options.limit,
    )
    if settings.to == "musdb":
        _check_musdb(settings)
    return settings


def _check_words(options: ExportOptions) -> None:
    if options.to not in get_args(Format):
        raise errors.UsageError(f"--to {options.to}: expected one of {', '.join(get_args(Format))}")
    if options.codec is not None and options.codec not in codecs.CODECS:
        raise errors.UsageError(f"--codec {options.codec}: expected one of {', '.join(codecs.CODECS)}")
    for name, number in (("--shard-size", options.shard_size), ("--limit", options.limit), ("--cpus", options.cpus)):
        if number is not None and number <= 0:
            raise errors.UsageError(f"{name} {number}: expected more than 0")
    if options.where is not None and not options.where.strip():
        raise errors.UsageError("--where: is empty, expected an SQL condition; leave it out to choose all tracks")
    if options.excerpt is None and (options.hop or options.min_active):
        flag = "--hop" if options.hop else "--min-active"
        raise errors.UsageError(f"{flag}: is for excerpts, and needs --excerpt; choose whole tracks with --where")


def _check_musdb(settings: ExportSettings) -> None:
    if settings.excerpt_s is not None:
        raise errors.UsageError("--excerpt: musdb holds whole tracks; leave it out")
    if settings.codec != "wav":
        raise errors.UsageError(f"--codec {settings.codec}: musdb holds wav; leave it out")
    if sorted(settings.stems) != sorted(MUSDB_STEMS):
        raise errors.UsageError(f"--to musdb: needs {', '.join(MUSDB_STEMS)}; OUT, or --stems, has {', '.join(settings.stems)}")
    if unknown := set(settings.splits) - {"train", "test"}:
        raise errors.UsageError(f"--split: musdb has no {', '.join(unknown)}; expected two shares at most, train and test")


def _seconds(flag: str, text: str | None) -> float | None:
    """Read 10s, 2.5, 500ms."""
    if text is None:
        return None
    match = _SECONDS.fullmatch(text.strip())
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    if not 0 < seconds <= LONGEST_EXCERPT_S:
        raise errors.UsageError(f"{flag} {text}: expected up to {LONGEST_EXCERPT_S:g} seconds, as 10s")
    return seconds


def _min_active(options: ExportOptions, stems: tuple[str, ...]) -> dict[str, float]:
    """Read vocals=0.5, vocals=50%."""
    shares = dict[str, float]()
    for text in options.min_active:
        stem, _, share = (word.strip() for word in text.partition("="))
        try:
            shares[stem] = float(share.removesuffix("%")) / (100 if share.endswith("%") else 1)
        except ValueError:
            shares[stem] = -1
        if not 0 < shares[stem] <= 1:
            raise errors.UsageError(f"--min-active {text}: expected a stem and a share of the excerpt, as vocals=0.5")
    _refuse_unknown("--min-active", tuple(shares), stems)
    return shares


def _refuse_unknown(flag: str, stems: tuple[str, ...], out_stems: tuple[str, ...]) -> None:
    if unknown := set(stems) - set(out_stems):
        raise errors.UsageError(f"{flag} {', '.join(sorted(unknown))}: OUT has {', '.join(out_stems)}")
