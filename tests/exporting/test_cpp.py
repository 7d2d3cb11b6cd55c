"""A C++ program serves a bundle."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("serve.cpp")
TORCH = Path(torch.__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Compiles the program and runs it."""
    program = tmp_path_factory.mktemp("cpp") / "serve"
    include, library = TORCH / "include", TORCH / "lib"
    compiling = [
        *("g++", "-std=c++20", "-O2", str(SOURCE), "-o", str(program)),
        *(f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"),
        *(f"-L{library}", f"-Wl,-rpath,{library}", "-ltorch", "-ltorch_cpu", "-lc10"),
    ]
    done = subprocess.run(compiling, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def run(*arguments):
        return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)

    return run


def listed(done):
    assert done.returncode == 0, done.stderr
    pairs = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    return [item_id for item_id, _ in pairs], [float(score) for _, score in pairs]


@pytest.mark.parametrize("history", [[], ["sku-3é", "sku-9é", "nobody's"]])
@pytest.mark.parametrize("user", ["5", "nobody"])
def test_a_program_in_cpp_prints_the_ten_that_python_gives(retrieval, recommender, serve, user, history):
    for exported, file in ((retrieval, "retrieval.pt"), (recommender, "recommender.pt")):
        ids, scores = listed(serve(exported.folder / file, user, *history))
        expected = exported.program.recommend({"user_id": user}, history, 10)
        assert ids == expected[0]
        assert len(ids) == 10
        assert scores == pytest.approx(expected[1], abs=2e-6)


def test_ids_that_are_numbers_are_printed_as_numbers(newcomer_retrieval, serve):
    ids, _ = listed(serve(newcomer_retrieval.folder / "retrieval.pt", "u1", "3", "-2"))
    expected, _ = newcomer_retrieval.program.recommend({"user": "u1"}, [3, -2], 10)
    assert ids == [str(item_id) for item_id in expected]


def test_an_error_of_the_file_reaches_the_program(serve, tmp_path):
    done = serve(tmp_path / "nothing.pt", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing.pt" in done.stderr
    assert serve(tmp_path).returncode == 2
