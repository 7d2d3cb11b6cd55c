"""The functions that read raw values, as methods that run in Python and, scripted, in TorchScript."""
# ruff: noqa: UP006, UP035, UP045 (scripted)

from typing import Any, List, Optional

import torch
from torch import nn

from recsys.exporting.program.hashed import first_characters, hash_row, ngram_rows
from recsys.exporting.program.instants import as_seconds
from recsys.exporting.program.values import as_integer, as_number, as_pieces, as_text


class Readers(nn.Module):
    @torch.jit.export
    def text(self, value: Any) -> Optional[str]:
        return as_text(value, "field")

    @torch.jit.export
    def integer(self, value: Any) -> Optional[int]:
        return as_integer(value, "field")

    @torch.jit.export
    def number(self, value: Any) -> Optional[float]:
        return as_number(value, "field")

    @torch.jit.export
    def pieces(self, value: Any) -> List[str]:
        return as_pieces(value, "|", "field")

    @torch.jit.export
    def seconds(self, value: Any, per_second: int) -> Optional[int]:
        return as_seconds(value, per_second, "field")

    @torch.jit.export
    def hashed(self, text: str, num_buckets: int) -> int:
        return hash_row(text, num_buckets)

    @torch.jit.export
    def ngrams(self, text: str, ngrams: int, max_length: int, num_buckets: int) -> List[int]:
        return ngram_rows(text, ngrams, max_length, num_buckets)

    @torch.jit.export
    def beginning(self, text: str, count: int) -> str:
        return first_characters(text, count)
