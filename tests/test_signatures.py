"""Signatures that are read from sources say what the imported classes say."""

import dataclasses
import importlib
import inspect
import typing

import pytest
import yaml

from recsys.config.register import PLACES, lookup
from recsys.config.signatures import declared, signature_of
from recsys.runs.environment import PROJECT

OPTIONS = [
    "recsys.commands.options.TrainConfig",
    "recsys.commands.options.EvaluateConfig",
    "recsys.commands.options.ExportConfig",
    "recsys.commands.sweeps.options.SweepOptions",
    "recsys.data.options.DataOptions",
    "recsys.evaluation.options.EvaluationOptions",
    "recsys.evaluation.folds.BacktestOptions",
    "recsys.exporting.additions.AddItemsConfig",
    "recsys.experiments.off_policy.OffPolicyConfig",
    "recsys.experiments.pilot_plan.PlanConfig",
    "recsys.serving.options.ServeOptions",
    "recsys.commands.live.bulk.RecommendConfig",
    "recsys.training.options.TrainerOptions",
    "recsys.training.optimizers.Optimizers",
]


def targets(node):
    if isinstance(node, dict):
        yield from [node["_target_"]] if "_target_" in node else []
        for value in node.values():
            yield from targets(value)


NAMED = sorted(
    {
        name
        for path in (PROJECT / "configs").rglob("*.yaml")
        for name in targets(yaml.safe_load(path.read_text()))
    }
)


@pytest.mark.parametrize("name", [*OPTIONS, *NAMED])
def test_source_and_class_agree(name):
    module, _, attribute = name.rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    read = declared(name)
    actual = inspect.signature(target).parameters
    assert list(read.parameters) == [one for one in actual if one != "self"]
    required = {one.name for one in actual.values() if one.default is one.empty}
    assert {key for key, one in read.parameters.items() if one.is_required} == required
    function = target if dataclasses.is_dataclass(target) else target.__init__
    for key, hint in typing.get_type_hints(function).items():
        if key in read.parameters and read.parameters[key].hint is not typing.Any:
            assert str(read.parameters[key].hint).replace("typing.Union", "") is not None
            assert typing.get_origin(read.parameters[key].hint) is typing.get_origin(hint) or "Union" in str(
                (typing.get_origin(read.parameters[key].hint), typing.get_origin(hint))
            ), key


@pytest.mark.parametrize("name", NAMED)
def test_what_our_files_name_has_its_place(name):
    assert any(not isinstance(lookup(name, key), str) for key in PLACES)


def test_descriptions_are_those_of_the_docstring():
    parameters = declared("recsys.commands.options.TrainConfig").parameters
    assert parameters["resume"].text == "folder of a run to continue, with its own configuration."
    assert parameters["seed"].text == "of weights, order of examples, dropout and negatives."


def test_class_of_a_test_is_asked_by_reflection():
    @dataclasses.dataclass
    class Size:
        """A size.

        Args:
            width: in metres.
        """

        width: int = 3

    signature = signature_of(Size)
    assert (signature.is_dataclass, signature.text) == (True, "A size.")
    assert signature.parameters["width"].text == "in metres."
