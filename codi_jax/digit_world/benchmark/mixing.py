"""The mix-weight curve: which of two conflicting prompts the output follows.

    c(w) = (1 - w) c_A + w c_B,        w from 0 to 1

The prompt in modality A is that of sample i, the prompt in modality B that of a sample with another value of the
leading factor.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.digit_world import LEADING
from codi_jax.digit_world.judges.readers import Reading

WEIGHTS = np.linspace(0, 1, 11)


def parse_title(title: str) -> tuple[str, str, str]:
    """Parses "A|B->C" to (A, B, C).

    Raises:
      ConfigError: the title does not have this form, or A and B are the same.
    """
    match = re.fullmatch(r"(\w+)\|(\w+)->(\w+)", title)
    if not match or match[1] == match[2]:
        raise ConfigError(f"config.evaluate.mixes: expected A|B->C with two different prompts, got {title!r}")
    return match[1], match[2], match[3]


def conflicting_samples(truth: np.ndarray) -> np.ndarray:
    """For every sample the index of the next one, cyclically, with another value; its own index if there is none."""
    n = len(truth)
    out = np.arange(n)
    for i in range(n):
        out[i] = next(((i + k) % n for k in range(1, n) if truth[(i + k) % n] != truth[i]), i)
    return out


def curve_batch(truth: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The batch for one curve: indices of the prompts in A and in B, and the weight of B, each [batch].

    Every weight has the same `batch` // 11 samples; the remaining rows have weight 0 and are ignored.
    """
    n = batch // len(WEIGHTS)
    row = np.arange(batch) % max(n, 1)
    weight = np.zeros(batch)
    weight[: n * len(WEIGHTS)] = np.repeat(WEIGHTS, n)
    return row, conflicting_samples(truth)[row], weight


def curve(a: str, b: str, truth: Mapping[str, np.ndarray], first: np.ndarray, second: np.ndarray, read: Reading):
    """Accuracy with respect to prompt A and to prompt B, by weight.

    Args:
      a, b: modalities of the prompts.
      truth: factor -> int [N] of the samples.
      first, second: indices of the samples that prompt in A and in B [batch], from `curve_batch`.
      read: reading of the outputs [batch].

    Returns:
      {"n", "weights", "digit": {A: […], B: […]}}.
    """
    n = len(first) // len(WEIGHTS)
    rows = slice(n * len(WEIGHTS))

    def follows(indices: np.ndarray) -> list[float]:
        hits = truth[LEADING][indices[rows]] == read.factors[LEADING][rows]
        return [float(rate) for rate in hits.reshape(len(WEIGHTS), n).mean(1)]

    out: dict[str, Any] = {"n": n, "weights": WEIGHTS.tolist()}
    return {**out, LEADING: {a: follows(first), b: follows(second)}}
