"""Options of a run besides manifest and OUT, and the checks that need nothing but their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sep_batch.jobs.setup import address
from sep_batch.model.spec import MaskExtension
from sep_batch.pipeline import errors, stem_paths
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.damage import OnDamage
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX, Downmix
from sep_batch.pipeline.manifest import BadRows
from sep_batch.pipeline.manifest.patterns import Patterns
from sep_batch.pipeline.out.journal import FLUSH_S
from sep_batch.pipeline.out.plan import Retry
from sep_batch.pipeline.settings import Precision
from sep_batch.pipeline.stages.context import Stft

DEFAULT_MODEL = "spleeter:2stems"
DEFAULT_MAX_FAILURES = "5%"
Engine = Literal["auto", "local", "ray"]
_FIELDS = {  # fields of `Options` whose names differ from the parameters of `run`
    **{name: f"{name}_s" for name in ("offset", "duration", "wait", "time_limit")},
    "sample_rate": "sample_rate_hz",
}
_PARAMETERS = {field: name for name, field in _FIELDS.items()}


@dataclass(frozen=True)
class MaxFailures:
    """A bound on failed tracks: a number, or a percentage of the tracks tried."""

    bound: float
    is_percent: bool

    @classmethod
    def parse(cls, text: str) -> MaxFailures:
        """Read `100` or `5%`.

        Raises:
            UsageError: The text is neither.
        """
        try:
            bound = float(text.removesuffix("%"))
        except ValueError:
            bound = -1
        if not 0 <= bound < float("inf"):
            raise errors.UsageError(f"--max-failures {text}: expected a number of tracks or a percentage, as 100 or 5%")
        return cls(bound, text.endswith("%"))

    def is_exceeded(self, failed: int, tried: int) -> bool:
        """Return whether this many failures are too many for this many tracks."""
        return failed > (self.bound * tried / 100 if self.is_percent else self.bound)


@dataclass(frozen=True)
class Options:
    """Options of a run besides manifest and OUT, named as the flags of the command line.

    Attributes:
        more: Further audio files and folders, if the manifest is one.
        model: A preset, or a folder or URI of a converted model.
        gpus: Number of GPUs, or "auto" for all; 0 runs the U-Nets on the CPU.
        cpus: Largest number of CPUs used; None is all.
        engine: "local": threads of this process; "ray": Ray; "auto": local for small work on one machine.
        format: One of `codecs.CODECS`: flac, wav, mp3, m4a, opus, ogg, wma.
        bit_depth: 16, 24 or float.
        precision: Compute precision of the U-Nets: float32, tf32, bfloat16, float16.
        stft: Stage that computes the STFT: "cpu" is Analyze; "gpu" is Separate, on whatever device it runs; "auto" is Separate
            if that runs on a GPU.
        analysis: Write levels, activity and width of the stems into the index.
        bitrate: Bits per second of a lossy format.
        sample_rate_hz: Sample rate of the stems; None is the model's, or the one that the format takes instead.
        mono: Write the mean of both channels.
        downmix: How a source of more than two channels becomes stereo: "itu" (BS.775), "first-two".
        filename: Template of the stems' paths; None is OUT's own, or for a new OUT one that fits the source.
        stems: Stems to write; None is all.
        mask_extension: Mask of the bins above the model's range: "zeros", or "average", the mean of the frame's mask; None is
            the model's own.
        mwf: Separate with the multichannel Wiener filter, in place of the ratio masks.
        residual: Name of a further stem, the mix minus the stems, in lossless formats; None writes none.
        write_mix: Write the mix as a further stem, as it was separated.
        copy_tags: Write the source's tags and cover into the stems.
        tag_provenance: Write id, model, sha256 of the weights and stem as tags into the stems.
        limit: Number of tracks to separate, the first of the manifest; None is all.
        sample: Number of tracks to separate, by a hash of their ids: the same ones each time; None is all.
        offset_s: Seconds to skip at the start of each track whose row has no offset of its own.
        duration_s: Seconds to separate of each track whose row has no duration of its own; None is to its end.
        max_failures: Number of failed tracks, or percentage of the tracks tried, above which the run stops.
        ok_with_failures: Exit with 0 although some tracks failed.
        retry: Failed tracks to retry: none, transient or all; suspect: transient ones, and tracks that are done but were decoded
            by older rules that may have been wrong.
        restore: Path or URI of a list of withdrawn tracks to separate all the same.
        damaged: "keep": a track that is truncated or has broken packets is separated and flagged; "fail": it fails as `damaged`.
        overwrite: Separate again what was made with other settings.
        scratch: Folder for temporary files of long tracks if OUT is object storage.
        deadline: Time to stop: a duration as 6h, or a time of day as 06:00; a run that begins up to 6 h after it ends at once.
        wait_s: Seconds to wait while another run works on OUT.
        time_limit_s: Time limit for one part of a track in one stage, in seconds.
        input_root: Folder below which local sources must lie.
        allow_http: Read sources at http and https URLs.
        endpoint_url: URL of the S3 server.
        storage_options: Path of a JSON file with fsspec options by URI prefix; it may hold secrets.
        address: Address of a running Ray cluster.
        min_gpus: Number of the cluster's GPUs that suffices to start; the others take part once they are available.
        shared_filesystem: Accept local paths on a cluster of several nodes, because every node sees them.
        bad_rows: "refuse": a manifest with invalid rows is refused; "fail": these rows fail as `bad_row`.
        uri_column: The manifest's column of URIs.
        id_column: The manifest's column of ids.
        include: Patterns of a folder's files, of which a track matches at least one.
        exclude: Patterns of a folder's files, of which a track matches none.
        device: Torch's device, for tests on logical GPUs.
        flush_s: Seconds between two journal files.
    """

    more: Sequence[str] = ()
    model: str = DEFAULT_MODEL
    gpus: str | int = "auto"
    cpus: int | None = None
    engine: str = "auto"
    format: str = "flac"
    bit_depth: str = "16"
    precision: str = "float32"
    stft: str = "auto"
    analysis: bool = True
    bitrate: int | None = None
    sample_rate_hz: int | None = None
    mono: bool = False
    downmix: str = DEFAULT_DOWNMIX
    filename: str | None = None
    stems: tuple[str, ...] | None = None
    mask_extension: str | None = None
    mwf: bool = False
    residual: str | None = None
    write_mix: bool = False
    copy_tags: bool = False
    tag_provenance: bool = False
    limit: int | None = None
    sample: int | None = None
    offset_s: float = 0.0
    duration_s: float | None = None
    max_failures: str = DEFAULT_MAX_FAILURES
    ok_with_failures: bool = False
    retry: Retry = "transient"
    restore: str | None = None
    damaged: OnDamage = "keep"
    overwrite: bool = False
    scratch: str | None = None
    deadline: str | None = None
    wait_s: float = 0.0
    time_limit_s: float = 600.0
    input_root: str | None = None
    allow_http: bool = False
    endpoint_url: str | None = None
    storage_options: str | None = None
    address: str | None = None
    min_gpus: int | None = None
    shared_filesystem: bool = False
    bad_rows: BadRows = "refuse"
    uri_column: str | None = None
    id_column: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    device: str | None = None
    flush_s: float = FLUSH_S

    @property
    def needs_wave(self) -> bool:
        """As `Settings.needs_wave`, before there are settings."""
        return self.residual is not None or self.mwf or self.write_mix


def flag_of_field(field: str) -> str:
    """Return the flag of `run` that sets a field of `Options`."""
    return f"--{_PARAMETERS.get(field, field).replace('_', '-')}"


def as_options(**flags: Any) -> dict[str, Any]:
    """Return flags of `run` as fields of `Options`.

    Raises:
        UsageError: A bitrate that is no number.
    """
    stems = flags["stems"]
    read: dict[str, Any] = {
        "bitrate": _bitrate(flags["bitrate"]),
        "stems": tuple(name.strip() for name in stems.split(",") if name.strip()) if stems else None,
        "analysis": not flags.pop("no_analysis", False),
        "include": tuple(flags["include"] or ()),
        "exclude": tuple(flags["exclude"] or ()),
    }
    return {_FIELDS.get(name, name): value for name, value in (flags | read).items()}


def _bitrate(text: str | None) -> int | None:
    """Return bits per second, read from text as 128k or 320000."""
    if text is None:
        return None
    number, factor = (text[:-1], 1000) if text.lower().endswith("k") else (text, 1)
    if not number.isdigit():
        raise errors.UsageError(f"--bitrate {text}: expected bits per second, as 128k or 320000")
    return int(number) * factor


def check(options: Options) -> None:
    """Refuse invalid options.

    Raises:
        UsageError: An option is invalid; names the flag, its value and the values that it takes.
    """
    MaxFailures.parse(options.max_failures)
    if options.filename is not None:
        stem_paths.check(options.filename)
    Patterns(options.include, options.exclude)
    _check_numbers(options)
    if options.gpus != "auto" and not str(options.gpus).isdigit():
        raise errors.UsageError(f"--gpus {options.gpus}: expected auto or a number")
    if options.min_gpus is not None and not 0 < options.min_gpus <= int(options.gpus if str(options.gpus).isdigit() else 0):
        raise errors.UsageError(f"--min-gpus {options.min_gpus}: expected 1 to --gpus, which is {options.gpus}")
    if options.address:
        address.check(options.address, "--address")
    for name, choice, choices in (
        ("--engine", options.engine, Engine),
        ("--precision", options.precision, Precision),
        ("--stft", options.stft, Stft),
        ("--downmix", options.downmix, Downmix),
        ("--retry", options.retry, Retry),
        ("--damaged", options.damaged, OnDamage),
        ("--bad-rows", options.bad_rows, BadRows),
        ("--mask-extension", "zeros" if options.mask_extension is None else options.mask_extension, MaskExtension),
    ):
        if choice not in get_args(choices):
            raise errors.UsageError(f"{name} {choice}: expected one of {', '.join(get_args(choices))}")
    _check_format(options)


def _check_numbers(options: Options) -> None:
    for name, number in (
        ("--cpus", options.cpus),
        ("--limit", options.limit),
        ("--sample", options.sample),
        ("--bitrate", options.bitrate),
        ("--duration", options.duration_s),
        ("--time-limit", options.time_limit_s),
    ):
        if number is not None and number <= 0:
            raise errors.UsageError(f"{name} {number}: expected more than 0")
    if options.limit is not None and options.sample is not None:
        raise errors.UsageError(f"--sample {options.sample}: also --limit {options.limit}; leave one of them out")
    if options.offset_s < 0:
        raise errors.UsageError(f"--offset {options.offset_s}: expected 0 or more")


def _check_format(options: Options) -> None:
    if options.format not in codecs.CODECS:
        raise errors.UsageError(f"--format {options.format}: expected one of {', '.join(codecs.CODECS)}")
    lossy = codecs.is_lossy(options.format)
    if lossy and options.bit_depth != "16":
        raise errors.UsageError(f"--bit-depth {options.bit_depth}: {options.format} has no bit depth; use --bitrate")
    if not lossy and options.bit_depth not in codecs.CODECS[options.format]:
        raise errors.UsageError(
            f"--bit-depth {options.bit_depth}: {options.format} takes {' or '.join(codecs.CODECS[options.format])}"
        )
    if options.residual is not None:
        _check_residual(options, lossy=lossy)
    if options.bitrate and not lossy:
        raise errors.UsageError(f"--bitrate {options.bitrate}: {options.format} is lossless; use --bit-depth")
    codec = codecs.CODECS[options.format]["" if lossy else options.bit_depth]
    if options.bitrate and options.bitrate not in codec.bitrates:
        raise errors.UsageError(f"--bitrate {options.bitrate}: {options.format} takes {_listed(codec.bitrates)} bits per second")
    if options.sample_rate_hz is not None and options.sample_rate_hz not in codec.rates_hz:
        raise errors.UsageError(f"--sample-rate {options.sample_rate_hz}: {options.format} takes {_listed(codec.rates_hz)} Hz")


def _check_residual(options: Options, *, lossy: bool) -> None:
    """Refuse a residual that would not add up to the mix."""
    flag = f"--residual {options.residual}"
    if lossy:
        raise errors.UsageError(f"{flag}: {options.format} is lossy, so stems and residual would not add up; use flac or wav")
    for other, is_given in (("--sample-rate", options.sample_rate_hz), ("--mono", options.mono)):
        if is_given:
            raise errors.UsageError(f"{flag}: {other} changes each stem, so stems and residual would not add up; leave it out")


def _listed(values: Sequence[int]) -> str:
    if isinstance(values, range):
        return f"{values[0]} to {values[-1]}"
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}"
