"""Retrieval losses by the short names that `task.loss` takes; others are named by `_target_`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from recsys.losses.bpr import BPR
from recsys.losses.candidates import RetrievalLoss
from recsys.losses.full_softmax import FullSoftmax
from recsys.losses.gbce import GBCE
from recsys.losses.sampled_softmax import InBatchSoftmax, SampledSoftmax
from recsys.schema.errors import InputError

LossName = Literal["auto", "full_softmax", "sampled_softmax", "in_batch_softmax", "bpr", "gbce"]


def named_loss(name: LossName, *, calibration: float, label_smoothing: float) -> RetrievalLoss:
    """The loss of a name; `auto` is settled by the task, which knows the size of the catalogue.

    Raises:
        ValueError: label smoothing is wanted of a loss that compares with a part of the catalogue.
    """
    losses: Mapping[str, Callable[[], RetrievalLoss]] = {
        "full_softmax": partial(FullSoftmax, label_smoothing=label_smoothing),
        "sampled_softmax": SampledSoftmax,
        "in_batch_softmax": InBatchSoftmax,
        "bpr": BPR,
        "gbce": partial(GBCE, calibration=calibration),
    }
    if label_smoothing and name != "full_softmax":
        raise InputError(
            f"`task.label_smoothing={label_smoothing}` spreads the target over the whole catalogue: "
            f"it needs `task.loss=full_softmax`, got `{name}`"
        )
    return losses[name]()
