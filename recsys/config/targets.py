"""What type hints and `_target_` nodes allow: fields, parameters, and the classes that names stand for."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from hydra.errors import InstantiationException
from hydra.utils import instantiate

TARGET = "_target_"
SCALARS = (bool, int, float, str, Path)
SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
MAPPINGS = (dict, collections.abc.Mapping)


@dataclasses.dataclass(frozen=True)
class Factory:
    """A class named by `_target_` with checked keyword arguments; calling it adds the injected ones."""

    target: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __call__(self, **injected: Any) -> Any:
        """The object."""
        return self.target(**self.arguments, **injected)


@dataclasses.dataclass(frozen=True)
class Injected:
    """Marks a `Factory` field with arguments that code supplies and YAML must not.

    Example:
        >>> Annotated[Factory, Injected("schema")]
        typing.Annotated[recsys.config.targets.Factory, Injected(names=('schema',))]
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def unmarked(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """A hint without its `Annotated`, and the names that it marks as injected."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    inner, *marks = get_args(hint)
    return inner, tuple(name for mark in marks if isinstance(mark, Injected) for name in mark.names)


def is_union(hint: Any) -> bool:
    """True for `X | Y`."""
    return get_origin(hint) in (Union, types.UnionType)


def arms(hint: Any) -> tuple[Any, ...]:
    """The members of a union; the hint itself when it is none."""
    return get_args(hint) if is_union(hint) else (hint,)


def fields(hint: Any, value: Any) -> dict[str, Any]:
    """Names and hints of what may stand in a node of this hint."""
    if is_class(hint) and names_target(value):
        target = locate(value[TARGET])
        return {} if isinstance(target, str) else {TARGET: str} | parameters(target)[0]
    if dataclasses.is_dataclass(hint) and hint is not Factory:
        hints = _hints(typing.cast(Any, hint))
        return {field.name: hints[field.name] for field in dataclasses.fields(hint) if field.init}
    return {}


def names_target(value: Any) -> bool:
    """True for a node with `_target_`."""
    return isinstance(value, Mapping) and isinstance(value.get(TARGET), str)


def is_class(hint: Any) -> bool:
    """True for a class of objects, dataclasses included, false for scalars and containers."""
    if hint in SCALARS or is_one_of((*SEQUENCES, *MAPPINGS))(hint):
        return False
    return inspect.isclass(hint) and hint not in (*SCALARS, types.NoneType) and get_origin(hint) is None


@functools.cache
def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Type hints of a dataclass or callable; Any for those that cannot be evaluated."""
    function = target.__init__ if inspect.isclass(target) and not dataclasses.is_dataclass(target) else target
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # names imported for type checkers only
        return {}


@functools.cache
def locate(name: str) -> Callable[..., Any] | str:
    """What a `_target_` names, or why it cannot be had.

    Raises:
        Exception: the module is there and its import fails, which is no matter of configuration.
    """
    module, _, attribute = name.rpartition(".")
    if not module:
        return "a module and a class with a dot between them are wanted"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        return f"there is no module `{error.name}`"
    if not hasattr(found, attribute):
        return f"`{module}` has no `{attribute}`"
    try:
        # Hydra refuses targets that no configuration should call.
        target: Callable[..., Any] = instantiate({TARGET: name, "_partial_": True}).func
    except InstantiationException as error:
        return " ".join(str(error).split())
    return target


def parameters(target: Callable[..., Any]) -> tuple[dict[str, Any], set[str], bool]:
    """Hints of the keyword parameters, names of those without default, whether further names are taken."""
    hints = _hints(target)
    parameters = inspect.signature(target).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = {p.name for p in named if p.default is p.empty}
    return (
        {p.name: hints.get(p.name, Any) for p in named},
        required,
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def is_one_of(kinds: tuple[Any, ...]) -> Callable[[Any], bool]:
    """A test whether a hint is one of these types, with or without parameters."""
    return lambda hint: hint in kinds or get_origin(hint) in kinds
