"""Looks up the classes that a configuration names, each in the place of its key.

A configuration may come from a stranger: a run's folder is enough. So a name is looked up in the sources of
this package before anything is imported, and only a public class (or function) of the place's own module or
folder, with what the place needs, is taken. Classes of one's own are named after `trust=my_package` on the
command line, which no stored configuration can hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from recsys.config.signatures import Signature, declared, reflected
from recsys.config.sources import PACKAGE
from recsys.schema.errors import InputError

TARGET = "_target_"
TRUST = "trust"


@dataclasses.dataclass(frozen=True)
class Place:
    """A key at which a configuration names a class.

    Args:
        package: module or folder of ours whose public classes may stand there.
        injected: arguments that code supplies and a configuration must not.
        offers: methods of which the class has one at least.
    """

    package: str
    injected: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()


# By the last part of the dotted key.
PLACES: Mapping[str, Place] = {
    "model": Place("recsys.models", injected=("schema",)),
    "task": Place("recsys.training", injected=("model", "optimizers")),
    "optimizer": Place("recsys.training.optimizers", offers=("dense",)),
    "source": Place("recsys.data.sources", offers=("tables",)),
    "logger": Place("recsys.training.loggers", offers=("open",)),
    "callbacks": Place("recsys.training.callbacks", offers=("on_train_batch_end", "on_validation_end")),
    "loss": Place("recsys.losses", offers=("of_candidates", "of_catalogue")),
}

_trusted: list[str] = []


@contextlib.contextmanager
def trusting(packages: Sequence[str]) -> Iterator[None]:
    """While inside, classes of these packages may be named wherever a class is named.

    Raises:
        InputError: a name is none of a package.
    """
    for package in packages:
        if not all(part.isidentifier() for part in str(package).split(".")):
            raise InputError(f"expected the name of a Python package for `{TRUST}`, got `{package}`")
    if packages and os.getcwd() not in sys.path:  # `recsys` is a script elsewhere
        sys.path.append(os.getcwd())
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                raise
            raise InputError(f"`{TRUST}={package}`: there is no module `{error.name}`") from error
    former = list(_trusted)
    _trusted.extend(packages)
    try:
        yield
    finally:
        _trusted[:] = former


def place_of(key: str) -> Place:
    """The place of a dotted key; one where nothing of ours may stand where the key is none."""
    return PLACES.get(key.partition("[")[0].rpartition(".")[2], Place(""))


def lookup(name: str, key: str) -> Signature | str:
    """The signature of the class that `name` stands for at `key`, or why there is none.

    Nothing is imported but a trusted package.
    """
    module, _, attribute = name.rpartition(".")
    if not module:
        return "a module and a class with a dot between them are wanted"
    if any(name == package or name.startswith(f"{package}.") for package in _trusted):
        return _trusted_signature(module, attribute)
    place = place_of(key)
    if not place.package or not f"{module}.".startswith(f"{place.package}."):
        return _not_ours(name, place)
    signature = declared(name)
    if isinstance(signature, str):
        return signature
    missing = [argument for argument in place.injected if argument not in signature.parameters]
    if missing or (place.offers and not signature.methods & set(place.offers)):
        wanted = [f"an argument `{argument}`" for argument in missing] or [
            f"a method {' or '.join(f'`{method}`' for method in place.offers)}"
        ]
        return f"it has not what the key needs: {', '.join(wanted)}"
    return signature


def load(name: str, key: str) -> Callable[..., Any]:
    """Imports the class that `name` stands for at `key`.

    Raises:
        InputError: no configuration may name it there.
    """
    signature = lookup(name, key)
    if isinstance(signature, str):
        raise InputError(f"expected the name of a class for `{key}.{TARGET}`, got `{name}`: {signature}")
    return _imported(name)


def import_functions(names: Sequence[str], key: str) -> None:
    """Imports the modules of functions of one's own, which are registered there; other names are passed over.

    Raises:
        InputError: one of them is in no trusted package, or is not there.
    """
    for name in names:
        if "." not in name:
            continue
        signature = lookup(name, key)
        if isinstance(signature, str):
            raise InputError(f"`{key}`: expected a function that can be imported, got `{name}`: {signature}")


def imported(hint: Any) -> Callable[..., Any]:
    """The class that stands in a type hint, itself or by an empty class of its name."""
    return hint if dataclasses.is_dataclass(hint) else _imported(f"{hint.__module__}.{hint.__qualname__}")  # type: ignore[return-value]


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    target: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return target


def _not_ours(name: str, place: Place) -> str:
    root = name.partition(".")[0]
    where = f"classes of `{place.package}` may stand here" if place.package else "no class may stand here"
    if root == PACKAGE or root in sys.stdlib_module_names:
        return where
    advice = f"to run code of `{root}`, if you trust its authors, add `{TRUST}={root}` on the command line"
    return f"{where}; {advice}"


def _trusted_signature(module: str, attribute: str) -> Signature | str:
    try:
        content = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        return f"there is no module `{error.name}`"
    if not hasattr(content, attribute):
        return f"`{module}` has no `{attribute}`"
    return reflected(getattr(content, attribute))
