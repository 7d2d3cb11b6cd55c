"""hash_rows: values to rows 1..num_buckets by FNV-1a, the same in any language."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_OFFSET_BASIS = np.uint32(2166136261)
_PRIME = np.uint32(16777619)


def hash_rows(values: pa.Array, num_buckets: int) -> npt.NDArray[np.int32]:
    """Rows 1 + fnv1a(value) % num_buckets; 0 for null.

    Strings are hashed over their UTF-8 bytes, integers over their decimal string.

    Args:
        values: [N] strings or integers.
        num_buckets: at least 1.

    Returns:
        [N] rows of an embedding table of num_buckets + 1 rows.

    Reference:
        Fowler, Noll and Vo, FNV hash, 32 bit, variant 1a.

    >>> hash_rows(pa.array(["a", None]), 1000)
    array([221,   0], dtype=int32)
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    text = values.cast(pa.string())
    rows = 1 + (fnv1a(text) % np.uint32(num_buckets)).astype(np.int64)
    rows[text.is_null().to_numpy(zero_copy_only=False)] = 0
    return rows.astype(np.int32)


def fnv1a(text: pa.StringArray) -> npt.NDArray[np.uint32]:
    """FNV-1a 32 bit of each string's UTF-8 bytes; a null hashes as the empty string.

    Each pass takes in one more byte of every string that is long enough, so that Python loops over the
    longest string's bytes and not over strings.
    """
    starts, lengths, data = _bytes_of(text)
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    hashes = np.full(len(text), _OFFSET_BASIS, dtype=np.uint32)
    for position in range(int(lengths[0]) if len(lengths) else 0):
        # Lengths descend: the strings that have such a byte stand first.
        num_longer = int(np.searchsorted(-lengths, -position, side="left"))
        read = data[starts[:num_longer] + position]
        hashes[:num_longer] = (hashes[:num_longer] ^ read) * _PRIME
    in_order = np.empty_like(hashes)
    in_order[order] = hashes
    return in_order


def _bytes_of(text: pa.StringArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]:
    filled = text.fill_null("")
    _validity, offsets, data = filled.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[filled.offset : filled.offset + len(filled) + 1].astype(
        np.int64
    )
    content = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
    return ends[:-1], np.diff(ends), content
