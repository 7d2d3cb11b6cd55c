"""ComparisonOptions: every key under `comparison.`, with its type, meaning and default."""

import dataclasses

from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class ComparisonOptions:
    """Sets how a comparison is tested; resamples, confidence and seed are those of the evaluations.

    Args:
        permutations: random vectors of signs behind every p value of the paired test; the smallest p value is
            one in so many.
    """

    permutations: int = 10_000

    def __post_init__(self) -> None:
        if self.permutations < 100:
            raise InputError(
                "`comparison.permutations` must be at least 100, for p values that can be below 0.01; got "
                f"{self.permutations}"
            )
