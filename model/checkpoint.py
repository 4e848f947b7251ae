"""Reads a TensorFlow V2 checkpoint with numpy, and renames its tensors to those of the U-Nets in `unet`.

A checkpoint is two files: `PREFIX.index`, a sorted string table of small protocol buffers with each tensor's offset, and
`PREFIX.data-00000-of-00001`, the tensors' bytes. TensorFlow is not needed, and nothing is unpickled.

Source: `tensorflow/core/util/tensor_bundle/tensor_bundle.h`, `tensorflow/tsl/lib/io/format.h`, LevelDB's table format.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import google_crc32c
import numpy as np

from sep_batch.model.spec import ModelSpec

_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression type, CRC
_CRC_MASK_DELTA = 0xA282EAD8
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # DT_FLOAT, DT_DOUBLE, DT_INT32, DT_INT64
_LEFTOVERS = re.compile(r"(^|/)global_step$|/Adam(_\d+)?$|(^|/)beta\d_power(_\d+)?$")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protocol buffer wire types

Fields = dict[int, list[int | bytes]]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the tensor or file, its value and the expected one."""


@dataclass(frozen=True)
class Entry:
    """Type, shape and position in the data file of one tensor, and the CRC32C of its bytes."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int
    crc32c: int


@dataclass(frozen=True)
class Mapped:
    """Renamed tensors, and the number of training leftovers that were ignored."""

    tensors: dict[str, np.ndarray]
    ignored: int


def read(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """Read every tensor of a checkpoint, including training leftovers.

    Args:
        index: The bytes of `PREFIX.index`.
        data: The bytes of `PREFIX.data-00000-of-00001`.

    Returns:
        Arrays by TensorFlow's variable names.

    Raises:
        CheckpointError: A checksum, a length or a type is wrong; the message names the tensor.
    """
    return {name: _tensor(name, entry, data) for name, entry in entries(index).items()}


def map_names(arrays: Mapping[str, np.ndarray], spec: ModelSpec) -> Mapped:
    """Convert a checkpoint's tensors to the names and layouts of `Separator`'s U-Nets.

    Args:
        arrays: Arrays by TensorFlow's names, as `read` returns them.
        spec: The expected model.

    Raises:
        CheckpointError: Tensors are missing, misshapen or unexpected; the message names them.
    """
    variables = dict(_variables(spec))
    extra = [name for name in arrays if name not in variables]
    ignored = [name for name in extra if _LEFTOVERS.search(name)]
    unexpected = sorted(set(extra) - set(ignored))
    missing = sorted(set(variables) - set(arrays))
    if missing or unexpected:
        differences = f"{_names('missing', missing)}{_names('not of this model', unexpected)}"
        raise CheckpointError(f"checkpoint does not fit {spec.name} ({', '.join(spec.stems)}): {differences}")
    tensors = {}
    for name, (new_name, shape) in variables.items():
        if arrays[name].shape != shape:
            raise CheckpointError(f"tensor {name}: found shape {arrays[name].shape}, expected {shape}")
        array = arrays[name].astype(np.float32, copy=False)
        tensors[new_name] = np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)
    return Mapped(tensors, len(ignored))


def entries(index: bytes) -> dict[str, Entry]:
    """Read the index file.

    Raises:
        CheckpointError: The file is not an index, is damaged, or has more than one shard.
    """
    try:
        return _entries(index)
    except (IndexError, struct.error, KeyError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"checkpoint index: damaged ({type(error).__name__}: {error})") from error


def _entries(index: bytes) -> dict[str, Entry]:
    if len(index) < _FOOTER_BYTES or struct.unpack("<Q", index[-8:])[0] != _TABLE_MAGIC:
        raise CheckpointError("checkpoint index: not a TensorFlow V2 checkpoint index (wrong magic number)")
    footer = index[-_FOOTER_BYTES:]
    _, _, position = _handle(footer, 0)  # the metaindex, empty
    offset, size, _ = _handle(footer, position)
    entries: dict[str, Entry] = {}
    for _, block in _records(_block(index, offset, size)):
        start, length, _ = _handle(block, 0)
        for key, value in _records(_block(index, start, length)):
            fields = _fields(value)
            if key == b"":
                _check_header(fields)
            else:
                entries[key.decode()] = _entry(fields)
    return entries


def _check_header(fields: Fields) -> None:
    shards, big_endian = (int(fields.get(number, [default])[0]) for number, default in ((1, 1), (2, 0)))
    if shards != 1 or big_endian:
        raise CheckpointError(f"checkpoint index: found {shards} shards, endianness {big_endian}; expected 1 and 0")


def _entry(fields: Fields) -> Entry:
    shape = _fields(_bytes(fields.get(2, [b""])[0]))
    dims = [_fields(_bytes(dim)).get(1, [0])[0] for dim in shape.get(2, [])]
    numbers = {number: values[0] for number, values in fields.items() if isinstance(values[0], int)}
    return Entry(
        dtype=int(numbers.get(1, 0)),
        shape=tuple(int(dim) for dim in dims),
        offset=int(numbers.get(4, 0)),
        size=int(numbers.get(5, 0)),
        crc32c=int(numbers.get(6, 0)),
    )


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number where a message was expected")
    return value


def _tensor(name: str, entry: Entry, data: bytes) -> np.ndarray:
    raw = data[entry.offset : entry.offset + entry.size]
    if len(raw) != entry.size:
        raise CheckpointError(f"tensor {name}: found {len(raw)} of its {entry.size} bytes in the data file")
    if _masked_crc(raw) != entry.crc32c:
        raise CheckpointError(f"tensor {name}: CRC32C {_masked_crc(raw):08x}, expected {entry.crc32c:08x}: damaged file")
    if entry.dtype not in _DTYPES:
        raise CheckpointError(f"tensor {name}: TensorFlow type {entry.dtype}, expected one of {sorted(_DTYPES)}")
    array = np.frombuffer(raw, dtype=_DTYPES[entry.dtype])
    if array.size != np.prod(entry.shape, dtype=np.int64):
        raise CheckpointError(f"tensor {name}: {array.size} numbers, expected shape {entry.shape}")
    return array.reshape(entry.shape)


def _variables(spec: ModelSpec) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """Yield TensorFlow's name, with the new name and TensorFlow's shape, for each variable of a model.

    TensorFlow numbers the layers of a kind across all U-Nets, in the order in which Spleeter builds them.
    """
    depth = len(spec.filters)
    down = (spec.channels, *spec.filters)
    up = (*spec.filters[-2::-1], 1)
    inputs = (spec.filters[-1], *(2 * filters for filters in up[:-1]))
    for unet, stem in enumerate(spec.stems):
        for i in range(depth):
            conv, upconv = _numbered("conv2d", unet * (depth + 1) + i), _numbered("conv2d_transpose", unet * depth + i)
            yield from _layer(conv, f"{stem}.encoder.{i}.conv", (5, 5, down[i], down[i + 1]))
            yield from _layer(upconv, f"{stem}.decoder.{i}.conv", (5, 5, up[i], inputs[i]), bias=up[i])
            yield from _norm(unet * 2 * depth + i, f"{stem}.encoder.{i}.norm", down[i + 1])
            yield from _norm(unet * 2 * depth + depth + i, f"{stem}.decoder.{i}.norm", up[i])
        head = _numbered("conv2d", unet * (depth + 1) + depth)
        yield from _layer(head, f"{stem}.head", (4, 4, 1, spec.channels))


def _layer(
    old_name: str, new_name: str, kernel: tuple[int, int, int, int], *, bias: int | None = None
) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    yield f"{old_name}/kernel", (f"{new_name}.weight", kernel)
    yield f"{old_name}/bias", (f"{new_name}.bias", (bias or kernel[-1],))


def _norm(number: int, new_name: str, width: int) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    old_name = _numbered("batch_normalization", number)
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for old, new in names.items():
        yield f"{old_name}/{old}", (f"{new_name}.{new}", (width,))


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _names(label: str, names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{label}: {shown}. " if names else ""


def _masked_crc(raw: bytes) -> int:
    crc: int = google_crc32c.value(raw)
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def _block(table: bytes, offset: int, size: int) -> bytes:
    block, trailer = table[offset : offset + size], table[offset + size : offset + size + _TRAILER_BYTES]
    kind, crc = struct.unpack("<BI", trailer)
    if _masked_crc(block + trailer[:1]) != crc:
        raise CheckpointError("checkpoint index: a block's CRC32C is wrong: damaged file")
    if kind != 0:
        raise CheckpointError(f"checkpoint index: compression type {kind}, expected 0 (none)")
    return block


def _records(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield a block's keys and values; each key is stored as its difference from the key before."""
    restarts = struct.unpack("<I", block[-4:])[0]
    end, position, key = len(block) - 4 * (restarts + 1), 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _handle(block: bytes, position: int) -> tuple[int, int, int]:
    offset, position = _varint(block, position)
    size, position = _varint(block, position)
    return offset, size, position


def _varint(block: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = block[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _fields(message: bytes) -> Fields:
    """Read a protocol buffer without its schema: field number to values."""
    fields: Fields = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        value: int | bytes
        if tag & 7 == _VARINT:
            value, position = _varint(message, position)
        elif tag & 7 == _BYTES:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        elif tag & 7 in (_FIXED32, _FIXED64):
            width = 4 if tag & 7 == _FIXED32 else 8
            value, position = int.from_bytes(message[position : position + width], "little"), position + width
        else:
            raise CheckpointError(f"checkpoint index: protocol buffer wire type {tag & 7}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields
