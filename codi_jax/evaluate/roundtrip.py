"""Codec round trips: real samples, encoded and decoded by the codec of their modality.

What a codec does not keep no later stage can show, so this is the first place to look at in a model that fails. The
latent is the posterior's mean, which a perfect denoiser would return.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from codi_jax.evaluate import matrix
from codi_jax.evaluate.readers import Reading
from codi_jax.evaluate.samples import in_batches
from codi_jax.generate import Generator
from codi_jax.modalities import Variables


def reconstruct(generator: Generator, variables: Variables, values: Mapping[str, Sequence[Any]]) -> dict[str, list]:
    """Natural values [n] by modality, through the codec and back; decoded by the generator's own programs."""
    latents = {}
    for name, given in values.items():
        program = jax.jit(generator.codi[name].encode)
        latents[name], _ = in_batches(generator.codi[name], given, len(given), lambda x, p=program: p(variables, x))
    return generator.decode(variables, latents)


def accuracy(
    truth: Mapping[str, np.ndarray], made: Mapping[str, Reading], real: Mapping[str, Reading]
) -> dict[str, dict[str, Any]]:
    """What is left of every factor.

    Args:
      truth: factor -> int [n], of the samples.
      made: modality -> what was read off their reconstructions.
      real: modality -> what was read off the samples themselves.

    Returns:
      modality -> the numbers of `matrix.direction`, from the modality to itself by its codec alone.
    """
    return {name: matrix.direction(name, truth, made[name], real[name]) for name in made}
