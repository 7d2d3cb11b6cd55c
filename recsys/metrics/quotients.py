"""quotient: one array over another, where the denominator may be zero."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def quotient(numerator: Any, denominator: Any, *, otherwise: float = np.nan) -> NDArray[np.float64]:
    """The quotient of each element, `otherwise` where the denominator is not above zero.

    Example:
        >>> quotient(np.array([1.0, 1.0]), np.array([2.0, 0.0]), otherwise=0.0).tolist()
        [0.5, 0.0]
    """
    quotients = np.full(np.shape(numerator), float(otherwise))
    np.divide(numerator, denominator, out=quotients, where=np.asarray(denominator) > 0)
    return quotients
