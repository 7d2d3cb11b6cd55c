"""Reads type hints: their kinds and unions, and the keys that a node of a configuration may have."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from recsys.config.register import TARGET, load, lookup, place_of
from recsys.config.signatures import Parameter, Signature, signature_of

SCALARS = (bool, int, float, str, Path)
SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
MAPPINGS = (dict, collections.abc.Mapping)


@dataclasses.dataclass(frozen=True)
class Factory:
    """A class that a configuration names, with checked arguments; it is imported when it is called.

    Args:
        name: dotted name of the class.
        key: where it is named.
        arguments: what the configuration gives; code supplies the others of its place in the call.
    """

    name: str
    key: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def target(self) -> Callable[..., Any]:
        """The class."""
        return load(self.name, self.key)

    def __call__(self, **injected: Any) -> Any:
        """Makes the object."""
        return self.target(**self.arguments, **injected)


_FACTORY = f"{Factory.__module__}.{Factory.__qualname__}"


def is_factory(hint: Any) -> bool:
    """True for `Factory`, also where it stands in an annotation that was read from its source."""
    return inspect.isclass(hint) and f"{hint.__module__}.{hint.__qualname__}" == _FACTORY


def is_union(hint: Any) -> bool:
    """True for `X | Y`."""
    return get_origin(hint) in (Union, types.UnionType)


def arms(hint: Any) -> tuple[Any, ...]:
    """The members of a union; the hint itself when it is none."""
    return get_args(hint) if is_union(hint) else (hint,)


def fields(hint: Any, value: Any, key: str) -> Mapping[str, Parameter]:
    """Returns the keys that a node of this hint may have at `key`, without what code supplies."""
    if is_class(hint) and names_target(value):
        signature = lookup(value[TARGET], key)
        return {} if isinstance(signature, str) else configurable(signature, key)
    if is_class(hint) and not is_factory(hint):
        signature = signature_of(hint)
        return signature.parameters if signature.is_dataclass else {}
    return {}


def configurable(signature: Signature, key: str) -> dict[str, Parameter]:
    """The arguments of a class that a configuration may give at `key`."""
    injected = place_of(key).injected
    return {name: parameter for name, parameter in signature.parameters.items() if name not in injected}


def names_target(value: Any) -> bool:
    """True for a node with `_target_`."""
    return isinstance(value, Mapping) and isinstance(value.get(TARGET), str)


def is_class(hint: Any) -> bool:
    """True for a class of objects, dataclasses included, false for scalars and containers."""
    if hint in SCALARS or is_one_of((*SEQUENCES, *MAPPINGS))(hint):
        return False
    return inspect.isclass(hint) and hint is not types.NoneType and get_origin(hint) is None


def is_one_of(kinds: tuple[Any, ...]) -> Callable[[Any], bool]:
    """A test whether a hint is one of these types, with or without parameters."""
    return lambda hint: hint in kinds or get_origin(hint) in kinds
