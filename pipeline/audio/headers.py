"""Headers of WAV, AIFF, AU and CAF: placeholder sizes, files shorter than declared, and fields that FFmpeg misreads.

Recorders and pipes that cannot go back to the header leave 0, 2^31 - 1, 2^32 - 1 or (SoX) 0x7f000000 there, or a value a little
beside these: without the header, or cut to whole blocks. Such a size declares nothing; the audio lasts to the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, Literal, NamedTuple

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio.view import read_at

_MAX_CHUNKS = 256  # that are read
_LOOKED_AT_BYTES = 64 << 10  # bytes of samples that are read
_UINT32 = (1 << 32) - 1
_PLACEHOLDERS = (0x7F000000, 1 << 31, 1 << 32, 1 << 63, 1 << 64)
_BELOW_BYTES, _ABOVE_BYTES = 4096, 64  # greatest distance of a size from the placeholder that it stands for
_PCM_IN_AIFC = (b"NONE", b"sowt", b"twos")
_EXTENSIBLE, _PCM, _FLOAT = 0xFFFE, 1, 3
_VALID_BITS, _SUBFORMAT = 18, 24  # offsets in a WAV's format
_AU_ENCODINGS = {(_PCM, 16): 3, (_PCM, 24): 4, (_PCM, 32): 5, (_FLOAT, 32): 6, (_FLOAT, 64): 7}
_AU_BYTES = 24
_BYTEWISE = (6, 7)  # A-law, mu-law
_Order = Literal["big", "little"]
LONG_WAVS = (b"RF64", b"BW64")  # signatures of WAVs above 4 GiB, whose sizes are in the chunk `ds64`


class _Chunk(NamedTuple):
    name: bytes
    size: int  # declared
    start: int  # offset of the content
    content: bytes  # its first 40 bytes


def declares_size(size: int) -> bool:
    """Tell whether a size in a header is a real one, not a placeholder."""
    return size > 0 and not any(-_BELOW_BYTES <= size - limit < _ABOVE_BYTES for limit in _PLACEHOLDERS)


def is_cut_short(head: bytes, size: int) -> bool:
    """Tell whether a WAV file is shorter than its header declares; FFmpeg takes the duration from the bytes that are there.

    Args:
        head: First bytes of the file.
        size: Size of the file, in bytes.
    """
    declared = int.from_bytes(head[4:8], _order(head))
    if head[:4] in LONG_WAVS and head[12:16] == b"ds64":
        declared = int.from_bytes(head[20:28], "little")
    elif head[:4] not in (b"RIFF", b"RIFX"):
        return False
    return declares_size(declared) and declared + 8 - size > max(4096, 0.01 * declared)


class Sound(NamedTuple):
    """Samples in a file of another kind, as an AU file.

    Attributes:
        start: First byte of the AU file, whose header replaces the bytes before the samples.
        stop: First byte behind the AU file.
        header: Header of the AU file.
    """

    start: int
    stop: int
    header: bytes


def rifx_as_au(source: IO[bytes], size: int) -> Sound | None:
    """Return the samples of a RIFX file, a WAV of big-endian numbers, as AU, whose numbers are big-endian too.

    FFmpeg reads the header of RIFX correctly, but the samples as if they were little-endian.

    Returns:
        The AU file; None where samples have one byte, which FFmpeg reads correctly, or the file has no format or no samples.

    Raises:
        UnsupportedFormat: The samples are neither PCM nor floats.
    """
    chunks = {chunk.name: chunk for chunk in _chunks(source, 12, "big")}
    form, data = chunks.get(b"fmt "), chunks.get(b"data")
    if form is None or data is None or len(form.content) < 16:
        return None
    tag, channels, rate_hz, _, _, bits = struct.unpack(">HHIIHH", form.content[:16])
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(form.content[_SUBFORMAT : _SUBFORMAT + 2], "big")
    if tag in _BYTEWISE or (tag == _PCM and bits <= 8):
        return None
    encoding = _AU_ENCODINGS.get((tag, bits))
    if encoding is None:
        raise errors.UnsupportedFormat(f"RIFX (big-endian WAV): unsupported format tag {tag} with {bits} bits")
    declared = data.size if declares_size(data.size) else size - data.start
    header = b".snd" + struct.pack(">IIIII", _AU_BYTES, min(declared, _UINT32), encoding, rate_hz, channels)
    return Sound(data.start - _AU_BYTES, min(size, data.start + declared), header)


def au_stop(head: bytes, size: int) -> int:
    """Return the end of an AU file's samples: as its header declares, else the end of the file.

    Args:
        head: First 24 bytes of the file.
        size: Size of the file, in bytes.
    """
    start, declared = (int.from_bytes(head[offset : offset + 4], "big") for offset in (4, 8))
    return min(size, start + declared) if declares_size(declared) else size


def corrections(name: str, source: IO[bytes], size: int) -> dict[int, bytes]:
    """Return the bytes that replace header fields which FFmpeg would misread, by their offset.

    Args:
        name: FFmpeg's demuxer for the file.
        source: Seekable; the file begins at its start.
        size: Size of the file, in bytes.
    """
    source.seek(0)
    head = source.read(12)
    if name == "wav":
        return _bits(source, _order(head)) | (_rf64(source, size) if head[:4] in LONG_WAVS else {})
    if name == "aiff":
        return _aiff(source, head, size)
    if name == "au" and not declares_size(int.from_bytes(head[8:12], "big")):
        return {8: b"\xff\xff\xff\xff"}
    if name == "caf":
        data = next((chunk for chunk in _chunks(source, 8, "big", 8) if chunk.name == b"data"), None)
        return {data.start - 8: b"\xff" * 8} if data and not declares_size(data.size) else {}
    return {}


def _order(head: bytes) -> _Order:
    return "big" if head[:4] in (b"RIFX", b"FORM") else "little"


def _rf64(source: IO[bytes], size: int) -> dict[int, bytes]:
    sizes = next((chunk for chunk in _chunks(source, 12, "little") if chunk.name == b"ds64"), None)
    if sizes is None or declares_size(int.from_bytes(sizes.content[8:16], "little")):
        return {}
    return {sizes.start + 8: size.to_bytes(8, "little") + bytes(8)}  # bytes of samples; their number is undeclared


def _bits(source: IO[bytes], order: _Order) -> dict[int, bytes]:
    """Return corrections that make FFmpeg read all bits of a WAV's integers, whose valid bits are left-justified in them.

    FFmpeg goes by the valid bits: it takes 24 bits in 4 bytes for floats, and 20 or 16 bits in 4 bytes for 3 or 2 bytes.

    Raises:
        UnsupportedFormat: Samples have 24 bits in 4 bytes, and the header does not say which ones.
    """
    chunks = {chunk.name: chunk for chunk in _chunks(source, 12, order)}
    form, data = chunks.get(b"fmt "), chunks.get(b"data")
    if form is None or data is None or form.size < 16:
        return {}
    at = {offset: int.from_bytes(form.content[offset : offset + 2], order) for offset in (0, 2, 12, 14, _VALID_BITS, _SUBFORMAT)}
    tag, channels, align, bits = at[0], at[2], at[12], at[14]
    is_extensible = tag == _EXTENSIBLE and form.size >= 40 and at[_SUBFORMAT] == _PCM
    if not (is_extensible or tag == _PCM) or not channels or not 0 < bits <= 32:
        return {}
    width, room = (bits + 7) // 8, align // channels
    if width < room <= 4 and align == room * channels:
        if _is_left_justified(source, data.start, width, room, order) and (is_extensible or (bits, room) != (24, 4)):
            bits = 8 * room
        elif (bits, room) == (24, 4):
            raise errors.UnsupportedFormat("wav: 24 bits in 4-byte samples; the header does not define their position or type")
    if is_extensible and 0 < at[_VALID_BITS] < bits:
        return {form.start + offset: bits.to_bytes(2, order) for offset in (14, _VALID_BITS)}
    return {form.start + 14: bits.to_bytes(2, order)} if bits != at[14] else {}


def _is_left_justified(source: IO[bytes], start: int, width: int, room: int, order: _Order) -> bool:
    """Tell whether the lowest bytes of every sample, those beyond its width, are zero."""
    content = read_at(source, start, _LOOKED_AT_BYTES // room * room)
    lowest = range(room - width) if order == "little" else range(width, room)
    return any(content) and not any(any(content[offset::room]) for offset in lowest)


def _aiff(source: IO[bytes], head: bytes, size: int) -> dict[int, bytes]:
    """Return corrections that make placeholders declare samples to the end of the file."""
    chunks = {chunk.name: chunk for chunk in _chunks(source, 12, "big")}
    sound, common = chunks.get(b"SSND"), chunks.get(b"COMM")
    if sound is None or common is None or (declares_size(sound.size) and declares_size(int.from_bytes(head[4:8], "big"))):
        return {}
    changes = {4: _four_bytes(size - 8)}
    if not declares_size(sound.size):
        left = size - sound.start
        changes |= {sound.start - 4: _four_bytes(left), common.start + 2: _four_bytes(_aiff_samples(head, common, left))}
    return changes


def _four_bytes(number: int) -> bytes:
    return min(number, _UINT32).to_bytes(4, "big")


def _aiff_samples(head: bytes, common: _Chunk, size: int) -> int:
    """Return the number of samples per channel in `size` bytes of sound; 0 where they are compressed."""
    channels, bits = int.from_bytes(common.content[:2], "big"), int.from_bytes(common.content[6:8], "big")
    is_pcm = head[8:12] == b"AIFF" or common.content[18:22] in _PCM_IN_AIFC
    return max(0, size - 8) // max(1, channels * ((bits + 7) // 8)) if is_pcm else 0  # 8: offset and block


def _chunks(source: IO[bytes], start: int, order: _Order, size_bytes: int = 4) -> Iterator[_Chunk]:
    """Iterate over chunks up to the samples: chunks behind them may be far away."""
    for _ in range(_MAX_CHUNKS):
        head = read_at(source, start, 4 + size_bytes + 40)
        if len(head) < 4 + size_bytes:
            return
        size, start = int.from_bytes(head[4 : 4 + size_bytes], order), start + 4 + size_bytes
        yield _Chunk(head[:4], size, start, head[4 + size_bytes :])
        if head[:4] in (b"data", b"SSND"):
            return
        start += size + (size % 2 if size_bytes == 4 else 0)  # CAF does not pad
