"""Hashed rows: FNV-1a (32 bit) of UTF-8 bytes, and the hashed word n-grams of a text.

Runs the same in Python and as TorchScript. The counterpart that prepares data is
`recsys.data.preparing.kinds.hashing`; a test holds the two together.

Reference: Fowler, Noll, Vo; RFC 9923, 32-bit FNV-1a.
"""
# ruff: noqa: UP006, UP035 (scripted)

from typing import List

import torch


def hash_row(text: str, num_buckets: int) -> int:
    """Row 1 .. num_buckets of `text`."""
    return _hash_row_of_bytes(_utf8(text), num_buckets)


def _hash_row_of_bytes(codes: List[int], num_buckets: int) -> int:
    """Row 1 .. num_buckets of a string given as its UTF-8 bytes."""
    hashed = 2166136261
    for code in codes:
        hashed = ((hashed ^ code) * 16777619) & 4294967295
    return 1 + hashed % num_buckets


def ngram_rows(text: str, ngrams: int, max_length: int, num_buckets: int) -> List[int]:
    """Rows of the words of `text`, then of its pairs of words, up to `ngrams`; the first `max_length`."""
    words = _words(_utf8(text))
    rows: List[int] = []
    for size in range(1, ngrams + 1):
        for begin in range(len(words) - size + 1):
            if len(rows) == max_length:
                return rows
            joined: List[int] = []
            for word in words[begin : begin + size]:
                if len(joined) > 0:
                    joined.append(32)
                joined.extend(word)
            rows.append(_hash_row_of_bytes(joined, num_buckets))
    return rows


def _words(codes: List[int]) -> List[List[int]]:
    """Maximal runs of a-z, 0-9 and bytes of other scripts, ASCII in lower case."""
    words: List[List[int]] = []
    word: List[int] = []
    for code in codes:
        if code >= 65 and code <= 90:
            code = code + 32
        if (code >= 97 and code <= 122) or (code >= 48 and code <= 57) or code >= 128:
            word.append(code)
        elif len(word) > 0:
            words.append(word)
            word = []
    if len(word) > 0:
        words.append(word)
    return words


def first_characters(text: str, count: int) -> str:
    """The first `count` characters of `text`."""
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        characters = 0
        # A character has at most four bytes.
        for end, code in enumerate(_utf8(text[: 4 * count + 4])):
            # 128-191 go on with a character, everything else begins one.
            if code < 128 or code > 191:
                characters += 1
            if characters > count:
                return text[:end]
        return text
    else:  # noqa: RET505 (TorchScript compiles one branch only when there is an else)
        return text[:count]


def _utf8(text: str) -> List[int]:
    """The UTF-8 bytes of `text`."""
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        codes: List[int] = []
        # In pieces: to walk through a text takes TorchScript the square of its length.
        for begin in range(0, len(text), 512):
            for byte in text[begin : begin + 512]:
                codes.append(ord(byte))  # noqa: PERF401 (scripted)
        return codes
    else:  # noqa: RET505 (see above)
        return list(text.encode())
