"""From a loss to its jitted train step.

Gradients are taken with respect to the trained leaves alone; frozen leaves are a separate argument and have neither
gradients nor optimizer state. The state is donated. The key of step n is fold(seed key, n), so a resumed run draws the
same random numbers as an uninterrupted one.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import optax

from codi_jax.objectives import microbatch
from codi_jax.optim.packed import unpacked
from codi_jax.optim.rules import merge
from codi_jax.optim.state import TrainState, apply_gradients
from codi_jax.rng import fold
from codi_jax.types import Array, Params, PyTree

Loss = Callable[[dict, PyTree, jax.Array], tuple[Array, dict[str, Array]]]  # (variables, batch, key) -> loss, metrics


class TrainStep(Protocol):
    """A jitted train step."""

    def __call__(
        self, state: TrainState, frozen: Params, constants: dict, batch: PyTree, key: jax.Array, /
    ) -> tuple[TrainState, dict[str, Array]]: ...

    def trace(self, *args: PyTree) -> jax.stages.Traced:
        """The program for these arguments, arrays or ShapeDtypeStructs."""
        ...


def make_train_step(
    loss: Loss,
    tx: optax.GradientTransformation,
    ema_decay: float,
    *,
    accumulate: int = 1,
    cast_for_compute: Callable[[dict], dict] = lambda params: params,
    batch_as: Callable[[PyTree], PyTree] = lambda batch: batch,
    offload: Sequence[str] = (),
    **jit_options,
) -> TrainStep:
    """Jits `step(state, frozen, constants, batch, key) -> (state, metrics)`.

    Args:
      loss: the objective on (variables, batch, key); it must be a mean over samples if `accumulate` > 1.
      tx: the optimizer.
      ema_decay: of the exponential moving average of the trained leaves.
      accumulate: number of microbatches over which gradients are averaged (`objectives.microbatch`).
      cast_for_compute: casts parameters for the loss, such as to bfloat16; gradients are taken with respect to the
        original parameters.
      batch_as: applied to each (micro)batch before the loss, such as a sharding constraint.
      offload: fields of the state that are in host memory between steps; its shardings have to place them there.
      **jit_options: in_shardings, out_shardings, … of `jax.jit`.
    """

    def step(state: TrainState, frozen: dict, constants: dict, batch: PyTree, key: jax.Array):
        state = state.fetched(offload)

        def gradients(batch: PyTree, key: jax.Array) -> PyTree:
            def scalar(trained: PyTree):
                params = cast_for_compute(merge(unpacked(trained), frozen))
                return loss({"params": params, "constants": constants}, batch_as(batch), key)

            return jax.value_and_grad(scalar, has_aux=True)(state.params)

        key = fold(key, state.step)
        if accumulate == 1:
            (value, metrics), grads = gradients(batch, key)
        else:
            (value, metrics), grads = microbatch.mean_gradients(gradients, batch, key, accumulate)
        state, norms = apply_gradients(state, grads, tx, loss=value, ema_decay=ema_decay)
        return state, {"loss": value, **metrics, **norms}

    return jax.jit(step, donate_argnums=0, **jit_options)
