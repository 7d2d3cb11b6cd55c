"""Mixing what behaviour says of a user or an item with what content says, by how much behaviour there is.

    counts      0        1      8     500
    weight      0 ---- .2 --- .6 ---- .9        of behaviour; the rest is content's
    answer      content ............. behaviour

Legend: B examples, D embedding dimension.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

ColdStart = Literal["none", "rule", "gate"]

_HIDDEN = 16
# Where the weight of behaviour is a half before training: about as many events teach an embedding something.
_HALF_AT = 3.0


class Gate(nn.Module):
    """Weight of behaviour: a small network of the logarithm of the events seen and of the content.

    Without an event it is 0, whatever was learnt: there is no behaviour to follow.
    """

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(-torch.tensor(_HALF_AT).log1p())
        self.hidden = nn.Linear(embedding_dim + 1, _HIDDEN)
        self.last = nn.Linear(_HIDDEN, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, content_BD: torch.Tensor, counts_B1: torch.Tensor) -> torch.Tensor:
        """[B, 1], from 0 to 1."""
        log_counts_B1 = counts_B1.log1p()
        hidden_BH = functional.relu(self.hidden(torch.cat([content_BD, log_counts_B1], dim=1)))
        logits_B1 = self.slope * log_counts_B1 + self.offset + self.last(hidden_BH)
        return torch.sigmoid(logits_B1) * (counts_B1 > 0)


class Rule(nn.Module):
    """Weight of behaviour: 1 from so many events on, 0 with fewer."""

    def __init__(self, min_events: int) -> None:
        super().__init__()
        self.min_events = min_events

    def forward(self, content_BD: torch.Tensor, counts_B1: torch.Tensor) -> torch.Tensor:
        """[B, 1], 0 or 1."""
        return (counts_B1 >= self.min_events).to(content_BD.dtype)


class ColdStartMix(nn.Module):
    """(1 - w) content + w behaviour, with w of a gate or a rule; or content + w behaviour.

    Args:
        kind: `gate` or `rule`.
        embedding_dim: D.
        min_events: of the rule.
        keeps_content: whether behaviour is added to the content and does not replace it. What is known stays
            comparable with what is new, whatever behaviour says.
    """

    # A weight in place of the learnt one, for what either side says alone; below 0 for none.
    forced: float

    def __init__(
        self, kind: ColdStart, *, embedding_dim: int, min_events: int, keeps_content: bool = False
    ) -> None:
        super().__init__()
        self.keeps_content = keeps_content
        self.weight = Gate(embedding_dim) if kind == "gate" else Rule(min_events)
        self.forced = -1.0

    def forward(
        self, content_BD: torch.Tensor, behaviour_BD: torch.Tensor, counts_B1: torch.Tensor
    ) -> torch.Tensor:
        """[B, D].

        Args:
            content_BD: of length 1, or 0 where nothing is known.
            behaviour_BD: taken for 0 where there are no events.
            counts_B1: events that the behaviour is made of.
        """
        weight_B1 = self.weights(content_BD, counts_B1)
        behaviour_BD = weight_B1 * behaviour_BD * (counts_B1 > 0)
        if self.keeps_content and self.forced < 0:
            return content_BD + behaviour_BD
        return (1 - weight_B1) * content_BD + behaviour_BD

    def weights(self, content_BD: torch.Tensor, counts_B1: torch.Tensor) -> torch.Tensor:
        """[B, 1] weight of behaviour."""
        weight_B1: torch.Tensor = self.weight(content_BD, counts_B1)
        if self.forced >= 0:
            weight_B1 = torch.full_like(weight_B1, self.forced)
        return weight_B1


class EventCounts(nn.Module):
    """Counts the train positives of each row of an id's table; a look-up beside the tables.

    Args:
        feature: name of the id.
        num_rows: rows of its table; row 0, the unknown one, has none.
    """

    counts: torch.Tensor

    def __init__(self, feature: str, num_rows: int) -> None:
        super().__init__()
        self.feature = feature
        self.register_buffer("counts", torch.zeros(num_rows))

    @property
    def name(self) -> str:
        """Under which the embedded features hold the counts."""
        return f"count_{self.feature}"

    def forward(self, rows_B: torch.Tensor) -> torch.Tensor:
        """[B, 1] float32."""
        return self.counts[rows_B].unsqueeze(1)

    def set(self, rows_I: torch.Tensor, counts_I: torch.Tensor) -> None:
        """Takes the counts of the items of the catalogue.

        Args:
            rows_I: [I] row of the table of each item; several may share one.
            counts_I: [I] train positives.
        """
        self.counts.zero_().index_add_(0, rows_I.to(self.counts.device), counts_I.to(self.counts))
        self.counts[0] = 0
