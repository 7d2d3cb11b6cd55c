"""The real commands, stopped at random instants: given again, they end as if they had never been stopped."""

import os
import random
import shutil
import signal
from functools import partial

import pytest

from recsys.commands import train
from recsys.schema.manifest import MANIFEST, read_station
from tests.crashes.working import STATIONS, commands, done, stations, stopped
from tests.training.runs import checkpoint, differences

pytestmark = pytest.mark.slow
# Of each command: every second one by SIGKILL, the others by SIGTERM.
TIMES = 8


def hidden(folder):
    return [
        path for path in folder.rglob(".*") if path.is_dir() and path.name not in (".locks", ".recsys_lock")
    ]


def give_again(name, main, arguments, folder, said):
    """The command once more, as it says; a training goes on where it was."""
    run = folder / "run"
    if name != "train" or not run.exists():
        return done(lambda: main(arguments), said)
    status, text = done(lambda: train.main([f"resume={run}"]), said)
    if status == 2 and not (run / "checkpoints" / "last").exists():
        shutil.rmtree(run)  # nothing had been kept yet, and it says so
        status, text = done(lambda: main(arguments), said)
    return status, text


@pytest.mark.parametrize("name", list(STATIONS))
def test_stopped_at_random_instants_and_given_again_it_ends_the_same(whole, tmp_path, name):
    table, before, seconds = whole
    draw = random.Random(name)
    stops = 0
    for number in range(TIMES):
        folder = tmp_path / str(number)
        shutil.copytree(before, folder, symlinks=True)
        for path, _ in stations(folder, name):
            shutil.rmtree(path)
        shutil.rmtree(folder / "sweep" if name == "sweep" else folder / "none", ignore_errors=True)
        main, arguments = commands(table, folder)[name]
        by = signal.SIGKILL if number % 2 else signal.SIGTERM
        after = draw.uniform(0.1, 0.95) * seconds[name]
        status = stopped(partial(main, arguments), tmp_path / "said", after=after, by=by)
        assert status in (0, -by, 130, 143), (tmp_path / "said").read_text()
        stops += status != 0
        for path, kind in stations(folder, name):
            if (path / MANIFEST).exists():
                read_station(path, kind, verify_all=True)
        status, said = give_again(name, main, arguments, folder, tmp_path / "said")
        assert status == 0, (number, by, after, said)
        assert stations(folder, name)
        for path, kind in stations(folder, name):
            read_station(path, kind, verify_all=True)
        if name == "train":
            for one in ("best", "last"):
                assert differences(checkpoint(before / "run", one), checkpoint(folder / "run", one)) == []
        if name == "sweep":
            for one in ("0", "1"):
                ours, theirs = (checkpoint(place / "sweep" / one) for place in (folder, before))
                assert differences(theirs, ours) == []
        assert hidden(folder) == hidden_of(before, folder)
        shutil.rmtree(folder)
    print(f"{name}: stopped {stops} times of {TIMES}")


def hidden_of(before, folder):
    return [folder / os.path.relpath(path, before) for path in hidden(before)]
