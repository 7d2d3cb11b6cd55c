"""Rules of the house that import-linter cannot see."""

import ast
import re
from pathlib import Path

import pytest

from recsys.runs.environment import PROJECT

SOURCES = sorted([*(PROJECT / "recsys").rglob("*.py"), *PROJECT.glob("*.py")])


def knows_torch_jit(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "jit" and ast.unparse(node.value) == "torch":
            return True
        if isinstance(node, ast.Import) and any(one.name.startswith("torch.jit") for one in node.names):
            return True
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{one.name}" for one in node.names]
            if any(f"{name}.".startswith("torch.jit.") for name in names):
                return True
    return False


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch\ntorch.jit.script(f)", True),
        ("import torch.jit", True),
        ("from torch import jit", True),
        ("from torch.jit import script", True),
        ("import torch\njitter = torch.rand(3)", False),
    ],
)
def test_use_of_torch_jit_is_recognised(source, expected):
    assert knows_torch_jit(ast.parse(source)) is expected


def test_only_export_and_what_loads_a_bundle_know_torch_jit():
    knowing = {
        path.relative_to(PROJECT).parts[:2]
        for path in SOURCES
        if knows_torch_jit(ast.parse(path.read_text()))
    }
    assert knowing <= {("recsys", "export"), ("recsys", "serving")}


def test_init_files_of_rooms_are_empty():
    interface = PROJECT / "recsys" / "__init__.py"
    inits = [path for path in SOURCES if path.name == "__init__.py" and path != interface]
    assert [path for path in inits if path.read_text()] == []


def test_nothing_is_instantiated_past_the_register():
    calling = [path for path in SOURCES if re.search(r"import .*(instantiate|get_class)", path.read_text())]
    assert calling == []


def test_files_keep_to_the_length_that_a_reader_bears():
    long = {str(path.relative_to(PROJECT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 500} == {}


def test_names_say_what_a_file_is_about():
    vague = {"utils", "common", "helpers", "misc", "base", "manager"}
    assert [path for path in SOURCES if vague & set(Path(path).stem.split("_"))] == []


# Who may write files, and why no reader can meet a half of one.
WRITERS = {
    "schema/disk.py": "puts files and folders in place in one step",
    "training/checkpoint.py": "writes beside a checkpoint and renames",
    "evaluation/comparing/compare.py": "into the folder that is put in place when complete",
    "evaluation/station.py": "into the folder that is put in place when complete",
    "commands/backtest.py": "into the folder that is put in place when complete",
    "experiments/findings.py": "into the folder that is put in place when complete",
    "export/gate/replay.py": "into the folder that is put in place when complete",
    "data/preparing/build.py": "into the folder that is put in place when complete",
    "data/sources/synthetic_world.py": "into the folder that is put in place when complete",
    "data/sources/download.py": "into the folder that is put in place when complete",
    "commands/sweeps/locks.py": "opens files to lock them, and writes nothing",
    "commands/sweeps/journal.py": "ends a line of the journal under its lock, what is torn put aside",
}
MODES = {"w", "wb", "a", "ab", "x", "xb", "w+", "wb+", "r+b", "rb+"}


def writes_files(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        called = ast.unparse(node.func)
        if name in ("write_text", "write_bytes", "mkdtemp") or called in (
            "os.replace",
            "os.rename",
            "shutil.move",
        ):
            return True
        modes = {ast.literal_eval(a) for a in node.args if isinstance(a, ast.Constant)}
        if name == "open" and modes & MODES:
            return True
    return False


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("path.write_text(x)", True),
        ("path.open('wb')", True),
        ("open(path, 'a')", True),
        ("import os\nos.replace(a, b)", True),
        ("path.open()", False),
        ("text.replace(a, b)", False),
    ],
)
def test_writing_is_recognised(source, expected):
    assert writes_files(ast.parse(source)) is expected


def test_nothing_is_written_in_place():
    room = PROJECT / "recsys"
    writing = {
        path.relative_to(room).as_posix()
        for path in SOURCES
        if path.is_relative_to(room) and writes_files(ast.parse(path.read_text()))
    }
    assert writing - set(WRITERS) == set()
