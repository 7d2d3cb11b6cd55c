"""Reading a model's weights out of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from recsys.nn.embeddings import FeatureTables

Weights = dict[str, torch.Tensor]


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Puts the weights of `checkpoint` into `model`; names are the same for plain and fused tables.

    Raises:
        ValueError: the file is missing or damaged, or its weights do not fit the model.
    """
    try:
        model.load_state_dict(read_weights(checkpoint))
    except RuntimeError as error:
        raise ValueError(
            f"checkpoint `{checkpoint}` does not fit the model of its `config.yaml`: {error}"
        ) from error


def read_weights(checkpoint: Path) -> Weights:
    """The weights in `checkpoint`, by their names in the model.

    Raises:
        ValueError: the file is missing or damaged.
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
    return {name.removeprefix("model."): value for name, value in content["state_dict"].items()}


def grow_weights(model: nn.Module, weights: Weights, rows: Mapping[str, torch.Tensor]) -> None:
    """Puts weights of a model of an earlier dataset into the same model of a newer one.

    Tables take over the rows of what they knew; what is new starts as the earlier out-of-vocabulary row.
    Everything else is copied as it is.

    Args:
        model: of the newer dataset, its tables plain.
        weights: of the earlier one.
        rows: for each table of a feature, the row that each of its rows had; see `recsys.data.growth`.

    Raises:
        ValueError: the weights do not fit; every difference is named.
    """
    origins = _origins(model, rows)
    grown: Weights = {}
    misfits = [
        f"it has a `{name}`, which the model lacks" for name in weights if name not in model.state_dict()
    ]
    for name, own in model.state_dict().items():
        value = weights.get(name)
        if value is None:
            misfits.append(f"it has no `{name}`")
        elif name in origins and value.shape[1:] == own.shape[1:] and len(value) > origins[name].max():
            grown[name] = value[origins[name]]
        elif value.shape == own.shape:
            grown[name] = value
        else:
            misfits.append(f"its `{name}` is {list(value.shape)}, the model's {list(own.shape)}")
    misfits += _moved_crosses(model, rows)
    if misfits:
        raise ValueError(f"the weights of `init_from` do not fit the model: {'; '.join(misfits)}")
    model.load_state_dict(grown)


def _origins(model: nn.Module, rows: Mapping[str, torch.Tensor]) -> Weights:
    """The row each row of a table had, by the table's name in the model's weights; crosses never move."""
    return {
        f"{name}.{module.weight_name(table)}": rows[table]
        for name, module in model.named_modules()
        if isinstance(module, FeatureTables)
        for table in module.tables()
        if table in rows
    }


def _moved_crosses(model: nn.Module, rows: Mapping[str, torch.Tensor]) -> list[str]:
    """Crosses hash rows, so that they mean something only as long as known rows keep their places."""
    found = []
    for module in model.modules():
        if not isinstance(module, FeatureTables):
            continue
        table_of = {feature.name: feature.table for feature in module.features}
        for cross in module.crosses:
            moved = [part for part in cross.parts if not _in_place(rows[table_of[part]])]
            if moved:
                shown = ", ".join(f"`{part}`" for part in moved)
                found.append(
                    f"the cross `{cross.name}` hashes rows, and those of {shown} have moved; prepare the "
                    "data with `data.extends`"
                )
    return found


def _in_place(rows: torch.Tensor) -> bool:
    """True when every row is where it was, or is new."""
    return bool(((rows == torch.arange(len(rows))) | (rows == 0)).all())
