"""Numbered parts of one work: each made once, whoever makes it, and what goes wrong is said."""

import functools
import os
import time
from pathlib import Path

import pytest

from recsys.schema.errors import InputError
from recsys.serving.bulk_workers import in_processes


def note(folder: Path, number: int) -> None:
    """Makes a part that another process has time to help with."""
    with (folder / str(number)).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.02)


def die(folder: Path, number: int) -> None:
    note(folder, number)
    os._exit(9)


def refuse(folder: Path, number: int) -> None:
    note(folder, number)
    raise InputError(f"row {number} is none")


def wait_for(folder: Path) -> None:
    """Returns when another process has begun a part."""
    while not any(folder.iterdir()):
        time.sleep(0.01)


@pytest.mark.parametrize("processes", [1, 3])
def test_every_part_is_made_once(tmp_path, processes):
    def make_here(number):
        if processes > 1 and number == 0:
            wait_for(tmp_path)
        note(tmp_path, number)

    made = in_processes(range(20), processes, functools.partial(note, tmp_path), make_here)
    assert sum(1 for _ in made) == 20
    makers = [(tmp_path / str(number)).read_text().split() for number in range(20)]
    assert {len(by) for by in makers} == {1}
    assert (len({by[0] for by in makers}) > 1) == (processes > 1)


def test_short_work_does_not_wait_for_processes_that_start(tmp_path):
    made = []
    assert len([*in_processes([7], 4, functools.partial(die, tmp_path), made.append)]) == 1
    assert made == [7]


@pytest.mark.parametrize(
    ("make", "said"), [(die, "ended with status 9, perhaps for want of memory"), (refuse, "row 1 is none")]
)
def test_what_goes_wrong_elsewhere_is_raised_here(tmp_path, make, said):
    with pytest.raises(InputError, match=said):
        for _ in in_processes([0, 1], 2, functools.partial(make, tmp_path), lambda _: wait_for(tmp_path)):
            pass
