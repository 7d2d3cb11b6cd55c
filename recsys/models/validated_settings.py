"""Settings that validation chooses, one after the other, by the fits of a single training."""

from collections.abc import Sequence

Settings = tuple[float, ...]


def num_settings(axes: Sequence[Sequence[float]]) -> int:
    """Counts the fits of a search: one to begin with, then one for every other value."""
    return 1 + sum(len(axis) - 1 for axis in axes)


def next_settings(axes: Sequence[Sequence[float]], qualities: Sequence[float]) -> Settings:
    """Settings of the next fit: each in turn is varied while the others stay at the best so far.

    Args:
        axes: values of every setting, the one to begin with first.
        qualities: what validation gave the fits before, in their order; more is better. Fewer than
            `num_settings` of the axes.

    Example:
        >>> axes = [0.3, 0.1], [1.0, 2.0, 4.0]
        >>> [next_settings(axes, [0.5, 0.7, 0.6][:number]) for number in range(4)]
        [(0.3, 1.0), (0.1, 1.0), (0.1, 2.0), (0.1, 4.0)]
    """
    tried = [tuple(axis[0] for axis in axes)]
    for position, axis in enumerate(axes):
        best = max(zip(qualities, tried, strict=False), key=lambda pair: pair[0], default=(0.0, tried[0]))[1]
        for value in axis[1:]:
            tried.append((*best[:position], value, *best[position + 1 :]))
            if len(tried) > len(qualities):
                return tried[len(qualities)]
    return tried[len(qualities)]
