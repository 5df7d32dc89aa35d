"""The mix-weight curve: two prompts that disagree, and whom the output follows.

    c(w) = (1 - w) c_A + w c_B,        w from 0 to 1

Sample i prompts by A, and another sample, of another value of the leading factor, by B.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.digit_world import LEADING
from codi_jax.evaluate.readers import Reading

WEIGHTS = np.linspace(0, 1, 11)


def parse_title(title: str) -> tuple[str, str, str]:
    """A, B and C of "A|B->C".

    Raises:
      ConfigError: the title is not of that form.
    """
    found = re.fullmatch(r"(\w+)\|(\w+)->(\w+)", title)
    if not found or found[1] == found[2]:
        raise ConfigError(f"config.evaluate.mixes: expected A|B->C with two different prompts, got {title!r}")
    return found[1], found[2], found[3]


def conflicting_samples(truth: np.ndarray) -> np.ndarray:
    """For every sample the next one, cyclically, of another value; itself if there is none."""
    n = len(truth)
    out = np.arange(n)
    for i in range(n):
        out[i] = next(((i + k) % n for k in range(1, n) if truth[(i + k) % n] != truth[i]), i)
    return out


def curve_batch(truth: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The batch that draws one curve: samples that prompt by A and by B, and the weight of B, each [batch].

    `batch` // 11 samples stand at every weight; rows left over repeat the first ones at weight 0.
    """
    n = batch // len(WEIGHTS)
    row = np.arange(batch) % max(n, 1)
    weight = np.zeros(batch)
    weight[: n * len(WEIGHTS)] = np.repeat(WEIGHTS, n)
    return row, conflicting_samples(truth)[row], weight


def curve(a: str, b: str, truth: Mapping[str, np.ndarray], first: np.ndarray, second: np.ndarray, read: Reading):
    """{"n", "weights", "digit": {A: […], B: […]}}: how often the output shows what A, and what B says, by weight."""
    n = len(first) // len(WEIGHTS)
    at = slice(n * len(WEIGHTS))

    def follows(rows_: np.ndarray) -> list[float]:
        hits = truth[LEADING][rows_[at]] == read.factors[LEADING][at]
        return [float(rate) for rate in hits.reshape(len(WEIGHTS), n).mean(1)]

    found: dict[str, Any] = {"n": n, "weights": WEIGHTS.tolist()}
    return {**found, LEADING: {a: follows(first), b: follows(second)}}
