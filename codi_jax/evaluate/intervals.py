"""How far to trust a proportion: the Wilson interval.

For k of n the p with (p̂ - p)² ≤ z² p(1-p)/n,  p̂ = k/n,  are those between

    ( p̂ + z²/2n ± z √( p̂(1-p̂)/n + z²/4n² ) ) / ( 1 + z²/n )

(Wilson 1927). Unlike p̂ ± z·s.e. it stays within [0, 1] and has a width at 0 of n and at n of n.
"""

import math

Z95 = 1.959963984540054  # two-sided 95 %


def wilson(proportion: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Bounds of a proportion that was seen in n samples."""
    if n < 1 or not 0 <= proportion <= 1:
        raise ValueError(f"expected a proportion of at least one sample, got {proportion} of {n}")
    middle = proportion + z * z / (2 * n)
    half = z * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)
