"""Reading a model's weights out of a checkpoint."""

import ctypes
import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recsys.nn.cold_start import EventCounts
from recsys.nn.embeddings import FeatureTables
from recsys.nn.neighbours import Neighbours
from recsys.schema.errors import InputError

# Types of what Lightning keeps in a checkpoint, where it is there.
_KINDS = {
    **{"state_dict": dict, "callbacks": dict, "loops": dict, "optimizer_states": list, "lr_schedulers": list},
    **{"epoch": int, "global_step": int, "pytorch-lightning_version": str},
}
Weights = dict[str, torch.Tensor]


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Puts the weights of `checkpoint` into `model`; names are the same for plain and fused tables.

    Raises:
        ValueError: the file is missing or damaged, or its weights do not fit the model.
    """
    weights = read_weights(checkpoint)
    own = model.state_dict()
    misfits = [f"it has no `{name}`" for name in own if name not in weights]
    misfits += [f"it has a `{name}`, which the model lacks" for name in weights if name not in own]
    misfits += [
        f"its `{name}` is {list(weights[name].shape)}, the model's {list(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if misfits:
        raise InputError(
            f"checkpoint `{checkpoint}` does not fit the model of its `config.yaml`: {'; '.join(misfits)}"
        )
    for name, value in weights.items():
        model.load_state_dict({name: value}, strict=False)
        _let_go(value)


def read_weights(checkpoint: Path) -> Weights:
    """The weights in `checkpoint`, by their names in the model.

    Raises:
        InputError: see `read_checkpoint`.
    """
    weights = read_checkpoint(checkpoint)["state_dict"]
    return {name.removeprefix("model."): value for name, value in weights.items()}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what a checkpoint holds, by name; large tensors stay on disk until they are copied.

    Raises:
        InputError: it is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"expected a checkpoint at `{path}`, found none; train the run again or resume it")
    content, damage = load_checkpoint(path)
    if damage is not None:
        raise InputError(f"checkpoint `{path}` is damaged ({damage}); use another of that folder")
    return content


def load_checkpoint(path: Path) -> tuple[dict[str, Any], str | None]:
    """Reads what a file holds, and says what is wrong where it is no whole checkpoint."""
    if path.exists() and not path.is_file():
        return {}, "it is not a plain file"
    try:
        with zipfile.ZipFile(path):  # or says why not better than torch, which asks for another `mmap`
            pass
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # each kind of damage has its own
        return {}, (str(error) or repr(error)).splitlines()[0]
    if not isinstance(content, dict) or "state_dict" not in content:
        return {}, "it holds no weights"
    for name, kind in _KINDS.items():
        if name in content and not isinstance(content[name], kind):
            return {}, f"expected {kind.__name__} for its `{name}`, found {type(content[name]).__name__}"
    odd = [name for name, value in content["state_dict"].items() if not isinstance(value, torch.Tensor)]
    return content, f"its `{odd[0]}` is no tensor" if odd else None


def _let_go(mapped: torch.Tensor) -> None:
    """Takes the pages of a tensor that is mapped from a file out of this process's resident set.

    NOTE: else the file would count beside the model it was copied to, twice the memory of large tables.
    """
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    begin = -(-mapped.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    size = (mapped.data_ptr() + mapped.nbytes - begin) // mmap.PAGESIZE * mmap.PAGESIZE
    if size > 0:
        advise = ctypes.CDLL(None).madvise
        advise(ctypes.c_void_p(begin), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def grow_weights(model: nn.Module, weights: Weights, rows: Mapping[str, torch.Tensor]) -> None:
    """Puts weights of a model of an earlier dataset into the same model of a newer one.

    Tables take over the rows of what they knew; what is new starts as the earlier out-of-vocabulary row.
    Counts of events and neighbours are those of the newer dataset. Everything else is copied as it is.

    Args:
        model: of the newer dataset, its tables plain.
        weights: of the earlier one.
        rows: for each table of a feature, the row that each of its rows had; see `recsys.data.growth`.

    Raises:
        ValueError: the weights do not fit; every difference is named.
    """
    origins, counted = _origins(model, rows), _counted(model)
    grown: Weights = {}
    misfits = [
        f"it has a `{name}`, which the model lacks" for name in weights if name not in model.state_dict()
    ]
    for name, own in model.state_dict().items():
        value = weights.get(name)
        if value is None:
            misfits.append(f"it has no `{name}`")
        elif name in counted:
            grown[name] = own
        elif name in origins and value.shape[1:] == own.shape[1:] and len(value) > origins[name].max():
            grown[name] = value[origins[name]]
        elif value.shape == own.shape:
            grown[name] = value
        else:
            misfits.append(f"its `{name}` is {list(value.shape)}, the model's {list(own.shape)}")
    misfits += _moved_crosses(model, rows)
    if misfits:
        raise InputError(f"the weights of `init_from` do not fit the model: {'; '.join(misfits)}")
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


def _counted(model: nn.Module) -> set[str]:
    """Names, in the model's weights, of what a dataset says of events."""
    return {
        f"{name}.{buffer}"
        for name, module in model.named_modules()
        if isinstance(module, EventCounts | Neighbours)
        for buffer, _ in module.named_buffers()
    }


def _moved_crosses(model: nn.Module, rows: Mapping[str, torch.Tensor]) -> list[str]:
    """Crosses hash rows, so that they mean something only as long as known rows keep their places."""
    renamed = []
    for module in model.modules():
        if not isinstance(module, FeatureTables):
            continue
        table_of = {feature.name: feature.table for feature in module.features}
        for cross in module.crosses:
            moved = [part for part in cross.parts if not _in_place(rows[table_of[part]])]
            if moved:
                shown = ", ".join(f"`{part}`" for part in moved)
                renamed.append(
                    f"the cross `{cross.name}` hashes rows, and those of {shown} have moved; prepare the "
                    "data with `data.extends`"
                )
    return renamed


def _in_place(rows: torch.Tensor) -> bool:
    """True when every row is where it was, or is new."""
    return bool(((rows == torch.arange(len(rows))) | (rows == 0)).all())
