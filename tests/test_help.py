"""What the command line explains, and how quickly: without importing torch."""

import subprocess
import sys

import pytest

from recsys.commands import evaluate, export, off_policy, prepare, train
from recsys.config.signatures import declared
from recsys.runs.environment import PROJECT


def end(main, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.mark.parametrize("command", [train, evaluate, export, prepare, off_policy])
def test_help_fits_a_screen(command, capsys):
    assert end(command.main, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 120
    assert not any("???" in line for line in lines)


def test_help_names_groups_and_keys_with_their_meaning(capsys):
    assert end(train.main, "--help") == 0
    printed = capsys.readouterr().out
    assert "  data        [movielens_100k] goodreads_once mind movielens_1m" in printed
    assert "  resume                        folder of a run to continue" in printed
    assert "Example: python train.py data=movielens_100k" in printed


def test_key_is_explained_with_type_default_and_meaning(capsys):
    assert end(train.main, "--help", "trainer.patience") == 0
    assert capsys.readouterr().out.splitlines() == [
        "trainer.patience: int or null = 3",
        "    validations without improvement before training stops; null never stops early.",
    ]


def test_keys_of_a_chosen_file_are_explained(capsys):
    assert end(train.main, "--help", "model=wide_deep") == 0
    printed = capsys.readouterr().out
    assert "model.crosses: a list of a list of text = []" in printed
    assert "model.history_encoder" not in printed


def test_unknown_topic_is_refused_with_the_nearest(capsys):
    assert end(train.main, "--help", "trainer.patient") == 2
    assert "there is no key and no group `trainer.patient`; did you mean `trainer.patience`?" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("given", "advised"),
    [
        ("data.interactions.delimiter=;", "'data.interactions.delimiter=\";\"'"),
        ("data.label.column=rating (1-5)", "'data.label.column=\"rating (1-5)\"'"),
        ("data.interactions.columns.user_id=naïve", "'data.interactions.columns.user_id=\"naïve\"'"),
        ("data.interactions.path=a(b.csv", "'data.interactions.path=\"a(b.csv\"'"),
        ("data.interactions.path=a[b.csv", "'data.interactions.path=\"a[b.csv\"'"),
    ],
)
def test_value_with_signs_of_the_grammar_is_refused_with_how_to_quote_it(given, advised, capsys):
    assert end(prepare.main, given) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"and those in the shell's: {advised}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--help"],
        ["train", "--help", "data"],
        ["train", "trainer.max_epoch=3"],
        ["train", "trainer.precision=fp17", "model=wide_deep"],
        ["train", "trainer.max_epochs=0"],
        ["prepare", "data.splt=random"],
        ["off-policy", "lg=x"],
    ],
)
def test_torch_is_not_imported(arguments):
    code = (
        "import sys\nfrom recsys.__main__ import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print(*{'torch', 'torchrec', 'ibis', 'optuna', 'pandas'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stderr.splitlines()[-1].strip() == ""


@pytest.mark.parametrize(
    "name",
    ["Columns", "InteractionsTable", "SideTable", "Label", "Auxiliary", "StatisticOptions", "DataOptions"],
)
def test_every_key_of_the_data_is_described(name):
    parameters = declared(f"recsys.data.options.{name}").parameters
    assert [key for key, parameter in parameters.items() if not parameter.text] == []
