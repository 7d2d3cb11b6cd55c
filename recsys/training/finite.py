"""Numbers that are none: which feature they came in with, and an error that says so."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn

from recsys.nn.embeddings import FeatureTables
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.training.tables import is_sharded, own_tensors

ADVICE = (
    "lower `optimizer.learning_rate` or `optimizer.table_learning_rate`, or set `trainer.gradient_clip_norm`"
)
_TABLE = ".embedding_bags."
_OPERATION = re.compile(r"Function '(\w+)' returned nan values")
_MOST_NAMES = 3
# Numbers looked at at a time, so that a large table needs no mask of its size.
_CHUNK = 2**24


def not_finite(model: nn.Module, batch: Batch, *, step: int, what: str) -> str:
    """Returns the message that says where numbers are not finite, and what to do.

    NOTE: it may be one process of several that comes here, so that nothing may wait for the others.

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
    names = weights_not_finite(model.state_dict())
    if names:
        return f"{message}: {names} are not finite, training has diverged before; {ADVICE}"
    whose = " of this process" if is_sharded(model) else ""
    return (
        f"{message}: the dense values of the batch and the weights{whose} are finite, the arithmetic on them"
        f" is not; {ADVICE};"
        " `trainer.detect_anomaly=true` names the feature or operation that it begins with"
    )


def weights_not_finite(state: Mapping[str, Any]) -> str | None:
    """Names the tables and weights in a state dictionary that hold numbers that are none, if there are any.

    Of sharded tables, those parts are looked at that this process holds.
    """
    names = sorted({name for name, tensor in own_tensors(state) if not _is_finite(tensor)})
    tables = [name.partition(_TABLE)[2].removesuffix(".weight") for name in names if _TABLE in name]
    others = [name.removeprefix("model.") for name in names if _TABLE not in name]
    kinds = {"table rows of": tables, "weights": others}
    return " and ".join(f"{kind} {_few(found)}" for kind, found in kinds.items() if found) or None


def _is_finite(tensor: torch.Tensor) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in torch.split(tensor.reshape(-1), _CHUNK))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"`{name}`" for name in names[:_MOST_NAMES]) + more


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


@contextlib.contextmanager
def naming_operations() -> Iterator[None]:
    """Inside, what torch's own detection finds in a backward pass is an error for users, without a traceback.

    Raises:
        ValueError: names the operation; a warning of torch's has shown where it was computed.
    """
    try:
        yield
    except RuntimeError as error:
        operation = _OPERATION.search(str(error))
        if operation is None:
            raise
        raise InputError(
            f"expected finite numbers, but the gradient of `{operation[1]}` is nan: the warning above shows"
            f" where the model does this operation; {ADVICE}"
        ) from error


def _check(name: str, what: str) -> Callable[[torch.Tensor], None]:
    def check(values: torch.Tensor) -> None:
        if not torch.isfinite(values).all():
            rows = (~torch.isfinite(values)).any(dim=1).nonzero().flatten()
            raise InputError(
                f"expected finite numbers, but the {what} of feature `{name}` has none for {len(rows)} of"
                f" {len(values)} examples (the first: {int(rows[0])}); {ADVICE}"
            )

    return check
