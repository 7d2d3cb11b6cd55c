"""The register of metrics: each is a function that carries its name, direction and label.

A metric of ranked lists is one decorated function in this folder, or in a module of your own:

    @list_metric(better="more", label="RBP")
    def rank_biased_precision(hits_QK, num_relevant_Q, *, k): ...

Evaluation, training, sweeps and reports read the register and know no metric's name of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from recsys.schema.errors import InputError

Function = TypeVar("Function", bound=Callable[..., Any])
Direction = Literal["more", "less"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """Describes a metric for whoever computes, compares or shows it.

    Args:
        name: its key without a cut-off.
        better: whether more or less of it is better; None where it only describes.
        label: its name in front of people.
        meaning: a few words below the label.
        chance: its value for answers at random, where that is not 0.
        of_lists: computes it from `(hits_QK, num_relevant_Q, *, k)` for each query; None for other metrics.
    """

    name: str
    better: Direction | None = None
    label: str = ""
    meaning: str = ""
    chance: float = 0.0
    of_lists: Callable[..., Any] | None = None

    @property
    def note(self) -> str:
        """The meaning of the metric, or else which direction is better."""
        return self.meaning or (f"{self.better} is better" if self.better else "")

    @property
    def sign(self) -> int:
        """-1 where less is better, else 1: times it, more is better."""
        return -1 if self.better == "less" else 1


_METRICS: dict[str, Metric] = {}


def metric(
    name: str | None = None,
    *,
    better: Direction | None,
    label: str = "",
    meaning: str = "",
    chance: float = 0.0,
) -> Callable[[Function], Function]:
    """Registers a function under `name`, or under its own; the arguments are those of `Metric`."""

    def register(function: Function) -> Function:
        key = name or function.__name__
        _register(Metric(key, better, label or key.replace("_", " "), meaning, chance))
        return function

    return register


def list_metric(
    name: str | None = None, *, better: Direction | None, label: str = "", meaning: str = ""
) -> Callable[[Function], Function]:
    """Registers a metric of ranked lists, which every evaluation then computes at every cut-off.

    Example:
        >>> list_metrics(["ndcg"])[0].label
        'NDCG'
    """

    def register(function: Function) -> Function:
        key = name or function.__name__
        own = f"{function.__module__}.{function.__name__}"
        if not function.__module__.startswith(f"{__package__}."):
            key = own  # a metric of the user's own never takes the name of one of ours
        shown = label or function.__name__.replace("_", " ")
        _register(Metric(key, better, shown, meaning, of_lists=function))
        return function

    return register


def metric_of(key: str) -> Metric:
    """The metric that a key names, whatever stands before and behind: `val/ndcg@10` is NDCG.

    A name that is not registered, like that of the training loss or of a metric whose module is not there any
    more, is described by its words; a loss is better when it is smaller.
    """
    name = key.rpartition("/")[2].partition("@")[0]
    found = _registered().get(name)
    if found is not None:
        return found
    is_loss = name == "loss" or name.endswith("_loss")
    return Metric(name, "less" if is_loss else None, name.rpartition(".")[2].replace("_", " "))


def metric_label(key: str) -> str:
    """The label of a metric with its cut-off: `ndcg@10` is NDCG@10, `hit_rate@5` is hit rate@5."""
    _, _, k = key.partition("@")
    label = metric_of(key).label
    return f"{label}@{k}" if k else label


def list_metrics(names: Sequence[str] = ()) -> list[Metric]:
    """The metrics of ranked lists with these names, all of ours when none is given.

    Args:
        names: of the register, or `package.module.function` of a registered one whose module is imported.

    Raises:
        ValueError: there is no such metric.
    """
    register = _registered()
    ours = {name: one for name, one in register.items() if one.of_lists is not None and "." not in name}
    chosen = []
    for name in names or ours:
        found = ours.get(name) or register.get(name) or _imported(name)
        if found is None or found.of_lists is None:
            raise InputError(
                f"`evaluation.metrics`: expected names of {', '.join(ours)}, or `package.module.function` "
                f"decorated with `recsys.metrics.register.list_metric` and trusted with `trust=package`, got "
                f"`{name}`"
            )
        chosen.append(found)
    return chosen


def _imported(name: str) -> Metric | None:
    """A registered function under another path to it, such as that of the package that imports it."""
    module, _, attribute = name.rpartition(".")
    function = getattr(sys.modules.get(module), attribute, None)
    return next((one for one in _METRICS.values() if function and one.of_lists is function), None)


def _register(one: Metric) -> None:
    _METRICS[one.name] = one


@functools.cache
def _registered() -> dict[str, Metric]:
    """The register, once every module of this folder has put its metrics in."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return _METRICS
