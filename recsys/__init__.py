"""Deep-learning recommenders, from tables of interactions to a served model.

The Python interface; every name is loaded when it is first used, so that importing the package takes no time.

    import recsys

    run = recsys.train(interactions=events, items=items, experiment="implicit_sequence")
    run.metrics["test"]["ndcg@10"]
    run.recommend(["reader0"], k=10)  # a DataFrame
    evaluation = run.evaluate()
    bundle = run.export()
    bundle.recommend({"user_id": "reader0"}, ["book1", "book2"], 10)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.interface.functions import evaluate as evaluate
    from recsys.interface.functions import export as export
    from recsys.interface.functions import open_run as open_run
    from recsys.interface.functions import prepare as prepare
    from recsys.interface.functions import train as train
    from recsys.interface.objects import Evaluation as Evaluation
    from recsys.interface.objects import Run as Run
    from recsys.schema.errors import InputError as InputError
    from recsys.serving.bundle import Bundle as Bundle

    __version__: str

_MODULES = {
    "prepare": "recsys.interface.functions",
    "train": "recsys.interface.functions",
    "evaluate": "recsys.interface.functions",
    "export": "recsys.interface.functions",
    "open_run": "recsys.interface.functions",
    "Run": "recsys.interface.objects",
    "Evaluation": "recsys.interface.objects",
    "Bundle": "recsys.serving.bundle",
    "InputError": "recsys.schema.errors",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module `recsys` has no attribute `{name}`; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _version() -> str:
    """The version of the checkout, or of the installed wheel."""
    from recsys.runs.environment import declared

    return str(declared()["version"])
