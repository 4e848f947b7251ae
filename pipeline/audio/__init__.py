"""Audio: decoding of sources, encoding of stems, and measurements of waves.

Files:
    decoder: Decoding in child processes, which a bad file may crash; the entry point of the pipeline.
    decoder_process: A child process from its parent's side.
    decoder_child: The program of a child process.
    messages: Messages between parent and child.
    sandbox: Limits of a child process: no network, no files, no processes.
    decoding: Decoding of a source to a stereo wave, and reading of its header.
    source_info: Facts about a source, before and after it is decoded.
    reader: Samples of an opened container.
    streams: The audio stream that is read, and the names of its channels.
    downmix: The mix of more than two channels to two.
    chain: Samples of an Ogg file, link by link.
    ogg: Pages, and the links of a chained file.
    damage: Rules for files that cannot be read whole.
    extent: The bytes of a file that hold audio.
    kinds: The kinds of files that are decoded, and the extensions of their names.
    containers: The container of a file, and FFmpeg opened on it.
    beginning: The offset at which the audio of a file begins, behind tags, padding and cut frames.
    frames: Frame headers of raw streams.
    lookalikes: Kinds of files that are no audio, in words.
    headers: Sizes and widths in the headers of WAV, AIFF, AU and CAF.
    view: A byte range of a file as a file.
    decode_guard: Limits on memory and time while FFmpeg reads.
    tags: Tags of a file: their names and bounds.
    tag_reader: Tags and cover of a source.
    pictures: Cover pictures.
    id3: ID3 tags, of MP3 and WAV.
    mp4_tags: Tags of M4A.
    vorbis_comments: Tags of Ogg and Opus.
    tag_writer: Tags of a file that is encoded.
    codecs: The output formats, their sample formats, bit rates and sample rates.
    encoding: Encoding of a wave to a file.
    vorbis: Ogg Vorbis through libsndfile, with reproducible pages.
    resample: Sample rate conversion of stems.
    loudness: Integrated loudness by ITU-R BS.1770.
    activity: Regions in which a stem is active.
"""

from sep_batch.pipeline.audio.decoder import SILENT_S, decode, probe, read_tags, start
from sep_batch.pipeline.audio.source_info import DECODE_RULES, LOUDEST, MAX_S, Found, Header
from sep_batch.pipeline.audio.tags import SourceTags, Tags

__all__ = [
    "DECODE_RULES",
    "LOUDEST",
    "MAX_S",
    "SILENT_S",
    "Found",
    "Header",
    "SourceTags",
    "Tags",
    "decode",
    "probe",
    "read_tags",
    "start",
]
