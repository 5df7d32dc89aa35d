"""Diversity of the outputs within a digit, relative to that of real samples of the same digit.

See `metrics.diversity` for the measure and `benchmark.outputs` for the outputs and their space. The digit is the one
that is read from an output; outputs without a readable digit are left out, so that unreadable ones are not diverse.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from codi_jax.digit_world import FACTORS
from codi_jax.digit_world.benchmark.outputs import CLASSES, flat, or_none, outputs
from codi_jax.metrics.base import compute
from codi_jax.metrics.diversity import ClassMoments, WithinClassDiversity, distinct_share, moments


def measure(samples: Mapping[str, Any]) -> dict[str, Any]:
    """The diversity of all outputs of an evaluation.

    Args:
      samples: those of samples.npz as nested dicts, see `benchmark.run`.

    Returns:
      modality -> title of the output -> {"n": number of outputs with a digit, "diversity", "distance", "real": the same
      of real samples}. The distance of text is the share of distinct captions, the others are root mean squares. None
      where no digit has two outputs.
    """
    real, count = samples["real"]["seen"], len(FACTORS[CLASSES])
    truth = np.asarray(real["factors"][CLASSES])
    references: dict[str, ClassMoments] = {}
    out: dict[str, Any] = {}
    for title, modality, values, classes in outputs(samples):
        if values.dtype.kind == "U":
            distance, reference = (distinct_share(*of) for of in ((values, classes), (real["values"][modality], truth)))
            numbers = {"diversity": distance / reference, "distance": distance, "reference_distance": reference}
        else:
            if modality not in references:
                x = flat(real["values"][modality])
                references[modality] = moments(x, truth, count, x.shape[1])
            numbers = compute(WithinClassDiversity(references[modality]), [(flat(values), classes)])
        cell = {"diversity": "diversity", "distance": "distance", "real": "reference_distance"}
        numbers = {name: or_none(numbers[key]) for name, key in cell.items()}
        out.setdefault(modality, {})[title] = {"n": int((classes >= 0).sum()), **numbers}
    return out
