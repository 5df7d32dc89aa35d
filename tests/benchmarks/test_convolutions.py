"""The implementations of a convolution agree, forward and backward, and the sizes are those of the networks."""

import numpy as np
import pytest

from benchmarks.convolutions_cases import Size
from benchmarks.convolutions_jax import IMPLEMENTATIONS, Convolutions, sizes

# Lavin and Gray's F(4×4, 3×3) has coefficients up to 8, which cost digits.
TOLERANCE = {"winograd4": 1e-4}


@pytest.mark.parametrize("size", [Size(2, 5, 7, 3, 4, 1), Size(1, 4, 4, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("backward", [False, True])
def test_implementations_agree(size, backward):
    served = Convolutions()
    reference = served.values("xla", size, backward)
    for name in IMPLEMENTATIONS:
        if size.stride == 1 or not name.startswith("winograd"):
            for value, expected in zip(served.values(name, size, backward), reference, strict=True):
                np.testing.assert_allclose(value, expected, atol=TOLERANCE.get(name, 1e-5) * np.abs(expected).max())


def test_operations_leave_out_padding():
    # 3×3 positions: a corner reads 4 elements, an edge 6, the middle 9.
    assert Size(1, 3, 3, 5, 7, 1).flops == 2 * (4 * 4 + 4 * 6 + 9) * 5 * 7
    assert Size(2, 4, 4, 1, 1, 2).flops == 2 * 2 * (2 + 3) ** 2


def test_sizes_of_stable_diffusion():
    found = sizes("sd", 1, 256)
    assert {(s.height, s.inputs) for s in found} >= {(32, 4), (32, 320), (16, 640), (8, 1280), (4, 2560)}
    # Stem and head, two of each of 22 residual blocks, three down, three up.
    assert sum(s.count for s in found) == 2 + 2 * 22 + 3 + 3
