"""Numbers that are none: which feature they came in with, and an error that says so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import nn

from recsys.nn.embeddings import FeatureTables
from recsys.schema.batch import Batch

_ADVICE = (
    "lower `optimizer.learning_rate` or `optimizer.table_learning_rate`, or set `trainer.gradient_clip_norm`"
)


def not_finite(model: nn.Module, batch: Batch, *, step: int, what: str) -> str:
    """What to tell the user: where the numbers that are none are to be seen, and what to do.

    Args:
        model: as it was when it happened.
        batch: that it happened on.
        step: number of the batch, from 0.
        what: was found, e.g. `the loss is nan`.
    """
    message = f"expected finite numbers at step {step}, but {what}"
    columns = (~torch.isfinite(batch.dense)).any(dim=0).nonzero().flatten().tolist()
    if columns:
        return (
            f"{message}: dense values {columns} of the batch (counted in the order of the features that are"
            " numbers in schema.json) are not finite; prepare the data anew"
        )
    features = _features_without_numbers(model, batch)
    if features:
        named = ", ".join(f"`{name}`" for name in features)
        return f"{message}: table rows of {named} are not finite, training has diverged before; {_ADVICE}"
    return (
        f"{message}: values and table rows of the batch are finite, the arithmetic on them is not; {_ADVICE};"
        " `trainer.detect_anomaly=true` names the feature or operation that it begins with"
    )


def _features_without_numbers(model: nn.Module, batch: Batch) -> list[str]:
    found = []
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FeatureTables):
                embedded = module(batch.ids)
                found += [name for name, values in embedded.items() if not torch.isfinite(values).all()]
    return found


@contextlib.contextmanager
def detecting_anomalies(model: nn.Module) -> Iterator[None]:
    """Inside, an embedded feature or its gradient that is not finite is an error that names the feature.

    Raises:
        ValueError: at the step where it happens, before a table has taken the gradient up.
    """

    def look(module: nn.Module, inputs: object, embedded: dict[str, torch.Tensor]) -> None:
        for name, values in embedded.items():
            _check(name, "embedding")(values.detach())
            if values.requires_grad:
                cast(Any, values).register_hook(_check(name, "gradient"))

    hooks = [
        module.register_forward_hook(look) for module in model.modules() if isinstance(module, FeatureTables)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check(name: str, what: str) -> Callable[[torch.Tensor], None]:
    def check(values: torch.Tensor) -> None:
        if not torch.isfinite(values).all():
            rows = (~torch.isfinite(values)).any(dim=1).nonzero().flatten()
            raise ValueError(
                f"expected finite numbers, but the {what} of feature `{name}` has none for {len(rows)} of"
                f" {len(values)} examples (the first: {int(rows[0])}); {_ADVICE}"
            )

    return check
