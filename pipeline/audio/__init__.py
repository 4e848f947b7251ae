"""Audio: decoding of sources, encoding of stems, and what is measured on waves.

Files:
    decoding: A source becomes a stereo wave, or its header is read.
    reader: Samples of an opened container, stream by stream.
    chain: Samples of an Ogg file, link by link.
    containers: The kind of a file, and FFmpeg opened on it.
    beginning: The place where the audio of a file begins, behind tags, padding and cut frames.
    frames: Frame headers of raw streams.
    headers: Sizes and widths in the headers of WAV, AIFF, AU and CAF.
    ogg: Pages, and the links of a chained file.
    view: Some bytes of a file as a file.
    decode_guard: Limits on memory and time while FFmpeg reads.
    codecs: The output formats, their sample formats, bit rates and sample rates.
    encoding: A wave becomes a file.
    vorbis: Ogg Vorbis through libsndfile, with reproducible pages.
    resample: Sample rate conversion of stems.
    loudness: Integrated loudness by ITU-R BS.1770.
    activity: Regions in which a stem is active.
"""

from sep_batch.pipeline.audio.decoding import LOUDEST, MAX_S, Header, decode, probe
from sep_batch.pipeline.audio.reader import Found

__all__ = ["LOUDEST", "MAX_S", "Found", "Header", "decode", "probe"]
