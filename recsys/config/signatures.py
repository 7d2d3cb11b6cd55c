"""Keys, types, defaults and descriptions of classes, read from their source without importing them.

Importing torch takes seconds, and a mistyped key or `--help` shall not wait for it; and what a stranger's
configuration names shall not be imported before it is known to be ours. So constructors are read as they are
written: a signature cannot differ from its class. Classes outside this package are asked by reflection.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from recsys.config.sources import PACKAGE, SourceModule, ancestry, hint_of, source_module
from recsys.schema.docstrings import argument_texts


@dataclasses.dataclass(frozen=True)
class Parameter:
    """An argument of a constructor.

    Args:
        hint: its type; a class of ours stands for itself by an empty class of its name.
        default: as it is written; None where it must be given.
        text: its description in the docstring.
    """

    hint: Any
    default: str | None
    text: str = ""

    @property
    def is_required(self) -> bool:
        """True for an argument without a default."""
        return self.default is None


@dataclasses.dataclass(frozen=True)
class Signature:
    """Describes the arguments of a class or function.

    Args:
        name: dotted name.
        parameters: by name.
        is_open: further names are taken.
        is_dataclass: it stands for keys below its own, without being named.
        methods: names of its methods, those of bases of ours included.
        text: first sentence of its docstring.
    """

    name: str
    parameters: Mapping[str, Parameter]
    is_open: bool = False
    is_dataclass: bool = False
    methods: frozenset[str] = frozenset()
    text: str = ""


def signature_of(hint: Any) -> Signature:
    """The signature of a class that stands in a type hint."""
    name = f"{hint.__module__}.{hint.__qualname__}"
    signature = declared(name) if name.startswith(f"{PACKAGE}.") else ""
    return reflected(hint) if isinstance(signature, str) else signature


@functools.cache
def declared(name: str) -> Signature | str:
    """The signature of a public class or function of ours, or why there is none; imports nothing."""
    module_name, _, attribute = name.rpartition(".")
    module = source_module(module_name)
    if module is None:
        return f"there is no module `{module_name}`"
    node = module.definitions.get(attribute)
    if attribute.startswith("_") or not isinstance(node, ast.ClassDef | ast.FunctionDef):
        return f"`{module_name}` has no class `{attribute}`"
    texts = argument_texts(ast.get_docstring(node) or "")
    summary = (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
    if isinstance(node, ast.FunctionDef):
        return Signature(name, *_arguments(node, module, texts, skip=0), text=summary)
    classes = ancestry(node, module)
    methods = frozenset(
        item.name
        for class_node, _ in classes
        for item in class_node.body
        if isinstance(item, ast.FunctionDef)
    )
    if _is_dataclass(node):
        fields: dict[str, Parameter] = {}
        by_keyword: set[str] = set()
        for class_node, its_module in reversed(classes):
            inherited = argument_texts(ast.get_docstring(class_node) or "")
            fields |= _fields(class_node, its_module, inherited | texts)
            by_keyword |= _keyword_only(class_node)
        # As the constructor has them: what is given by keyword alone stands last.
        fields = {name: fields[name] for name in sorted(fields, key=lambda name: name in by_keyword)}
        return Signature(name, fields, is_dataclass=True, methods=methods, text=summary)
    for class_node, its_module in classes:
        for item in class_node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                arguments, is_open = _arguments(item, its_module, texts, skip=1)
                shared = _shared(node, module)
                return Signature(
                    name,
                    arguments | {key: one for key, one in shared.items() if key not in arguments},
                    is_open=is_open and not shared,
                    methods=methods,
                    text=summary,
                )
    return Signature(name, {}, methods=methods, text=summary)


def attribute_of(name: str, attribute: str) -> Any:
    """Returns what a class of ours names by `attribute = module.NAME`; None without such an attribute.

    Only `module` is imported, not the class.

    Raises:
        LookupError: the class is not ours, or the attribute is written in another way.
    """
    module_name, _, class_name = name.rpartition(".")
    module = source_module(module_name)
    node = module.definitions.get(class_name) if module else None
    if module is None or not isinstance(node, ast.ClassDef):
        raise LookupError(name)
    for class_node, its_module in ancestry(node, module):
        for item in class_node.body:
            match item:
                case ast.Assign(
                    targets=[ast.Name(id=target)], value=ast.Attribute(ast.Name(id=base), held)
                ) | ast.AnnAssign(ast.Name(id=target), value=ast.Attribute(ast.Name(id=base), held)) if (
                    target == attribute
                ):
                    return getattr(importlib.import_module(its_module.imports[base]), held)
                case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(ast.Name(id=target)) if (
                    target == attribute
                ):
                    raise LookupError(f"{name}.{attribute}")
    return None


def reflected(target: Callable[..., Any]) -> Signature:
    """The signature of a class or function that is imported already."""
    is_dataclass = inspect.isclass(target) and dataclasses.is_dataclass(target)
    function = target.__init__ if inspect.isclass(target) and not is_dataclass else target
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # names imported for type checkers only
        hints = {}
    texts = argument_texts(inspect.getdoc(target) or "")
    parameters = inspect.signature(target).parameters.values()
    return Signature(
        f"{target.__module__}.{target.__qualname__}",
        {
            argument.name: Parameter(
                hints.get(argument.name, Any),
                None if argument.default is argument.empty else repr(argument.default),
                texts.get(argument.name, ""),
            )
            for argument in parameters
            if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
        },
        is_open=any(argument.kind is argument.VAR_KEYWORD for argument in parameters),
        is_dataclass=is_dataclass,
        methods=frozenset(name for name in dir(target) if callable(getattr(target, name, None))),
        text=(inspect.getdoc(target) or "").partition("\n\n")[0].replace("\n", " "),
    )


def _shared(node: ast.ClassDef, module: SourceModule) -> Mapping[str, Parameter]:
    """The arguments that a class hands on, by `recsys.schema.arguments.with_arguments_of`."""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="with_arguments_of"), args=[ast.Name(id=name)]):
                signature = declared(module.imports.get(name, f"{module.name}.{name}"))
                assert isinstance(signature, Signature)
                return signature.parameters
    return {}


def _is_dataclass(node: ast.ClassDef) -> bool:
    called = [
        decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in node.decorator_list
    ]
    return any(ast.unparse(decorator) in ("dataclass", "dataclasses.dataclass") for decorator in called)


def _keyword_only(node: ast.ClassDef) -> set[str]:
    """Fields of a dataclass that its constructor takes by keyword alone."""

    def says_so(call: ast.expr | None) -> bool:
        return isinstance(call, ast.Call) and any(keyword.arg == "kw_only" for keyword in call.keywords)

    are_all = any(map(says_so, node.decorator_list))
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    return {ast.unparse(field.target) for field in fields if are_all or says_so(field.value)}


def _fields(node: ast.ClassDef, module: SourceModule, texts: Mapping[str, str]) -> dict[str, Parameter]:
    fields = {}
    for item in node.body:
        match item:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                fields[name] = Parameter(hint_of(annotation, module), _default(value), texts.get(name, ""))
    return fields


def _default(value: ast.expr | None) -> str | None:
    """A default as it is written; of `dataclasses.field`, what its factory makes."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func) not in ("field", "dataclasses.field"):
        return None if value is None else ast.unparse(value)
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    if "default_factory" in given:
        made = ast.unparse(given["default_factory"])
        return {"dict": "{}", "list": "[]", "tuple": "()"}.get(made, f"{made}()")
    return ast.unparse(given["default"]) if "default" in given else None


def _arguments(
    node: ast.FunctionDef, module: SourceModule, texts: Mapping[str, str], *, skip: int
) -> tuple[dict[str, Parameter], bool]:
    given = node.args
    positional = given.args[skip:]
    defaults: list[ast.expr | None] = [*[None] * (len(given.args) - len(given.defaults)), *given.defaults]
    pairs = [*zip(positional, defaults[skip:], strict=True)]
    pairs += zip(given.kwonlyargs, given.kw_defaults, strict=True)
    return (
        {
            argument.arg: Parameter(
                hint_of(argument.annotation, module), _default(default), texts.get(argument.arg, "")
            )
            for argument, default in pairs
        },
        given.kwarg is not None,
    )
