"""Sequence encoders: what each state of a sequence of events knows, causally.

Every encoder maps x [P, D] (state 0 and the events, each with what is known after it) and the instants [P] to
states [P, D]; a state depends on itself and the earlier ones of its sequence alone. The P positions are those
of groups of sequences of about one length, padded to the longest of the group, end to end:

    shapes = [(2, 4), (3, 2)]        a b c d | e f g .   h i | j k | l .

Within a group attention is a dense product; everything else sees one long row of positions. A batch so costs
what its events cost, not its number of sequences times the longest. Padding comes last, where nothing before
it can see it.

Legend: B sequences, S states of the longest, P positions, D width, H heads.
"""

import math
from typing import Final, List, Literal  # noqa: UP035 (scripted)

import torch
from torch import nn
from torch.nn import functional

from recsys.nn.dropout import Dropout
from recsys.nn.packing import Shapes, groups_of
from recsys.nn.recurrent import RecurrentEncoder
from recsys.schema.errors import InputError

HistoryEncoder = Literal["mean", "attention", "transformer", "hstu", "gru"]

# Relative positions and time gaps (powers of two, in seconds) that attention can tell apart.
NUM_DISTANCES: Final[int] = 128
NUM_GAPS: Final[int] = 32


def sequence_encoder(
    kind: HistoryEncoder, *, width: int, blocks: int, heads: int, dropout: float
) -> nn.Module:
    """The encoder of this kind.

    Args:
        kind: `mean` of all so far; `attention`, one block of causal self-attention; `transformer`, `blocks`
            of them with feed-forward layers (Kang and McAuley, 2018, SASRec, arXiv 1808.09781, with the norms
            before each part); `hstu`, `blocks` of pointwise aggregated attention with relative time (Zhai et
            al., 2024, arXiv 2402.17152, equations 1 to 4); `gru`, `blocks` layers of gated recurrent units
            (`recsys.nn.recurrent`).
        width: D, a multiple of `heads`.
        blocks: of `transformer`, `hstu` and `gru`.
        heads: of attention.
        dropout: in training, of attention's weights and of each part's output.

    Raises:
        ValueError: `heads` does not divide `width`.
    """
    if width % heads:
        raise InputError(f"`model.num_heads` must divide `model.embedding_dim` ({width}), got {heads}")
    if kind == "mean":
        return _RunningMean(width, dropout=dropout)
    if kind == "gru":
        return RecurrentEncoder(width, layers=blocks, dropout=dropout)
    if kind == "attention":
        return _Stack([AttentionBlock(width, heads=heads, dropout=dropout, has_feed_forward=False)], width)
    block = HSTUBlock if kind == "hstu" else AttentionBlock
    return _Stack([block(width, heads=heads, dropout=dropout) for _ in range(blocks)], width)


def log_gaps(seconds: torch.Tensor, num_buckets: int = NUM_GAPS) -> torch.Tensor:
    """Buckets 1 to `num_buckets` - 1 of time gaps: 1 + floor(log2(1 + seconds)); negative gaps count as 0.

    Example:
        >>> log_gaps(torch.tensor([0.0, 1.0, 3600.0, 1e12])).tolist()
        [1, 2, 12, 31]
    """
    return (1 + torch.log2(1 + seconds.clamp(min=0)).floor()).clamp(max=num_buckets - 1).long()


class _RunningMean(nn.Module):
    """x + MLP(mean of x so far), each with its norm."""

    def __init__(self, width: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), Dropout(dropout),
            nn.Linear(2 * width, width),
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, x_PD: torch.Tensor, instants_P: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        """States [P, D]."""
        means: List[torch.Tensor] = []  # noqa: UP006
        for x_BSD in groups_of(x_PD, shapes):
            counts_S1 = torch.arange(1, x_BSD.size(1) + 1, device=x_BSD.device, dtype=x_BSD.dtype)[:, None]
            means.append((x_BSD.cumsum(dim=1) / counts_S1).flatten(0, 1))
        mean_PD = torch.cat(means)
        states: torch.Tensor = self.norm(mean_PD + self.layers(mean_PD))
        return states


class _Stack(nn.Module):
    """Blocks one after the other, a norm at the end."""

    def __init__(self, blocks: list[nn.Module], width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)

    def forward(self, x_PD: torch.Tensor, instants_P: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        """States [P, D]."""
        for block in self.blocks:
            x_PD = block(x_PD, instants_P, shapes)
        states: torch.Tensor = self.norm(x_PD)
        return states


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); a learned bias for each distance."""

    def __init__(self, width: int, *, heads: int, dropout: float, has_feed_forward: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.weight_dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        self.feed_forward = (
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, 4 * width),
                nn.GELU(),
                Dropout(dropout),
                nn.Linear(4 * width, width),
                Dropout(dropout),
            )
            if has_feed_forward
            else None
        )

    def forward(self, x_PD: torch.Tensor, instants_P: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        """States [P, D]."""
        width = x_PD.size(1)
        parts = self.queries_keys_values(self.norm(x_PD)).view(-1, 3, self.heads, width // self.heads)
        attended: List[torch.Tensor] = []  # noqa: UP006
        for own in groups_of(parts, shapes):
            q, k, v = own.permute(2, 0, 3, 1, 4).unbind(0)
            values = self.attend(q, k, v)
            attended.append(values.transpose(1, 2).reshape(-1, width))
        x_PD = x_PD + self.dropout(self.out(torch.cat(attended)))
        if self.feed_forward is not None:
            x_PD = x_PD + self.feed_forward(x_PD)
        return x_PD

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Values [B, H, S, D / H] that each state finds among itself and the earlier ones."""
        if not self.training or self.weight_dropout.rate == 0.0 or q.device.type != "cpu":
            rate = self.weight_dropout.rate if self.training else 0.0
            return functional.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        # With dropout torch has no fused kernel on a CPU: the same arithmetic, with masks drawn quickly.
        size = q.size(2)
        later_SS = torch.ones(size, size, dtype=torch.bool).triu(1)
        scores_BHSS = (q / math.sqrt(q.size(3))) @ k.transpose(2, 3)
        weights_BHSS = scores_BHSS.masked_fill(later_SS, -math.inf).softmax(dim=3)
        mixed: torch.Tensor = self.weight_dropout(weights_BHSS) @ v
        return mixed


class HSTUBlock(nn.Module):
    """x + out(norm(A v) * u) with A = silu(q k^T + bias of position and time) / s; u, v, q, k see norm(x)."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.gates_and_values = nn.Linear(width, 4 * width)
        self.by_distance = nn.Embedding(NUM_DISTANCES, heads)
        self.by_gap = nn.Embedding(NUM_GAPS, heads)
        nn.init.zeros_(self.by_distance.weight)
        nn.init.zeros_(self.by_gap.weight)
        self.norm_found = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x_PD: torch.Tensor, instants_P: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        """States [P, D]."""
        width = x_PD.size(1)
        gates_and_values = functional.silu(self.gates_and_values(self.norm(x_PD)))
        u_PD, qkv_PE = gates_and_values.split_with_sizes([width, 3 * width], dim=1)
        instants = groups_of(instants_P, shapes)
        aggregated: List[torch.Tensor] = []  # noqa: UP006
        for number, own in enumerate(groups_of(qkv_PE, shapes)):
            q, k, v = own.chunk(3, dim=2)
            scores_BHSS = self.split(q) @ self.split(k).transpose(2, 3) / math.sqrt(width / self.heads)
            scores_BHSS = scores_BHSS + self.bias(instants[number])
            size = own.size(1)
            seen_SS = torch.ones(size, size, device=own.device, dtype=own.dtype).tril()
            weights_BHSS = functional.silu(scores_BHSS) * (seen_SS / seen_SS.sum(dim=1, keepdim=True))
            aggregated.append((weights_BHSS @ self.split(v)).transpose(1, 2).reshape(-1, width))
        gated_PD = self.dropout(self.norm_found(torch.cat(aggregated)) * u_PD)
        mixed: torch.Tensor = x_PD + self.out(gated_PD)
        return mixed

    def split(self, x_BSD: torch.Tensor) -> torch.Tensor:
        """[B, H, S, D / H]."""
        return x_BSD.view(x_BSD.size(0), x_BSD.size(1), self.heads, -1).transpose(1, 2)

    def bias(self, instants_BS: torch.Tensor) -> torch.Tensor:
        """[B, H, S, S] of how far back each position is, in events and in time."""
        places_S = torch.arange(instants_BS.size(1), device=instants_BS.device)
        farthest = self.by_distance.num_embeddings - 1
        distances_SS = (places_S[:, None] - places_S[None, :]).clamp(min=0, max=farthest)
        gaps_BSS = log_gaps(instants_BS[:, :, None] - instants_BS[:, None, :])
        biases_BSSH = self.by_distance(distances_SS)[None] + self.by_gap(gaps_BSS)
        bias: torch.Tensor = biases_BSSH.permute(0, 3, 1, 2)
        return bias
