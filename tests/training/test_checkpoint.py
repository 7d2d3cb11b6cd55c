"""A checkpoint is whole or refused, and a disk that will not take one leaves the one before."""

import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recsys.runs.environment import PROJECT
from recsys.schema.errors import InputError
from recsys.training import checkpoint as checkpoint_files
from recsys.training.callbacks import TrainingInterruptedError
from recsys.training.checkpoint import AtomicCheckpointIO
from recsys.training.fit import _trained
from tests.training.runs import AtStep, Case, checkpoint, differences, run
from tests.training.stopping import assert_stops_and_resumes, contents

TRAINER = dataclasses.replace(Case().trainer, checkpoint_every_steps=3, max_epochs=1)
CASE = Case(trainer=TRAINER)


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system in memory, of 1 MiB, at a new folder; needs the rights of root."""
    folders = []

    def mount(path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0 or subprocess.run(_mount("size=1m", path), capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        folders.append(path)

    yield mount
    for path in folders:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(settings: str, path: Path) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", settings, "tmpfs", str(path)]


def remounted(path: Path, settings: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{settings}", str(path)], check=True)


def test_full_disk_stops_training_and_keeps_the_checkpoint_before(options, tmp_path, monkeypatch):
    """The checkpoint after step 9 goes to a device that is always full."""
    write = checkpoint_files._write
    match = (
        r"expected to write the checkpoint `.*/last`, but the disk is full; `.*/last` still holds the one"
        r" before\. Make room .*then `python train.py resume=.*/broken`"
    )

    def write_once_to_a_full_disk(content, _path):
        monkeypatch.setattr(checkpoint_files, "_write", write)
        write(content, Path("/dev/full"))

    def act(task, batch):
        monkeypatch.setattr(checkpoint_files, "_write", write_once_to_a_full_disk)

    assert_stops_and_resumes(CASE, options, tmp_path, act, match=match)


def test_disk_that_fills_up_before_the_first_checkpoint_holds_no_litter(options, tmp_path, mounted):
    mounted(tmp_path / "broken")
    (tmp_path / "broken" / "filler").write_bytes(bytes(1000 * 1024))
    with pytest.raises(ValueError, match="but the disk is full; there is none yet"):
        run(CASE, options, tmp_path / "broken")
    assert contents(tmp_path / "broken") == {}


def test_folder_that_becomes_read_only_stops_training_and_keeps_the_checkpoint_before(
    options, tmp_path, request
):
    """As root a disk, for whom no folder is."""
    folder = tmp_path / "broken" / "checkpoints"
    if os.geteuid() == 0:
        request.getfixturevalue("mounted")(folder)
        why = "the file system is read-only"
        protect, mend = partial(remounted, folder, "ro"), partial(remounted, folder, "rw")
    else:
        why = "permission is denied"
        protect, mend = partial(os.chmod, folder, 0o500), partial(os.chmod, folder, 0o700)
    match = (
        rf"expected to write the checkpoint `.*/last`, but {why}; `.*/last` still holds the one before\. Make"
    )
    assert_stops_and_resumes(CASE, options, tmp_path, lambda task, batch: protect(), match=match, mend=mend)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    """One bit of an embedding."""
    content = bytearray(path.read_bytes())
    [value] = checkpoint(path.parents[1])["state_dict"][
        "model.tables.collection.embedding_bags.user_id.weight"
    ][3, :1]
    content[content.index(value.numpy().tobytes())] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def interrupt(task, batch) -> None:
    raise TrainingInterruptedError


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (truncated, "File is not a zip file"),
        (flipped, "the checksum of its record `archive/data/.*` is wrong"),
        (emptied, "File is not a zip file"),
        (Path.unlink, "No such file or directory"),
    ],
)
def test_damaged_checkpoint_is_refused_by_name_and_the_one_before_offered(options, tmp_path, damage, found):
    run(CASE, options, tmp_path / "whole")
    run(CASE, options, tmp_path / "run", watchers=[AtStep(7, interrupt)])
    folder = tmp_path / "run" / "checkpoints"
    damage(folder / "last")
    before = contents(tmp_path / "run")
    offer = f"`{folder}/previous` is whole: `cp {folder}/previous {folder}/last` goes on from it"
    match = rf"checkpoint `{folder}/last` is missing or damaged \(.*{found}.*\); {offer}"
    with pytest.raises(ValueError, match=match):
        run(CASE, options, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before
    subprocess.run(["cp", folder / "previous", folder / "last"], check=True)
    run(CASE, options, tmp_path / "run", resume=True)
    for name in ("best", "last"):
        assert differences(checkpoint(tmp_path / "whole", name), checkpoint(tmp_path / "run", name)) == []


def test_every_flipped_bit_is_found_or_harmless(tmp_path):
    """Bits of weights, of names and of the archive's own records alike; some are never read."""
    whole = {"weights": torch.arange(12.0).view(3, 4), "steps": 7, "name": "abc"}
    torch.save(whole, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "last"
    num_refused = 0
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.unlink(missing_ok=True)  # or what the checkpoint before has mapped would change
        path.write_bytes(flipped)
        try:
            found = AtomicCheckpointIO().load_checkpoint(path)
        except ValueError:
            num_refused += 1
        else:
            assert differences(whole, found) == [], position
    assert num_refused > len(content) / 3


COMMAND = [
    *(sys.executable, str(PROJECT / "train.py"), "data=synthetic", "data.source.num_interactions=3000"),
    *("data.batch_size=64", "trainer.max_epochs=1", "evaluation=fast", "trainer.checkpoint_every_steps=2"),
]


@pytest.mark.slow
def test_command_on_a_disk_that_refuses_is_one_error_without_a_traceback(tmp_path, mounted):
    """A folder that is read-only, one that cannot take a checkpoint, and a run on the first to go on with."""
    folder = tmp_path / "disk"
    mounted(folder)
    command = [*COMMAND, f"data.cache_dir={tmp_path / 'cache'}"]
    (folder / "filler").write_bytes(bytes(1000 * 1024))
    full = ended(*command, f"run_dir={folder / 'run'}")
    assert f"`{folder}/run/checkpoints/last`, but the disk is full; there is none yet" in full
    remounted(folder, "ro")
    assert "Read-only file system" in ended(*command, f"run_dir={folder / 'other'}")
    resumed = ended(*COMMAND[:2], f"resume={folder / 'run'}")
    assert f"expected to write `{folder}/run/config.yaml`, but the file system is read-only" in resumed


def ended(*command: str) -> str:
    """The one error of a command that fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, done.stdout, len(errors)) == (2, "", 1), done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(MemoryError(), MemoryError), (KeyError("epoch"), InputError), (OSError(5), OSError)],
)
def test_a_checkpoint_is_not_blamed_for_want_of_memory(tmp_path, error, expected):
    """As Lightning takes a checkpoint over: what it holds is at fault, unless memory is used up."""
    failing: dict = {"error": error}
    name = "elsewhere" if expected is OSError else "restore_loops"
    exec(compile(f"def {name}(**_): raise error", "x/checkpoint_connector.py", "exec"), failing)
    with pytest.raises(expected):
        _trained(SimpleNamespace(fit=lambda *_, **__: failing[name]()), None, None, last=tmp_path / "last")
