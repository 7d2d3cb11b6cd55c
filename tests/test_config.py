import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from recsys.config.build import build
from recsys.config.check import Problem
from recsys.config.compose import Command
from recsys.config.keys import known_keys, nearest, spelled_out
from recsys.config.register import trusting
from recsys.config.review import review
from recsys.config.targets import Factory
from recsys.runs.environment import PROJECT
from recsys.schema.errors import InputError


@pytest.fixture(autouse=True)
def _classes_of_tests_may_be_named():
    with trusting(["tests"]):
        yield


class Tower:
    def __init__(self, schema: str, *, width: int = 8, sizes: Sequence[int] = (4,)) -> None:
        self.schema, self.width, self.sizes = schema, width, sizes


class LateTower:
    def __init__(self, schema: str = "none yet", *, width: int = 8) -> None:
        self.schema, self.width = schema, width


class Fetched:
    def __init__(self, url: str, retries: int = 3) -> None:
        if retries < 0:
            raise ValueError(f"`data.source.retries` must not be negative, got {retries}")
        self.url, self.retries = url, retries


@dataclasses.dataclass(frozen=True)
class Columns:
    user_id: str = "user_id"
    timestamp: str | None = "timestamp"


@dataclasses.dataclass(frozen=True)
class Data:
    name: str = "table"
    columns: Columns = Columns()
    source: Fetched | None = None
    batch_size: int = 32
    share: float = 0.5
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split: Literal["random", "global_time"] = "random"
    features: Mapping[str, Mapping[str, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class Rates:
    learning_rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Options:
    data: Data
    model: Factory
    optimizer: Rates = dataclasses.field(default_factory=Rates)
    seed: int = 0
    shuffle: bool = True
    folder: Path | None = None
    k: tuple[int, ...] = (10,)
    run_dir: str | None = None
    resume: str | None = None
    trainer: Rates = dataclasses.field(default_factory=Rates)


TOWER = {"_target_": f"{__name__}.Tower"}
FETCHED = {"_target_": f"{__name__}.Fetched", "url": "there"}


def built(plain, hint=Options):
    problems: list[Problem] = []
    return build(plain, hint, "", problems), [problem.text for problem in problems]


def plain(**keys):
    return {"data": {}, "model": TOWER, **keys}


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (str, 7, "7"),
        (str | None, None, None),
        (bool, True, True),
        (Path, "a/b", Path("a/b")),
        (tuple[int, ...], 10, (10,)),
        (tuple[int, ...], [1, 5], (1, 5)),
        (Sequence[Sequence[str]], [["a", "b"]], (("a", "b"),)),
        (list[float], [1, 2], [1.0, 2.0]),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (int | str, "x", "x"),
        (Literal["a", "b"], "b", "b"),
        (Any, {"whatever": [1]}, {"whatever": [1]}),
    ],
)
def test_value_becomes_what_the_hint_asks_for(hint, value, expected):
    problems: list[Problem] = []
    made = build(value, hint, "x", problems)
    assert problems == []
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (int, "lots", "expected int for `x`, got 'lots'"),
        (int, True, "expected int for `x`, got True"),
        (int, 1.5, "expected int for `x`, got 1.5"),
        (int, None, "expected int for `x`, got None"),
        (int | None, "lots", "expected int or null for `x`, got 'lots'"),
        (bool, 1, "expected bool for `x`, got 1"),
        (str, True, "expected text for `x`, got True"),
        (float, "1e-3x", "expected float for `x`, got '1e-3x'"),
        (tuple[int, ...], {"a": 1}, "expected a list of int for `x`, got {'a': 1}"),
        (tuple[float, float], [1.0], "expected a list of 2 (float, float) for `x`, got [1.0]"),
        (tuple[int, ...], [1, "b"], "expected int for `x[1]`, got 'b'"),
        (Mapping[str, int], [1], "expected keys and values for `x`, got [1]"),
        (Literal["float32", "bfloat16"], "bfloat61", "did you mean bfloat16?"),
        (Literal["a", "b"], 3, "expected one of a, b for `x`, got 3"),
        (Columns, 3, "expected keys below `x`, got 3"),
        (Fetched, "x", "expected a node with `_target_: package.Class` for `x`, got 'x'"),
        (int, "???", "`x` must be given: x=..."),
    ],
)
def test_value_of_another_type_is_refused_by_name(hint, value, text):
    problems: list[Problem] = []
    build(value, hint, "x", problems)
    [problem] = problems
    assert text in problem.text


def test_nested_options_and_targets_are_built():
    options, problems = built(
        plain(data={"source": FETCHED, "columns": {"user_id": "uid"}, "share": 1}, folder="there")
    )
    assert problems == []
    assert options.data.columns == Columns(user_id="uid")
    assert (options.data.source.url, options.data.source.retries) == ("there", 3)
    assert options.data.share == 1.0
    assert options.folder == Path("there")


def test_factory_waits_for_what_code_supplies():
    options, problems = built(plain(model={**TOWER, "width": 16, "sizes": [1, 2]}))
    assert problems == []
    tower = options.model(schema="the schema")
    assert (tower.schema, tower.width, tower.sizes) == ("the schema", 16, (1, 2))


def test_injected_argument_may_not_be_configured():
    _, problems = built(plain(model={**TOWER, "schema": "mine"}))
    assert problems == [f"`{__name__}.Tower` takes no `schema`"]


def test_class_may_take_the_place_of_a_dataclass_of_its_kind():
    target = {"_target_": f"{__name__}.Rates", "learning_rate": 0.5}
    options, problems = built(plain(optimizer=target))
    assert problems == []
    assert options.optimizer == Rates(0.5)
    _, problems = built(plain(optimizer=FETCHED))
    assert problems == [f"expected Rates for `optimizer._target_`, got '{__name__}.Fetched'"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("recsys.models.nowhere.Model", "there is no module `recsys.models.nowhere`"),
        ("recsys.models.two_tower.Nobody", "`recsys.models.two_tower` has no class `Nobody`"),
        ("recsys.models.two_tower.torch", "`recsys.models.two_tower` has no class `torch`"),
        ("recsys.models.weights._Rows", "`recsys.models.weights` has no class `_Rows`"),
        ("recsys.models.sizes.Size", "it has not what the key needs: an argument `schema`"),
        ("recsys.models...setup.Size", "there is no module `recsys.models...setup`"),
        ("recsys.training.fit.fit", "classes of `recsys.models` may stand here"),
        ("Tower", "a module and a class with a dot between them"),
        ("os.unlink", "classes of `recsys.models` may stand here"),
        ("pandas.read_pickle", "to run code of `pandas`, if you trust its authors, add `trust=pandas`"),
    ],
)
def test_target_that_cannot_be_had_says_why(target, why):
    _, problems = built(plain(model={"_target_": target}))
    assert len(problems) == 1
    assert "`model._target_`" in problems[0]
    assert why in problems[0]


def test_what_a_constructor_refuses_is_a_problem_like_the_others():
    _, problems = built(plain(data={"source": {**FETCHED, "retries": -1}}, seed="x"))
    assert problems == [
        "expected int for `seed`, got 'x'",
        "`data.source.retries` must not be negative, got -1",
    ]


def test_target_without_a_needed_argument_names_it():
    _, problems = built(plain(data={"source": {"_target_": f"{__name__}.Fetched"}}))
    assert problems == [f"`data.source.url` must be given: `{__name__}.Fetched` has no default for it"]


def test_known_keys_are_those_of_hints_and_targets():
    keys = known_keys(Options, plain(data={"source": FETCHED}))
    assert {"seed", "data.columns.user_id", "data.source.retries", "model.width"} <= set(keys)
    assert "model.schema" not in keys


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("sed", "seed"),
        ("model.embeding_dim", "model.embedding_dim"),
        ("embedding_dim", "model.embedding_dim"),
        ("max_epoch", "trainer.max_epochs"),
        ("data.positive_at_least", "data.label.positive_at_least"),
        ("modl", "model"),
        ("zzz", None),
        ("seed.x", None),
    ],
)
def test_nearest_key(key, meant):
    known = ["seed", "model", "model.embedding_dim", "trainer.max_epochs", "data.label.positive_at_least"]
    assert nearest(key, known) == meant


def test_spelled_out_configuration_means_the_same_and_leaves_nothing_to_defaults():
    given = plain(data={"source": FETCHED, "batch_size": 5}, k=[3])
    full = spelled_out(given, Options)
    assert full["data"]["columns"] == {"user_id": "user_id", "timestamp": "timestamp"}
    assert full["data"]["fractions"] == [0.8, 0.1, 0.1]
    assert full["data"]["source"] == {**FETCHED, "retries": 3}
    assert full["model"] == {**TOWER, "width": 8, "sizes": [4]}
    assert (full["k"], full["data"]["batch_size"], full["seed"]) == ([3], 5, 0)
    again, problems = built(full)
    assert problems == []
    assert again.data.columns == built(given)[0].data.columns
    assert spelled_out(full, Options) == full


def test_what_code_supplies_is_not_spelled_out():
    target = {"_target_": f"{__name__}.LateTower"}
    assert spelled_out(plain(model=target), Options)["model"] == {**target, "width": 8}


@pytest.fixture
def command(tmp_path):
    """A command with a folder of configuration files of its own."""
    files = {
        "train.yaml": """
            defaults: [data: small, model: tower, trainer: slow, _self_, experiment: null]
            seed: 0
            run_dir: null
            resume: null""",
        "data/small.yaml": "{name: small, batch_size: 32}",
        "data/large.yaml": f"{{name: large, source: {{_target_: {__name__}.Fetched, url: far}}}}",
        "model/tower.yaml": f"# @package _global_\nmodel: {{_target_: {__name__}.Tower, width: 4}}",
        "trainer/slow.yaml": "learning_rate: 0.1",
        "trainer/quick.yaml": "learning_rate: 0.9",
        "experiment/good.yaml": "# @package _global_\ndefaults: [override /data: large]\nseed: 7",
        "experiment/bad.yaml": "# @package _global_\nmodel: {widht: 3}\nseed: seven",
        "experiment/lost.yaml": "# @package _global_\ndefaults: [override /data: nowhere]",
    }
    for name, text in files.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")
    return Command("train", Options, continues="resume", repeats=True, configs=tmp_path / "configs")


def mistakes(command, *overrides, **options):
    with pytest.raises(InputError) as caught:
        review(command, overrides, **options)
    return str(caught.value).splitlines()


def test_overrides_are_composed(command):
    first = review(command, ["experiment=good", "data.batch_size=64", "k=[1,2]", "data.share=0.25"]).first
    assert first.plain["seed"] == 7
    assert first.plain["data"] == {
        "name": "large",
        "source": {"_target_": f"{__name__}.Fetched", "url": "far"},
        "batch_size": 64,
        "share": 0.25,  # in no file: the hints are enough
    }


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("sead=3", "there is no key `sead` (on the command line); did you mean `seed`?"),
        (
            "+data.batchsize=3",
            "there is no key `data.batchsize` (on the command line); did you mean `data.batch_size`?",
        ),
        (
            "++batch_size=3",
            "there is no key `batch_size` (on the command line); did you mean `data.batch_size`?",
        ),
        (
            "model.widht=3",
            f"`{__name__}.Tower` takes no `widht` (on the command line); did you mean `model.width`?",
        ),
        (
            "data.columns.x=3",
            "there is no key `data.columns.x` (on the command line); there are: user_id, timestamp",
        ),
        (
            "+zzz=3",
            "there is no key `zzz` (on the command line); there are: data, model, optimizer, seed, shuffle, "
            "folder, k, run_dir, resume, trainer, experiment",
        ),
        ("modle=tower", "there is no key `modle` (on the command line); did you mean `model`?"),
        ("model=towr", "expected one of tower for `model`, got `towr`; did you mean `model=tower`?"),
        ("experiment=xyz", "expected one of bad, good, lost for `experiment`, got `xyz`"),
        ("data.batch_size=lots", "expected int for `data.batch_size`, got 'lots' (on the command line)"),
        (
            "data.split=globaltime",
            "expected one of random, global_time for `data.split`, got 'globaltime'; "
            "did you mean global_time? (on the command line)",
        ),
        (
            "seed=1,2",
            "`seed=1,2` gives several values for `seed`; "
            "add `-m` to run once for each, or write [a,b] for a list",
        ),
    ],
)
def test_mistake_is_named_with_what_was_meant(command, override, line):
    assert mistakes(command, override) == [line]


def test_unreadable_override_is_named(command):
    [line] = mistakes(command, "seed 3")
    assert line.startswith("expected `key=value`, got `seed 3`")


def test_all_mistakes_are_reported_together(command):
    lines = mistakes(command, "model=towr", "sead=3", "data.batch_size=lots", "experiment=bad", "a b")
    for part in ("`towr`", "`sead`", "'lots'", "`widht`", "'seven'", "`a b`"):
        assert any(part in line for line in lines), part
    assert len(lines) == 6


def test_mistake_in_a_file_names_the_file(command):
    assert mistakes(command, "experiment=bad") == [
        f"`{__name__}.Tower` takes no `widht` (in configs/experiment/bad.yaml); did you mean `model.width`?",
        "expected int for `seed`, got 'seven' (in configs/experiment/bad.yaml)",
    ]


def test_file_that_chooses_what_does_not_exist_is_a_mistake(command):
    [line] = mistakes(command, "experiment=lost")
    assert "data/nowhere" in line


def test_group_that_the_command_does_not_choose_is_refused(command):
    (command.configs / "serving").mkdir()
    (command.configs / "serving" / "fast.yaml").write_text("a: 1")
    [line] = mistakes(command, "serving=fast")
    assert line == (
        "this command does not choose a `serving`; it chooses `data`, `experiment`, `model`, `trainer`"
    )


def test_every_value_of_several_is_checked(command):
    lines = mistakes(command, "seed=1,x", "data=small,larg", "data.batch_size=1,2,y", multirun=True)
    assert lines == [
        "expected one of large, small for `data`, got `larg`; did you mean `data=large`?",
        "expected int for `seed`, got 'x' (on the command line)",
        "expected int for `data.batch_size`, got 'y' (on the command line)",
    ]


def test_interval_needs_a_sweep(command):
    [line] = mistakes(command, "data.share=interval(0,1)", multirun=True)
    assert line == (
        "`data.share=interval(0,1)` asks to search an interval, which only `sweep=NAME` does; "
        "list the values instead"
    )


def test_further_folder_of_files_is_searched(command, tmp_path):
    more = tmp_path / "mine" / "data"
    more.mkdir(parents=True)
    (more / "own.yaml").write_text("name: own\n")
    assert review(command, ["data=own"], config_dir=str(more.parent)).first.plain["data"]["name"] == "own"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        f"data: {{name: kept, batch_size: 8}}\nmodel: {{_target_: {__name__}.Tower, width: 64}}\n"
        "trainer: {learning_rate: 0.3}\nseed: 5\nolder: 1\n"
    )
    return folder


def settled(command, *overrides):
    from recsys.config.settle import settle

    return settle(command, review(command, overrides).first)[0]


def test_continued_run_keeps_its_configuration_but_for_what_is_asked(command, run):
    options = settled(command, f"resume='{run}'", "data.batch_size=16")
    assert (options.data.name, options.data.batch_size) == ("kept", 16)
    assert options.model.arguments == {"width": 64}
    assert (options.seed, options.trainer.learning_rate) == (5, 0.3)
    assert options.resume == str(run)
    assert settled(command, f"resume='{run}'", "trainer=quick").trainer.learning_rate == 0.9


def test_continued_run_cannot_change_its_model(command, run):
    [line] = mistakes(command, f"resume='{run}'", "model=tower")
    assert (
        line == f"`model=` cannot be chosen anew for the run `{run}`; it keeps its own (on the command line)"
    )


def test_several_runs_continue_none(command, run):
    [line] = mistakes(command, f"resume='{run}'", "seed=1,2", multirun=True)
    assert line == "`resume=` continues one run; leave out `-m` and `sweep=`"


def test_mistake_in_the_configuration_of_a_run_names_it(command, run):
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("width", "breadth"))
    [line] = mistakes(command, f"resume='{run}'")
    assert f"(in {run}/config.yaml)" in line


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "no config.yaml in it"), ("data: [", "is damaged"), ("- 1", "is damaged")],
)
def test_folder_that_is_no_run_is_refused(command, run, content, why):
    if content is None:
        (run / "config.yaml").unlink()
    else:
        (run / "config.yaml").write_text(content)
    [line] = mistakes(command, f"resume='{run}'")
    assert why in line


def test_missing_run_is_refused(command, tmp_path):
    [line] = mistakes(command, f"resume={tmp_path / 'nowhere'}")
    assert line == (
        f"`resume`: expected the folder of a run, got `{tmp_path / 'nowhere'}`: no such folder; "
        "`python train.py` makes a run"
    )


@pytest.mark.parametrize("name", ["data", "evaluation", "model", "trainer", "debug", "experiment", "sweep"])
def test_every_file_of_the_project_is_free_of_mistakes(name):
    from recsys.commands.options import TrainConfig

    for path in sorted((PROJECT / "configs" / name).glob("*.yaml")):
        if path.stem == "backtest":  # of finished runs; tests/test_backtest.py gives it to evaluate.py
            continue
        review(Command("train", TrainConfig, continues="resume", repeats=True), [f"{name}={path.stem}"])
