"""Pytrees and the shape letters of this package.

    B batch     T frames     H W height, width     C channels     L prompt tokens     D width of the prompt space
    K environment tokens     E width of the environment space     N attention heads   M modalities of the model

Arrays are channels last: an image latent is [B, H, W, C], a video latent [B, T, H, W, C], a sequence latent
[B, L, C], a vector latent [B, C].
"""

from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp

if TYPE_CHECKING:  # jax has these names as variables, which type checkers do not take for types
    from jaxlib._jax import Device
    from jaxlib._jax.pytree import PyTreeDef
else:
    from jax import Device
    from jax.tree_util import PyTreeDef

Array = jax.Array
Params = dict  # component name -> parameters of its linen module
PyTree = Any  # arrays in containers that jax knows, nested

__all__ = ["MASKED", "Array", "Device", "Params", "PyTree", "PyTreeDef", "TimedTokens", "Tokens"]


@flax.struct.dataclass
class TimedTokens:
    """Tokens that have a time, see `nn.timing`.

    Attributes:
      values: [B, K, E].
      bias: [B, K], see `Tokens`.
      seconds: [B, K], their times.
    """

    values: Array
    bias: Array
    seconds: Array


@flax.struct.dataclass
class Tokens:
    """A set of tokens to attend to.

    Attributes:
      values: [B, L, D].
      bias: [B, L], the logarithm of each token's weight, added to the attention scores: 0 for weight 1, `MASKED` for
        a masked token. `MASKED` is finite, since a softmax over -inf alone is NaN.
      timed: of an environment, the tokens of outputs that have a time.
    """

    values: Array
    bias: Array
    timed: TimedTokens | None = None

    @classmethod
    def of(cls, values: Array) -> "Tokens":
        """Tokens of equal weight from values [B, L, D]."""
        return cls(values, jnp.zeros(values.shape[:2], jnp.float32))


MASKED = -1e9
