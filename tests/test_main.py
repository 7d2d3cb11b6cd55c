"""The command line as a whole: names of commands, and the forms of earlier releases."""

import runpy
import sys

import pytest

from recsys.__main__ import COMMANDS, main


def end(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.mark.parametrize("asked", [(), ("--help",), ("help",)])
def test_commands_are_listed_with_what_they_do(asked, capsys):
    assert end(*asked) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}  " in f"{printed} " for name in COMMANDS)


def test_unknown_command_is_refused_with_the_nearest_one(capsys):
    assert end("prepre", "data=table") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: expected one of prepare, train,")
    assert printed.err.endswith("got `prepre`; did you mean `prepare`?\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_reached(name):
    assert end(name, *(["--help"] if name not in ("doctor", "pilot", "interleave") else [])) in (0, 2)


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("recsys.data", "recsys prepare"),
        ("recsys.doctor", "recsys doctor"),
        ("recsys.evaluation.interleave", "recsys interleave make|read"),
        ("recsys.evaluation.off_policy", "recsys off-policy"),
        ("recsys.evaluation.pilot", "recsys pilot plan|read"),
        ("recsys.evaluation.position_bias", "recsys position-bias"),
    ],
)
def test_older_form_ends_with_the_name_of_the_new_one(module, command, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, module, raising=False)  # the doctests have imported it
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    expected = f"error: `python -m {module}` is now `{command}` (or `python -m {command}`)\n"
    assert capsys.readouterr() == ("", expected)
