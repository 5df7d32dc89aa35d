"""Flax's dense layer, convolution and embedding, split over the mesh by batch (`parallel.activations`).

The constraint of an argument is one of its gradient, which would otherwise be split as the weight is.
"""

import flax.linen as nn

from codi_jax.nn.parameters import ReadsParameters
from codi_jax.parallel.activations import constrain
from codi_jax.types import Array


class Dense(ReadsParameters, nn.Dense):
    """`flax.linen.Dense` on [B, …, C]."""

    def __call__(self, inputs: Array) -> Array:
        """[B, …, C] -> [B, …, features]."""
        return constrain(super().__call__(constrain(inputs, "batch")), "batch")


class Conv(ReadsParameters, nn.Conv):
    """`flax.linen.Conv` on [B, …, C]."""

    def __call__(self, inputs: Array) -> Array:
        """[B, …, C] -> [B, …, features]."""
        return constrain(super().__call__(constrain(inputs, "batch")), "batch")


class Embed(ReadsParameters, nn.Embed):
    """`flax.linen.Embed` of [B, …] indices."""

    def __call__(self, inputs: Array) -> Array:
        """[B, …] -> [B, …, features]."""
        return constrain(super().__call__(inputs), "batch")
