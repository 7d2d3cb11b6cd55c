"""Bundles and folders of servers made by strangers: no command runs, opens or overwrites what they name."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from recsys.commands import add_items, embed, export, interleave, log, recommend
from recsys.schema.manifest import MANIFEST, write_manifest
from tests import test_trust

trained, MARKER, Touch, end = test_trust.trained, test_trust.MARKER, test_trust.Touch, test_trust.end
OWN_KEYS = test_trust.OWN_KEYS


@pytest.fixture(scope="module")
def exported(trained):
    """The folder with the table and the run `good`, whose bundle is `bundle`."""
    here = os.getcwd()
    os.chdir(trained)
    try:
        assert end(export.main, "run=good") == 0
        shutil.move("good/bundle", "bundle")
    finally:
        os.chdir(here)
    return trained


@pytest.fixture
def evil(exported, tmp_path, monkeypatch):
    """A copy of the bundle to spoil, and a function that has its manifest agree with its files."""
    folder = tmp_path / "there"
    folder.mkdir()
    for name in ("bundle", "new.csv", "users.csv"):
        (shutil.copytree if name == "bundle" else shutil.copy)(exported / name, folder / name)
    shutil.copytree(folder / "bundle", folder / "evil")
    (folder / "victim").write_text("mine")
    monkeypatch.chdir(folder)
    yield folder / "evil"
    assert not os.path.exists(MARKER)
    assert Path("victim").read_text() == "mine"


def agree(bundle, **changes):
    """Writes a manifest that agrees with the files that lie there."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    kept = {name: manifest[name] for name in manifest if name not in OWN_KEYS} | changes
    config = kept.pop("config", manifest["config"])
    write_manifest(bundle, "bundle", config=config, source=manifest["source"], extra=kept)


def pickled(bundle):
    (bundle / "retrieval.pt").write_bytes(pickle.dumps(Touch()))
    agree(bundle)


def saved(bundle):
    torch.save(Touch(), bundle / "retrieval.pt")
    agree(bundle)


def outside(bundle):
    (bundle.parent / "outside.pt").write_bytes((bundle / "retrieval.pt").read_bytes())
    agree(bundle, file="../outside.pt")


def linked(bundle):
    shutil.move(bundle / "retrieval.pt", bundle.parent / "elsewhere.pt")
    (bundle / "retrieval.pt").symlink_to(bundle.parent / "elsewhere.pt")


def unlisted(bundle):
    (bundle / "more.pt").write_bytes(pickle.dumps(Touch()))


def saving(bundle):
    path = bundle / "requests.json"
    asked = [*json.loads(path.read_text()), {"method": "save", "arguments": {"f": "victim"}}]
    path.write_text(json.dumps(asked))
    agree(bundle)


def limits(bundle):
    agree(bundle, limits={"history": "subprocess.run"})


SPOILT = {each.__name__: each for each in (pickled, saved, outside, linked, unlisted, saving, limits)}
COMMANDS = {
    "add-items": (add_items.main, ["bundle=evil", "items=new.csv", "folder=more"]),
    "recommend": (recommend.main, ["bundle=evil", "queries=users.csv", "out=lists.parquet", "processes=1"]),
    "embed": (embed.main, ["bundle=evil", "queries=users.csv", "out=vectors"]),
}


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_trusts_a_bundle(evil, name, spoil, capfd):
    SPOILT[spoil](evil)
    main, arguments = COMMANDS[name]
    assert end(main, *arguments) == 2, capfd.readouterr().err
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "error:" in said
    assert not {"lists.parquet", "vectors", "more"} & set(os.listdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("responses.json", "7"),
        ("responses.json", "[]"),
        ("responses.json", "[" * 100_000),
        ("responses.json", "1" * 10_000),
        ("requests.json", '[{"method": "recommend", "arguments": {"user": {}, "history": 7, "k": "10"}}]'),
        ("requests.json", "[]"),
    ],
)
def test_recordings_that_are_none_are_refused(evil, name, content, capfd):
    (evil / name).write_text(content)
    agree(evil)
    assert end(*[COMMANDS["add-items"][0], *COMMANDS["add-items"][1]]) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "`evil" in said
    assert "more" not in os.listdir()


@pytest.mark.parametrize("name", COMMANDS)
def test_configuration_in_a_bundle_is_not_what_builds_it(evil, name):
    """It is kept for people: a payload in it is never looked up."""
    hostile = {"_target_": "subprocess.run", "args": ["touch", MARKER]}
    agree(evil, config={"model": hostile, "task": hostile, "data": {"source": hostile}})
    main, arguments = COMMANDS[name]
    assert end(main, *arguments) == 0


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8192, pickle.dumps(Touch()), b"\xbe\xef\xc0\xde" * 2048], ids=range(4)
)
def test_log_of_a_stranger_is_refused(tmp_path, monkeypatch, content, capfd):
    monkeypatch.chdir(tmp_path)
    Path("live/feedback").mkdir(parents=True)
    Path("live/feedback/data.mdb").write_bytes(content)
    assert end(log.main, "folder=live", "out=tables") in (0, 2)  # an empty file is an empty log
    assert "Traceback" not in capfd.readouterr().err
    assert not os.path.exists(MARKER)


hostile = test_trust.hostile


@pytest.mark.parametrize("made", [["a=evil", "b=evil"], ["a=../there/evil", "b=good"]])
def test_interleaving_runs_nothing_of_a_run(hostile, made, capsys):
    hostile("data.source", test_trust.PAYLOADS["command"])
    assert end(interleave.main, "make", *made) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not os.path.exists(MARKER)
