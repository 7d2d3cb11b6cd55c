"""Stations of strangers: no entry point imports or calls what a stored configuration names."""

import collections
import contextlib
import copy
import csv
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from recsys.commands import add_items, evaluate, export, interleave, recommend, serve, train
from recsys.commands import copy as copy_command
from recsys.config.register import PLACES, lookup, trusting
from recsys.config.saved import config_text, read_config
from recsys.evaluation.comparing.stations import ReadEvaluation
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, write_manifest
from recsys.serving.server import OPTIONS, options_from_json
from recsys.serving.service import Service

MARKER = "marker"
# Of a manifest, what `write_manifest` itself says.
OWN_KEYS = ("checksum", "format", "version", "fingerprint", "source", "created", "commit", "config", "files")


class Touch:
    def __reduce__(self):
        return (open, (MARKER, "w"))


PAYLOADS = {
    "pickle": {"_target_": "pandas.read_pickle", "filepath_or_buffer": "evil/payload.pickle"},
    "command": {"_target_": "subprocess.run", "args": ["touch", MARKER]},
    "ours": {"_target_": "recsys.commands.sweeps.workers._start", "command": ["touch", MARKER]},
    "file": {"_target_": "payload_of_a_stranger.Model"},
    "folder": {"_target_": "evil.payload.Model"},
    "removal": {"_target_": "shutil.rmtree", "path": "."},
}


def end(main, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table and a run `good`."""
    folder = tmp_path_factory.mktemp("trust")
    (folder / "new.csv").write_text("item_id\nfresh\n")
    (folder / "users.csv").write_text("user_id\nu1\n")
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp"])
        rows.writerows(
            [f"u{u}", f"p{(7 * s + u) % 12}", 1_700_000_000 + 3600 * s + u]
            for u in range(30)
            for s in range(8)
        )
    here = os.getcwd()
    os.chdir(folder)
    try:
        arguments = ["data=table", "data.interactions.path=events.csv", "data.cache_dir=cache"]
        arguments += ["trainer.progress_bar=false", "trainer.max_epochs=1", "evaluation=fast", "run_dir=good"]
        assert end(train.main, *arguments) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def hostile(trained, tmp_path, monkeypatch):
    """Makes a whole run `evil`, whose configuration names a payload at a key; its manifest agrees."""
    folder = tmp_path / "there"
    shutil.copytree(trained, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def make(key, payload):
        shutil.rmtree("evil", ignore_errors=True)
        shutil.copytree("good", "evil")
        code = f"open({str(folder / MARKER)!r}, 'w')\n"
        (folder / "evil" / "payload.py").write_text(code)
        (folder / "payload_of_a_stranger.py").write_text(code)
        (folder / "evil" / "payload.pickle").write_bytes(pickle.dumps(Touch()))
        plain = copy.deepcopy(read_config("evil"))
        *parents, name = key.split(".")
        node = plain
        for parent in parents:
            node = node[parent]
        node[name] = payload
        manifest = json.loads((folder / "evil" / MANIFEST).read_text())
        (folder / "evil" / "config.yaml").write_text(config_text(plain))
        extra = {name: manifest[name] for name in ("prepared", "task")}
        write_manifest(folder / "evil", "run", config=plain, source=manifest["source"], extra=extra)
        (folder / "evil" / "results.csv").write_text("trial,status\n0,complete\n1,complete\n")

    return make


def serve_once(arguments):
    """`recsys serve`, which opens the bundle as its process does and stops then."""

    def instead(*_command):
        service = Service(options_from_json(os.environ[OPTIONS]), started=0)
        service.close()
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "execv", instead)
        patch.setenv(OPTIONS, "")
        serve.main(arguments)


DATA = ["data=table", "data.interactions.path=events.csv", "data.cache_dir=cache"]
DATA += ["trainer.progress_bar=false", "evaluation=fast"]
SWEEP = ["sweep=two_tower", "sweep.space={model.dropout: 'choice(0.0,0.1)'}", "sweep.num_trials=2"]
SWEEP += ["sweep.workers=0", "sweep.rerank.top=0", "trainer.max_epochs=1"]
DAYS = ["daily={first: '2023-11-15T02:00', num_steps: 1, step_days: 0.06, validation_days: 0.06}"]
# Every command that opens what somebody else may have made, where `evil` lies.
ENTRIES = {
    "evaluate": (evaluate.main, ["run=evil"]),
    "against": (evaluate.main, ["run=good", "against=[evil]"]),
    "runs": (evaluate.main, ["runs=[evil,good]"]),
    "backtest": (evaluate.main, ["run=evil", "evaluation=backtest"]),
    "export": (export.main, ["run=evil"]),
    "ranker": (export.main, ["run=good", "ranker=evil"]),
    "resume": (train.main, ["resume=evil", "trainer.max_epochs=2"]),
    "init_from": (train.main, [*DATA, "init_from=evil"]),
    "interleave": (interleave.main, ["make", "a=evil", "b=good"]),
    "multirun": (train.main, ["-m", *DATA, "trainer.max_epochs=1,2", "run_dir=multirun"]),
    "sweep": (train.main, [*DATA, *SWEEP, "run_dir=sweep"]),
    "daily": (train.main, [*DATA, *DAYS, "run_dir=daily"]),
    "copy": (copy_command.main, ["what=evil", "to=copied"]),
    "serve": (serve_once, ["bundle=bundle", "folder=live", "port=0"]),
    "recommend": (recommend.main, ["bundle=bundle", "queries=users.csv", "out=lists.parquet", "processes=1"]),
    "add-items": (add_items.main, ["bundle=bundle", "items=new.csv", "folder=more"]),
}
# Of lists of trainings: which of them were stopped, or done, as `evil` was. Done once, the rest is removed.
LISTS = {"multirun": ["0", "1"], "sweep": ["0", "1"], "daily": ["000-first"]}
BUNDLES = ("serve", "recommend", "add-items")


def made_once(trained, name, main, arguments):
    """Has a command make a folder in `trained` unless it is there, and copies it here."""
    if not (trained / name).exists():
        with contextlib.chdir(trained):
            assert end(main, *arguments) == 0
    shutil.rmtree(name, ignore_errors=True)
    shutil.copytree(trained / name, name)


def go_on(trained, entry):
    """Makes a list of trainings that is to go on with `evil`."""
    made_once(trained, entry, *ENTRIES[entry])
    for path in Path(entry).iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("multirun.json", "sweep.json", "daily.json"):
            path.unlink()
    for name in LISTS[entry]:
        shutil.copytree("evil", f"{entry}/{name}")
        if entry != "daily":
            os.unlink(f"{entry}/{name}/{MANIFEST}")


def make_bundle(trained):
    """Makes a bundle whose manifest says that it was made of `evil`."""
    made_once(trained, "good/bundle", export.main, ["run=good"])
    shutil.rmtree("bundle", ignore_errors=True)
    shutil.move("good/bundle", "bundle")
    manifest = json.loads(Path("bundle", MANIFEST).read_text())
    extra = {name: manifest[name] for name in manifest if name not in OWN_KEYS}
    write_manifest(
        Path("bundle"), "bundle", config=read_config("evil"), source=manifest["source"], extra=extra
    )


@pytest.fixture
def enter(hostile, trained):
    """Puts `evil` where a command looks for it, gives the command, and returns its exit status."""

    def enter(entry):
        for folder in ("more", "live", "copied"):
            shutil.rmtree(folder, ignore_errors=True)
        if entry in LISTS:
            go_on(trained, entry)
        elif entry in BUNDLES:
            make_bundle(trained)
        main, arguments = ENTRIES[entry]
        return end(main, *arguments)

    return enter


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("key", "payload"),
    [
        ("model", "pickle"),
        ("data.source", "folder"),
        pytest.param("model", "folder", marks=pytest.mark.slow),
        pytest.param("data.source", "pickle", marks=pytest.mark.slow),
    ],
)
def test_no_entry_point_runs_what_a_run_names(hostile, enter, entry, payload, key, capsys):
    hostile(key, PAYLOADS[payload])
    # What a bundle was made of is kept for people, and a copy is what was there.
    assert enter(entry) == (0 if entry in (*BUNDLES, "copy") else 2), capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
    assert not os.path.exists(MARKER)
    assert not {"evil.payload", "payload_of_a_stranger"} & set(sys.modules)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("key", ["model", "task", "optimizer", "data.source", "task.loss", "trainer", "seed"])
def test_no_key_runs_what_a_run_names(hostile, payload, key, capsys):
    hostile(key, PAYLOADS[payload])
    is_read = key not in ("optimizer", "trainer")
    assert end(evaluate.main, "run=evil") == 2 * is_read, capsys.readouterr().err
    assert end(train.main, "resume=evil", "trainer.max_epochs=2") == 2, capsys.readouterr().err
    assert not os.path.exists(MARKER)
    assert os.path.exists("events.csv")
    assert not {"evil.payload", "payload_of_a_stranger"} & set(sys.modules)


def nodes(plain, above=""):
    """Every key of a configuration, with what stands there."""
    for name, value in plain.items():
        yield f"{above}{name}", value
        if isinstance(value, dict):
            yield from nodes(value, f"{above}{name}.")


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_no_entry_point_runs_what_stands_at_any_key(hostile, enter, entry, capsys):
    """Where a mapping stands it gets a `_target_`, a list holds it, and anything else gives way to it."""
    found = dict(nodes(read_config("good")))
    assert len(found) > 140
    statuses = collections.Counter()
    for number, (key, value) in enumerate(found.items()):
        payload = PAYLOADS[("pickle", "file")[number % 2]]
        payload = {**value, **payload} if isinstance(value, dict) else payload
        hostile(key, [payload] if isinstance(value, list) else payload)
        status = enter(entry)
        statuses[status] += 1
        said = capsys.readouterr().err
        assert status in (0, 2), (key, said)
        assert "Traceback" not in said, key
        assert not os.path.exists(MARKER), key
        assert "payload_of_a_stranger" not in sys.modules, key
    assert (statuses[2] > 10) is (entry not in (*BUNDLES, "copy")), statuses
    print(entry, dict(statuses))


@pytest.mark.parametrize(
    "content", ["[]", "7", "[" * 100_000, "1" * 10_000, '{"seed": 1e999}', "", '{"seed": "x"}']
)
@pytest.mark.parametrize(
    ("name", "main", "arguments"),
    [
        ("metrics.json", evaluate.main, ["run=evil"]),
        ("metrics.json", export.main, ["run=evil"]),
        ("environment.json", train.main, ["resume=evil", "trainer.max_epochs=2"]),
    ],
)
def test_files_of_a_run_are_of_the_right_types_or_refused_by_name(
    hostile, name, main, arguments, content, capsys
):
    """The manifest agrees with them."""
    if content == '{"seed": "x"}' and name == "environment.json":
        pytest.skip("nothing reads it there")
    hostile("seed", 1)
    Path("evil", name).write_text(content)
    manifest = json.loads(Path("evil", MANIFEST).read_text())
    extra = {key: manifest[key] for key in ("prepared", "task")}
    write_manifest(Path("evil"), "run", config=manifest["config"], source=manifest["source"], extra=extra)
    assert end(main, *arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert f"{name}` is damaged" in said


@pytest.mark.parametrize("content", ["[]", "7", "[" * 100_000, "{}", '{"task": "retrieval", "options": 3}'])
def test_results_of_an_evaluation_are_of_the_right_types_or_refused_by_name(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    write_manifest(tmp_path, "evaluation", config={}, extra={"protocol_hash": "x"})
    with pytest.raises(InputError, match=r"metrics.json` is damaged"):
        ReadEvaluation.open(tmp_path)


def spoil(checkpoint, change):
    """Puts something else in the place of a checkpoint."""
    content = torch.load(checkpoint, weights_only=True)
    os.unlink(checkpoint)
    if change is None:
        os.mkfifo(checkpoint)
    elif isinstance(change, bytes):
        checkpoint.write_bytes(change)
    else:
        torch.save({**content, **change} if change else [1], checkpoint)


@pytest.mark.parametrize(
    ("is_finished", "change", "reason"),
    [
        (True, None, "is neither a file nor a folder"),
        (False, None, "is neither a file nor a folder"),
        (True, b"hello", "File is not a zip file"),
        (False, pickle.dumps(Touch()), "File is not a zip file"),
        (True, {}, "it holds no weights"),
        (False, {"state_dict": [1]}, "expected dict for its `state_dict`, found list"),
        (True, {"state_dict": {"model.x": "y"}}, "its `model.x` is no tensor"),
        (False, {"callbacks": [1]}, "expected dict for its `callbacks`, found list"),
        (True, {"epoch": "x"}, "expected int for its `epoch`, found str"),
        (False, {"loops": {"fit_loop": 3}}, "it cannot be gone on with"),
        (True, {"optimizer_states": [3]}, "it cannot be gone on with"),
        (False, {"lr_schedulers": [{}]}, "it cannot be gone on with"),
        (True, {"pytorch-lightning_version": "x"}, "it cannot be gone on with"),
    ],
)
def test_checkpoint_that_holds_something_else_is_refused_by_name(
    hostile, is_finished, change, reason, capsys
):
    hostile("seed", 1)
    if not is_finished:
        os.unlink(f"evil/{MANIFEST}")
    spoil(Path("evil/checkpoints/last"), change)
    assert end(train.main, "resume=evil", "trainer.max_epochs=2") == 2
    said = capsys.readouterr().err
    assert re.search(reason, said), said
    assert "evil/checkpoints/last" in said
    assert "Traceback" not in said
    assert not os.path.exists(MARKER)


@pytest.mark.parametrize("name", ["train.log", "tensorboard", "checkpoints/previous"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_run_that_is_taken_up_writes_to_its_own_files_alone(hostile, name, kind, capsys):
    hostile("seed", 1)
    place = Path("evil", name)
    (shutil.rmtree if place.is_dir() else os.unlink)(place) if place.exists() else None
    os.mkdir("victim")
    os.symlink(Path("victim").absolute(), place) if kind == "link" else os.mkfifo(place)
    assert end(train.main, "resume=evil", "trainer.max_epochs=2") == 2
    assert f"`{place}` is neither a file nor a folder" in capsys.readouterr().err
    assert os.listdir("victim") == []


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink(Path("victim").absolute(), path)])
def test_what_is_planted_at_a_temporary_name_is_not_written_to(hostile, make, capsys):
    hostile("seed", 1)
    Path("victim").write_text("mine")
    for name in (".config.yaml", ".environment.json", ".metrics.json", ".manifest.json", "checkpoints/.last"):
        make(f"evil/{name}.tmp")
    assert end(train.main, "resume=evil", "trainer.max_epochs=2") == 0, capsys.readouterr().err
    assert Path("victim").read_text() == "mine"


def test_trust_comes_from_the_command_line_alone(hostile, capsys):
    hostile("model", PAYLOADS["file"])
    plain = read_config("evil")
    Path("evil/config.yaml").write_text(config_text({**plain, "trust": ["payload_of_a_stranger"]}))
    assert end(evaluate.main, "run=evil") == 2
    assert not os.path.exists(MARKER)
    assert "add `trust=payload_of_a_stranger` on the command line" in capsys.readouterr().err
    Path("payload_of_a_stranger.py").write_text(f"from pathlib import Path\nPath({MARKER!r}).touch()\n")
    assert end(evaluate.main, "run=evil", "trust=payload_of_a_stranger") == 2  # it has no class Model
    assert os.path.exists(MARKER)
    del sys.modules["payload_of_a_stranger"]


def test_cut_configuration_is_damaged(hostile, capsys):
    shutil.copytree("good", "evil")
    text = Path("evil/config.yaml").read_text()
    for position in range(0, len(text) - 1, max(len(text) // 9, 1)):
        Path("evil/config.yaml").write_text(text[:position])
        for main, words in ((train.main, ["resume=evil"]), (evaluate.main, ["run=evil"])):
            assert end(main, *words) == 2
            assert "damaged" in capsys.readouterr().err
    assert os.path.exists(f"evil/{MANIFEST}")


def test_changed_configuration_of_an_unfinished_run_is_damaged(hostile, capsys):
    shutil.copytree("good", "evil")
    os.unlink(f"evil/{MANIFEST}")
    text = Path("evil/config.yaml").read_text()
    Path("evil/config.yaml").write_text(text.replace("max_epochs: 1", "max_epochs: 7"))
    assert end(train.main, "resume=evil") == 2
    assert "its lines are not those that its checksum was made of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\n".join(
                ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11))]
            ),
            "aliases",
        ),
        ("a: " + "[" * 100_000, "levels"),
        ("a: " + "x" * 2**21, "bytes"),
        ("a: " + "9" * 5_000, "is damaged"),
    ],
)
def test_configuration_is_bounded(tmp_path, text, message, capsys):
    (tmp_path / "config.yaml").write_text(text)
    assert end(evaluate.main, f"run={tmp_path}") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "recsys", "recsys.models", "recsys.models.two_tower.nn"]
)
def test_places_take_their_own_classes_alone(key, name):
    assert isinstance(lookup(name, key), str)


def test_trust_ends_with_the_command():
    with trusting(["json"]):
        assert not isinstance(lookup("json.JSONDecoder", "model"), str)
    assert isinstance(lookup("json.JSONDecoder", "model"), str)
