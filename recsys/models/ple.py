"""PLE, progressive layered extraction, ranking with several labels (Tang et al., RecSys 2020).

Every head has experts of its own beside those that all share, so that labels that disagree do not pull one
expert to and fro; levels of them stand on one another, and a head ends in a tower of its own. The heads are
the label, whose logit comes first and is what the model ranks by, and the auxiliary labels of the data. What
we changed: nothing.

MovieLens-100K, the settings of experiment ml100k_dcn_v2_global_time with one label, seed 0 on test:
AUC .6980, GAUC .7156, log loss .6245.

Legend: B examples, V width of the input, W width of experts, H heads, E experts that a gate mixes.
"""

from collections.abc import Sequence
from typing import Any, Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import MultiHeadModel
from recsys.nn.experts import Experts, Towers
from recsys.nn.fields import Fields, RankingInputs, flat
from recsys.schema.arguments import with_arguments_of
from recsys.schema.errors import InputError
from recsys.schema.features import FeatureSchema


@with_arguments_of(RankingInputs)
class PLE(MultiHeadModel):
    """Ranking with a head for the label and one for every auxiliary label, with experts of their own.

    Args:
        schema: features and labels of the prepared dataset.
        num_shared_experts: that all heads share; 1 or 2 work.
        num_own_experts: of every head; 1 or 2 work.
        num_levels: of experts on one another; 1 is the paper's CGC, 2 works.
        hidden: widths of the layers of every expert.
        tower_hidden: widths of the hidden layers of every head.
        inputs: see `RankingInputs`.

    Raises:
        ValueError: no layer for the experts, no expert or no level.
    """

    auto_sizes = sizes.EXPERTS

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        num_shared_experts: int = 2,
        num_own_experts: int = 1,
        num_levels: int = 2,
        hidden: Sequence[int] = (64,),
        tower_hidden: Sequence[int] = (32,),
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        if not hidden or min(num_shared_experts, num_own_experts, num_levels) < 1:
            raise InputError(
                "`model.hidden` must name at least one layer, and `model.num_shared_experts`, "
                "`model.num_own_experts` and `model.num_levels` be at least 1, got "
                f"{list(hidden)}, {num_shared_experts}, {num_own_experts} and {num_levels}"
            )
        self.tables = shared.tables(schema)
        fields = shared.fields(schema)
        num_heads = 1 + len(schema.labels)
        widths = [fields.width, *[hidden[-1]] * (num_levels - 1)]

        groups = [*[num_own_experts] * num_heads, num_shared_experts]
        levels = [
            ExtractionLevel(
                [[shared.mlp(width, hidden, last="hidden") for _ in range(number)] for number in groups],
                width=width,
                is_last=level == num_levels - 1,
            )
            for level, width in enumerate(widths)
        ]
        towers = Towers(shared.mlp(hidden[-1], [*tower_hidden, 1]) for _ in range(num_heads))
        self.labels = schema.labels
        self.head = _PLEHead(fields, levels=levels, towers=towers)


class _PLEHead(nn.Module):
    """tower_h(levels(x)_h) for every head h."""

    def __init__(self, fields: Fields, *, levels: Sequence[nn.Module], towers: Towers) -> None:
        super().__init__()
        self.fields = fields
        self.levels = nn.ModuleList(levels)
        self.towers = towers

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """[B, H], as `every_head`."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        inputs_BV = flat(features_BFD, dense_BN)
        # One input for every head and, last, one for what they share: the same at the first level.
        inputs_BHV = inputs_BV[:, None].expand(-1, len(self.towers) + 1, -1)
        for level in self.levels:
            inputs_BHV = level(inputs_BHV)
        logits_BH: torch.Tensor = self.towers(inputs_BHV)
        return logits_BH


class ExtractionLevel(nn.Module):
    """Mixes, for every head, its own and the shared experts; and for what is shared, all of them.

    Args:
        experts: own ones of every head, then the shared ones; each [B, V] -> [B, W].
        width: V.
        is_last: leaves out what is shared, which nobody reads any more.
    """

    def __init__(self, experts: Sequence[Sequence[nn.Module]], *, width: int, is_last: bool) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Experts(group) for group in experts)
        *own, shared = [len(group) for group in experts]
        sizes_of_gates = [size + shared for size in own] + ([] if is_last else [sum(own) + shared])
        self.gates = nn.ModuleList(nn.Linear(width, size, bias=False) for size in sizes_of_gates)

    def forward(self, inputs_BHV: torch.Tensor) -> torch.Tensor:
        """[B, H + 1, W], what is shared last; [B, H, W] at the last level."""
        outputs = [experts(inputs_BHV[:, group]) for group, experts in enumerate(self.experts)]
        mixed = []
        for group, gate in enumerate(self.gates):
            if group < len(outputs) - 1:
                read_BEW = torch.cat([outputs[group], outputs[-1]], dim=1)
            else:
                read_BEW = torch.cat(outputs, dim=1)
            weights_BE = torch.softmax(gate(inputs_BHV[:, group]), dim=1)
            mixed.append(torch.bmm(weights_BE[:, None], read_BEW).squeeze(1))
        return torch.stack(mixed, dim=1)
