"""ShardedStrategy: Lightning trains a model whose tables lie on several processes.

Everything that is done *to* a model to shard it is here; model code is written for one device. Tables with a
fused optimizer are placed by TorchRec's planner and moved by their owners; everything else (the dense
parameters, and tables moved by AdamW) is held by every process, and its gradients are averaged after each
backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import ParallelStrategy
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import ShardingEnv

from recsys.runs.launch import Processes
from recsys.training.optimizers import Optimizers
from recsys.training.tables import draw_weights, load_whole_weights, plain_collections, whole_weights

T = TypeVar("T")

_FUSED = {
    "adagrad": EmbOptimType.EXACT_ADAGRAD,
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "sgd": EmbOptimType.EXACT_SGD,
}


def shard(
    model: nn.Module, optimizers: Optimizers, *, processes: Processes, device: torch.device
) -> nn.Module:
    """`model` with its fused tables placed over all processes; names of parameters stay.

    Args:
        model: plain; tables that are deferred take memory on their owners only.
        optimizers: says which optimizer is fused into the tables, if any.
        processes: all of them call this.
        device: of this process.
    """
    if optimizers.tables == "adamw":
        return model.to(device)
    plain = plain_collections(model)
    weights = {
        name: None if next(collection.parameters()).is_meta else collection.state_dict()
        for name, collection in plain.items()
    }
    fused = {"optimizer": _FUSED[optimizers.tables], "learning_rate": optimizers.table_learning_rate}
    sharders = [EmbeddingBagCollectionSharder(fused_params=fused)]
    planner = EmbeddingShardingPlanner(
        topology=Topology(
            world_size=processes.num_ranks,
            local_world_size=processes.num_local_ranks,
            compute_device=device.type,
        ),
        constraints=_constraints(model, device),
    )
    group = dist.GroupMember.WORLD
    assert group is not None
    plan = planner.collective_plan(model, sharders, group)
    # Without DistributedDataParallel, whose reducer wants every forward pass to go through it: tasks call
    # `encode_queries` and `encode_candidates`.
    parallel = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(group),
        device=device,
        plan=plan,
        sharders=sharders,
        init_data_parallel=False,
        init_parameters=False,
    )
    sharded: nn.Module = parallel.module.to(device)
    for name, kept in weights.items():
        if kept is None:
            draw_weights(sharded, name)
        else:
            load_whole_weights(sharded.get_submodule(name), kept)
    return sharded


def _constraints(model: nn.Module, device: torch.device) -> dict[str, ParameterConstraints]:
    """Limits the planner's choice of sharding and kernel for every table.

    NOTE: left free, the planner replicates small tables with a dense kernel, and the fused optimizer that
        they were to have is dropped without a word. Splitting rows needs CUDA; splitting columns would give
        row-wise Adagrad another state, and so another loss, for another number of processes.
    """
    kinds = ["table_wise"] if device.type == "cpu" else ["table_wise", "row_wise"]
    return {
        config.name: ParameterConstraints(
            sharding_types=kinds, compute_kernels=["fused"], bounds_check_mode=BoundsCheckMode.NONE
        )
        for collection in plain_collections(model).values()
        for config in collection.embedding_bag_configs()
    }


class ShardedStrategy(ParallelStrategy):
    """Trains with sharded tables in the processes of torchrun, or in one process without it.

    Args:
        processes: already joined.
        optimizers: of the task.
    """

    strategy_name = "recsys_sharded"

    def __init__(self, processes: Processes, optimizers: Optimizers) -> None:
        together = processes.num_ranks > 1
        super().__init__(
            cluster_environment=TorchElasticEnvironment() if together else LightningEnvironment()
        )
        self.processes = processes
        self.optimizers_of = optimizers

    @property
    def root_device(self) -> torch.device:
        """Device of this process."""
        assert self.parallel_devices is not None
        return self.parallel_devices[self.local_rank]

    @property
    def is_distributed(self) -> bool:
        """Lightning asks before it reduces what is logged."""
        return self.processes.num_ranks > 1

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Parts of a table can be filled only after they have been placed."""
        return True

    def model_to_device(self) -> None:
        """Shards the model, and gives every process the main one's dense parameters."""
        task = self._task
        task.model = shard(task.model, self.optimizers_of, processes=self.processes, device=self.root_device)
        task.to(self.root_device)
        with torch.no_grad():
            for parameter in self._shared_parameters:
                dist.broadcast(parameter, src=0)
            for buffer in task.buffers():
                dist.broadcast(buffer, src=0)
        # Dropout must not drop the same places in every process.
        torch.manual_seed(torch.initial_seed() + self.processes.rank)

    def post_backward(self, closure_loss: torch.Tensor) -> None:
        """Averages the gradients of what every process holds; fused tables have moved already."""
        gradients = [parameter.grad for parameter in self._shared_parameters if parameter.grad is not None]
        if self.processes.num_ranks == 1 or not gradients:
            return
        flat = torch.cat([gradient.view(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.processes.num_ranks
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, averaged in zip(gradients, parts, strict=True):
            gradient.view(-1).copy_(averaged)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole plain weights, on the main process."""
        return whole_weights(self._task)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Puts whole plain weights where they belong."""
        load_whole_weights(self._task, checkpoint["state_dict"])

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        """Mean or sum over the processes."""
        if not isinstance(tensor, torch.Tensor):
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        if isinstance(reduce_op, str) and reduce_op.lower() in ("mean", "avg"):
            total = total / self.processes.num_ranks
        return total

    def barrier(self, name: str | None = None) -> None:
        """Waits for all."""
        dist.barrier()

    def broadcast(self, obj: T, src: int = 0) -> T:
        """The object of process `src`."""
        box = [obj]
        dist.broadcast_object_list(box, src=src)
        return box[0]

    @property
    def _task(self) -> Any:
        assert self.lightning_module is not None
        return self.lightning_module

    @property
    def _shared_parameters(self) -> list[nn.Parameter]:
        groups = self._task.optimizers_of.groups(self._task.model)
        return [parameter for name in groups if name != "fused" for parameter in groups[name]]
