"""Says the arguments once that several constructors take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

C = TypeVar("C")


def with_arguments_of(shared: type) -> Callable[[type[C]], type[C]]:
    """Puts the arguments of `shared` into the signature of a class that takes them as `**`.

    Configurations are checked against signatures, and `--help` lists them (`recsys.config.signatures`).

    Args:
        shared: class whose keyword arguments are taken too; an argument of the class itself comes first.

    Example:
        >>> class Size:
        ...     def __init__(self, *, width: int = 3) -> None: ...
        >>> @with_arguments_of(Size)
        ... class Box:
        ...     def __init__(self, name: str, **size: int) -> None: ...
        >>> list(inspect.signature(Box).parameters)
        ['name', 'width']
    """

    def spell_out(wrapped: type[C]) -> type[C]:
        own = inspect.signature(wrapped).parameters
        parameters = [argument for argument in own.values() if argument.kind is not argument.VAR_KEYWORD]
        parameters += [
            argument.replace(kind=argument.KEYWORD_ONLY)
            for name, argument in inspect.signature(shared).parameters.items()
            if name not in own
        ]
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return wrapped

    return spell_out
