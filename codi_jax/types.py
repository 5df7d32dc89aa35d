"""Pytrees and the shape letters of this package.

    B batch     T frames     H W height, width     C channels     L prompt tokens     D width of the prompt space
    K environment tokens     E width of the environment space     N attention heads   M modalities of the model

Arrays are channels last: an image latent is [B, H, W, C], a video latent [B, T, H, W, C], a vector latent [B, C].
"""

import flax.struct
import jax
import jax.numpy as jnp

Array = jax.Array
Params = dict  # component name -> parameters of its linen module


@flax.struct.dataclass
class Tokens:
    """A set of tokens to attend to.

    Attributes:
      values: [B, L, D].
      bias: [B, L], the logarithm of each token's weight, added to the attention scores: 0 for weight 1, `MASKED` for
        a masked token. `MASKED` is finite, since a softmax over -inf alone is NaN.
    """

    values: Array
    bias: Array

    @classmethod
    def of(cls, values: Array) -> "Tokens":
        """Tokens of equal weight from values [B, L, D]."""
        return cls(values, jnp.zeros(values.shape[:2], jnp.float32))


MASKED = -1e9
