"""Sizes and arrays of `benchmarks.convolutions`, without a framework."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Size:
    """A 3×3 convolution with padding 1: x [batch, height, width, inputs] to [batch, height', width', outputs].

    Attributes:
      count: how many of them a forward pass has.
    """

    batch: int
    height: int
    width: int
    inputs: int
    outputs: int
    stride: int
    count: int = 1

    @property
    def flops(self) -> float:
        """2 · taps that do not read padding · inputs · outputs · batch."""
        taps = 1.0
        for length in (self.height, self.width):
            at = np.arange(0, length, self.stride)[:, None] + np.arange(3) - 1
            taps *= ((at >= 0) & (at < length)).sum()
        return 2 * taps * self.inputs * self.outputs * self.batch

    def __str__(self) -> str:
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{self.batch}×{self.height}×{self.width}, {self.inputs}→{self.outputs}{stride}"


def make_arrays(size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x [B, H, W, I], kernel [3, 3, I, O] and a gradient of y [B, H', W', O]."""
    rng = np.random.default_rng(0)
    out = [-(-length // size.stride) for length in (size.height, size.width)]
    x = rng.standard_normal((size.batch, size.height, size.width, size.inputs), np.float32)
    kernel = rng.standard_normal((3, 3, size.inputs, size.outputs), np.float32) / np.float32(3 * size.inputs**0.5)
    return x, kernel, rng.standard_normal((size.batch, *out, size.outputs), np.float32)
