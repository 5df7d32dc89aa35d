"""From a loss to its jitted train step.

The gradient is taken with respect to the trained leaves alone; frozen ones enter as a separate argument, so they have
neither gradients nor optimizer state. The state is donated. The key of step n is fold(seed key, n): a resumed run draws
what the uninterrupted one would have drawn.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from codi_jax.optim.rules import merge
from codi_jax.optim.state import TrainState, apply_gradients
from codi_jax.rng import fold
from codi_jax.types import Array

Loss = Callable[[dict, Any, jax.Array], tuple[Array, dict[str, Array]]]  # (variables, batch, key) -> loss, metrics
TrainStep = Callable[..., tuple[TrainState, dict[str, Array]]]


def make_train_step(loss: Loss, tx: optax.GradientTransformation, ema_decay: float, **jit_options) -> TrainStep:
    """Jits `step(state, frozen, constants, batch, key) -> (state, metrics)`.

    Args:
      loss: the objective on (variables, batch, key).
      tx: the optimizer.
      ema_decay: of the exponential moving average of the trained leaves.
      **jit_options: in_shardings, out_shardings, … of `jax.jit`; the state is donated.
    """

    def step(state: TrainState, frozen: dict, constants: dict, batch: Any, key: jax.Array):
        def scalar(trained: dict):
            return loss({"params": merge(trained, frozen), "constants": constants}, batch, fold(key, state.step))

        (value, metrics), grads = jax.value_and_grad(scalar, has_aux=True)(state.params)
        state, norms = apply_gradients(state, grads, tx, loss=value, ema_decay=ema_decay)
        return state, {"loss": value, **metrics, **norms}

    return jax.jit(step, donate_argnums=0, **jit_options)
