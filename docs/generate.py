"""Writes the pages of the reference that are made from the code: configuration keys and metrics."""

from __future__ import annotations

import inspect
import pkgutil
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys.config.register import PLACES
from recsys.config.signatures import Parameter, Signature, declared, signature_of
from recsys.metrics.register import Metric, _registered

COMMANDS = (
    ("train", "recsys.commands.options.TrainConfig"),
    ("evaluate", "recsys.commands.options.EvaluateConfig"),
    ("export", "recsys.commands.options.ExportConfig"),
)
HEAD = "| key | default | meaning |\n|---|---|---|\n"
WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}


def write_pages(folder: Path) -> None:
    """Writes configuration.md and metrics.md into `folder`."""
    (folder / "configuration.md").write_text(_configuration())
    (folder / "metrics.md").write_text(_metrics())


def _configuration() -> str:
    parts = [
        "# Configuration keys\n\nEvery key can be given on the command line as `key=value`, or in a file of"
        " `configs/`; `recsys train --help KEY` prints the same. A key that nobody reads is an error that"
        " names the nearest one.\n"
    ]
    shown: set[str] = set()
    for command, name in COMMANDS:
        signature = _signature(name)
        parts.append(f"## `{command}`\n\n{signature.text}\n\n{HEAD}" + "".join(_rows(signature, "", shown)))
    for place, entry in PLACES.items():
        parts.append(f"## `{place}._target_`\n\n" + "".join(_classes(place, entry.package, entry.injected)))
    return "\n".join(parts)


def _rows(signature: Signature, prefix: str, shown: set[str]) -> Iterator[str]:
    """A row for each key, then those below it, each class once."""
    for name, parameter in signature.parameters.items():
        key = f"{prefix}{name}"
        below = _below(parameter.hint)
        if below is None or below.name in shown:
            yield _row(key, parameter)
            continue
        shown.add(below.name)
        yield from _rows(below, f"{key}.", shown)


def _row(key: str, parameter: Parameter) -> str:
    meaning = f"*{_type(parameter.hint)}*. " + " ".join(parameter.text.split())
    cells = (f"`{key}`", _default(parameter.default), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _below(hint: Any) -> Signature | None:
    """The dataclass whose fields are keys below this one."""
    for part in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        if isinstance(part, type) and part.__module__.startswith("recsys."):
            signature = signature_of(part)
            if signature.is_dataclass:
                return signature
    return None


def _classes(place: str, package: str, injected: tuple[str, ...]) -> Iterator[str]:
    for name in sorted(_names(package, PLACES[place].offers, injected)):
        signature = _signature(name)
        rows = "".join(
            _row(f"{place}.{key}", parameter)
            for key, parameter in signature.parameters.items()
            if key not in injected
        )
        yield f"### `{name}`\n\n{signature.text}\n\n" + (HEAD + rows + "\n" if rows else "")


def _names(package: str, offers: tuple[str, ...], injected: tuple[str, ...]) -> Iterator[str]:
    import importlib

    module = importlib.import_module(package)
    paths = getattr(module, "__path__", None)
    modules = (
        [package] if paths is None else [f"{package}.{entry.name}" for entry in pkgutil.iter_modules(paths)]
    )
    for name in modules:
        for attribute, value in vars(importlib.import_module(name)).items():
            if not inspect.isclass(value) or value.__module__ != name or attribute.startswith("_"):
                continue
            signature = declared(f"{name}.{attribute}")
            if isinstance(signature, Signature) and _fits(signature, offers, injected):
                yield f"{name}.{attribute}"


def _fits(signature: Signature, offers: tuple[str, ...], injected: tuple[str, ...]) -> bool:
    offered = not offers or any(method in signature.methods for method in offers)
    return offered and all(name in signature.parameters for name in injected)


def _signature(name: str) -> Signature:
    signature = declared(name)
    assert isinstance(signature, Signature), signature
    return signature


def _metrics() -> str:
    registered = sorted(_registered().values(), key=lambda metric: (metric.of_lists is None, metric.name))
    return "\n".join(
        [
            "# Metrics\n",
            "Keys as in `metrics.json`; those of lists have a cut-off, as `ndcg@10`. Each is a function in",
            "`recsys/metrics` whose docstring states formula, denominator, empty case and ties.\n",
            *(
                f"## `{metric.name}{'@k' if metric.of_lists else ''}`\n\n{_meaning(metric)}\n"
                for metric in registered
            ),
        ]
    )


def _meaning(metric: Metric) -> str:
    better = f"{metric.better} is better" if metric.better else "describes, neither good nor bad"
    text = f"**{metric.label}**: {better}."
    if metric.meaning:
        text += f" {metric.meaning[:1].upper()}{metric.meaning[1:]}."
    if metric.of_lists is not None:
        doc = inspect.getdoc(metric.of_lists) or ""
        text += f"\n\n```text\n{doc}\n```"
    return text


def _type(hint: Any) -> str:
    """A type in words."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint in WORDS:
        return WORDS[hint]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in inside)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inside)
    name = getattr(origin or hint, "__name__", str(hint))
    if origin in (list, tuple) or name == "Sequence":
        return f"list of {_type(inside[0])}" if inside else "list"
    if origin is dict or name == "Mapping":
        return f"values by name ({_type(inside[1])})" if inside else "values by name"
    return "any value" if name == "Any" else name


def _default(default: str | None) -> str:
    if default is None:
        return "(given)"
    return f"`{default[:60]}`"


if __name__ == "__main__":
    write_pages(Path(__file__).parent / "reference")
