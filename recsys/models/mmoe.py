"""MMoE, multi-gate mixture-of-experts, ranking with several labels (Ma et al., KDD 2018).

Experts, MLPs all, read the same inputs; every head mixes them by a softmax gate of its own and ends in a
tower of its own. One expert is a shared bottom (Caruana, 1997). The heads are the label, whose logit comes
first and is what the model ranks by, and the auxiliary labels of the data. What we changed: nothing.

MovieLens-100K, experiment ml100k_mmoe_global_time, mean of seeds 0 to 2 on test:
AUC .6981, GAUC .7169, log loss .6258.

Legend: B examples, D embedding dimension, E experts, W width of their output, H heads.
"""

from collections.abc import Sequence
from typing import Any, Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import MultiHeadModel
from recsys.nn.experts import GatedExperts, Towers
from recsys.nn.fields import Fields, RankingInputs, flat
from recsys.schema.arguments import with_arguments_of
from recsys.schema.errors import InputError
from recsys.schema.features import FeatureSchema


@with_arguments_of(RankingInputs)
class MMoE(MultiHeadModel):
    """Ranking with a head for the label and one for every auxiliary label.

    Args:
        schema: features and labels of the prepared dataset.
        num_experts: E; 1 is a shared bottom, 2 to 8 work.
        hidden: widths of the layers of every expert.
        tower_hidden: widths of the hidden layers of every head.
        inputs: see `RankingInputs`.

    Raises:
        ValueError: no layer for the experts, or no expert.
    """

    auto_sizes = sizes.EXPERTS

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        num_experts: int = 4,
        hidden: Sequence[int] = (128,),
        tower_hidden: Sequence[int] = (32,),
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        if not hidden or num_experts < 1:
            raise InputError(
                "`model.hidden` must name at least one layer and `model.num_experts` be at least 1, got "
                f"{list(hidden)} and {num_experts}"
            )
        self.tables = shared.tables(schema)
        fields = shared.fields(schema)
        num_heads = 1 + len(schema.labels)
        experts = GatedExperts(
            [shared.mlp(fields.width, hidden, last="hidden") for _ in range(num_experts)],
            width=fields.width,
            num_heads=num_heads,
        )
        towers = Towers(shared.mlp(hidden[-1], [*tower_hidden, 1]) for _ in range(num_heads))
        self.labels = schema.labels
        self.head = _MMoEHead(fields, experts=experts, towers=towers)


class _MMoEHead(nn.Module):
    """tower_h(sum over experts e of gate_h,e(x) expert_e(x)) for every head h."""

    def __init__(self, fields: Fields, *, experts: GatedExperts, towers: Towers) -> None:
        super().__init__()
        self.fields = fields
        self.experts = experts
        self.towers = towers

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """[B, H], as `every_head`."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        logits_BH: torch.Tensor = self.towers(self.experts(flat(features_BFD, dense_BN)))
        return logits_BH
