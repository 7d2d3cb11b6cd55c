"""Rules of the house that import-linter cannot see."""

import ast
import functools
import re
from pathlib import Path

import pytest

from recsys.runs.environment import PROJECT

SOURCES = sorted([*(PROJECT / "recsys").rglob("*.py"), *PROJECT.glob("*.py")])


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Each file is parsed once for all tests."""
    return ast.parse(path.read_text())


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
        if path != PROJECT / "recsys" / "schema" / "program.py" and knows_torch_jit(tree_of(path))
    }
    # And `schema/program.py`, which loads the file of a bundle for both.
    assert knowing <= {("recsys", "exporting"), ("recsys", "serving")}


def test_init_files_of_rooms_are_empty():
    interface = PROJECT / "recsys" / "__init__.py"
    inits = [path for path in SOURCES if path.name == "__init__.py" and path != interface]
    assert [path for path in inits if path.read_text()] == []


def test_nothing_is_instantiated_past_the_register():
    calling = [path for path in SOURCES if re.search(r"import .*(instantiate|get_class)", path.read_text())]
    assert calling == []


# What imports or runs something that is named, or may read a pickle.
RUNS_CODE = re.compile(
    r"\b(import_module|__import__|eval|exec|compile|runpy\.\w+|spec_from_file_location|find_class|CDLL"
    r"|load_library|unsafe_load|full_load)$|\b(pickle|marshal|joblib|shelve|torch|np|yaml)\.(load|loads|open)$"
)


def code_run_by(tree: ast.AST) -> list[str]:
    """Calls that run code which is named elsewhere, without those that say that they read data alone."""
    calls = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        safe = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        reads_data = safe.get("weights_only") == "True" or (
            name == "np.load" and safe.get("allow_pickle", "False") == "False"
        )
        is_method = isinstance(node.func, ast.Attribute) and node.func.attr in ("eval", "compile")
        if RUNS_CODE.search(name) and not reads_data and not is_method:
            calls.append(name)
    return calls


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("importlib.import_module(name)", ["importlib.import_module"]),
        ("torch.load(path)", ["torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("np.load(path, allow_pickle=True)", ["np.load"]),
        ("np.load(path)", []),
        ("pickle.loads(content)", ["pickle.loads"]),
        ("eval(text); model.eval(); re.compile(text)", ["eval"]),
    ],
)
def test_calls_that_run_code_are_recognised(source, expected):
    assert code_run_by(ast.parse(source)) == expected


def test_what_is_named_is_imported_by_the_register_alone():
    """So every command that opens a station goes by one door: what `lookup` refuses nothing else imports."""
    calls = {str(path.relative_to(PROJECT)): code_run_by(tree_of(path)) for path in SOURCES}
    named_by_a_configuration = ["recsys/config/register.py"]
    # Names that stand in our own sources: modules of a package of ours, a class among those found there,
    # optional dependencies, a command, what is public; arrays alone of a pickle; and calls of the system.
    our_own = [
        *("recsys/config/signatures.py", "recsys/config/sources.py", "recsys/metrics/register.py"),
        *("recsys/serving/extras.py", "recsys/__main__.py", "recsys/__init__.py"),
        *("recsys/data/sources/goodreads_once.py", "recsys/schema/disk.py", "recsys/models/weights.py"),
    ]
    assert {name for name, found in calls.items() if found} == {*named_by_a_configuration, *our_own}


def test_files_keep_to_the_length_that_a_reader_bears():
    long = {str(path.relative_to(PROJECT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 500} == {}


def test_names_say_what_a_file_is_about():
    vague = {"utils", "common", "helpers", "misc", "base", "manager"}
    assert [path for path in SOURCES if vague & set(Path(path).stem.split("_"))] == []


def first_lines(tree: ast.AST) -> list[str]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    return [text.splitlines()[0] for text in texts if text]


def long_functions(tree: ast.AST, *, most: int) -> dict[str, int]:
    """Lines of every function that has more than `most` after its docstring."""
    lengths = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                lengths[node.name] = body[-1].end_lineno - body[0].lineno + 1
    return {name: length for name, length in lengths.items() if length > most}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f():\n    'Said.'\n    a = 1\n\n    return a", 3),
        ("async def f():\n    return (\n        1\n    )", 3),
    ],
)
def test_length_of_a_function_is_counted_after_its_docstring(source, lines):
    assert long_functions(ast.parse(source), most=2) == {"f": lines}
    assert long_functions(ast.parse(source), most=3) == {}


def test_functions_keep_to_the_length_that_a_reader_bears():
    long = {str(path): long_functions(tree_of(path), most=60) for path in SOURCES}
    assert {path: functions for path, functions in long.items() if functions} == {}


def test_docstrings_say_what_a_thing_does_in_a_sentence():
    asking = {
        str(path): [line for line in first_lines(tree_of(path)) if re.match("(What|How) ", line)]
        for path in [*SOURCES, *sorted((PROJECT / "benchmarks").rglob("*.py"))]
    }
    assert {path: lines for path, lines in asking.items() if lines} == {}


def test_classes_are_named_for_what_they_hold():
    participles = {"Asked", "Keyed", "Divided", "Written", "Counted", "Judged", "Composed"}
    classes = {
        (str(path), node.name)
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }
    assert {(path, name) for path, name in classes if name.lstrip("_") in participles} == set()


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
    "data/reading/remote.py": "writes into a folder that replacing_folder puts in place",
    "schema/stores.py": "fetches into a folder that replacing_folder puts in place",
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
        if path.is_relative_to(room) and writes_files(tree_of(path))
    }
    assert writing - set(WRITERS) == set()


def windows_without_partition(tree: ast.AST) -> list[int]:
    """Lines of windows over all rows of a table, which an engine of many machines computes on one."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (
                ast.unparse(node.func) in ("ibis.window", "ibis.cumulative_window", "ibis.trailing_window")
                and "group_by" not in {keyword.arg for keyword in node.keywords}
            )
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "over" and not node.args)
        )
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ibis.row_number().over(ibis.window(order_by=x))", [1]),
        ("ibis.row_number().over(order_by=x)", [1]),
        ("ibis.row_number().over(ibis.window(group_by=y, order_by=x))", []),
        ("place = ibis.row_number().over(window)", []),
    ],
)
def test_window_over_all_rows_is_recognised(source, expected):
    assert windows_without_partition(ast.parse(source)) == expected


def test_no_window_is_without_a_partition():
    found = {path: windows_without_partition(ast.parse(path.read_text())) for path in SOURCES}
    assert [f"{path.relative_to(PROJECT)}:{lines}" for path, lines in found.items() if lines] == []
