"""Counts the structure of the code: python -m benchmarks.structure [FOLDER] [--walk KEY=VALUE ...].

Prints, of the package `recsys` in FOLDER (this checkout by default):
- code lines: lines that hold something other than a comment or a docstring;
- files, classes, and public names: functions, classes and methods without a leading underscore;
- circles: files that import each other around, and folders of recsys that do, lazy imports counted;
- a walk, with `--walk`: trains with these keys and counts the files of ours that are entered between the
  command line and the trained run, and the calls that climb from a file to one of a higher layer.
"""

from __future__ import annotations

import argparse
import ast
import io
import runpy
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PROJECT = Path(__file__).parents[1]
_NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def code_lines(source: str) -> int:
    """Number of lines that hold code: neither blank nor comment nor docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def public_names(source: str) -> int:
    """Number of names that another module may use: of the module, and of its public classes."""

    def names(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node.name
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from names([part for part in node.body if isinstance(part, ast.FunctionDef)])

    return sum(not name.startswith("_") for name in names(ast.parse(source).body))


def imports(root: Path) -> dict[str, set[str]]:
    """Modules of recsys -> those of ours that each imports, anywhere in it."""
    modules = {_module(root, path): path for path in (root / "recsys").rglob("*.py")}
    arrows: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                targets.update(f"{node.module}.{alias.name}" for alias in node.names)
                targets.add(node.module)
        arrows[module] = {name for name in targets if name in modules and name != module}
    return arrows


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes each of which reaches all others of its group (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in arrows[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                groups.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for node in arrows:
        if node not in index:
            visit(node)
    return groups


def rooms(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows between rooms: the folders and files just below recsys."""
    merged: dict[str, set[str]] = {}
    for module, targets in arrows.items():
        room = _room(module)
        merged.setdefault(room, set()).update(_room(target) for target in targets)
        merged[room].discard(room)
    return {room: {target for target in targets if target in merged} for room, targets in merged.items()}


def floors(root: Path) -> dict[str, int]:
    """Folders of recsys -> layer of the import contract, 1 the lowest."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return {
        room.strip().removeprefix("recsys."): len(layers) - place
        for place, layer in enumerate(layers)
        for room in layer.replace(":", "|").split("|")
    }


def walk(root: Path, arguments: list[str]) -> tuple[int, int]:
    """Files of recsys that `train.py` enters, and distinct calls that climb to a higher floor."""
    levels = floors(PROJECT)  # of this checkout, so that two can be compared
    folder = str(root / "recsys") + "/"
    entered: set[str] = set()
    climbs: set[tuple[CodeType, CodeType]] = set()

    def ours(frame: FrameType | None) -> FrameType | None:
        while frame is not None and not frame.f_code.co_filename.startswith(folder):
            frame = frame.f_back
        return frame

    def watch(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(folder) or frame.f_code.co_name == "<module>":
            return
        entered.add(name)
        caller = ours(frame.f_back)
        if caller is not None and _floor(levels, root, caller) < _floor(levels, root, frame):
            climbs.add((caller.f_code, frame.f_code))

    sys.path.insert(0, str(root))
    sys.argv = ["train.py", *arguments]
    sys.setprofile(watch)
    try:
        runpy.run_path(str(root / "train.py"), run_name="__main__")
    except SystemExit:
        pass
    finally:
        sys.setprofile(None)
    return len(entered), len(climbs)


def _floor(levels: dict[str, int], root: Path, frame: FrameType) -> int:
    return levels.get(_room(_module(root, Path(frame.f_code.co_filename))), 0)


def _module(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure")
    parser.add_argument("folder", type=Path, nargs="?", default=PROJECT)
    parser.add_argument("--walk", nargs="*", metavar="KEY=VALUE", help="also train with these keys and count")
    asked = parser.parse_args()
    root = asked.folder.resolve()
    sources = {path: path.read_text() for path in sorted((root / "recsys").rglob("*.py"))}
    arrows = imports(root)
    sizes: dict[str, int] = {}
    for path, source in sources.items():
        room = _room(_module(root, path))
        sizes[room] = sizes.get(room, 0) + code_lines(source)
    classes = sum(isinstance(n, ast.ClassDef) for s in sources.values() for n in ast.walk(ast.parse(s)))
    print(f"code lines    {sum(sizes.values()):,} in {len(sources)} files, {classes} classes")
    print(f"public names  {sum(public_names(source) for source in sources.values()):,}")
    print(f"circles       of files {circles(arrows)}, of rooms {circles(rooms(arrows))}")
    outside = sorted(set(sizes) - set(floors(root)) - {"recsys", "__main__"})
    print(f"rooms outside the layers: {outside}")
    print("by room       " + ", ".join(f"{room} {size:,}" for room, size in sorted(sizes.items())))
    if asked.walk is not None:
        entered, climbs = walk(root, asked.walk)
        print(f"walk          {entered} files entered, {climbs} climbs to a higher floor")


if __name__ == "__main__":
    main()
