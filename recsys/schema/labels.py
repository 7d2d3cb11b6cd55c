"""AuxiliaryLabel: something else that is known of an event afterwards, for a further head to learn."""

from __future__ import annotations

import dataclasses
from typing import Literal

# The head that learns the label of `data.label`; auxiliary ones are called as they are declared.
MAIN = "main"


@dataclasses.dataclass(frozen=True)
class AuxiliaryLabel:
    """A label beside the one that says which events are positives.

    Prepared data and batches hold a binary one as 0 or 1 and a numeric one standardised. Where the raw value
    is missing or cannot be read there is null, in batches NaN, and nothing is learnt from that event's label.

    Args:
        name: what its head is called.
        kind: `binary` or `numeric`.
        column: raw column of the interactions.
        transform: of a numeric one; `log` is standardised log(1 + max(x, 0)).
        mean, std: of the transformed train values. Fitted.
    """

    name: str
    kind: Literal["binary", "numeric"]
    column: str
    transform: Literal["standardise", "log"] = "standardise"
    mean: float = 0.0
    std: float = 1.0
