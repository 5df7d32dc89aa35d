"""The any-to-any matrix: accuracy by factor, for prompts of one modality and outputs of another.

For each factor that both modalities carry, and for all of these jointly: the accuracy, the ceiling (the accuracy of the
same reader on the real values of the same samples), chance, and a control in which outputs are compared with the
prompts of other samples. For each factor that only the output carries: its entropy, since a model should stay diverse
in factors that the prompt does not determine.

Intervals cluster the samples by the glyph or speaker of the prompt, those of ceilings by that of the output modality's
real value (`metrics.intervals`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codi_jax import digit_world
from codi_jax.digit_world.judges.readers import Reading
from codi_jax.metrics.agreement import Agreement, agrees, combine, entropy, shuffled
from codi_jax.metrics.base import compute
from codi_jax.metrics.intervals import proportion_interval

Clusterings = Sequence[np.ndarray]


def _row(
    truth: np.ndarray, generated: np.ndarray, real: np.ndarray, size: int, prompts: Clusterings, outputs: Clusterings
) -> dict[str, Any]:
    accuracy = proportion_interval(agrees((truth, generated)), prompts)
    ceiling = proportion_interval(agrees((truth, real)), outputs)
    return {
        "accuracy": accuracy.proportion,
        **accuracy.entries(),
        "ceiling": ceiling.proportion,
        "ceiling_interval": list(ceiling.interval),
        "chance": compute(Agreement(2, size), [(truth, generated)])["chance"],
        "shuffled": shuffled((truth, generated)),
    }


def direction(
    source: str,
    truth: Mapping[str, np.ndarray],
    generated: Reading,
    real: Reading,
    prompts: Clusterings = (),
    outputs: Clusterings = (),
) -> dict[str, Any]:
    """The metrics of one direction.

    Args:
      source: modality of the prompts.
      truth: factor -> int [n], of the samples that the prompts come from.
      generated: reading of the outputs [n].
      real: reading of the real values of the output modality for the same samples [n].
      prompts: clusterings of the samples by what prompts share, arrays [n]; see `samples.clusterings`.
      outputs: clusterings by what real values of the output modality share.

    Returns:
      {"n", "factors": {factor: row}, "all": row, "free": {factor: {"entropy"}}} with rows {"accuracy", "interval"
      (95 %), "clusters", "n_effective", "ceiling", "ceiling_interval", "chance", "shuffled"}. "all" counts an output as
      correct if all shared factors are.
    """
    sizes = {factor: len(values) for factor, values in digit_world.FACTORS.items()}
    shared = [factor for factor in generated.factors if factor in digit_world.CARRIES[source]]
    triples = {factor: (truth[factor], generated.factors[factor], real.factors[factor]) for factor in shared}
    counts = [sizes[factor] for factor in shared]
    (n,) = {len(reading) for reading in generated.factors.values()}
    truths, guesses, reals = (combine(readings, counts) for readings in zip(*triples.values(), strict=True))
    return {
        "n": n,
        "factors": {factor: _row(*triples[factor], sizes[factor], prompts, outputs) for factor in shared},
        "all": _row(truths, guesses, reals, math.prod(counts), prompts, outputs),
        "free": {
            factor: {"entropy": entropy(reading, sizes[factor])}
            for factor, reading in generated.factors.items()
            if factor not in shared
        },
    }
