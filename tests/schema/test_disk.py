import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.schema import disk
from recsys.schema.disk import link_or_copy, locked, replace_files, replacing_folder, write_file, writing_to
from recsys.schema.errors import InputError
from recsys.schema.manifest import read_station
from tests.crashes.strace import points_of

PROJECT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from recsys.schema.manifest import read_station, writing_station
path, text = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
with writing_station(path, "pilot", config={}) as (folder, _):
    (folder / "part").write_text(text)
    (folder / "deep").mkdir()
    (folder / "deep" / "part").write_text(text)
"""
# Calls of the system that change what is on the disk, or make sure of it.
CALLS = ("openat", "write", "mkdir", "rename", "renameat2", "unlink", "unlinkat", "rmdir", "fsync", "flock")

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="no strace on PATH: apt-get install strace"
)


def fill(path, text):
    with replacing_folder(path) as folder:
        (folder / "part").write_text(text)


def test_folder_takes_the_place_of_the_one_before(tmp_path):
    fill(tmp_path / "folder", "old")
    fill(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "part").read_text() == "new"
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("has_exchange", [True, False])
def test_without_exchange_the_old_one_is_moved_aside_and_back_again(tmp_path, monkeypatch, has_exchange):
    if not has_exchange:
        monkeypatch.setattr(disk, "_exchange", lambda one, other: False)
    fill(tmp_path / "folder", "old")
    replace = os.replace

    def refuse(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    if has_exchange:
        fill(tmp_path / "folder", "new")
        assert (tmp_path / "folder" / "part").read_text() == "new"
        return
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match=r"the disk is full; what was at .*folder` before is whole"):
        fill(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "part").read_text() == "old"
    assert os.listdir(tmp_path) == ["folder"]


def test_next_writer_puts_back_and_clears_what_a_killed_one_left(tmp_path):
    fill(tmp_path / "folder", "old")
    (tmp_path / "folder").rename(tmp_path / ".folder.00000000.old")
    (tmp_path / ".folder.11111111.partial").mkdir()
    (tmp_path / ".folder2.11111111.partial").mkdir()  # another name's
    with pytest.raises(RuntimeError, match="stop"), replacing_folder(tmp_path / "folder"):
        raise RuntimeError("stop")
    assert (tmp_path / "folder" / "part").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == [".folder2.11111111.partial", "folder"]


def test_folder_keeps_to_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        fill(tmp_path / "folder", "mine")
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700


def test_lock_is_held_by_one_process_and_let_go_by_a_killed_one(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom recsys.schema.disk import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "name")], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    assert holder.stdout.readline() == "held\n"
    waiting = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "name")], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert waiting.stdout.readline() == "held\n"
    waiting.kill()
    waiting.wait()
    for process in (holder, waiting):
        process.stdout.close()
    with locked(tmp_path / "name"), locked(tmp_path / "name"):
        pass
    assert os.listdir(tmp_path) == []


def test_library_that_reports_a_full_disk_in_words_is_understood(tmp_path):
    refusal = pytest.raises(InputError, match=r"expected to write `.*file`, but the disk is full")
    with refusal, writing_to(tmp_path / "file"):
        raise RuntimeError("IO Error: Could not write: No space left on device")
    with pytest.raises(RuntimeError, match="else"), writing_to(tmp_path / "file"):
        raise RuntimeError("something else")


def test_where_links_are_refused_a_file_is_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "last").write_text("weights")
    link_or_copy(tmp_path / "last", tmp_path / "previous")
    assert (tmp_path / "previous").read_text() == "weights"


def test_file_is_whole_when_the_disk_refuses_another(tmp_path, monkeypatch):
    write_file(tmp_path / "file", "old")

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match="the disk is full"):
        write_file(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("failing", [1, 2])
def test_files_are_as_they_were_when_one_of_them_cannot_be_replaced(tmp_path, monkeypatch, failing):
    before = {"config": "old", "environment": "old", "manifest": "old"}
    for name, text in before.items():
        write_file(tmp_path / name, text)
    replace, calls = os.replace, []

    def refuse(source, target):
        calls.append(target)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    new = {tmp_path / "config": "new", tmp_path / "environment": "new"}
    with pytest.raises(InputError, match="the disk is full"):
        replace_files(new, without=tmp_path / "manifest")
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == before


def write_under_strace(station, text, *options):
    """Writes a station in a process whose calls strace watches from the first write on."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(station), text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert writer.stdout.readline() == "ready\n"
    trace = station.parent.parent / "trace"
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(writer.pid), "-o", str(trace), "-e", f"trace={','.join(CALLS)}", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "attached" in tracer.stderr.readline()
    _, errors = writer.communicate("go\n")
    tracer.communicate()
    return writer.returncode, errors, trace.read_text().splitlines()


def calls_of_a_write(station):
    """Names and numbers of the calls of a write, without the many opens that only read."""
    status, errors, _ = write_under_strace(station, "new")
    assert status == 0, errors
    return [(point.call, point.number) for point in points_of(station.parent.parent / "trace")]


def crash_at_every_call(folder, inject):
    """Number of crashes at each call of a write, each of which left the old or the new station, whole."""
    station = folder / "place" / "station"
    station.parent.mkdir()
    subprocess.run(
        [sys.executable, "-c", WRITER, str(station), "old"],
        input="go\n",
        text=True,
        check=True,
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
    )
    crashes = 0
    for name, number in calls_of_a_write(station):
        before = (station / "part").read_text()
        text = f"{name}{number}"
        status, errors, _ = write_under_strace(station, text, "-e", f"inject={name}:{inject}:when={number}")
        crashes += status != 0
        read_station(station, "pilot", verify_all=True)
        there = {(station / part).read_text() for part in ("part", "deep/part")}
        assert there in ({before}, {text}), (name, number)
        assert status != 0 or there == {text}, (name, number, errors)
    print(f"{inject}: {crashes} crashes")
    with replacing_folder(station) as again:  # the next writer clears what killed ones left
        (again / "part").write_text("end")
    assert [name for name in os.listdir(station.parent) if name != "station"] == []
    return crashes


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("inject", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_crash_at_any_call_leaves_the_old_or_the_new_station_whole(tmp_path, inject):
    assert crash_at_every_call(tmp_path, inject) > 20


@needs_strace
@pytest.mark.slow
def test_crash_at_any_call_without_exchange_leaves_the_old_or_the_new_station_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "WRITER", WRITER.replace("print", NO_EXCHANGE + "print"))
    assert crash_at_every_call(tmp_path, "signal=SIGKILL") > 20


NO_EXCHANGE = "import recsys.schema.disk\nrecsys.schema.disk._exchange = lambda one, other: False\n"


@needs_strace
def test_kill_at_the_rename_that_puts_a_station_in_place(tmp_path):
    station = tmp_path / "place" / "station"
    station.parent.mkdir()
    assert write_under_strace(station, "old")[0] == 0
    status, _, _ = write_under_strace(station, "new", "-e", "inject=renameat2:signal=SIGKILL:when=1")
    assert status == -signal.SIGKILL
    read_station(station, "pilot")
    assert (station / "part").read_text() == "old"
