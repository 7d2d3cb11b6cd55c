"""Trains the same model with plain PyTorch (three ways), TorchRec's DMP, DeepCTR-Torch and torch-rechub.

Each function trains on what a workload's batches hold and returns examples a second. Plain loops and DMP get
batches from memory; the two libraries run their own `fit` with their own loader over arrays in memory, as
their users do.

Legend: B examples, F categorical features.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.bound import mlp
from benchmarks.criteo import CATEGORICAL, DENSE
from benchmarks.harness import quiet, rate_of
from benchmarks.workload import EMBEDDING_DIM, HIDDEN, NUM_TABLES, WIDE_DIM, Workload

Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


class PlainWideDeep(nn.Module):
    """Wide & Deep over torch's own tables.

    Args:
        rows: of every table.
        sparse: gradients of tables hold the rows of the batch only.
    """

    def __init__(self, rows: int, *, sparse: bool) -> None:
        super().__init__()
        self.deep = nn.ModuleList(nn.Embedding(rows, EMBEDDING_DIM, sparse=sparse) for _ in CATEGORICAL)
        self.wide = nn.ModuleList(nn.Embedding(rows, 1, sparse=sparse) for _ in CATEGORICAL)
        self.mlp = mlp()
        self.wide_dense = nn.Linear(len(DENSE), 1)

    def forward(self, rows_FB: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Logits [B]."""
        deep = [table(rows_B) for table, rows_B in zip(self.deep, rows_FB, strict=True)]
        wide_B1 = sum(table(rows_B) for table, rows_B in zip(self.wide, rows_FB, strict=True))
        return (self.mlp(torch.cat([*deep, dense], dim=1)) + wide_B1 + self.wide_dense(dense)).squeeze(1)


def dense_adam(workload: Workload, steps: int) -> float:
    """Adam over everything: every row of every table moves every step."""
    model = PlainWideDeep(workload.rows, sparse=False)
    return _loop(model, [torch.optim.Adam(model.parameters())], workload, steps)


def sparse_adam(workload: Workload, steps: int) -> float:
    """`sparse=True` with SparseAdam for the tables, Adam for the rest."""
    model = PlainWideDeep(workload.rows, sparse=True)
    tables, rest = _divided(model)
    return _loop(model, [torch.optim.SparseAdam(tables), torch.optim.Adam(rest)], workload, steps)


def sparse_adagrad(workload: Workload, steps: int) -> float:
    """`sparse=True` with Adagrad for the tables, Adam for the rest."""
    model = PlainWideDeep(workload.rows, sparse=True)
    tables, rest = _divided(model)
    return _loop(model, [torch.optim.Adagrad(tables), torch.optim.Adam(rest)], workload, steps)


def torchrec_dmp(workload: Workload, steps: int) -> float:
    """TorchRec's DistributedModelParallel in one process on gloo, tables fused with row-wise Adagrad."""
    import torchrec
    from torchrec import KeyedJaggedTensor
    from torchrec.distributed import DistributedModelParallel
    from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

    collection = torchrec.EmbeddingBagCollection(
        tables=[
            torchrec.EmbeddingBagConfig(
                name=f"{part}_{name}",
                num_embeddings=workload.rows,
                embedding_dim=dim,
                feature_names=[f"{part}_{name}"],
            )
            for part, dim in (("deep", EMBEDDING_DIM), ("wide", WIDE_DIM))
            for name in CATEGORICAL
        ]
    )
    apply_optimizer_in_backward(torchrec.optim.RowWiseAdagrad, collection.parameters(), {"lr": 0.05})
    keys = [config.feature_names[0] for config in collection.embedding_bag_configs()]
    lengths = torch.ones(len(keys) * workload.batch_size, dtype=torch.int32)
    head, wide_dense = mlp(), nn.Linear(len(DENSE), 1)
    optimizer = torch.optim.Adam([*head.parameters(), *wide_dense.parameters()])
    with _one_process():
        sharded = DistributedModelParallel(collection, device=torch.device("cpu"), plan=_plan(collection))

        def step(rows_FB: torch.Tensor, dense: torch.Tensor, labels_B: torch.Tensor) -> None:
            ids = KeyedJaggedTensor(keys=keys, values=rows_FB.view(-1).repeat(2), lengths=lengths)
            values = sharded(ids).values()
            deep, wide = values.split([NUM_TABLES * EMBEDDING_DIM, NUM_TABLES * WIDE_DIM], dim=1)
            wide_B1 = wide.sum(dim=1, keepdim=True) / WIDE_DIM + wide_dense(dense)
            logits_B = (head(torch.cat([deep, dense], dim=1)) + wide_B1).squeeze(1)
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(logits_B, labels_B).backward()
            optimizer.step()

        return _rate(step, workload, steps)


def deepctr(workload: Workload, steps: int) -> float:
    """DeepCTR-Torch's WDL, `compile("adam")` and `fit`."""
    import requests

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("a benchmark does not go to the network")

    requests.get = refuse  # it asks PyPI for its newest version when it is imported
    from deepctr_torch.inputs import DenseFeat, SparseFeat
    from deepctr_torch.models import WDL

    columns = [SparseFeat(name, workload.rows, embedding_dim=EMBEDDING_DIM) for name in CATEGORICAL]
    columns += [DenseFeat(name, 1) for name in DENSE]
    model = WDL(columns, columns, dnn_hidden_units=HIDDEN)
    model.compile("adam", "binary_crossentropy")

    def fit(columns: dict[str, np.ndarray], labels_B: np.ndarray) -> None:
        model.fit(columns, labels_B, batch_size=workload.batch_size, epochs=1, verbose=0)

    return _fit_rate(fit, workload, steps)


def rechub(workload: Workload, steps: int) -> float:
    """torch-rechub's WideDeep and CTRTrainer."""
    from torch_rechub.basic.features import DenseFeature, SparseFeature
    from torch_rechub.models.ranking import WideDeep
    from torch_rechub.trainers import CTRTrainer
    from torch_rechub.utils.data import DataGenerator

    sparse = [SparseFeature(name, vocab_size=workload.rows, embed_dim=EMBEDDING_DIM) for name in CATEGORICAL]
    dense = [DenseFeature(name) for name in DENSE]
    model = WideDeep(sparse, sparse + dense, {"dims": list(HIDDEN), "dropout": 0.0, "activation": "relu"})
    trainer = CTRTrainer(model, optimizer_params={"lr": 1e-3}, device="cpu")

    def fit(columns: dict[str, np.ndarray], labels_B: np.ndarray) -> None:
        loader, _, _ = DataGenerator(columns, labels_B).generate_dataloader(
            x_val=columns, y_val=labels_B, x_test=columns, y_test=labels_B, batch_size=workload.batch_size
        )
        trainer.train_one_epoch(loader)

    return _fit_rate(fit, workload, steps)


LOOPS: dict[str, Callable[[Workload, int], float]] = {
    "torch, dense Adam": dense_adam,
    "torch, SparseAdam": sparse_adam,
    "torch, sparse Adagrad": sparse_adagrad,
    "torchrec DMP": torchrec_dmp,
    "DeepCTR-Torch": deepctr,
    "torch-rechub": rechub,
}


def _divided(model: PlainWideDeep) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    tables = [*model.deep.parameters(), *model.wide.parameters()]
    return tables, [*model.mlp.parameters(), *model.wide_dense.parameters()]


def _loop(model: nn.Module, optimizers: list[torch.optim.Optimizer], workload: Workload, steps: int) -> float:
    def step(rows_FB: torch.Tensor, dense: torch.Tensor, labels_B: torch.Tensor) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(rows_FB, dense), labels_B).backward()
        for optimizer in optimizers:
            optimizer.step()

    return _rate(step, workload, steps)


def _rate(step: Step, workload: Workload, steps: int) -> float:
    batches = workload.batches()
    return rate_of(
        lambda number: step(*batches[number % len(batches)]),
        units=workload.batch_size,
        steps=steps,
        warmup=2,
    )


def _fit_rate(
    fit: Callable[[dict[str, np.ndarray], np.ndarray], None], workload: Workload, steps: int
) -> float:
    """Examples a second of fitting `steps` batches, after one that does not count."""
    rows_FN, dense, labels_N = (
        torch.cat(parts, dim=axis).numpy()
        for parts, axis in zip(zip(*workload.batches(), strict=True), (1, 0, 0), strict=True)
    )
    columns = dict(zip(CATEGORICAL, rows_FN, strict=True)) | dict(zip(DENSE, dense.T.copy(), strict=True))
    size = workload.batch_size

    def first(num_rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        positions = np.arange(num_rows) % len(labels_N)
        return {name: values[positions] for name, values in columns.items()}, labels_N[positions]

    fit(*first(size))
    examples = first(steps * size)
    started = time.perf_counter()
    fit(*examples)
    return steps * size / (time.perf_counter() - started)


def _plan(collection: nn.Module) -> object:
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
    from torchrec.distributed.planner.types import ParameterConstraints

    # Left alone the planner makes small tables data parallel, and they do not train.
    fused = ParameterConstraints(sharding_types=["table_wise"], compute_kernels=["fused"])
    constraints = {config.name: fused for config in collection.embedding_bag_configs()}
    planner = EmbeddingShardingPlanner(topology=Topology(1, "cpu"), constraints=constraints)
    return planner.plan(collection, [EmbeddingBagCollectionSharder()])


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    with quiet(), tempfile.TemporaryDirectory() as folder:
        place = f"file://{os.path.join(folder, 'store')}"
        torch.distributed.init_process_group("gloo", init_method=place, rank=0, world_size=1)
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()
