"""Opens the weights of a feature network: published ones, or random ones of divided widths."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from codi_jax.evaluation.networks import random_divisor, random_parameters
from codi_jax.interop.feature_weights import FeatureWeights

Config = TypeVar("Config")


class OpenedWeights(NamedTuple):
    """A network with its weights.

    Attributes:
      identity: see `FeatureNetwork.identity`.
      apply: the jitted network, of a batch of its inputs.
    """

    identity: str
    apply: Callable[[np.ndarray], Any]


def open_weights(
    public: FeatureWeights[Config], weights: str, divided: Callable[[int], Config], seed: int
) -> OpenedWeights:
    """Opens the weights of a network and puts them on the device.

    Args:
      public: the published weights of the network.
      weights: their file or directory; or "random", or "random:d".
      divided: d -> sizes of the network with all widths divided by d.
      seed: of random weights.

    Raises:
      ConfigError: the file or directory cannot be read, or holds other weights, or the network has no such d.
    """
    if (divisor := random_divisor(weights)) is None:
        config, params, identity = public.published, public.load(weights), public.identity(weights)
    else:
        config = divided(divisor)
        params, identity = random_parameters(public.shapes(config), seed), f"{weights}, seed {seed}"
    model = public.network(config)
    apply = jax.jit(lambda params, x: model.apply({"params": params}, x))
    return OpenedWeights(identity, functools.partial(apply, jax.device_put(params)))
