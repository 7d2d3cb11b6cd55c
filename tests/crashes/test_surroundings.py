"""The real commands where the machine misbehaves: disks, clocks, memory, links, and several at once."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from recsys.commands import train
from recsys.schema import manifest
from recsys.schema.manifest import MANIFEST, read_station
from tests.crashes.strace import needs_strace, run_traced
from tests.crashes.working import SMALL, STATIONS, begin, commands, done, end, keys, stations
from tests.training.runs import checkpoint, differences

pytestmark = pytest.mark.slow
NAMES = list(STATIONS)
# Longer than any command takes: one that waits for ever ends by SIGALRM.
SECONDS = 120


@contextlib.contextmanager
def disk(path, settings):
    """A file system in memory at `path`; needs the rights of root."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", settings, "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def made_again(folder, name):
    """Takes away what a command has written."""
    for path, _ in stations(folder, name):
        shutil.rmtree(path)
    if name == "sweep":
        shutil.rmtree(folder / "sweep")


def is_refused(status, said, *words):
    assert status == 2, said
    assert "Traceback" not in said
    assert any(word in said for word in words), said
    assert sum(line.startswith("error:") for line in said.splitlines()) >= 1, said


def nothing_is_half(folder, name):
    for path, kind in stations(folder, name):
        if (path / MANIFEST).exists():
            read_station(path, kind, verify_all=True)


@pytest.mark.parametrize("name", NAMES)
def test_full_disk_is_said_and_leaves_nothing(whole, tmp_path, name):
    table, before, _ = whole
    with disk(tmp_path / "disk", "size=64m") as place:
        folder = place / "work"
        shutil.copytree(before, folder, symlinks=True)
        made_again(folder, name)
        left = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        (place / "filler").write_bytes(bytes(max(left - 4096, 0)))
        main, arguments = commands(table, folder)[name]
        is_refused(
            *done(lambda: main(arguments), tmp_path / "said"), "disk is full", "No space left", "make room"
        )
        nothing_is_half(folder, name)
        (place / "filler").unlink()
        if name == "train":
            shutil.rmtree(folder / "run", ignore_errors=True)
        status, said = done(lambda: main(arguments), tmp_path / "said")
        assert status == 0, said


@pytest.mark.parametrize("name", NAMES)
def test_read_only_disk_is_said(whole, tmp_path, name):
    table, before, _ = whole
    with disk(tmp_path / "disk", "size=64m") as place:
        folder = place / "work"
        shutil.copytree(before, folder, symlinks=True)
        made_again(folder, name)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        main, arguments = commands(table, folder)[name]
        is_refused(*done(lambda: main(arguments), tmp_path / "said"), "ead-only")


def test_three_commands_at_once_on_one_dataset_that_none_has_prepared(whole, tmp_path):
    table, before, _ = whole
    runs = [tmp_path / f"run{number}" for number in range(3)]
    children = [
        begin(
            lambda run=run: train.main([*keys(table, tmp_path / "cache"), *SMALL, f"run_dir={run}"]),
            tmp_path / f"said{number}",
        )
        for number, run in enumerate(runs)
    ]
    assert [end(child) for child in children] == [0, 0, 0], [
        (tmp_path / f"said{number}").read_text()[-2000:] for number in range(3)
    ]
    prepared = [path for path in (tmp_path / "cache" / "prepared").iterdir() if not path.name.startswith(".")]
    assert len(prepared) == 1
    read_station(prepared[0], "prepared", verify_all=True)
    for run in runs:
        assert differences(checkpoint(before / "run"), checkpoint(run)) == []


@pytest.mark.parametrize("name", ["evaluate", "export"])
def test_dataset_that_changed_under_a_run_is_refused(whole, tmp_path, name):
    table, before, _ = whole
    folder = tmp_path / "work"
    shutil.copytree(before, folder, symlinks=True)
    config = folder / "run" / "config.yaml"
    assert str(before) in config.read_text()  # it names the cache that the run was trained with
    (prepared,) = (path for path in (before / "cache" / "prepared").iterdir() if path.name[0] != ".")
    part = next((prepared / "train").iterdir())
    content = part.read_bytes()
    try:
        part.write_bytes(content[:-40] + bytes(8) + content[-32:])
        main, arguments = commands(table, folder)[name]
        status, said = done(lambda: main(arguments), tmp_path / "said")
        is_refused(status, said, "damaged", "part-00000.parquet")
    finally:
        part.write_bytes(content)


def test_clock_that_goes_backwards_changes_nothing(whole, tmp_path):
    """An hour earlier at every look, in one process; and each command years before the one that it reads."""
    table, before, _ = whole
    folder = tmp_path / "work"
    folder.mkdir()
    real = time.time

    def backwards(looks=[0]):  # noqa: B006 - counts
        looks[0] += 1
        return real() - 3600 * looks[0]

    for name, (main, arguments) in commands(table, folder).items():

        def work(main=main, arguments=arguments):
            time.time = backwards
            main(arguments)

        status, said = done(work, tmp_path / "said")
        assert status == 0, (name, said)
    assert differences(checkpoint(before / "run"), checkpoint(folder / "run")) == []


@pytest.mark.skipif(shutil.which("faketime") is None, reason="no faketime on PATH: apt-get install faketime")
def test_commands_years_before_what_they_read(whole, tmp_path):
    table, before, _ = whole
    folder = tmp_path / "work"
    shutil.copytree(before, folder, symlinks=True)
    for name, instant in (("evaluate", "2019-01-01"), ("export", "2012-01-01"), ("add-items", "2001-01-01")):
        made_again(folder, name)
        _, arguments = commands(table, folder)[name]
        command = ["faketime", instant, sys.executable, "-m", "recsys", name, *arguments]
        found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert found.returncode == 0, found.stderr
        nothing_is_half(folder, name)


@pytest.mark.parametrize("name", NAMES)
def test_memory_that_runs_out_is_said_and_damages_nothing(whole, tmp_path, name):
    """`ulimit -v` at what the process has and a little more: done, refused, or aborted by a library."""
    table, before, _ = whole
    statuses = []
    for number, more in enumerate((8, 32, 128, 512)):
        folder = tmp_path / str(number)
        shutil.copytree(before, folder, symlinks=True)
        made_again(folder, name)
        main, arguments = commands(table, folder)[name]

        def work(main=main, arguments=arguments, more=more):
            pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115
            limit = pages * resource.getpagesize() + more * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            signal.alarm(SECONDS)
            main(arguments)

        status, said = done(work, tmp_path / "said")
        statuses.append(status)
        # A sweep goes on after a trial that fails, and says at its end that it did.
        failed_trial = 1 if name == "sweep" else 0
        # The C library ends a process with 127 where it has no memory for a thread's own data.
        aborted = (-signal.SIGABRT, -signal.SIGSEGV, *([127] if "thread-local data: ABORT" in said else []))
        assert status in (0, failed_trial, 2, *aborted), (more, said[-3000:])
        if status == 2:
            assert "memory" in said.lower(), said
            assert "Traceback" not in said
        nothing_is_half(folder, name)
        shutil.rmtree(folder)
    print(name, statuses)


@needs_strace
def test_where_hard_links_are_refused_a_training_ends_the_same(whole, tmp_path):
    table, before, _ = whole
    arguments = [*keys(table, tmp_path / "cache"), *SMALL, f"run_dir={tmp_path / 'run'}"]
    refuse = ("-e", "inject=link,linkat:error=EPERM")
    status, said = run_traced(lambda: train.main(arguments), tmp_path / "trace", *refuse)
    assert status == 0, said
    assert differences(checkpoint(before / "run"), checkpoint(tmp_path / "run")) == []


@needs_strace
def test_asking_for_the_commit_never_locks_the_checkout(tmp_path):
    """A kill in the middle of it would leave the lock; git asked for one after a file was touched."""
    os.utime(manifest.__file__)
    status, said = run_traced(manifest.git_commit, tmp_path / "trace")
    assert status == 0, said
    assert "index.lock" not in (tmp_path / "trace").read_text()


@needs_strace
@pytest.mark.parametrize("given", [0, 3, 16, 18])
@pytest.mark.parametrize("name", NAMES)
def test_where_no_further_thread_starts_a_command_ends(whole, tmp_path, name, given):
    """After so many; an export was seen to wait for ever for one of Arrow's.

    The look at the start needs 16, then Arrow starts its own: past them none is waited for.
    """
    table, before, _ = whole
    folder = tmp_path / "work"
    shutil.copytree(before, folder, symlinks=True)
    made_again(folder, name)
    main, arguments = commands(table, folder)[name]

    def work():
        signal.alarm(SECONDS)
        main(arguments)

    refuse = ("-e", "trace=clone3", "-e", f"inject=clone3:error=EAGAIN:when={given + 1}+")
    status, said = run_traced(work, tmp_path / "trace", *refuse)
    if given > 16:
        assert status in (0, 1 if name == "sweep" else 0, 2, -signal.SIGABRT), said[-3000:]
    else:
        is_refused(status, said, f"the system gave {given}", "the system gives no more")
    nothing_is_half(folder, name)
