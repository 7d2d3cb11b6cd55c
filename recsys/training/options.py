"""TrainerOptions: every key under `trainer.`, with its meaning and default."""

import dataclasses
from typing import Literal

from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class TrainerOptions:
    """Sets how long, on what and how carefully to train.

    Args:
        max_epochs: at most so many passes over the train split.
        max_steps: at most so many steps; -1 for no bound.
        patience: validations without improvement before training stops; null never stops early.
        monitor: validation metric that picks the best checkpoint; null takes the task's own.
        strategy: `single` trains in one process; `sharded` in as many as torchrun starts, fused tables spread
            over them.
        precision: of the arithmetic, in Lightning's names; `auto` is bf16-mixed where the hardware multiplies
            bfloat16 (AVX-512 BF16, AMX, most GPUs) and 32-true elsewhere. Tables are float32 always.
        accelerator: where to run.
        gradient_clip_norm: largest norm of the dense gradients; null does not clip. Fused tables are not
            clipped.
        average_decay: of an exponential moving average of the weights, which is what is validated and kept as
            `best`; 0.99 to 0.999 works, null does not average. Fused tables are not averaged.
        validate_every_epochs: epochs between validations.
        checkpoint_every_steps: `last` is also written after so many steps, beside the end of each epoch; null
            does not.
        log_every_n_steps: steps between lines of the losses in TensorBoard.
        limit_train_batches, limit_val_batches: use only so many, for debugging; null uses all.
        progress_bar: on a terminal; without one, a line an epoch is logged.
        profiler: `simple` prints where the time went.
        deterministic: refuse operations whose result varies between runs.
        detect_anomaly: look for numbers that are not finite in every feature's embedding and gradient, and at
            every operation, and name the first; several times slower.
        projector_items: item embeddings shown in TensorBoard's projector, the most popular ones.
    """

    max_epochs: int = 20
    max_steps: int = -1
    patience: int | None = 3
    monitor: str | None = None
    strategy: Literal["single", "sharded"] = "single"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    gradient_clip_norm: float | None = None
    average_decay: float | None = None
    validate_every_epochs: int = 1
    checkpoint_every_steps: int | None = None
    log_every_n_steps: int = 10
    limit_train_batches: int | None = None
    limit_val_batches: int | None = None
    progress_bar: bool = True
    profiler: Literal["simple", "advanced"] | None = None
    deterministic: bool = False
    detect_anomaly: bool = False
    projector_items: int = 5000

    def __post_init__(self) -> None:
        for key in ("max_epochs", "max_steps"):
            if getattr(self, key) < 1 and getattr(self, key) != -1:
                raise InputError(
                    f"`trainer.{key}` must be at least 1, or -1 for no bound, got {getattr(self, key)}"
                )
        for key in ("validate_every_epochs", "log_every_n_steps"):
            if getattr(self, key) < 1:
                raise InputError(f"`trainer.{key}` must be at least 1, got {getattr(self, key)}")
