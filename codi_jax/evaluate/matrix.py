"""The any-to-any matrix: prompts of one modality, outputs of another, factor by factor.

For each factor that both carry, and for all of these at once: the accuracy, beside the ceiling (the real media of the
same samples, read by the same reader), chance and a control in which outputs are compared with the prompts of other
samples. For what only the output carries: its entropy, since a model should stay diverse in what nobody asked of it.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.data import digit_world
from codi_jax.evaluate.agreement import agreement, chance, combine, entropy, shuffled
from codi_jax.evaluate.intervals import wilson
from codi_jax.evaluate.readers import Reading


def _row(truth: np.ndarray, generated: np.ndarray, real: np.ndarray, size: int) -> dict[str, Any]:
    accuracy = agreement((truth, generated))
    return {
        "accuracy": accuracy,
        "interval": list(wilson(accuracy, len(truth))),
        "ceiling": agreement((truth, real)),
        "chance": chance((truth, generated), size),
        "shuffled": shuffled((truth, generated)),
    }


def direction(source: str, truth: Mapping[str, np.ndarray], generated: Reading, real: Reading) -> dict[str, Any]:
    """The numbers of one direction.

    Args:
      source: modality of the prompts.
      truth: factor -> int [n], of the samples that the prompts are of.
      generated: what was read off the outputs [n].
      real: what was read off the real media of the same samples.

    Returns:
      {"n", "factors": {factor: row}, "all": row, "free": {factor: {"entropy"}}}, a row being {"accuracy", "interval"
      (95 %), "ceiling", "chance", "shuffled"}; "all" counts outputs that show every shared factor right.
    """
    sizes = {factor: len(values) for factor, values in digit_world.FACTORS.items()}
    shared = [factor for factor in generated.factors if factor in digit_world.CARRIES[source]]
    triples = {factor: (truth[factor], generated.factors[factor], real.factors[factor]) for factor in shared}
    counts = [sizes[factor] for factor in shared]
    (n,) = {len(reading) for reading in generated.factors.values()}
    return {
        "n": n,
        "factors": {factor: _row(*triples[factor], sizes[factor]) for factor in shared},
        "all": _row(
            *(combine(readings, counts) for readings in zip(*triples.values(), strict=True)), math.prod(counts)
        ),
        "free": {
            factor: {"entropy": entropy(reading, sizes[factor])}
            for factor, reading in generated.factors.items()
            if factor not in shared
        },
    }
