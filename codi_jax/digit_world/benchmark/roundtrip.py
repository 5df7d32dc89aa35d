"""Codec round trips: real samples, encoded and decoded by the codec of their modality.

No later stage can generate what the codec loses, so look here first if a model fails. The latent is the mean of the
posterior, which a perfect denoiser would return.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from codi_jax.digit_world.benchmark import matrix
from codi_jax.digit_world.benchmark.samples import clusterings, in_batches
from codi_jax.digit_world.judges.readers import Reading
from codi_jax.modalities import Variables
from codi_jax.sampling.generator import Generator


def reconstruct(generator: Generator, variables: Variables, values: Mapping[str, Sequence[Any]]) -> dict[str, list]:
    """Encodes and decodes raw values [n] by modality, decoding with the programs of the generator."""
    latents = {}
    for name, raw in values.items():
        program = jax.jit(generator.codi[name].encode)
        latents[name], _ = in_batches(generator.codi[name], raw, len(raw), lambda x, p=program: p(variables, x))
    return generator.decode(variables, latents)


def accuracy(
    truth: Mapping[str, np.ndarray],
    reconstructed: Mapping[str, Reading],
    real: Mapping[str, Reading],
    instances: Mapping[str, np.ndarray],
) -> dict[str, dict[str, Any]]:
    """Accuracy of every factor after the round trip.

    Args:
      truth: factor -> int [n], of the samples.
      reconstructed: modality -> reading of the reconstructions [n].
      real: modality -> reading of the samples themselves [n].
      instances: name of an instance of the world -> int [n], of the samples; see `samples.clusterings`.

    Returns:
      modality -> the metrics of `matrix.direction`, from the modality to itself through its codec.
    """
    out = {}
    for name, reading in reconstructed.items():
        own = clusterings(instances, (name,))
        out[name] = matrix.direction(name, truth, reading, real[name], own, own)
    return out
