"""Full softmax of products: the loss over the whole catalogue, and its gradients, without holding all scores.

B x I scores, written and read again by every step of a softmax and of its gradient, cost more time than the
matrix products. Here a few queries at a time become scores, losses and gradients in place, while their scores
are in the cache.

Legend: B queries, G of them, C of a part, D dimension, P constants of an item, I catalogue without row 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys.losses.candidates import WeightedConstants

# Scores held at once: what a processor's cache has room for; elsewhere what fills a GPU.
_AT_ONCE = {"cpu": 2**20}
_MOST_AT_ONCE = 2**27
_FEWEST_QUERIES = 32


def full_softmax(
    queries_BD: Tensor,
    candidates_ID: Tensor,
    target_rows_B: Tensor,
    *,
    added: WeightedConstants | None = None,
    weights_B: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Weighted mean of log sum_i exp(s_i) - s_target over the catalogue (scalar), s = queries candidates^T.

    The cost is B x I x D: for catalogues of some ten thousand items at most. With smoothing e, a share e of
    the target is spread evenly over all items (Szegedy et al. 2016, arXiv 1512.00567, section 7). Sums are
    of float32 at least; 0 when all weights are 0.

    Args:
        queries_BD: [B, D].
        candidates_ID: [I, D], without row 0, which is no item.
        target_rows_B: [B] int64, the row of each positive among the candidates.
        added: terms of the scores beside the products.
        weights_B: [B], not negative; 1 when None.
        label_smoothing: e, from 0 to 1.

    Example:
        >>> loss = full_softmax(torch.zeros(2, 4), torch.ones(8, 4), torch.tensor([0, 5]))
        >>> round(loss.exp().item(), 5)  # log 8
        8.0
    """
    if weights_B is None:
        weights_B = torch.ones(len(target_rows_B), device=queries_BD.device)
    shares_B = weights_B / weights_B.sum().clamp(min=torch.finfo(weights_B.dtype).tiny)
    if added is None:
        added = WeightedConstants(queries_BD.new_empty(len(queries_BD), 0), ())
    asked = target_rows_B, shares_B, label_smoothing, added.constants
    result = _FullSoftmax.apply(queries_BD, candidates_ID, added.weights_BP, asked)  # type: ignore[no-untyped-call]
    return cast(Tensor, result)


class FullSoftmax:
    """`full_softmax` as a loss that configurations name.

    Args:
        label_smoothing: share of the target that is spread over all items, from 0 to 1.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def of_catalogue(
        self,
        queries_BD: Tensor,
        candidates_ID: Tensor,
        target_rows_B: Tensor,
        *,
        added: WeightedConstants | None = None,
        weights_B: Tensor | None = None,
    ) -> Tensor:
        """Weighted mean over the examples (scalar)."""
        return full_softmax(
            queries_BD,
            candidates_ID,
            target_rows_B,
            added=added,
            weights_B=weights_B,
            label_smoothing=self.label_smoothing,
        )


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries_BD: Tensor, candidates_ID: Tensor, weights_BP: Tensor, asked: Any
    ) -> Tensor:
        device = queries_BD.device.type
        dtype = torch.promote_types(queries_BD.dtype, candidates_ID.dtype)
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            vectors = queries_BD.to(dtype), candidates_ID.to(dtype), weights_BP.to(dtype)
            result = _loss_and_gradients(*vectors, *asked)
        ctx.save_for_backward(result.of_queries_BD, result.of_candidates_ID, result.of_weights_BP)
        ctx.dtypes = queries_BD.dtype, candidates_ID.dtype, weights_BP.dtype
        return result.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (
            (saved * gradient).to(dtype) for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return *gradients, None


class _LossAndGradients(NamedTuple):
    loss: Tensor
    of_queries_BD: Tensor
    of_candidates_ID: Tensor
    of_weights_BP: Tensor


def _loss_and_gradients(
    queries_BD: Tensor,
    candidates_ID: Tensor,
    weights_BP: Tensor,
    target_rows_B: Tensor,
    shares_B: Tensor,
    smoothing: float,
    constants: Sequence[tuple[Tensor, Tensor]],
) -> _LossAndGradients:
    """The loss and its gradients, in float32 at least."""
    wide = torch.promote_types(queries_BD.dtype, torch.float32)
    result = _LossAndGradients(
        shares_B.new_zeros((), dtype=wide),
        torch.empty_like(queries_BD, dtype=wide),
        torch.zeros_like(candidates_ID, dtype=wide),
        torch.zeros_like(weights_BP, dtype=wide),
    )
    number = len(candidates_ID)
    size = max(_AT_ONCE.get(queries_BD.device.type, _MOST_AT_ONCE) // max(number, 1), _FEWEST_QUERIES)
    buffer = candidates_ID.new_empty(min(size, len(queries_BD)), number)
    for rows_C, own in _parts(len(queries_BD), size, constants, queries_BD.device):
        queries_CD, shares_C1 = queries_BD[rows_C], shares_B[rows_C, None].to(wide)
        scores_CI = torch.mm(queries_CD, candidates_ID.T, out=buffer[: len(rows_C)]).to(wide)
        for place, constants_IP in own:
            scores_CI[place].addmm_(weights_BP[rows_C[place]].to(wide), constants_IP.to(wide).T)
        result.loss.add_(_become_gradients(scores_CI, target_rows_B[rows_C, None], shares_C1, smoothing))
        gradients_CI = scores_CI.to(queries_CD.dtype)
        result.of_queries_BD[rows_C] = (gradients_CI @ candidates_ID).to(wide)
        for place, constants_IP in own:
            result.of_weights_BP[rows_C[place]] = scores_CI[place] @ constants_IP.to(wide)
        result.of_candidates_ID.add_(gradients_CI.T @ queries_CD)
    return result


def _become_gradients(
    scores_CI: Tensor, target_rows_C1: Tensor, shares_C1: Tensor, smoothing: float
) -> Tensor:
    """The sum of the losses times their shares; the scores become its gradients by them."""
    wanted_C1 = (1 - smoothing) * scores_CI.gather(1, target_rows_C1)
    if smoothing:
        wanted_C1 = wanted_C1 + smoothing * scores_CI.mean(dim=1, keepdim=True)
    highest_C1 = scores_CI.amax(dim=1, keepdim=True)
    sums_C1 = scores_CI.sub_(highest_C1).exp_().sum(dim=1, keepdim=True)
    loss = ((sums_C1.log() + highest_C1 - wanted_C1) * shares_C1).sum()
    scores_CI.mul_(shares_C1 / sums_C1)
    scores_CI.scatter_add_(1, target_rows_C1, (smoothing - 1) * shares_C1)
    if smoothing:
        scores_CI.sub_(smoothing / scores_CI.shape[1] * shares_C1)
    return loss


def _parts(
    number: int, size: int, constants: Sequence[tuple[Tensor, Tensor]], device: torch.device
) -> Iterator[tuple[Tensor, list[tuple[slice, Tensor]]]]:
    """Positions of `size` queries at a time, and where in them which constants hold."""
    order_B = torch.arange(number, device=device)
    if constants:
        order_B = torch.cat([positions for positions, _ in constants])
    ends = list(itertools.accumulate(len(positions) for positions, _ in constants))
    for begin in range(0, number, size):
        end = min(begin + size, number)
        own = [
            (slice(max(last - len(positions), begin) - begin, min(last, end) - begin), constants_IP)
            for last, (positions, constants_IP) in zip(ends, constants, strict=True)
            if last > begin and last - len(positions) < end
        ]
        yield order_B[begin:end], own
