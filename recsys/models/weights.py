"""Reading a model's weights out of a checkpoint."""

from pathlib import Path

import torch
from torch import nn


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Puts the weights of `checkpoint` into `model`; names are the same for plain and fused tables.

    Raises:
        ValueError: the file is missing or damaged, or its weights do not fit the model.
    """
    if not checkpoint.is_file():
        raise ValueError(
            f"expected a checkpoint at `{checkpoint}`, found none; train the run again or resume it"
        )
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(
            f"checkpoint `{checkpoint}` is damaged ({error}); use another of that folder"
        ) from error
    weights = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint `{checkpoint}` does not fit the model of its `config.yaml`: {error}"
        ) from error
