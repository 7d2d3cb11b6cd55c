"""vector_of: the vector of a text in a request, which the program of a bundle can't make."""

from __future__ import annotations

import functools
from typing import Any

from recsys.nn.sentence_encoder import SentenceEncoder
from recsys.schema.errors import InputError
from recsys.serving.values import RequestError


def vector_of(text: Any, model: str, *, argument: str) -> list[float] | None:
    """The vector of a text; None where there is no text.

    Args:
        text: a plain value.
        model: see `recsys.nn.sentence_encoder`.
        argument: that the vector would be, for the message.

    Raises:
        RequestError: the model is not installed here.
    """
    if text is None or not str(text).strip():
        return None
    try:
        encoder = _encoder(model)
    except InputError as error:
        raise RequestError(
            f"`{argument}` must be given as a list of numbers where its text can't be encoded: {error}",
            field=argument,
        ) from error
    vector: list[float] = encoder.encode([str(text)])[0].tolist()
    return vector


@functools.cache
def _encoder(model: str) -> SentenceEncoder:
    return SentenceEncoder(model)
