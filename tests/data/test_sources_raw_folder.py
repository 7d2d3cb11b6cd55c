import threading
import time
from pathlib import Path

import pytest

from recsys.data.sources.raw_folder import made_once


class Maker:
    """Writes a file that says which call wrote it."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, folder: Path) -> dict[str, str]:
        self.num_calls += 1
        (folder / "table").write_text(f"call {self.num_calls}")
        return {"origin": "here"}


def test_a_folder_is_made_once_for_the_same_facts(tmp_path: Path) -> None:
    make = Maker()
    made_once(tmp_path / "raw" / "x", {"seed": 1}, make)
    folder = made_once(tmp_path / "raw" / "x", {"seed": 1}, make)
    assert folder == tmp_path / "raw" / "x"
    assert (folder / "table").read_text() == "call 1"
    assert make.num_calls == 1


def test_other_facts_make_the_folder_anew(tmp_path: Path) -> None:
    make = Maker()
    made_once(tmp_path / "x", {"seed": 1}, make)
    made_once(tmp_path / "x", {"seed": 2}, make)
    assert (tmp_path / "x" / "table").read_text() == "call 2"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_failure_leaves_the_old_folder_as_it_was(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, str]:
        (folder / "table").write_text("half")
        raise ValueError("no more")

    made_once(tmp_path / "x", {"seed": 1}, Maker())
    with pytest.raises(ValueError, match="no more"):
        made_once(tmp_path / "x", {"seed": 2}, fail)
    assert (tmp_path / "x" / "table").read_text() == "call 1"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_of_two_that_make_one_folder_the_second_finds_it(tmp_path: Path) -> None:
    begun = threading.Event()
    maker = Maker()

    def make_slowly(folder: Path) -> dict[str, str]:
        begun.set()
        time.sleep(0.3)
        return maker(folder)

    first = threading.Thread(target=made_once, args=[tmp_path / "x", {"seed": 1}, make_slowly])
    first.start()
    begun.wait()
    made_once(tmp_path / "x", {"seed": 1}, maker)
    first.join()
    assert (tmp_path / "x" / "table").read_text() == "call 1"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
