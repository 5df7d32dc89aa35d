"""How networks are computed. None of it changes a parameter, and results change by rounding only."""

import dataclasses

import jax.numpy as jnp
from jax.typing import DTypeLike

from codi_jax.nn.attention_kernels import Kernel
from codi_jax.nn.remat import Remat


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a network is computed.

    Attributes:
      dtype: of the computation; parameters are float32.
      attention: what computes attention, see `attention.attend`.
      remat: what is kept for the backward pass, see `nn.remat`.
    """

    dtype: DTypeLike = jnp.float32
    attention: Kernel = "auto"
    remat: Remat = "none"
