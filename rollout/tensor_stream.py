"""Named tensors as the bytes of a safetensors file, written and read piece by piece.

The sender never holds more than one tensor besides its own; the receiver fills one buffer of the size of all tensors. The
format is that of https://github.com/huggingface/safetensors: eight bytes with the header's length, the header in JSON, data.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

PIECE = 4 << 20
"""Bytes that are handed on at once."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"
_MOST_HEADER = 100_000_000  # the format's own limit


class _Entry(NamedTuple):
    dtype: torch.dtype
    shape: list[int]
    begin: int
    end: int


def tensor_stream(
    tensors: Sequence[tuple[str, torch.Tensor]], metadata: Mapping[str, str] | None = None
) -> tuple[int, Iterator[bytes]]:
    """(length in bytes, the pieces), of tensors on any device. Raises ValueError for a dtype the format does not know."""
    # Wide elements first, as the library writes them: every tensor then begins at a multiple of its element's size.
    ordered = sorted(tensors, key=lambda item: -item[1].element_size())
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in ordered:
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name}: {tensor.dtype} cannot be sent; expected one of {', '.join(map(str, _NAMES))}")
        if name in header:
            raise ValueError(f"{name}: given twice; expected every tensor once")
        end = offset + tensor.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def pieces() -> Iterator[bytes]:
        yield len(text).to_bytes(8, "little") + text
        for _, tensor in ordered:
            flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy()
            for at in range(0, len(flat), PIECE):
                yield flat[at : at + PIECE].tobytes()

    return 8 + len(text) + offset, pieces()


class TensorReceiver:
    """The other side of `tensor_stream`: `feed` it the pieces, of any size, of a stream of `length` bytes; then `finish`.

    Both raise ValueError for what is not a safetensors file of that length.
    """

    def __init__(self, length: int) -> None:
        self._length, self._received = length, 0
        self._head = bytearray()
        self._header: dict[str, _Entry] | None = None
        self._metadata: dict[str, str] = {}
        self._data = torch.empty(0, dtype=torch.uint8)
        self._start = 8  # where the data begins, once the header is known

    def feed(self, piece: bytes) -> None:
        if self._received + len(piece) > self._length:
            raise ValueError(f"more than the {self._length} bytes that were announced")
        if self._header is None:
            self._head += piece
            self._received += len(piece)
            self._try_header()
        else:
            at = self._received - self._start
            self._data.numpy()[at : at + len(piece)] = memoryview(piece)
            self._received += len(piece)

    def finish(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """(the tensors, which share one buffer; the metadata)."""
        if self._header is None or self._received != self._length:
            raise ValueError(f"{self._received} bytes of {self._length} arrived; send all of them again")
        tensors = {}
        for name, entry in self._header.items():
            part = self._data[entry.begin : entry.end]
            if entry.begin % entry.dtype.itemsize:
                part = part.clone()
            tensors[name] = part.view(entry.dtype).view(entry.shape)
        return tensors, self._metadata

    def _try_header(self) -> None:
        if len(self._head) < 8:
            return
        size = int.from_bytes(self._head[:8], "little")
        if size > min(_MOST_HEADER, self._length - 8):
            raise ValueError(f"a header of {size} bytes in {self._length}; expected a safetensors file")
        if len(self._head) < 8 + size:
            return
        self._start = 8 + size
        self._header, self._metadata = _parse(bytes(self._head[8 : self._start]), self._length - self._start)
        self._data = torch.empty(self._length - self._start, dtype=torch.uint8)
        rest = bytes(self._head[self._start :])
        self._head.clear()
        self._received -= len(rest)
        if rest:
            self.feed(rest)


def _parse(text: bytes, length: int) -> tuple[dict[str, _Entry], dict[str, str]]:
    """The header's entries, which together cover all `length` bytes of data, and its metadata."""
    try:
        header = json.loads(text)
        metadata = {str(key): str(value) for key, value in header.pop(_METADATA, {}).items()}
        entries = {name: _entry(value) for name, value in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not the header of a safetensors file ({error!r})") from error
    cursor = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        size = torch.Size(entry.shape).numel() * entry.dtype.itemsize
        if entry.begin != cursor or entry.end != cursor + size:
            raise ValueError(f"{name}: bytes {entry.begin} to {entry.end}; expected {cursor} to {cursor + size}")
        cursor = entry.end
    if cursor != length:
        raise ValueError(f"{length} bytes of data for tensors of {cursor}")
    return entries, metadata


def _entry(value: Any) -> _Entry:
    shape = [int(size) for size in value["shape"]]
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    begin, end = value["data_offsets"]
    return _Entry(_DTYPES[value["dtype"]], shape, int(begin), int(end))
