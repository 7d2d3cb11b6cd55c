"""Modules of ours as they are written: their definitions, and the types that their annotations name.

Nothing is imported but light modules of the standard library.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = "recsys"
ROOT = Path(__file__).resolve().parents[1]
# Modules of the standard library that annotations use; importing them costs nothing.
_LIGHT = ("typing", "collections.abc", "pathlib", "datetime", "types")
_BUILTINS: Mapping[str, Any] = {
    kind.__name__: kind for kind in (bool, int, float, str, bytes, list, dict, tuple, set, type, object)
}


@dataclasses.dataclass(frozen=True)
class SourceModule:
    """A module's source.

    Args:
        name: dotted.
        definitions: classes, functions and assigned expressions, by name.
        imports: dotted names that the module's own names stand for.
    """

    name: str
    definitions: Mapping[str, ast.ClassDef | ast.FunctionDef | ast.expr]
    imports: Mapping[str, str]


@functools.cache
def source_module(name: str) -> SourceModule | None:
    """The module of this dotted name; None where the package has none."""
    parts = name.split(".")
    if parts[0] != PACKAGE or not all(part.isidentifier() for part in parts):
        return None
    path = ROOT.joinpath(*parts[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return None
    definitions: dict[str, ast.ClassDef | ast.FunctionDef | ast.expr] = {}
    imports: dict[str, str] = {}
    body = list(ast.parse(path.read_text(encoding="utf-8")).body)
    for statement in body:
        match statement:
            case ast.ClassDef() | ast.FunctionDef():
                definitions[statement.name] = statement
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                definitions[target] = value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                definitions[target] = value
            case ast.ImportFrom(module=str(origin), names=names):
                imports |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in names}
            case ast.Import(names=names):
                imports |= {alias.asname or alias.name: alias.name for alias in names}
            case ast.If():  # TYPE_CHECKING
                body += statement.body
    return SourceModule(name, definitions, imports)


def ancestry(node: ast.ClassDef, module: SourceModule) -> list[tuple[ast.ClassDef, SourceModule]]:
    """A class and its bases of this package, nearest first."""
    classes = [(node, module)]
    for base in node.bases:
        definition = _definition(base.value if isinstance(base, ast.Subscript) else base, module)
        if definition and isinstance(definition[0], ast.ClassDef):
            classes += ancestry(definition[0], definition[1])
    return classes


def _definition(
    node: ast.expr, module: SourceModule
) -> tuple[ast.ClassDef | ast.FunctionDef | ast.expr, SourceModule] | None:
    """Finds the definition of a name of ours, and its module."""
    if not isinstance(node, ast.Name):
        return None
    if node.id in module.definitions:
        return module.definitions[node.id], module
    origin, _, name = module.imports.get(node.id, "").rpartition(".")
    other = source_module(origin) if origin else None
    return _definition(ast.Name(name), other) if other else None


def hint_of(node: ast.expr | None, module: SourceModule) -> Any:
    """The type that an annotation names; Any for what a configuration cannot give."""
    if node is None:
        return Any
    try:
        return _evaluated(node, module)
    except (TypeError, ValueError, AttributeError, SyntaxError):
        return Any


def _evaluated(node: ast.expr, module: SourceModule) -> Any:
    match node:
        case ast.Constant(value=None):
            return types.NoneType
        case ast.Constant(value=str(text)):
            return _evaluated(ast.parse(text, mode="eval").body, module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[_evaluated(left, module), _evaluated(right, module)]  # noqa: UP007
        case ast.Subscript(value=value, slice=inside):
            return _subscripted(_evaluated(value, module), inside, module)
        case ast.Name(id=name):
            return _named(node, name, module)
        case ast.Attribute(value=ast.Name(id=base), attr=name):
            origin = module.imports.get(base, base)
            return _imported(f"{origin}.{name}")
    raise ValueError(ast.unparse(node))


def _subscripted(generic: Any, inside: ast.expr, module: SourceModule) -> Any:
    elements = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if generic is typing.Literal:
        return generic[tuple(ast.literal_eval(element) for element in elements)]
    if generic is typing.Annotated:
        return _evaluated(elements[0], module)
    ellipsis = [isinstance(element, ast.Constant) and element.value is ... for element in elements]
    arguments = tuple(
        ... if dots else _evaluated(element, module) for element, dots in zip(elements, ellipsis, strict=True)
    )
    return generic[arguments if len(arguments) > 1 else arguments[0]]


def _named(node: ast.Name, name: str, module: SourceModule) -> Any:
    defined = _definition(node, module)
    if defined is None:
        return _BUILTINS[name] if name in _BUILTINS else _imported(module.imports.get(name, name))
    its_node, its_module = defined
    if isinstance(its_node, ast.expr):
        return _evaluated(its_node, its_module)
    return stand_in(f"{its_module.name}.{its_node.name}")


def _imported(name: str) -> Any:
    """An object of the standard library; anything else is a class that is not looked into."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute) if module in _LIGHT else stand_in(name)


@functools.cache
def stand_in(name: str) -> type:
    """An empty class of this dotted name, to stand in type hints for one that is not imported."""
    module, _, attribute = name.rpartition(".")
    return type(attribute, (), {"__module__": module, "__qualname__": attribute})
